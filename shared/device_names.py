"""Values of --device, --precision, --memory-format and --cards, and what follows from them.

They stand apart from device.py, so that `--help` and `import pipeline` load no torch."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

from shared.ascend.environment import VISIBLE as OF_NPUS
from shared.errors import InputError

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


# Cards: said to CUDA and CANN before they look for them, so that torch, ONNX Runtime and ais_bench
# all see these alone, numbered from 0.

OF_GPUS = "CUDA_VISIBLE_DEVICES"
ASKED = "PIPELINE_CARDS"  # environment of a step and its ranks: those of --cards


def take_cards(cards: Sequence[int]) -> None:
    """Let this process, and those that it starts, see these cards alone. Raises InputError where
    the environment names others.

    cards: ascending numbers, as the driver counts them; none: the environment decides."""
    if not cards:
        return
    asked = ",".join(map(str, cards))
    for name in (OF_GPUS, OF_NPUS):
        if os.environ.get(name, asked) != asked:
            raise InputError(
                f"--cards {asked.replace(',', ' ')}: {name} is {os.environ[name]} here: leave out "
                "one of them."
            )
    os.environ |= {OF_GPUS: asked, OF_NPUS: asked, ASKED: asked}


def refuse_missing_cards(device: str, count: Callable[[], int]) -> None:
    """Raises InputError where torch sees fewer cards than --cards names.

    Args:
        device: cuda, npu or cpu.
        count: Cards that torch sees."""
    asked = os.environ.get(ASKED, "")
    if not asked:
        return
    seen = 0 if device == "cpu" else count()
    if seen != len(asked.split(",")):
        tool = "npu-smi info" if device == "npu" else "nvidia-smi"
        raise InputError(
            f"--cards {asked.replace(',', ' ')}: torch sees {seen} of them: `{tool}` lists those "
            "of this machine."
        )


def hiding_gpus() -> str:
    """What may hide GPUs, as part of a sentence; "" where nothing does."""
    return f" ({OF_GPUS} is {os.environ[OF_GPUS]!r})" if OF_GPUS in os.environ else ""
