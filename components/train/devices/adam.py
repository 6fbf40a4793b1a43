"""Adam in the forms that devices have: one kernel for all weights, one for each of its operations,
or torch_npu's over one buffer."""

import inspect

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from components.train.config import AdamName, TrainConfig
from components.train.schedule import ScheduleOptions
from shared.device import Runtime
from shared.errors import InputError


def check_adam(config: TrainConfig, runtime: Runtime) -> None:
    """Raises InputError where the device has not the form that is asked for."""
    if config.adam == "npu-fused" and runtime.name != "npu":
        raise InputError(
            f"--adam npu-fused is torch_npu's, but the device is {runtime.name}: leave it out."
        )
    if config.adam == "fused" and not runtime.has_fused_adam:
        raise InputError(
            "--adam fused: torch_npu computes it on the CPU, through which all weights would go: "
            "leave it out, or say --adam npu-fused."
        )


def build_adam(
    weights: list[nn.Parameter], schedule: ScheduleOptions, form: AdamName, runtime: Runtime
) -> Optimizer:
    """Adam in a form that `check_adam` lets pass; auto is what the device is fastest with.

    On a CPU and a GPU that is one kernel; on an NPU foreach, half the kernels of a step beside
    Adam weight by weight."""
    if form == "auto":
        form = "fused" if runtime.has_fused_adam else "foreach"
    options = dict(lr=schedule.learning_rate, betas=(schedule.beta1, 0.999))
    match form:
        case "fused":
            return Adam(weights, fused=True, **options)
        case "foreach":
            return ForeachAdam(weights, foreach=True, **options)
        case "npu-fused":
            return npu_fused_adam(weights, **options)


class Adam(torch.optim.Adam):
    """Goes on with the moments of a state, but by its own betas and kind of kernel."""

    # Around these torch loads its compiler, which takes seconds, to tell it what not to compile:
    # here nothing of an optimiser is.
    _step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    _load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    rate: Tensor | None = None  # () float32: where a captured step reads the learning rate

    def send_rate(self) -> None:
        """Put the learning rate where a captured step reads it, as all steps do from now on.

        The groups of parameters keep it as a number, for whoever asks, and for checkpoints."""
        (group,) = self.param_groups
        if self.rate is None:
            self.rate = torch.empty((), device=group["params"][0].device)
        self.rate.fill_(group["lr"])

    def step(self, closure: None = None) -> None:
        """Update the weights by the learning rate."""
        if self.rate is None:
            self._step(closure)
            return
        (group,) = self.param_groups
        number, group["lr"] = group["lr"], self.rate
        try:
            self._step(closure)
        finally:
            group["lr"] = number

    def load_state_dict(self, state: dict) -> None:
        """Take moments and numbers of steps. A state also has the options of the optimiser that
        left it, which may be others than were asked for now."""
        self._load_state_dict(_with_options_of(self, state))


def _with_options_of(optimizer: Optimizer, state: dict) -> dict:
    own = [{**group, "params": None} for group in optimizer.param_groups]
    saved = [{"params": group["params"]} for group in state["param_groups"]]
    groups = [one | other for one, other in zip(own, saved, strict=True)]
    return {**state, "param_groups": groups}


class ForeachAdam(Adam):
    """A kernel for each operation on all weights. It can leave an update out on the device."""

    @torch.no_grad()
    def step_unless(self, overflow: Tensor) -> None:
        """Update weights and moments unless `overflow`, a truth of the device; nothing is fetched.

        Adam's kernels know no condition: what they overwrite is kept, and put back. The number of
        steps, which the host counts, grows in any case; see `forget_step`."""
        kinds = self._kinds()
        before = [torch.cat(kind) for kind in kinds]
        self.step()
        for kind, old in zip(kinds, before, strict=True):
            stays = torch.where(overflow, old, torch.cat(kind))
            torch._foreach_copy_(kind, stays.split([line.numel() for line in kind]))

    def forget_step(self) -> None:
        """Not count the last step, of which nothing stayed."""
        for weight in self._learning():
            self.state[weight]["step"] -= 1

    def _learning(self) -> list[nn.Parameter]:
        weights = [weight for group in self.param_groups for weight in group["params"]]
        return [weight for weight in weights if weight.grad is not None]

    def _kinds(self) -> list[list[Tensor]]:
        """Weights, first and second moments of what learns; each tensor as the line (numel,) of its
        elements in their order in memory."""
        weights = self._learning()
        for weight in weights:
            if not self.state[weight]:  # as torch begins
                moments = {name: torch.zeros_like(weight.detach()) for name in MOMENTS}
                self.state[weight] = {"step": torch.tensor(0.0)} | moments
        moments = [[self.state[weight][name] for weight in weights] for name in MOMENTS]
        kinds = [[weight.detach() for weight in weights], *moments]
        return [[_line(tensor) for tensor in kind] for kind in kinds]


MOMENTS = ("exp_avg", "exp_avg_sq")


def _line(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous():
        return tensor.view(-1)
    return tensor.as_strided((tensor.numel(),), (1,))  # dense, in another memory format


def npu_fused_adam(weights: list[nn.Parameter], **options: float | tuple) -> Optimizer:
    """torch_npu's Adam, which moves weights, gradients and moments into a buffer of each and
    computes on these.

    Its traps: it wants gradients that stay where they are; what had none at the first step never
    learns; it counts one number of steps for all. A state is one of torch's Adam."""
    from torch_npu.optim import NpuFusedAdam

    class FusedAdam(NpuFusedAdam):
        def zero_grad(self, set_to_none: bool = False) -> None:
            super().zero_grad()  # it refuses to forget gradients

        def state_dict(self) -> dict:
            state = super().state_dict()
            moments = state["state"].items()
            counted = {
                key: one | {"step": torch.tensor(float(one["step"]))} for key, one in moments
            }
            return state | {"state": counted}

        def load_state_dict(self, state: dict) -> None:
            steps = {float(one["step"]) for one in state["state"].values()}
            if len(steps) > 1 or len(state["state"]) not in (0, len(weights)):
                raise InputError(
                    "--adam npu-fused counts the steps of all weights as one, but some have "
                    "learned longer than others: leave it out."
                )
            super().load_state_dict(_with_options_of(self, state))
            for one in self.state.values():
                one["step"] = int(one["step"])

    return FusedAdam(weights, **options)
