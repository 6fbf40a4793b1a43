"""Values of --device, --precision, --layout; what follows from a precision; the loss scale.

They stand apart from device.py, so that `--help` and `import pipeline` load no torch."""

from dataclasses import dataclass
from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "npu"]
PrecisionName = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
LayoutName = Literal["auto", "nchw", "nhwc"]

# Largest difference of pictures in [-1, 1] that an arithmetic is expected to make.
PARITY_LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 5e-2, "bf16": 0.25}


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
