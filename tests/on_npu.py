"""Programs of this project on the stand-in of an Ascend NPU: for people, and for tests.

    python -m tests.on_npu [--chip 910B|910_93|910|310P] [--stats FILE] STEP arguments...

runs a step's command line; `pipeline` in place of STEP runs pipeline.py. FILE gets a line of JSON
of each process: kernels, copies and their directions, dtypes, options that were set."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.places import ROOT, STAND_INS


def environment(chip: str = "910B", stats: Path | None = None, **more: str) -> dict[str, str]:
    """Ours, with a torch_npu on the path; see its docstring for what `more` may say."""
    paths = [str(STAND_INS / "npu"), os.environ.get("PYTHONPATH", "")]
    values = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "NPU_STAND_IN_CHIP": chip}
    values |= {"NPU_STAND_IN_STATS": str(stats)} if stats else {}
    return os.environ | values | more


def command(step: str, *arguments) -> list[str]:
    program = [str(ROOT / "pipeline.py")] if step == "pipeline" else ["-m", f"components.{step}"]
    return [sys.executable, *program, *map(str, arguments)]


@dataclass(frozen=True)
class OnNpu:
    """What came of it."""

    returncode: int
    stdout: str
    stderr: str
    processes: list[dict]  # what each that loaded torch_npu did; see stand_in/stats.py

    # All processes together.
    kernels: Counter[str]  # how often each operator ran
    copies: Counter[str]  # by direction, such as "npu->cpu"
    fetches: Counter[str]  # copies to the host, by the line that asked for them
    calls: Counter[str]  # of torch.npu's functions
    hf32: Counter[str]  # kernels that computed in HF32
    fp16_cubes: Counter[str]  # kernels of a 910 or 310P that computed in fp16 what was float32
    refused: Counter[str]  # why the chip refused operators, or torch_npu has none such
    unlisted: Counter[str]  # operators that stand_in/dtypes.csv has no line for
    dtypes: dict[str, set[str]]  # of the tensors that each operator was given

    @classmethod
    def of(cls, done: subprocess.CompletedProcess, processes: list[dict]) -> Self:
        counted = ("kernels", "copies", "fetches", "calls", "hf32", "fp16_cubes", "refused")
        totals = {
            name: sum((Counter(process[name]) for process in processes), Counter())
            for name in (*counted, "unlisted")
        }
        dtypes: dict[str, set[str]] = {}
        for name, found in (pair for process in processes for pair in process["dtypes"].items()):
            dtypes.setdefault(name, set()).update(found)
        return cls(done.returncode, done.stdout, done.stderr, processes, dtypes=dtypes, **totals)


def on_npu(step: str, *arguments, timeout: float = 600, **how) -> OnNpu:
    """Run a step's command line; `how` see `environment`."""
    return run(command(step, *arguments), timeout, **how)


IN_TURN = """
import importlib, json, sys
from torch_npu.stand_in.stats import STATS, append

for step, *arguments in json.loads(sys.argv[1]):
    STATS.begin_anew()
    importlib.import_module(f"components.{step}.__main__").main(arguments)
    append()
STATS.begin_anew()
"""


def in_turn_on_npu(commands: list[list], **how) -> OnNpu:
    """Several command lines in one process, which is quicker: the first words are steps.

    `processes` has one entry for each of them, and an empty one at last."""
    words = [[str(word) for word in command] for command in commands]
    return script_on_npu(IN_TURN, json.dumps(words), **how)


def script_on_npu(script: str, *arguments, timeout: float = 600, **how) -> OnNpu:
    """Run some lines of Python, for which `torch.npu` is there."""
    start = "import torch_npu\n"
    return run([sys.executable, "-c", start + script, *map(str, arguments)], timeout, **how)


def run(words: list[str], timeout: float, may_refuse: bool = False, **how) -> OnNpu:
    """Fails where an operator was refused, unless the test is about that."""
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.jsonl"
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=environment(stats=stats, **how),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        lines = stats.read_text().splitlines() if stats.exists() else []
    processes = [json.loads(line) for line in lines]
    result = OnNpu.of(done, processes)
    assert may_refuse or not result.refused, "; ".join(result.refused)
    return result


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.on_npu", description=__doc__)
    parser.add_argument("--chip", default="910B")
    parser.add_argument("--stats", type=Path)
    parser.add_argument("step")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    words = command(given.step, *given.arguments)
    os.execve(words[0], words, environment(given.chip, given.stats))


if __name__ == "__main__":
    main()
