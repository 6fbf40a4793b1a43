"""Values of --device, --precision, --layout; the loss scale. Apart from device.py, so that `--help`
loads no torch."""

from dataclasses import dataclass
from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "npu"]
PrecisionName = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
LayoutName = Literal["auto", "nchw", "nhwc"]


@dataclass(frozen=True)
class LossScale:
    """How fp16 multiplies losses, so that small gradients do not vanish: GradScaler's constants,
    and two of ours."""

    initial: float = 65536.0
    growth_factor: float = 2.0
    growth_interval: int = 2000  # updates without overflow before the scale grows
    backoff_factor: float = 0.5
    hysteresis: int = 1  # overflows since the last change of the scale before it backs off
    static: bool = False  # the initial scale for good


DYNAMIC = LossScale()
