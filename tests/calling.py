"""pipeline.py as a user starts it, from any folder; and command lines of which nothing is
started."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shared.command import command_line
from tests.places import ROOT

# A demo recipe of seconds.
SMALL = """
    prepare.size=64x128
    train_global.size=32x64 train_global.epochs=2 train_global.epochs_decay=1 train_global.ngf=8
    train_local.epochs=1 train_local.epochs_decay=0 train_local.epochs_fix_global=0
    train_local.ngf=4
    benchmark.batch_sizes=[1,2] benchmark.rounds=3
""".split()


def environment() -> dict[str, str]:
    """Ours, without what would lead a run to another MLflow store or parent."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW", "PIPELINE"))
    }


def command(*arguments) -> list[str]:
    return [sys.executable, str(ROOT / "pipeline.py"), *map(str, arguments)]


def call(*arguments, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=900
    )


def recording(asked: list[dict]) -> Callable[..., None]:
    """What stands in for `command_line` of a program: it reads words and flags as ever, and puts
    the values of whatever they ask for into `asked`."""

    def recorded(verb: Callable) -> Callable:
        @functools.wraps(verb)
        def record(**values):
            asked.append(values)

        return record

    def record_all(prog, step, verbs, argv):
        verbs = {name: recorded(verb) for name, verb in verbs.items()}
        command_line(prog, step and recorded(step), verbs, argv)

    return record_all
