"""npu-smi, Ascend's tool for its cards: a call that comes to an end, and what its table says.

`npu-smi info` has two rows for each chip, of which A3 and Atlas 300I Duo have two on a card:
    | 2     Ascend910           | OK            | 178.7       37              0    / 0         |
    | 0     4                   | 0000:9D:00.0  | 0           0    / 0        3419 / 65536     |
    | 2     Ascend910           | OK            | -           36              0    / 0         |
    | 1     5                   | 0000:9F:00.0  | 0           0    / 0        3196 / 65536     |
card, name, health, watts, degrees, pages; chip, number of the device in torch (where there is none
it is that of the card), bus, how busy its cores are, and its memories in MB, the last of which is
HBM where it has some. Layouts: those of tests/stand_ins/npu_smi.py."""

import re
import shutil

from shared.servers import answer_of

# Rows of processes are alike, but have no such name, no word of health, or no bus.
CARD_ROW = re.compile(
    r"^\|\s*(?P<card>\d+)\s+(?:\|\s+)?(?P<name>(?:Ascend)?(?:310|610|910|950)\w*(?:-\d)?)\s*\|"
    r"\s*[A-Za-z]+\s*\|\s*(?P<watts>[\d.]+|-|NA)\s+(?P<celsius>[\d.]+|-|NA)",
    re.MULTILINE,
)
CHIP_ROW = re.compile(
    r"^\|\s*(?:\d+(?:\s+(?P<device>\d+))?)?\s*\|(?:\s+\|)?\s*(?:[0-9A-Fa-f]{4}:[0-9A-Fa-f:.]+|NA)"
    r"\s*\|\s*(?P<busy>\d+|-|NA)\s+(?P<memories>.*?)\|\s*$"
)
MEMORY = re.compile(r"(\d+)\s*/\s*(\d+)")


def is_there() -> bool:
    return shutil.which("npu-smi") is not None


def ask(*arguments: str, seconds: float) -> str:
    """What `npu-smi info` prints. Raises TimeoutError, OSError: see `answer_of`."""
    return answer_of(["npu-smi", "info", *arguments], seconds)


def first_words(text: str) -> str:
    """The first line of a text that is no frame of a table."""
    lines = (line.strip(" |.") for line in text.splitlines() if line.strip(" |+-="))
    return next(lines, "nothing").replace(". ", "; ")


def figures_of(table: str) -> dict[str, float]:
    """Watts, degrees Celsius, how busy the cores are in percent, and memory of each chip, under the
    names that MLflow has for GPUs; what a chip does not tell is left out."""
    figures: dict[str, float] = {}
    card = None
    for line in table.splitlines():
        if found := CARD_ROW.match(line):
            card = found
        elif card and (found := CHIP_ROW.match(line)):
            name = f"npu_{found['device'] or card['card']}"
            told = {"power_usage_watts": card["watts"], "temperature_celsius": card["celsius"]}
            told["utilization_percentage"] = found["busy"]
            figures |= {f"{name}_{key}": float(x) for key, x in told.items() if x[0].isdigit()}
            memories = [
                (int(used), int(whole)) for used, whole in MEMORY.findall(found["memories"])
            ]
            for used, whole in [memory for memory in memories if memory[1]][-1:]:
                figures[f"{name}_memory_usage_megabytes"] = used
                figures[f"{name}_memory_usage_percentage"] = 100 * used / whole
    return figures
