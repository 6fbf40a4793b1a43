"""What generations of Ascend chips compute in."""

import torch

from shared.errors import InputError

# The unit that computes convolutions and products of matrices takes bf16, HF32 and fp32 from
# Ascend910B on (A2, A3). Before (910, 310P) it takes fp16: torch_npu's default for fp32 there is
# `allow_fp32_to_fp16` (its IsAllowFP32ToFP16), and by aclnnConvolution's manual KEEP_DTYPE is an
# error for fp32.
OF_910B = {
    "bf16": "has no bf16, for which torch_npu would compute in fp32 without an error",
    "hf32": "has no HF32, which came with Ascend910B",
}


def is_910b_or_later() -> bool:
    return torch.npu.is_bf16_supported()


def keeps_infinities() -> bool:
    """Whether what overflows becomes infinite, else the largest number: by chip, and by
    INF_NAN_MODE_* of the environment."""
    from torch_npu.npu.utils import is_support_inf_nan

    return is_support_inf_nan()


def refuse_lacking(precision: str) -> None:
    """Raises InputError for a precision that the chip of this machine does not have."""
    if precision in OF_910B and not is_910b_or_later():
        chip = torch.npu.get_device_name(0)
        raise InputError(f"--precision {precision}: this {chip} {OF_910B[precision]}: use fp16.")
