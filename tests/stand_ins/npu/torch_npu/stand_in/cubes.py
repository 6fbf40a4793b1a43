"""What the cubes, which multiply matrices, make of float32 unless they are told otherwise.

A2 and A3 take HF32: 8 bits of exponent, 11 of mantissa, to the nearest and then to even. 910 and
310P have no float32 there: they take float16, whatever `allow_hf32` says. Means over windows go
through them too, on A2 and A3 in float32 always.
Sources: CalcuOpUtil::GetCubeMathType and IsAllowFP32ToFP16 of Ascend/pytorch; cubeMathType of
aclnnConvolution and aclnnAvgPool2d in hicann/ops-nn; AvgPool2dKernelNpuOpApi.cpp of op-plugin;
SetHF32TransMode of Ascend C."""

import os

import torch
from torch import Tensor

from torch_npu.stand_in.chips import CHIP
from torch_npu.stand_in.stats import STATS

MANTISSA = int(os.environ.get("NPU_STAND_IN_HF32", "11"))  # bits kept of float32's 23
OF_CONV = {"aten::convolution", "aten::convolution_backward"}
OF_MATMUL = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}

OF_MEANS = {"aten::avg_pool2d", "aten::avg_pool2d_backward"}


class Switch:
    """torch.npu.conv or torch.npu.matmul."""

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


def operands(name: str, values: list) -> list:
    """What the cubes see of an operator's operands."""
    if name not in OF_CONV | OF_MATMUL | OF_MEANS:
        return values
    of_float32 = [isinstance(one, Tensor) and one.dtype == torch.float32 for one in values]
    if not any(of_float32):
        return values
    switch = CONV if name in OF_CONV else MATMUL
    if CHIP.is_old:
        if STATS.options.get("ACL_PRECISION_MODE") == "must_keep_origin_dtype":
            raise RuntimeError(f"{name}: aclnn failed, error code is 161002: KEEP_DTYPE of FLOAT")
        seen_as, kept = STATS.fp16_cubes, lambda one: one.half().nan_to_num_(nan=0.0).float()
    elif name not in OF_MEANS and switch.allow_hf32 and MANTISSA < 23:
        seen_as, kept = STATS.hf32, rounded
    else:
        return values
    seen_as[name] += 1
    return [kept(one) if is_one else one for one, is_one in zip(values, of_float32, strict=True)]


def rounded(tensor: Tensor) -> Tensor:
    """float32 in HF32."""
    dropped = 23 - MANTISSA
    bits = tensor.contiguous().view(torch.int32)
    odd = (bits >> dropped) & 1
    bits = (bits + ((1 << (dropped - 1)) - 1) + odd) & ~((1 << dropped) - 1)
    return torch.where(tensor.isfinite(), bits.view(torch.float32), tensor)
