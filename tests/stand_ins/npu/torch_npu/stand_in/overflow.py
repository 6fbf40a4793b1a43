"""What chips do that keep no infinities: they saturate, and set a flag of the device.

Sources: documentation of Ascend/pytorch, INF_NAN_MODE_ENABLE;
AmpForeachNonFiniteCheckAndUnscaleKernelNpu.cpp of Ascend/op-plugin."""

import torch
from torch import Tensor

from torch_npu.stand_in.chips import CHIP
from torch_npu.stand_in.stats import STATS

FLAG = torch.zeros(8)  # the first number: whether something has overflown since it was cleared


def saturate(result: Tensor) -> Tensor:
    """Infinities become the largest number, NaN 0, in place; the flag says that there were some."""
    if CHIP.keeps_infinities or not result.is_floating_point() or result.isfinite().all():
        return result
    FLAG[0] = 1
    return result.nan_to_num_(nan=0.0)


def unscale(gradients: list[Tensor], found_inf: Tensor, inv_scale: Tensor) -> None:
    """_amp_foreach_non_finite_check_and_unscale_ where overflow saturates: the host fetches the
    flag; where it is set it is cleared, and the gradients stay as they are."""
    STATS.fetched()
    if FLAG[0]:
        FLAG.zero_()
        found_inf.fill_(1)
    else:
        torch._foreach_mul_(gradients, inv_scale.reshape(()))


def npu_get_float_status(self: Tensor) -> Tensor:
    return self.copy_(FLAG)


def npu_clear_float_status(self: Tensor) -> Tensor:
    STATS.calls["npu_clear_float_status"] += 1
    FLAG.zero_()
    return self.zero_()
