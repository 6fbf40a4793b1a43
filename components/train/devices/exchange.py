"""What the processes of a training tell each other, inside `joined`."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.train.devices.world import World


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


def fetched_means(values: dict[str, Tensor], world: World) -> dict[str, float]:
    """The same as numbers, for which the device is asked once."""
    means = mean_over_ranks(values, world)
    fetched = torch.stack([mean.detach().float() for mean in means.values()]).tolist()
    return dict(zip(means, fetched, strict=True))


def gathered(value: Any, world: World) -> list[Any]:
    """What each rank has, by rank; tensors should be on the CPU. All ranks must call it."""
    if world.size == 1:
        return [value]
    values = [None] * world.size
    dist.all_gather_object(values, value)
    return values
