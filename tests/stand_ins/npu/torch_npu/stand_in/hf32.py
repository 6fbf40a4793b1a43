"""HF32, in which the cubes of A2 and A3 compute float32 unless told otherwise: 8 bits of exponent,
and fewer of mantissa."""

import os

import torch
from torch import Tensor

from torch_npu.stand_in.chips import CHIP
from torch_npu.stand_in.stats import STATS

MANTISSA = int(os.environ.get("NPU_STAND_IN_HF32", "11"))  # bits kept of float32's 23
OF_CONV = {"aten::convolution", "aten::convolution_backward"}
OF_MATMUL = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


class Switch:
    """torch.npu.conv or torch.npu.matmul; on chips without HF32 it does nothing."""

    def __init__(self, name: str, allow_hf32: bool):
        super().__setattr__("name", name)
        super().__setattr__("allow_hf32", allow_hf32)

    def __setattr__(self, name: str, value: object) -> None:
        """The real one takes a bool, and says nothing to names that it does not know."""
        if name == "allow_hf32":
            if not isinstance(value, bool):
                raise TypeError(f"allow_hf32 must be a bool, but got {type(value).__name__}")
            super().__setattr__(name, value)
            STATS.options[f"{self.name}.allow_hf32"] = value


CONV, MATMUL = Switch("conv", True), Switch("matmul", False)  # torch_npu's defaults


def operands(name: str, tensors: list) -> list:
    """What the cubes see of the operands of an operator."""
    switch = CONV if name in OF_CONV else MATMUL if name in OF_MATMUL else None
    if switch is None or not switch.allow_hf32 or CHIP.is_old:
        return tensors
    seen = [rounded(one) if isinstance(one, Tensor) else one for one in tensors]
    STATS.hf32[name] += any(one is not other for one, other in zip(seen, tensors, strict=True))
    return seen


def rounded(tensor: Tensor) -> Tensor:
    """float32 with fewer bits of mantissa, to the nearest and then to even; others as they are."""
    if tensor.dtype != torch.float32 or MANTISSA >= 23:
        return tensor
    dropped = 23 - MANTISSA
    bits = tensor.contiguous().view(torch.int32)
    odd = (bits >> dropped) & 1
    bits = (bits + ((1 << (dropped - 1)) - 1) + odd) & ~((1 << dropped) - 1)
    return torch.where(tensor.isfinite(), bits.view(torch.float32), tensor)
