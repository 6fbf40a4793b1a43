"""Training on several devices: a process for each, which share out the pairs and average their
gradients.

Not by DistributedDataParallel: what it finds frozen it never synchronises again, so that the
networks of the ranks drift apart once the global part of a local enhancer thaws; and it would wrap
the networks that checkpoints name."""

import contextlib
import json
import logging
import math
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from shared.contracts.folder import write_atomically
from shared.errors import InputError

BACKENDS = {"cuda": "nccl", "npu": "hccl", "cpu": "gloo"}
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
BUCKET_BYTES = 25 * 2**20  # of gradients that are sent together


@dataclass(frozen=True)
class World:
    """All processes of a training and the place of this one among them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # number of its device on its machine

    @property
    def is_main(self) -> bool:
        """Whether this one speaks, logs and writes."""
        return self.rank == 0

    @classmethod
    def from_environment(cls) -> Self:
        """As torchrun, a Kubernetes operator or `launch` has set it; a world of one where nothing
        is set."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(
            *(
                int(os.environ.get(name, default))
                for name, default in zip(names, (0, 1, 0), strict=True)
            )
        )


ALONE = World()


@contextlib.contextmanager
def joined(world: World, device: str) -> Iterator[None]:
    """The processes meet, each takes its device, and only the main one prints. Nothing for a world
    of one.

    device: npu, cuda or cpu. Raises InputError where there are fewer devices than processes, or no
    meeting place."""
    if world.size == 1:
        yield
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(
                f"WORLD_SIZE is {world.size} but {name} is not set: start with torchrun, "
                "or leave out RANK and WORLD_SIZE and say --devices."
            )
    if device != "cpu":
        module = torch.get_device_module(device)
        if world.local_rank >= module.device_count():
            raise InputError(
                f"--devices asks for {world.local_rank + 1} or more, but torch sees "
                f"{module.device_count()} {device} "
                "devices on this machine: ask for as many as there are."
            )
        module.set_device(world.local_rank)
    # A rank that dies is noticed by whoever started it, so a long validation or save of the main
    # one is waited for.
    dist.init_process_group(
        BACKENDS[device], rank=world.rank, world_size=world.size, timeout=timedelta(hours=1)
    )
    with contextlib.ExitStack() as stack:
        if not world.is_main:
            stack.enter_context(
                contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w")))
            )
        yield
    # not after an exception: it could wait for ranks that no longer answer
    dist.destroy_process_group()


def must_launch(devices: int) -> bool:
    """Whether --devices asks for processes that nobody has started yet."""
    return devices > 1 and World.from_environment().size == 1


def launch(devices: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(*arguments)` in as many new processes of this machine as there are devices;
    what rank 0 returns.

    The function is one of a module, and it and the arguments can be pickled. One process that fails
    ends all. Raises InputError where one of them did, else RuntimeError with the traceback of the
    first that failed."""
    with tempfile.TemporaryDirectory() as folder, _without_side_effects():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",  # a container's own name may not resolve
            max_restarts=0,
            # seconds; the first to fail must be seen before those that fail because of it
            monitor_interval=0.02,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            return elastic_launch(config, _be_a_rank)(Path(folder), function, arguments)[0]
        except ChildFailedError as failure:
            raise _cause(failure, Path(folder)) from None
        except SignalException as stop:
            sys.exit(128 + stop.sigval)


@contextlib.contextmanager
def _without_side_effects() -> Iterator[None]:
    """torch's launcher sets signal handlers and leaves them, and logs what `launch` says better."""
    handlers = {stop: signal.getsignal(stop) for stop in STOPS}
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for stop, handler in handlers.items():
            if signal.getsignal(stop) != handler:
                signal.signal(stop, handler)


def _be_a_rank(folder: Path, function: Callable[..., Any], arguments: tuple) -> Any:
    """In a new process: call the function; leave a note of what went wrong, to which `launch`
    turns."""
    world = World.from_environment()
    torch.set_num_threads(max(1, torch.get_num_threads() // world.size))

    def note(**what) -> None:
        content = {"rank": world.rank, "time": time.time()} | what
        write_atomically(folder / f"rank_{world.rank}.json", json.dumps(content).encode())

    try:
        return function(*arguments)
    except InputError as refusal:
        note(refusal=str(refusal))
        raise
    except Exception:
        note(traceback=traceback.format_exc())
        raise


def _cause(failure: ChildFailedError, folder: Path) -> Exception:
    """Of what several ranks may say, what came first: the others lost their connection to that
    one."""
    notes = [json.loads(path.read_bytes()) for path in folder.glob("rank_*.json")]
    notes.sort(key=lambda note: note["time"])
    for note in notes:
        if "refusal" in note:
            return InputError(note["refusal"])
    rank, first = failure.get_first_failure()
    if rank in {note["rank"] for note in notes}:
        return RuntimeError(
            f"rank {notes[0]['rank']} failed, and all were ended:\n{notes[0]['traceback']}"
        )
    how = (
        f"was killed by {first.signal_name()}"
        if first.exitcode < 0
        else f"ended with exit code {first.exitcode}"
    )
    return RuntimeError(
        f"rank {rank} {how} without a message, and all were ended; look for it in the system's log."
    )


def batches_of_rank(
    seed: int, epoch: int, count: int, batch_size: int, world: World
) -> list[list[int]]:
    """Batches of pair indices that this rank reads in an epoch; the order of all depends on (seed,
    epoch) alone.

    The n-th batches of all ranks are together that of one process with as many times the batch
    size. Where `count` is no multiple of the ranks, the first pairs of the epoch come twice, so
    that all have as many."""
    random = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=random)
    per_rank = math.ceil(count / world.size)
    mine = order[torch.arange(world.rank, per_rank * world.size, world.size) % count]
    return [batch.tolist() for batch in mine.split(batch_size)]


@torch.no_grad()
def broadcast_weights(networks: Iterable[nn.Module], world: World) -> None:
    """All ranks go on from rank 0's weights and buffers.

    Later only weights stay equal: each rank keeps BatchNorm's statistics of the pairs that it saw.
    Training never reads them, and those of rank 0, which are saved, estimate the same means as the
    others."""
    if world.size == 1:
        return
    for network in networks:
        for tensor in network.state_dict().values():
            sent = tensor.contiguous()
            dist.broadcast(sent, src=0)
            tensor.copy_(sent)


def mean_over_ranks(values: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Means of scalars, in float32 on the device, the same on all ranks. All ranks must call it."""
    if world.size == 1 or not values:
        return values
    means = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(means)
    return dict(zip(values, (means / world.size).unbind(), strict=True))


def gathered(value: Any, world: World) -> list[Any]:
    """What each rank has, by rank; tensors should be on the CPU. All ranks must call it."""
    if world.size == 1:
        return [value]
    values = [None] * world.size
    dist.all_gather_object(values, value)
    return values


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
                means = (bucket.flat.float() / self.world.size).split(
                    [gradient.numel() for gradient in gradients]
                )
                views = [
                    mean.view_as(gradient) for mean, gradient in zip(means, gradients, strict=True)
                ]
                torch._foreach_copy_(gradients, views)
            bucket.arrived, bucket.work, bucket.flat = 0, None, None
        self.sent = 0
