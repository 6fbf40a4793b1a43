"""How an attack is tried, and what happened told apart.

A script `tests/attack/NAME.py` has a docstring, whose first paragraph says what it attacks, and
`cases(target)`, which gives one `Case` after the other. `python -m tests.attack NAME` tries them on
this checkout, or with `--code CHECKOUT` on another one, and ends with a line of counts; its exit
code is 1 where an outcome is none of `GOOD`.

Each case finds a finished night, see `night.py`, in `target.folder`: a copy, which it may damage as
it likes; the raw images are beside it, see `night.RAW`. It has the same path in every case, for
what a step writes may name it. A command is a step and its words, `["cluster", "--dataset",
"dataset", ...]`, or `["pipeline.py", "submit", ...]`; it is the real command line in a process that
is forked from one in which all is imported.

    def cases(target):
        def empty(folder):
            (folder / "clusters" / "clusters.npz").write_bytes(b"")

        yield Case("clusters.npz is empty", empty, [night.EXPORT], results=["exported"])

Where its exit code is 0, `results` are compared with those of the same commands in an undamaged
night. What no exit code can tell, such as a file outside of the folder or a training that is gone,
`then` looks at: it returns the outcome and what it found, or None where it has nothing to add.
Attacks from within, such as a full disk, are a Python file `inside` that the process runs before
anything else; see `inside/kill.py`.
"""

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from pickle import UnpicklingError
from typing import Self

import torch

from shared.contracts.folder import SEAL
from tests.attack import night
from tests.places import ROOT

FORKING = Path(__file__).with_name("forking.py")
KILL = Path(__file__).parent / "inside" / "kill.py"
REFUSAL = re.compile(r"^[\w. ]+ (refused|failed): \S.*[.?]$")


class Outcome(StrEnum):
    """What happened, the worst of all commands of a case."""

    SAME = "same"  # exit code 0, with the results of an undamaged night
    SENTENCE = "sentence"  # exit code 1 or 2 with one line that says why
    OTHER = "other"  # exit code 0, without a word other results
    WORDLESS = "wordless"  # another end, without such a line or with several
    TRACEBACK = "traceback"
    HANG = "hang"  # it was ended at the limit
    LOST = "lost"  # what was there before is gone
    BROKEN_INTO = "broken into"


GOOD = {Outcome.SENTENCE, Outcome.SAME}


@dataclass
class Ended:
    """A command that has ended."""

    command: list[str]
    code: int  # minus the signal that killed it
    out: str
    err: str
    seconds: float
    is_hang: bool

    @property
    def refusals(self) -> list[str]:
        return [line for line in _lines(self.err) if REFUSAL.match(line)]

    @property
    def outcome(self) -> Outcome | None:
        """None where it ended well."""
        if self.is_hang:
            return Outcome.HANG
        if "Traceback (most recent call last)" in self.out + self.err:
            return Outcome.TRACEBACK
        if self.code == 0:
            return None
        is_said = self.code in (1, 2) and len(self.refusals) == 1
        return Outcome.SENTENCE if is_said else Outcome.WORDLESS

    @property
    def last_words(self) -> str:
        lines = self.refusals or _lines(self.err) or _lines(self.out) or [""]
        return lines[-1]


def _lines(text: str) -> list[str]:
    """What stays of each line on a terminal, where a progress bar goes back to its begin."""
    return [part for line in text.splitlines() if (part := line.rpartition("\r")[2].strip())]


def _nothing(_folder: Path) -> None:
    pass


Then = Callable[["Target", list[Ended]], tuple[Outcome, str] | None]


@dataclass
class Case:
    name: str
    prepare: Callable[[Path], object]  # damages the night in the folder
    commands: list[list[str]] = field(default_factory=list)  # that start at once
    results: list[str] = field(default_factory=list)  # files and folders to compare, in the folder
    then: Then = lambda target, ended: None
    meanwhile: Callable[[Path], object] = _nothing  # is called once they have started
    environment: dict[str, str | None] = field(default_factory=dict)  # None removes a variable
    inside: Path | None = None  # Python file that each process runs first
    limit_s: float = 60.0


@dataclass
class Tried:
    case: Case
    outcome: Outcome
    words: str  # the last of the command that tells most
    seconds: float


class Target:
    """A checkout under attack, and its night."""

    def __init__(self, code: Path, place: Path):
        """place: an empty folder."""
        self.code, self.place = code.resolve(), place.resolve()
        self.folder, self.night = self.place / "here", self.place / "night"
        self.socket = str(self.place / "socket")
        self.untouched: dict[str, dict] = {}
        self.numbers = itertools.count()  # of its commands

    @classmethod
    @contextlib.contextmanager
    def at(cls, code: Path = ROOT) -> Iterator[Self]:
        """With its server, but without a night."""
        with tempfile.TemporaryDirectory(prefix="attack-") as place:
            target = cls(code, Path(place))
            target.folder.mkdir()
            command = [sys.executable, "-P", str(FORKING), target.socket]
            server = subprocess.Popen(
                command, cwd=target.code, env=target.environment(), stdout=subprocess.PIPE
            )
            try:
                assert server.stdout.readline() == b"ready\n", f"{code} cannot be imported"
                yield target
            finally:
                server.kill()
                server.wait()
                server.stdout.close()

    def environment(self) -> dict[str, str]:
        """Of every command: ours without what would lead it to another store or parent, and nothing
        to download from."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PIPELINE"))}
        alone = dict(WEIGHTS_MIRROR="http://127.0.0.1:9", TORCH_HOME="/dev/null/torch")
        alone |= dict(PYTHONPATH=str(self.code), PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
        return kept | alone | {"XDG_CACHE_HOME": str(self.folder / "user-cache")}

    # Its night.

    def build(self) -> None:
        """Make the night by the checkout's own steps."""
        self.made(night.DEMO)
        self.made(night.PREPARE)
        killed = dict(KILL_LOG=str(self.place / "log"), KILL_AT=str(night.SAVES_OF_STOPPED))
        killed["KILL_NAME"] = night.SAVED
        stopped = self.run(night.STOPPED, killed, KILL)
        assert stopped.code == -signal.SIGKILL, stopped.last_words
        for name in ("model", "clusters", "exported", "report"):
            self.made(night.STEPS[name])
        shutil.copytree(self.folder, self.night, symlinks=True)

    def made(self, command: list[str]) -> Ended:
        """Run a command that has to end well."""
        ended = self.run(command)
        assert ended.code == 0, f"{' '.join(command)}: {ended.err}"
        return ended

    def fresh(self) -> Path:
        """The folder, with a whole night again."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.night, self.folder, symlinks=True)
        return self.folder

    # Its commands.

    def run(
        self,
        command: list[str],
        environment: dict[str, str | None] | None = None,
        inside: Path | None = None,
        limit_s: float = 60.0,
    ) -> Ended:
        """Run one command in the folder as it is."""
        return self.start(command, environment or {}, inside).wait(limit_s)

    def start(
        self, command: list[str], environment: dict[str, str | None], inside: Path | None
    ) -> "Running":
        return Running(self, command, environment, inside)

    def attempt(self, case: Case) -> Tried:
        """Try a case in a fresh night."""
        case.prepare(self.fresh())
        began = time.monotonic()
        ended = self._ended(case)
        outcome, words = self._judged(case, ended)
        return Tried(case, outcome, words, time.monotonic() - began)

    def _ended(self, case: Case) -> list[Ended]:
        started = [self.start(one, case.environment, case.inside) for one in case.commands]
        case.meanwhile(self.folder)
        return [one.wait(case.limit_s) for one in started]

    def _judged(self, case: Case, ended: list[Ended]) -> tuple[Outcome, str]:
        """The worst outcome, and the words to it."""
        found = [(one.outcome, one.last_words) for one in ended if one.outcome]
        if len(found) < len(ended) and case.results:
            is_same = contents(self.folder, case.results) == self._untouched(case)
            found.append((Outcome.SAME if is_same else Outcome.OTHER, ""))
        if looked := case.then(self, ended):
            found.append(looked)
        order = list(Outcome)
        return max(found, key=lambda one: order.index(one[0]), default=(Outcome.SAME, ""))

    def _untouched(self, case: Case) -> dict:
        """What the results of a case are in a night that nobody has damaged."""
        key = json.dumps([case.commands, case.results])
        if key not in self.untouched:
            damaged = self.place / "damaged"
            self.folder.rename(damaged)
            self.fresh()
            for command in case.commands:
                self.made(command)
            self.untouched[key] = contents(self.folder, case.results)
            shutil.rmtree(self.folder)
            damaged.rename(self.folder)
        return self.untouched[key]


class Running:
    """A command that has started."""

    def __init__(self, target: Target, command: list[str], environment: dict, inside: Path | None):
        self.command, self.began = command, time.monotonic()
        number = next(target.numbers)
        self.said = [target.place / f"{stream}_{number}" for stream in ("out", "err")]
        request = dict(argv=command, folder=str(target.folder), environment=environment)
        request |= dict(inside=str(inside or ""), out=str(self.said[0]), err=str(self.said[1]))
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(target.socket)
        self.answers = self.socket.makefile("r")
        self.socket.sendall(f"{json.dumps(request)}\n".encode())
        self.pid = int(self.answers.readline())

    def wait(self, limit_s: float = 60.0) -> Ended:
        """Wait for its end, which comes at the limit, counted from its start."""
        self.socket.settimeout(max(limit_s - (time.monotonic() - self.began), 0.01))
        is_hang = False
        try:
            code = int(self.answers.readline())
        except TimeoutError:
            is_hang, code = True, -signal.SIGKILL
        seconds = time.monotonic() - self.began
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it has left behind, too
        self.answers.close()
        self.socket.close()
        out, err = (file.read_text(errors="replace") for file in self.said)
        for file in self.said:
            file.unlink()
        return Ended(self.command, code, out, err, seconds, is_hang)


# What a step has made.

# Times, and what follows from them.
OF_THE_CLOCK = {"speed", "environment", "method", "seconds", "time", "versions", SEAL}
OF_PEOPLE = {".html", ".txt", ".log", ".jsonl"}


def contents(folder: Path, names: Iterable[str]) -> dict:
    """What is in files and folders, by their names: equal where the same was done again."""
    found = {}
    for name in names:
        paths = sorted((folder / name).rglob("*")) if (folder / name).is_dir() else [folder / name]
        for path in paths:
            if path.is_file() and path.suffix not in OF_PEOPLE:
                found[str(path.relative_to(folder))] = content(path)
    return found


def content(path: Path) -> object:
    """What is in a file: of JSON what no clock has told, of a state its values, for its bytes tell
    also which of them are one object; else a digest."""
    data = path.read_bytes()
    if path.suffix == ".pt":
        with contextlib.suppress(OSError, RuntimeError, UnpicklingError):
            return values_of(torch.load(path, weights_only=True))
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            return without_times(json.loads(data))
    return hashlib.sha256(data).hexdigest()


def values_of(value: object) -> object:
    """What can be compared of a value that holds tensors."""
    match value:
        case torch.Tensor():
            return str(value.dtype), tuple(value.shape), value.tolist()
        case dict():
            return {key: values_of(one) for key, one in value.items()}
        case list() | tuple():
            return [values_of(one) for one in value]
        case float() if math.isnan(value):
            return "nan"  # no best epoch yet: the same as another such
        case _:
            return value


def without_times(value: object) -> object:
    match value:
        case dict():
            kept = {key: one for key, one in value.items() if key not in OF_THE_CLOCK}
            return {key: without_times(one) for key, one in kept.items()}
        case list():
            return [without_times(one) for one in value]
        case _:
            return value


# A whole attack.


def attack(name: str, cases: Callable[[Target], Iterable[Case]], code: Path) -> bool:
    """Try all cases and print what happened, return whether all ended well."""
    counts, began = Counter(), time.monotonic()
    with Target.at(code) as target:
        target.build()
        for case in cases(target):
            tried = target.attempt(case)
            counts[tried.outcome] += 1
            words = f"  {tried.words[:160]}" if tried.words else ""
            print(f"{tried.outcome:11} {tried.seconds:5.1f} s  {case.name}{words}", flush=True)
    told = ", ".join(f"{counts[one]} {one}" for one in Outcome if counts[one])
    seconds = time.monotonic() - began
    print(f"{name} on {code}: {counts.total()} cases in {seconds:.0f} s: {told}")
    return counts.keys() <= GOOD
