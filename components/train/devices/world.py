"""All processes of a training, one to a device: who is there, and what they tell each other."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from shared.device import Runtime
from shared.errors import InputError


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
        """The world that torchrun, a Kubernetes operator or `launch` has set; a world of one where
        nothing is set."""
        given = os.environ.get
        return cls(int(given("RANK", 0)), int(given("WORLD_SIZE", 1)), int(given("LOCAL_RANK", 0)))


ALONE = World()


@contextlib.contextmanager
def joined(world: World, runtime: Runtime) -> Iterator[None]:
    """Inside, the processes have met, each has its device, and only the main one prints. A world of
    one does nothing.

    Raises InputError where there are fewer devices than processes, or no meeting place."""
    if world.size == 1:
        yield
        return

    # Where they meet, and which device each takes.
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise InputError(
                f"WORLD_SIZE is {world.size} but {name} is not set: start with torchrun, or leave "
                "out RANK and WORLD_SIZE and say --devices."
            )
    runtime.take_device(world.local_rank)
    # A rank that dies is noticed by whoever started it, so a long validation or save of the main
    # one is waited for.
    dist.init_process_group(
        runtime.collectives, rank=world.rank, world_size=world.size, timeout=timedelta(hours=1)
    )

    # The others print nowhere.
    with contextlib.ExitStack() as stack:
        if not world.is_main:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield
    # not after an exception: it could wait for ranks that no longer answer
    dist.destroy_process_group()


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
