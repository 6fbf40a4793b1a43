"""What is taken from the real wheel where it is there: what needs none of its C++."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import torch

import torch_npu
from torch_npu.stand_in.tensors import behind

FILES = ("npu.amp.grad_scaler", "optim.npu_fused_optim_base", "optim.npu_fused_adam")


def take_over() -> None:
    """Put torch_npu's own GradScaler and NpuFusedAdam in the place of their twins."""
    if folder := os.environ.get("TORCH_NPU_WHEEL"):
        torch_npu.get_npu_format = lambda tensor: 2  # ND
        torch.Tensor.storage = _storage
        real = {name: _read(Path(folder), f"torch_npu.{name}") for name in FILES}
        torch_npu.npu.amp.GradScaler = real["npu.amp.grad_scaler"].GradScaler
        torch_npu.optim.NpuFusedAdam = real["optim.npu_fused_adam"].NpuFusedAdam


def _read(folder: Path, name: str) -> ModuleType:
    file = folder.joinpath(*name.split(".")).with_suffix(".py")
    spec = importlib.util.spec_from_file_location(name, file)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_of_torch = torch.Tensor.storage


def _storage(self: torch.Tensor):
    """Of a tensor of the device, what is behind it: the storage of the former is empty."""
    return _of_torch(behind(self).contiguous())
