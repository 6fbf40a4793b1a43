"""Values of --device and --precision, apart from device.py so that configs and `--help` load no torch."""

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "npu"]
PrecisionName = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
