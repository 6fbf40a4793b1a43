"""`python -m tests.benchmarks.pipeline_time`: where the time of a whole pipeline goes, by step:
the demo's recipe with 2 + 2 epochs in a temporary folder.

Processor seconds hardly change while other programs run on the machine, seconds do. A step begins
(Python and imports), opens (its config is checked, MLflow is opened), works, closes (MLflow has
everything) and exits."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from shared.command import command_line

ROOT = Path(__file__).parents[3]
MARKS = Path(__file__).with_name("marks")
SHORT = ["train_global.epochs=1", "train_global.epochs_decay=1"]
SHORT += ["train_local.epochs=1", "train_local.epochs_decay=1"]
PARTS = ["begin", "open", "work", "close", "exit"]
ENDS = ["step begins", "work begins", "work ends", "step ends"]

Mark = dict[str, Any]


def pipeline_time(overrides: tuple[str, ...] = tuple(SHORT)) -> None:
    """Run the demo, and print seconds and processor seconds of each step.

    Args:
        overrides: What is changed of the recipe.

    Example:
        OMP_NUM_THREADS=1 python -m tests.benchmarks.pipeline_time
    """
    with tempfile.TemporaryDirectory() as folder:
        marks, wall_s, cpu_s = run(Path(folder), list(overrides))

    # A line for programs, a table for people.
    rows = rows_of(marks)
    print(f"{'':16}" + "".join(f"{part:>14}" for part in (*PARTS, "all")))
    for row in rows:
        cells = [f"{row[f'{part}_s']:.2f} / {row[f'{part}_cpu_s']:.2f}" for part in (*PARTS, "all")]
        print(f"{row['step']:16}" + "".join(f"{cell:>14}" for cell in cells))
    steps_s, steps_cpu_s = (sum(row[name] for row in rows) for name in ("all_s", "all_cpu_s"))
    between = f"{wall_s - steps_s:.2f} / {cpu_s - steps_cpu_s:.2f}"
    print(f"{'between steps':16}{between:>{14 * (len(PARTS) + 1)}}")
    print(f"whole pipeline: {wall_s:.1f} s, {cpu_s:.1f} s of processor")
    print(json.dumps(dict(wall_s=wall_s, cpu_s=cpu_s, steps=rows)))


def run(folder: Path, overrides: list[str]) -> tuple[list[Mark], float, float]:
    """The marks of a pipeline in `folder`; seconds and processor seconds of all of it."""
    path = [str(MARKS), str(ROOT), os.environ.get("PYTHONPATH")]
    log = folder / "marks.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    environment["MARKS"] = str(log)
    command = [sys.executable, str(ROOT / "pipeline.py"), "submit", "--recipe", "demo"]
    command += ["--runs", str(folder / "runs"), "--set", *overrides]
    before, start = os.times(), time.monotonic()
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    wall_s, after = time.monotonic() - start, os.times()
    user_s, system_s = (
        getattr(after, name) - getattr(before, name)
        for name in ("children_user", "children_system")
    )
    return [json.loads(line) for line in log.read_text().splitlines()], wall_s, user_s + system_s


def rows_of(marks: list[Mark]) -> list[dict[str, Any]]:
    """Seconds of each process of the pipeline and, where that is a step, of its parts."""
    by_process: dict[int, dict[str, Mark]] = defaultdict(dict)
    for mark in marks:
        by_process[mark["pid"]].setdefault(mark["mark"], mark)
    own = [mark for mark in marks if mark["pid"] == marks[0]["pid"] and mark["mark"] != "begins"]

    rows = []
    for of, start, end in zip(own[::3], own[1::3], own[2::3], strict=True):
        row = dict(step=of["mark"].removeprefix("of "), all_s=end["wall_s"] - start["wall_s"])
        row["all_cpu_s"] = end["children_s"] - start["children_s"]
        rows.append(row)

        # Its own marks; of what is no step all is work.
        step = next((found for found in by_process.values() if _is_within(found, start, end)), {})
        inner = [(step[name]["wall_s"], cpu_of(step[name])) for name in ENDS if name in step]
        begun, ended = (start["wall_s"], 0.0), (end["wall_s"], row["all_cpu_s"])
        times = [begun, *(inner or [begun, begun, ended, ended]), ended]
        for part, (before, after) in zip(PARTS, pairwise(times), strict=True):
            row |= {f"{part}_s": after[0] - before[0], f"{part}_cpu_s": after[1] - before[1]}
    return rows


def _is_within(process: dict[str, Mark], start: Mark, end: Mark) -> bool:
    """Whether a process is a step between two marks of the pipeline's."""
    last = process.get(ENDS[-1])
    return last is not None and start["wall_s"] < last["wall_s"] < end["wall_s"]


def cpu_of(mark: Mark) -> float:
    return mark["cpu_s"] + mark["children_s"]


if __name__ == "__main__":
    command_line("python -m tests.benchmarks.pipeline_time", pipeline_time, {})
