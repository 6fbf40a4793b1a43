"""Trainings as a user starts them, killed at a chosen place, and the pairs that they have read."""

import itertools
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from shared.flags import as_flag
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.calling import environment
from tests.places import ROOT
from tests.train.spy.sitecustomize import OPENED, RENAMED

SPY = Path(__file__).parent / "spy"
SAMPLES = 4  # pairs that every process reads first, for the sample pictures


@dataclass
class Ended:
    """A training that has ended, by itself or not."""

    code: int
    said: str  # stdout, then stderr
    read: list[str]  # names of the pairs that it has read to train on, in the order of the epoch


def train(
    dataset: Path,
    model: Path,
    kill: str = "",
    variables: dict | None = None,
    torchrun: int = 0,
    **options,
) -> Ended:
    """`python -m components.train` with networks of four channels.

    kill: SPY_KILL of `spy`. variables: of the environment. torchrun: processes that torchrun
    starts, 0 = it does not."""
    log = model.parent / f"{model.name}.spy"
    log.unlink(missing_ok=True)
    command = [sys.executable]
    if torchrun:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"]
    command += ["-m", "components.train", *flags(dataset, model, **options)]
    given = environment() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{SPY}:{ROOT}"}
    given |= {"SPY_LOG": str(log), "SPY_KILL": kill} | (variables or {})
    ended = subprocess.run(
        command, env=given, capture_output=True, text=True, timeout=400, start_new_session=True
    )
    return Ended(ended.returncode, ended.stdout + ended.stderr, _read(log))


def flags(dataset: Path, model: Path, **options) -> list[str]:
    """The arguments of the command."""
    folders = dict(dataset=dataset, model=model)
    given = folders | tiny.TRAIN | dict(precision="fp32") | options
    return [_flag(name, value) for name, value in given.items()]


def _flag(name: str, value) -> str:
    if isinstance(value, bool):
        return as_flag(name if value else f"no_{name}")
    return f"{as_flag(name)}={value}"


def _read(log: Path) -> list[str]:
    """The training pairs of all ranks, whose first come first; rank 0 is who writes."""
    ranks, writer = defaultdict(list), ""
    for line in log.read_text().splitlines():
        pid, event, file = line.split(" ", 2)
        if event == OPENED and file.startswith("train_B/"):
            ranks[pid].append(file)
        if event == RENAMED and file.endswith("/training.pt"):
            writer = pid
    ordered = sorted(ranks, key=lambda pid: pid != writer)
    together = itertools.zip_longest(*(ranks[pid][SAMPLES:] for pid in ordered))
    return [name for names in together for name in names if name]


def stands_at(model: Path) -> tuple[int, int]:
    """Finished epochs, and pairs of the one under way, of the state in a model folder; (0, 0)
    without one."""
    file = model / "state" / "training.pt"
    if not file.is_file():
        return 0, 0
    state = load_tensors(file)
    return state["epoch"], state["pairs"]
