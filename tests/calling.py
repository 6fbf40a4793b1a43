"""pipeline.py as a user starts it, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

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
