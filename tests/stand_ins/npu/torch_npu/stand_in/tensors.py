"""Tensors of the device, each of which stands for one of the CPU.

A tensor of the device is an empty one of PrivateUse1, the key that torch keeps for back-ends of
others. Its storage leads to the CPU's tensor: autograd copies tensors in C++, where attributes of
Python are lost, but the storage stays the same."""

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

KEY = "PrivateUse1"
SWEEP = 512  # tensors after which those are forgotten that are no more

_behind: dict[int, tuple[StorageWeakRef, Tensor]] = {}
_made = 0
_peak_bytes = 0


def is_on_device(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "npu"


def on_device(behind: Tensor) -> Tensor:
    """A tensor of the device that stands for a CPU's."""
    global _made
    made = torch._C._acc.create_empty_tensor(list(behind.shape), behind.dtype)
    storage = made.untyped_storage()
    _behind[storage._cdata] = (StorageWeakRef(storage), behind)
    _made += 1
    if _made % SWEEP == 0:
        allocated_bytes()
    return made


def behind(value: object) -> object:
    """The CPU's tensor for one of the device; all else as it is."""
    return _behind[value.untyped_storage()._cdata][1] if is_on_device(value) else value


def put_behind(tensor: Tensor, cpu: Tensor) -> None:
    """Let a tensor of the device stand for another of the CPU, of its shape and dtype."""
    storage = tensor.untyped_storage()
    _behind[storage._cdata] = (StorageWeakRef(storage), cpu)


def allocated_bytes() -> int:
    """What the tensors that are alive hold."""
    global _peak_bytes
    for key in [key for key, (storage, _) in _behind.items() if storage.expired()]:
        del _behind[key]
    storages = (cpu.untyped_storage() for _, cpu in _behind.values())
    held = sum({storage._cdata: storage.nbytes() for storage in storages}.values())
    _peak_bytes = max(_peak_bytes, held)
    return held


def peak_bytes() -> int:
    allocated_bytes()
    return _peak_bytes


def reset_peak() -> None:
    global _peak_bytes
    _peak_bytes = 0
