"""hccl, the collectives of the device, which are gloo's here, on the tensors behind."""

import torch
import torch.distributed as dist
from torch.utils._pytree import tree_map

from torch_npu.stand_in import faults
from torch_npu.stand_in.stats import STATS
from torch_npu.stand_in.tensors import behind, is_on_device

METHODS = "allgather _allgather_base allreduce barrier broadcast gather reduce scatter send recv"


def register() -> None:
    """Let dist.init_process_group("hccl") find it, as torch_npu does."""
    dist.Backend.register_backend("hccl", _new, extended_api=True, devices=["npu"])
    dist.is_hccl_available = lambda: True


def _new(options, _pg_options) -> "Hccl":
    rank, size = options.group_rank, options.group_size
    return Hccl(options.store, rank, size, options.timeout)


class Hccl(dist.ProcessGroup):
    """A group of processes with a device each."""

    def __init__(self, store, rank: int, size: int, timeout):
        super().__init__(rank, size)
        self.gloo = dist.ProcessGroupGloo(store, rank, size, timeout)

    def getBackendName(self) -> str:
        return "hccl"

    @property
    def _device_types(self) -> list[torch.device]:
        """What objects are sent by."""
        return [torch.device("npu")]

    @property
    def pg_name(self) -> str:
        return dist.distributed_c10d._world.pg_names[self]

    @property
    def group_name(self) -> str:
        return self.pg_name


def _passed_on(name: str):
    def call(self: Hccl, *args):
        """Source: hccl takes tensors of its device alone."""
        STATS.calls[f"hccl.{name}"] += 1
        faults.meet(f"hccl.{name}")
        tree_map(_refuse_of_cpu, args)
        return getattr(self.gloo, name)(*tree_map(behind, args))

    return call


def _refuse_of_cpu(value: object) -> None:
    if isinstance(value, torch.Tensor) and not is_on_device(value):
        raise RuntimeError("No backend type associated with device type cpu")


for _name in METHODS.split():
    setattr(Hccl, _name, _passed_on(_name))
