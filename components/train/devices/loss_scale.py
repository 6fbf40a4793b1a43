"""Updates by finite gradients only: losses scaled, bad updates skipped, counted and in the end
refused."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from components.train.config import PrecisionOptions
from shared.device import Runtime
from shared.errors import InputError, WorkFailed

# `finite_pairs` stands among the sums of the losses, so that it is saved and restored with them.
COUNT = "finite_pairs"

UNSCALED = PrecisionOptions(loss_scale="static", loss_scale_initial=1.0)


class LossScaler:
    """Scales the losses of one optimiser and skips its updates by gradients that are infinite or
    not a number.

    torch's GradScaler does it in every precision; except in fp16 with a scale of 1, which changes
    no bit. A fused Adam reads on the device that it must leave weights and moments alone, so that
    nothing is fetched; zeros in place of the gradients would still move them, by its momentum. For
    another Adam `step` fetches; `Update` leaves out what it can without that."""

    def __init__(self, runtime: Runtime, options: PrecisionOptions):
        options = options if runtime.scales_losses else UNSCALED
        self.precision, self.is_needed = runtime.precision, runtime.scales_losses
        self.initial = options.loss_scale_initial
        self.hysteresis = options.loss_scale_hysteresis
        self.is_static = options.loss_scale == "static"
        self.scaler = runtime.scaler(
            options.loss_scale_initial,
            options.loss_scale_growth_factor,
            options.loss_scale_growth_interval,
            options.loss_scale_backoff_factor,
        )
        self.one = torch.ones((), device=runtime.torch_device)
        # All on the device, where a captured step counts too.
        self.counts = torch.zeros(4, dtype=torch.int64, device=runtime.torch_device)
        # views; the last: since the scale last changed
        self.updates, self.in_a_row, self.skipped, self.overflows = self.counts
        self.reported = (0, 0)  # updates and skipped ones at the last check
        self.scaler.scale(self.one)  # puts the scale on the device
        self.scaler.update(float(options.loss_scale_initial))  # which ends that step

    @contextmanager
    def scaled(self, loss: Tensor, optimizer: Optimizer) -> Iterator[Tensor]:
        """Inside: the loss to go backward from. After: gradients of their true size, checked."""
        yield self.scaler.scale(loss)
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, max_norm: float = 0.0) -> None:
        """Clip gradients to the norm, where above 0; update the weights unless a gradient was not
        finite."""
        if max_norm:
            clip(optimizer, max_norm)
        self.scaler.step(optimizer)
        self.settle(self.overflow(optimizer))

    def overflow(self, optimizer: Optimizer) -> Tensor:
        """Whether a gradient was not finite, a truth on the device; between `scaled` and
        `settle`."""
        (found_inf,) = self.scaler._found_inf_per_device(optimizer).values()
        return found_inf > 0

    def settle(self, overflow: Tensor) -> None:
        """Count an update that was made or left out, and adapt the scale, all on the device."""
        self.counts[:2].add_(1)  # updates, in a row
        self.in_a_row.mul_(overflow)
        self.skipped += overflow
        if self.is_static:
            self.scaler.update(self.initial)
        elif self.hysteresis == 1:
            self.scaler.update()
        else:  # as GradScaler, but what backs off too early is taken back
            before = self.scaler.scale(self.one)
            self.scaler.update()
            self.overflows += overflow
            waits = overflow & (self.overflows < self.hysteresis)
            scale = torch.where(waits, before, self.scaler.scale(self.one))
            self.scaler.update(scale)
            self.overflows *= scale == before

    def check(self, network: str, limit: int) -> int:
        """Fetch the counts and print a line where updates were skipped since the last check;
        returns how many.

        Raises WorkFailed after `limit` skipped updates in a row. A dynamic scale may take
        longer to come down from far above: until it is below 1 they do not count."""
        updates, in_a_row, skipped, _ = self.counts.tolist()
        new_updates, new = updates - self.reported[0], skipped - self.reported[1]
        self.reported = (updates, skipped)
        if new == 0:
            return 0
        scale = self.scaler.get_scale()
        at_scale = f" at loss scale {scale:g}" if self.precision == "fp16" else ""
        print(
            f"{network}: {new} of {new_updates} updates skipped, gradients not finite{at_scale}",
            flush=True,
        )
        if in_a_row >= limit and (self.is_static or scale < 1):
            raise WorkFailed(
                f"the gradients of {network} were not finite in {in_a_row} updates in a row"
                f"{at_scale}: give a lower --learning-rate, {self._other_advice()}."
            )
        return new

    def _other_advice(self) -> str:
        match self.precision:
            case "fp32":
                return "or a --clip-gradient-norm"
            case "fp16" if self.is_static:
                return "a smaller --loss-scale-initial, or --precision fp32"
        return "or --precision fp32"

    def state_dict(self) -> dict[str, object]:
        """The state without the length of the present row, which begins anew with the run."""
        counts = {
            "updates": self.updates.item(),
            "skipped": self.skipped.item(),
            "overflows": self.overflows.item(),
        }
        return counts | {"options": self._constants(), "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on counting; with the saved scale where the options are those of the saved one."""
        self.updates.fill_(state["updates"])
        self.skipped.fill_(state["skipped"])
        self.reported = (state["updates"], state["skipped"])
        if state["options"] == self._constants():
            self.overflows.fill_(state["overflows"])
            self.scaler.load_state_dict(state["scaler"])

    def _constants(self) -> dict[str, float | int | bool]:
        """What a saved scale depends on, under the names that checkpoints have for it."""
        return {
            "initial": self.initial,
            "growth_factor": self.scaler.get_growth_factor(),
            "growth_interval": self.scaler.get_growth_interval(),
            "backoff_factor": self.scaler.get_backoff_factor(),
            "hysteresis": self.hysteresis,
            "static": self.is_static,
        }


class ApexScaler:
    """What LossScaler does, by apex's amp: it scales, skips and prints by its own rules."""

    def __init__(self, amp: ModuleType, loss_id: int):
        self.amp, self.loss_id = amp, loss_id

    @contextmanager
    def scaled(self, loss: Tensor, optimizer: Optimizer) -> Iterator[Tensor]:
        """Inside: the loss to go backward from. After: gradients of their true size."""
        with self.amp.scale_loss(loss, optimizer, loss_id=self.loss_id) as scaled:
            yield scaled

    def step(self, optimizer: Optimizer, max_norm: float = 0.0) -> None:
        """Clip gradients to the norm, where above 0; update the weights."""
        if max_norm:
            clip(optimizer, max_norm)
        optimizer.step()  # after an overflow, apex has put a step in its place that does nothing

    def check(self, network: str, limit: int) -> int:
        """apex tells of each skipped update itself, and does not count them."""
        return 0

    def state_dict(self) -> dict[str, object]:
        """The state of all losses: apex has one for the process."""
        return self.amp.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.amp.load_state_dict(state)


def apex_amp() -> ModuleType:
    """apex's amp module. Raises InputError where there is none."""
    try:
        from apex import amp
    # PyPI's apex is a web toolkit, and NVIDIA's lost amp in 2025: they land here too.
    except ImportError:
        raise InputError(
            "--amp-backend apex needs apex.amp, which is not installed: install Ascend's apex or "
            "NVIDIA's up to 25.05 from its source, or use --amp-backend torch."
        ) from None
    return amp


def check_apex(options: PrecisionOptions, device: str = "cpu") -> ModuleType:
    """apex's amp module. Raises InputError where it is not installed, is another device's, or has
    no such constants as are asked for."""
    amp, default = apex_amp(), PrecisionOptions()

    # Whose it is. Ascend's is NVIDIA's with a patch, which `initialize` shows.
    is_ascends = "combine_grad" in _taken_by(amp.initialize)
    if device != "cpu" and is_ascends != (device == "npu"):
        whose, kind = ("Ascend's", "GPU") if is_ascends else ("NVIDIA's", "NPU")
        raise InputError(
            f"--amp-backend apex: the apex that is installed is {whose}, which knows no {kind}: "
            "install the other, or use --amp-backend torch."
        )
    if options.combine_grad and not is_ascends:
        raise InputError(
            "--combine-grad is an option of Ascend's apex, but NVIDIA's is installed: leave it out."
        )

    # What it takes of a dynamic scale.
    taken = OF_ASCEND if is_ascends else {}
    names = [name for name in PrecisionOptions.model_fields if name.startswith("loss_scale_")]
    constants = [name for name in names if name not in taken]
    is_dynamic = options.loss_scale == "dynamic"
    if is_dynamic and any(getattr(options, n) != getattr(default, n) for n in constants):
        raise InputError(
            "--amp-backend apex has constants of its own for a dynamic loss scale, but others are "
            "asked for: leave them out, make the scale static, or use --amp-backend torch."
        )
    return amp


# Constants of a dynamic scale as Ascend's apex calls them.
OF_ASCEND = {
    "loss_scale_initial": "dynamic_init_scale",
    "loss_scale_growth_factor": "scale_growth_factor",
    "loss_scale_backoff_factor": "scale_backoff_factor",
    "loss_scale_growth_interval": "scale_window",
}
MOST_OF_ASCEND = 2.0**24  # of its scale, unless it is told another


def _taken_by(function: Callable) -> Collection[str]:
    return inspect.signature(function).parameters


def start_apex(
    networks: list[nn.Module], optimizers: list[Optimizer], options: PrecisionOptions
) -> list[ApexScaler]:
    """Let apex change networks and optimisers in place; returns a scaler for each optimiser.

    O1 casts the inputs of functions, for every network of the process; O2 makes the weights fp16.
    To be called once, on networks that are on their device. Raises InputError where apex is not
    installed, or has constants of its own for what is asked for."""
    amp = check_apex(options)
    more = {}
    if "combine_grad" in _taken_by(amp.initialize):
        more = {theirs: getattr(options, ours) for ours, theirs in OF_ASCEND.items()}
        more |= dict(max_loss_scale=max(MOST_OF_ASCEND, options.loss_scale_initial))
        more |= dict(combine_grad=options.combine_grad)
    amp.initialize(
        networks,
        optimizers,
        opt_level=options.opt_level,
        loss_scale=options.loss_scale_initial if options.loss_scale == "static" else "dynamic",
        num_losses=len(optimizers),
        **more,
    )
    return [ApexScaler(amp, loss_id) for loss_id in range(len(optimizers))]


def clip(optimizer: Optimizer, max_norm: float) -> None:
    """Scale all gradients down together where their norm is larger."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    nn.utils.clip_grad_norm_(weights, max_norm)


def add_finite(sums: dict[str, Tensor], losses: dict[str, Tensor], pairs: int) -> dict[str, Tensor]:
    """The sums with a step's losses added once for each of its pairs, on the device; nothing is
    added where one of them is not finite."""
    values = torch.stack(list(losses.values()))
    finite = values.isfinite().all()
    added = dict(zip(losses, torch.where(finite, pairs * values, 0).unbind(), strict=True))
    added[COUNT] = pairs * finite
    return {name: sums.get(name, 0) + value for name, value in added.items()}


def means(sums: dict[str, Tensor]) -> dict[str, float]:
    """Mean losses of the pairs of the steps in which all were finite; not a number where there was
    no such step."""
    return {name: (total / sums[COUNT]).item() for name, total in sums.items() if name != COUNT}
