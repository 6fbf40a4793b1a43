"""Values of --device, --precision and --memory-format, and what follows from a precision.

They stand apart from device.py, so that `--help` and `import pipeline` load no torch."""

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda", "npu"]
PrecisionName = Literal["auto", "fp32", "tf32", "hf32", "bf16", "fp16"]
MemoryFormatName = Literal["auto", "nchw", "nhwc"]

# Largest difference of pictures in [-1, 1] that an arithmetic is expected to make.
PARITY_LIMITS = {"fp32": 1e-4, "tf32": 1e-2, "hf32": 1e-2, "fp16": 5e-2, "bf16": 0.25}
OTHER_KERNELS = 1e-3  # sums of a GPU or NPU have another order than those of the CPU


def parity_limit(precision: str, device: str) -> float:
    """The largest difference that is expected of a device from PyTorch in fp32 on the CPU.

    precision: ours, or one of atc, which has names of its own for fp16 and what is like it."""
    limit = PARITY_LIMITS.get(precision, PARITY_LIMITS["fp16"])
    return limit if device == "cpu" else max(limit, OTHER_KERNELS)
