"""Chips that the device can be, with what differs between them.

Sources: documentation of Ascend/pytorch (INF_NAN_MODE_ENABLE: 910 and 310P saturate) and of
Ascend/op-plugin (set_compile_mode, allow_internal_format: on by default on 910 and 310P alone;
is_bf16_supported: from 910B on)."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    soc_name: str  # as CANN says it
    is_old: bool  # 910 or 310P
    cubes: int  # cores for matrices
    vectors: int
    memory_bytes: int

    @property
    def has_bf16(self) -> bool:
        return not self.is_old

    @property
    def keeps_infinities(self) -> bool:
        """Else what overflows becomes the largest number, NaN 0, and a flag is set."""
        return not self.is_old


CHIPS = {
    "910B": Chip("Ascend910B3", False, 20, 40, 64 * 2**30),  # A2
    "910_93": Chip("Ascend910_9391", False, 24, 48, 64 * 2**30),  # A3
    "910": Chip("Ascend910A", True, 32, 32, 32 * 2**30),
    "310P": Chip("Ascend310P3", True, 8, 15, 24 * 2**30),
}
NAME = os.environ.get("NPU_STAND_IN_CHIP", "910B")
CHIP = CHIPS[NAME]
COUNT = int(os.environ.get("NPU_STAND_IN_COUNT", "8"))
