"""An Ascend card as the steps want it."""

import torch

from shared.ascend.chips import is_910b_or_later
from shared.errors import InputError


def keep_fp32() -> None:
    """Let fp32 stay fp32 on chips before Ascend910B, where torch_npu's default is to give fp16 to
    convolutions. Raises InputError where this chip then has none."""
    if is_910b_or_later():  # which does so unless HF32 is on
        return
    torch.npu.set_option({"ACL_PRECISION_MODE": "must_keep_origin_dtype"})
    one = torch.ones(1, 1, 1, 1, device="npu")
    try:
        torch.nn.functional.conv2d(one, one).cpu()
    except RuntimeError as error:
        torch.npu.set_option({"ACL_PRECISION_MODE": "allow_fp32_to_fp16"})
        chip, reason = torch.npu.get_device_name(0), " ".join(str(error).split())[:160]
        raise InputError(
            f"--precision fp32: this {chip} has no convolutions of fp32 ({reason}): use fp16."
        ) from None
