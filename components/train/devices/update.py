"""The update of one player: optimiser, loss scale, exchanged gradients, clipping."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.train.config import PrecisionOptions
from components.train.devices.adam import MOMENTS, Adam, ForeachAdam, build_adam
from components.train.devices.loss_scale import ApexScaler, LossScaler, clip
from components.train.devices.world import World
from components.train.schedule import ScheduleOptions
from shared.device import Runtime

BUCKET_BYTES = 25 * 2**20  # of gradients that are sent together


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
        self.optimizer = build_adam(parameters, schedule, precision.adam, runtime)
        self.scaler: LossScaler | ApexScaler = LossScaler(runtime, precision)
        # Gradients stay where apex and a fused NPU Adam have combined them.
        moves = isinstance(self.optimizer, Adam) and precision.amp_backend == "torch"
        self.sync = GradientSync(parameters, world, precision.compress_gradients, moves)
        self.max_norm = schedule.clip_gradient_norm
        self.overflow: Tensor | None = None  # what the host is still to be told

    @contextmanager
    def gradients(self, loss: Tensor) -> Iterator[Tensor]:
        """Inside: the loss to go backward from, once. After: gradients of their true size, averaged
        over all ranks."""
        self.optimizer.zero_grad()  # without arguments: apex puts one in its place that has none
        with self.scaler.scaled(loss, self.optimizer) as scaled:
            yield scaled
            self.sync.wait()

    @property
    def decided_by(self) -> Literal["kernel", "device", "host"]:
        """Who leaves out an update by gradients that are not finite.

        The kernel of a fused Adam; else the host, which must fetch what was found. Where no loss is
        scaled and it hardly ever happens, the device keeps what it overwrites, and puts it back."""
        match self.optimizer:
            case _ if isinstance(self.scaler, ApexScaler):  # which leaves them out itself
                return "kernel"
            case ForeachAdam():
                return "host" if self.scaler.is_needed else "device"
            case Adam():
                return "kernel"
        return "host"

    def step(self) -> None:
        """Clip the gradients and update the weights, unless a gradient is not finite."""
        if self.decided_by == "device":
            self._step_on_device()
        else:
            self.scaler.step(self.optimizer, self.max_norm)

    def step_ahead(self) -> None:
        """The same, before the other player has its gradients; `update_all` of that one follows.

        What the host is to decide it is told then, once for both: whether the step counts."""
        if self.decided_by == "host" and isinstance(self.optimizer, ForeachAdam):
            self.overflow = self._step_on_device()
        else:
            self.step()

    def _step_on_device(self) -> Tensor:
        """Returns whether the step was left out, on the device."""
        overflow = self.scaler.overflow(self.optimizer)
        if self.max_norm:
            clip(self.optimizer, self.max_norm)
        self.optimizer.step_unless(overflow)
        self.scaler.settle(overflow)
        return overflow

    def step_by_host(self, overflow: bool) -> None:
        """The same as `step`, by what was fetched."""
        if not overflow:
            if self.max_norm:
                clip(self.optimizer, self.max_norm)
            self.optimizer.step()
        self.scaler.settle(self.scaler.overflow(self.optimizer))

    def lay_out_as_weights(self) -> None:
        """Give loaded moments the memory format of the weights.

        Fused Adam pairs weights and moments by their place in memory, but files hold moments in
        NCHW."""
        for weight, moments in self.optimizer.state.items():
            for name in MOMENTS:
                loaded = moments[name]
                moments[name] = torch.empty_like(weight, dtype=loaded.dtype).copy_(loaded)


def update_all(*players: Update, ahead: Update | None = None) -> None:
    """Update the weights of players that all have their gradients, with one fetch where the host
    decides. ahead: one that stepped ahead."""
    asking = [player for player in players if player.decided_by == "host"]
    told = [player.scaler.overflow(player.optimizer) for player in asking]
    if ahead and ahead.overflow is not None:
        told.append(ahead.overflow)
    overflows = torch.stack(told).tolist() if told else []
    if ahead and ahead.overflow is not None:
        ahead.overflow = None
        if overflows.pop():
            ahead.optimizer.forget_step()
    for player, overflow in zip(asking, overflows, strict=True):
        player.step_by_host(overflow)
    for player in players:
        if player not in asking:
            player.step()


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    arrived: int = 0  # gradients of this backward
    work: dist.Work | None = None  # while it is sent
    learned: list[nn.Parameter] = field(default_factory=list)  # whose gradients it has room for
    # Kept from step to step: what is sent, where the means come (the same, unless compressed), and
    # views of both, one for each gradient.
    sent: Tensor | None = None
    means: Tensor | None = None
    sent_parts: list[Tensor] = field(default_factory=list)
    mean_parts: list[Tensor] = field(default_factory=list)

    def learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters if parameter.requires_grad]

    def make_room(self, learning: list[nn.Parameter], dtype: torch.dtype, compress: bool) -> None:
        """For gradients of what learns now, which changes where a part of a network thaws."""
        same = list(map(id, learning)) == list(map(id, self.learned))
        if same and self.means.dtype == dtype:
            return
        total = sum(parameter.numel() for parameter in learning)
        self.means = torch.empty(total, dtype=dtype, device=learning[0].device)
        self.sent = self.means.bfloat16() if compress else self.means
        self.learned = learning
        self.sent_parts, self.mean_parts = _parts(self.sent, learning), _parts(self.means, learning)


def _parts(flat: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
    """Views of a line, one for each weight, with its shape and in its memory format: fused Adam
    pairs weights and gradients by their place in memory."""
    lines = flat.split([weight.numel() for weight in weights])
    pairs = zip(lines, weights, strict=True)
    return [line.as_strided(weight.shape, weight.stride()) for line, weight in pairs]


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
        self,
        parameters: Iterable[nn.Parameter],
        world: World,
        compress_bf16: bool = False,
        moves_gradients: bool = True,
    ):
        """parameters: in the order in which the forward pass uses them.

        compress_bf16: send half the bytes. bfloat16 has the range of float32: what is not finite on
        one rank is not finite on any.

        moves_gradients: a gradient becomes its part of a bucket, so that nothing is copied back;
        without it, it stays where it is."""
        self.world = world
        self.compress_bf16, self.moves_gradients = compress_bf16, moves_gradients
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

    @torch.no_grad()
    def _send_complete(self) -> None:
        while self.sent < len(self.buckets):
            bucket = self.buckets[self.sent]
            learning = bucket.learning()
            if bucket.arrived < len(learning):
                return
            if learning:
                self._send(bucket, learning)
            self.sent += 1

    def _send(self, bucket: _Bucket, learning: list[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in learning]
        kinds = {gradient.dtype for gradient in gradients}  # two, where apex leaves norms in fp32
        dtype = kinds.pop() if len(kinds) == 1 else torch.float32
        bucket.make_room(learning, dtype, self.compress_bf16)
        torch._foreach_copy_(bucket.sent_parts, gradients)
        if self.moves_gradients:
            for parameter, part in zip(learning, bucket.mean_parts, strict=True):
                parameter.grad = part
        bucket.work = dist.all_reduce(bucket.sent, async_op=True)

    @torch.no_grad()
    def wait(self) -> None:
        """Afterwards all gradients are means over the ranks, the same on each."""
        self._send_complete()
        assert self.sent == len(self.buckets), "a parameter that requires a gradient had none"
        for bucket in self.buckets:
            if bucket.work is not None:
                bucket.work.wait()
                self._take_means(bucket)
            bucket.arrived, bucket.work = 0, None
        self.sent = 0

    def _take_means(self, bucket: _Bucket) -> None:
        if self.compress_bf16:
            bucket.means.copy_(bucket.sent)
        bucket.means /= self.world.size
        if not self.moves_gradients:
            gradients = [parameter.grad for parameter in bucket.learned]
            torch._foreach_copy_(gradients, bucket.mean_parts)
