"""What chips do that keep no infinities: they saturate, and set a flag of the device.

Source: documentation of Ascend/pytorch, INF_NAN_MODE_ENABLE; the flag as
_amp_foreach_non_finite_check_and_unscale_ of Ascend/op-plugin reads it."""

import torch
from torch import Tensor

from torch_npu.stand_in.chips import CHIP

FLAG = torch.zeros(8)  # the first number: whether something has overflown since it was cleared


def saturate(result: Tensor) -> Tensor:
    """Infinities become the largest number, NaN 0, in place; the flag says that there were some."""
    if CHIP.keeps_infinities or not result.is_floating_point() or result.isfinite().all():
        return result
    FLAG[0] = 1
    return result.nan_to_num_(nan=0.0)


def npu_get_float_status(self: Tensor) -> Tensor:
    return self.copy_(FLAG)


def npu_clear_float_status(self: Tensor) -> Tensor:
    FLAG.zero_()
    return self.zero_()
