"""Values of --device, --precision and --memory-format, and what follows from a precision.

They stand apart from device.py, so that `--help` and `import pipeline` load no torch."""

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "npu"]
PrecisionName = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
MemoryFormatName = Literal["auto", "nchw", "nhwc"]

# Largest difference of pictures in [-1, 1] that an arithmetic is expected to make.
PARITY_LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 5e-2, "bf16": 0.25}
