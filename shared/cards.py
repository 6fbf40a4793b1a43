"""Which cards of this machine a step uses: said to CUDA and CANN before they look for them, so that
torch, ONNX Runtime and ais_bench all see these alone, numbered from 0."""

import os
from collections.abc import Sequence

from shared.ascend.environment import VISIBLE as OF_NPUS
from shared.errors import InputError

OF_GPUS = "CUDA_VISIBLE_DEVICES"
ASKED = "PIPELINE_CARDS"  # environment of a step and its ranks: those of --cards


def take(cards: Sequence[int]) -> None:
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


def refuse_missing(device: str, count: int) -> None:
    """Raises InputError where torch sees fewer cards than --cards names.

    Args:
        device: cuda, npu or cpu.
        count: Cards that torch sees."""
    asked = os.environ.get(ASKED, "")
    if asked and (device == "cpu" or count != len(asked.split(","))):
        tool = {"cuda": "nvidia-smi", "npu": "npu-smi info"}.get(device, "nvidia-smi")
        raise InputError(
            f"--cards {asked.replace(',', ' ')}: torch sees {0 if device == 'cpu' else count} of "
            f"them: `{tool}` lists those of this machine."
        )


def hidden() -> str:
    """What may hide GPUs, as part of a sentence; "" where nothing does."""
    return f" ({OF_GPUS} is {os.environ[OF_GPUS]!r})" if OF_GPUS in os.environ else ""
