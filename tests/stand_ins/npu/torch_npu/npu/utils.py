"""torch_npu.npu.utils."""

from torch_npu.stand_in.chips import CHIP


def is_support_inf_nan() -> bool:
    return CHIP.keeps_infinities


def is_bf16_supported(including_emulation=False) -> bool:
    return CHIP.has_bf16


def get_cann_version(module="CANN") -> str:
    return "9.1.0"
