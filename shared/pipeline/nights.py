"""A run for the night: never two at once, never longer than allowed, and beside the one before."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from filelock import FileLock, Timeout
from pydantic import Field
from tabulate import tabulate

from shared.command import StepConfig

BUSY, TIMED_OUT = 75, 124  # exit codes: EX_TEMPFAIL, and that of timeout(1)

Night = tuple[str, dict[str, float]]  # name of a run, its headline figures


class NightlyOptions(StepConfig):
    """What runs in the night; the same flags as of `nightly`."""

    STEP: ClassVar[str] = "nightly"

    recipe: str = "demo"
    """Name of a file in shared/pipeline."""
    raw_data: Annotated[str | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder, archive or URL of paired images; without it demo scenes are generated."""
    overrides: Annotated[
        tuple[str, ...], tyro.conf.arg(name="set", metavar="STEP.FIELD=VALUE ...")
    ] = ()
    """Numbers of the recipe to change."""
    timeout_min: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Minutes after which the run is stopped; 0 = never."""
    runs: Path = Path("runs")
    """Folder of the runs, of the MLflow store and of the lock."""


def run_night(command: list, runs: Path, timeout_min: float) -> int:
    """Run a command under the lock of `runs`; returns its exit code, or BUSY, or TIMED_OUT.

    Args:
        command: Program and arguments.
        runs: Folder of the lock; made where it is not there.
        timeout_min: Minutes after which the command is stopped; 0 = never.
    """
    runs.mkdir(parents=True, exist_ok=True)
    lock = runs / "nightly.lock"
    try:
        with FileLock(lock, blocking=False):
            code = _run_in_own_group(command, timeout_min * 60 or None)
    except Timeout:
        print(f"nightly: another run holds {lock}; nothing was started", file=sys.stderr)
        return BUSY
    if code == TIMED_OUT:
        print(f"nightly: stopped after --timeout-min {timeout_min:g}", file=sys.stderr)
    return code


def _run_in_own_group(command: list, timeout_seconds: float | None) -> int:
    """Run a command; when we are stopped or the time is over, every process below it goes too."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True)

    def stop_group() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            os.killpg(process.pid, signal.SIGKILL)

    def stopped(signum: int, _frame) -> None:
        stop_group()
        os._exit(128 + signum)

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stopped)
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        stop_group()
        return TIMED_OUT


def compare_nights(nights: list[Night]) -> str:
    """Table of the headline figures of the newest run beside those of the one before.

    Args:
        nights: The newest first; more than two are not looked at.
    """
    if not nights:
        return "MLflow shows no finished nightly run to compare."
    name, tonight = nights[0]
    name_before, before = nights[1] if len(nights) > 1 else ("none", {})

    rows = []
    for figure, value in sorted(tonight.items()):
        old = before.get(figure)
        change = f"{value / old - 1:+.1%}" if old else ""
        rows.append((figure, value, old, change))
    table = tabulate(
        rows,
        headers=("", "tonight", "before", "change"),
        tablefmt="plain",
        floatfmt=".5g",
        missingval="-",
        colalign=("left", "right", "right", "right"),
    )
    return f"tonight: {name}, before: {name_before}\n\n{table}"
