"""The update of one player: optimiser, loss scale, exchanged gradients, clipping."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.train.config import PrecisionOptions
from components.train.devices.loss_scale import ApexScaler, LossScaler
from components.train.devices.world import World
from components.train.schedule import ScheduleOptions
from shared.device import Runtime

BUCKET_BYTES = 25 * 2**20  # of gradients that are sent together


class Adam(torch.optim.Adam):
    """Goes on with the moments of a state, but by its own betas and kind of kernel."""

    def load_state_dict(self, state: dict) -> None:
        """Take moments and numbers of steps. A state also has the options of the optimiser that
        left it, which may be others than were asked for now."""
        own = [{**group, "params": None} for group in self.param_groups]
        saved = [{"params": group["params"]} for group in state["param_groups"]]
        groups = [one | other for one, other in zip(own, saved, strict=True)]
        super().load_state_dict({**state, "param_groups": groups})


class Update:
    """Updates the weights of one player, which is G with E, or D."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        schedule: ScheduleOptions,
        precision: PrecisionOptions,
        runtime: Runtime,
        world: World,
    ):
        """parameters: in the order in which the forward pass uses them, on their device."""
        parameters = list(parameters)
        self.optimizer = Adam(
            parameters,
            lr=schedule.learning_rate,
            betas=(schedule.beta1, 0.999),
            fused=runtime.has_fused_adam,
        )
        self.scaler: LossScaler | ApexScaler = LossScaler(runtime, precision)
        self.sync = GradientSync(parameters, world, precision.compress_gradients)
        self.max_norm = schedule.clip_gradient_norm

    @contextmanager
    def gradients(self, loss: Tensor) -> Iterator[Tensor]:
        """Inside: the loss to go backward from, once. After: gradients of their true size, averaged
        over all ranks."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.scaler.scaled(loss, self.optimizer) as scaled:
            yield scaled
            self.sync.wait()

    def step(self) -> None:
        """Clip the gradients and update the weights, unless a gradient is not finite."""
        self.scaler.step(self.optimizer, self.max_norm)

    def lay_out_as_weights(self) -> None:
        """Give loaded moments the memory format of the weights.

        Fused Adam pairs weights and moments by their place in memory, but files hold moments in
        NCHW."""
        for weight, moments in self.optimizer.state.items():
            for name, moment in moments.items():
                if moment.shape == weight.shape:  # not the number of steps
                    moments[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    arrived: int = 0  # gradients of this backward
    work: dist.Work | None = None  # while it is sent
    flat: Tensor | None = None

    def learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters if parameter.requires_grad]


class GradientSync:
    """Averages gradients over all ranks while backward still runs; `wait` before they are read or
    unscaled.

    Not by DistributedDataParallel: what it finds frozen it never synchronises again, so that the
    networks of the ranks drift apart once the global part of a local enhancer thaws; and it would
    wrap the networks that checkpoints name.

    A bucket of them is sent as soon as it is complete and those before it are sent, so that all
    ranks send in the same order. Parameters that require no gradient at the moment are left out.
    One backward to each `wait`."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], world: World, compress_bf16: bool = False
    ):
        """parameters: in the order in which the forward pass uses them.

        compress_bf16: send half the bytes. bfloat16 has the range of float32: what is not finite on
        one rank is not finite on any."""
        self.world, self.compress_bf16 = world, compress_bf16
        self.buckets: list[_Bucket] = []
        self.sent = 0  # buckets that are on their way, or have nothing to send
        if world.size == 1:
            return
        room = 0
        for parameter in reversed(list(parameters)):
            if parameter.nbytes > room:
                self.buckets.append(_Bucket([]))
                room = BUCKET_BYTES
            self.buckets[-1].parameters.append(parameter)
            parameter.register_post_accumulate_grad_hook(partial(self._arrived, self.buckets[-1]))
            room -= parameter.nbytes

    def _arrived(self, bucket: _Bucket, _parameter: nn.Parameter) -> None:
        assert bucket.work is None, "one backward to each wait"
        bucket.arrived += 1
        self._send_complete()

    def _send_complete(self) -> None:
        while self.sent < len(self.buckets):
            bucket = self.buckets[self.sent]
            learning = bucket.learning()
            if bucket.arrived < len(learning):
                return
            if learning:
                flat = torch.cat([parameter.grad.reshape(-1) for parameter in learning])
                bucket.flat = flat.bfloat16() if self.compress_bf16 else flat
                bucket.work = dist.all_reduce(bucket.flat, async_op=True)
            self.sent += 1

    @torch.no_grad()
    def wait(self) -> None:
        """Afterwards all gradients are means over the ranks, the same on each."""
        self._send_complete()
        assert self.sent == len(self.buckets), "a parameter that requires a gradient had none"
        for bucket in self.buckets:
            if bucket.work is not None:
                bucket.work.wait()
                gradients = [parameter.grad for parameter in bucket.learning()]
                means = bucket.flat.float() / self.world.size
                parts = means.split([gradient.numel() for gradient in gradients])
                pairs = zip(parts, gradients, strict=True)
                torch._foreach_copy_(gradients, [part.view_as(own) for part, own in pairs])
            bucket.arrived, bucket.work, bucket.flat = 0, None, None
        self.sent = 0
