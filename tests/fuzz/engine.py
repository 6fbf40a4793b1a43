"""Runs readers on made inputs, each in a process of its own with bounded memory and time, and keeps
what went wrong.

Without atheris: guided by coverage it made 29,886 inputs of clusters.json in 40 s and was answered
in 90 ways, of features.npz 9,901 in 13; inputs made by their form, 7,903 and 3,832 of them beside
other work, were answered in 91 and 28 ways, and need nothing installed."""

import hashlib
import json
import mmap
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import InputError, WorkFailed
from shared.files import room
from tests.fuzz.mutate import LONGEST, mutated

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 2 << 30  # beyond what the process has when it begins
HANG_SECONDS = 5.0  # of the CPU, for one input
STALL_SECONDS = 60.0  # on the clock: it waits for something, or is within a library
MOST_EXAMPLES = 500
NOT_SAID = re.compile(r"weights_only|Traceback|allow_pickle|\n", re.ASCII)  # by no sentence


@dataclass(frozen=True)
class Target:
    """A reader, and what it reads.

    make: Puts what else it needs into a folder, and returns good inputs.
    read: Is given the path of an input in that folder."""

    name: str
    make: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]
    file: str = "input"  # what an input is called
    form: str = "bytes"  # of mutate.FORMS, or bytes or text
    refusals: tuple[type[BaseException], ...] = (InputError, WorkFailed)


@dataclass
class Result:
    """What came out for a target."""

    inputs: int = 0
    accepted: int = 0
    sentences: int = 0  # different ones, numbers and names aside
    seconds: float = 0.0
    crashes: dict[str, int] = field(default_factory=dict)  # how often, by kind
    hangs: int = 0

    def add(self, other: "Result") -> None:
        """Count another turn of the same target."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.sentences = max(self.sentences, other.sentences)
        self.seconds += other.seconds
        self.hangs += other.hangs
        for kind, count in other.crashes.items():
            self.crashes[kind] = self.crashes.get(kind, 0) + count


class Hang(BaseException):
    """An input took too long."""


def fuzz(target: Target, seconds: float, seed: int, findings: Path) -> Result:
    """Try inputs for so long; what goes wrong is kept in `findings`, the first of each kind."""
    began, result = time.monotonic(), Result()
    turn = 0
    while time.monotonic() - began < seconds and turn < 20:
        left = seconds - (time.monotonic() - began)
        result.add(_turn(target, left, f"{seed}-{turn}", findings))
        turn += 1
    result.seconds = time.monotonic() - began
    return result


def _turn(target: Target, seconds: float, seed: str, findings: Path) -> Result:
    """Inputs until the time is over or the process dies of one."""
    # A process, which shares with us what it works on.
    context = multiprocessing.get_context("fork")
    shared = mmap.mmap(-1, LONGEST + 64)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    process = context.Process(
        target=_begin_work, args=(target, folder, seconds, seed, findings, shared)
    )
    process.start()
    stalled = False
    limit = time.monotonic() + seconds + 2 * STALL_SECONDS
    while process.is_alive():
        process.join(0.2)
        _, began, _ = struct.unpack_from("<QdQ", shared)
        now = time.monotonic()
        if process.is_alive() and ((began and now - began > STALL_SECONDS) or now > limit):
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            stalled = True

    # What it said, or died of.
    inputs, _, size = struct.unpack_from("<QdQ", shared)
    content = bytes(shared[64 : 64 + size])
    try:
        result = Result(**json.loads((folder.parent / f"{folder.name}.json").read_bytes()))
    except FileNotFoundError:
        result = Result(inputs=inputs)
        kind = "hang" if stalled else f"killed by signal {-process.exitcode}"
        if process.exitcode and process.exitcode > 0:
            kind = f"exit {process.exitcode}"
        if stalled and not _stalls_alone(target, content):
            return result  # the machine had no time for it
        if stalled:
            result.hangs = 1
        else:
            result.crashes[kind] = 1
        _keep(target, kind, content, kind, findings)
    finally:
        (folder.parent / f"{folder.name}.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _stalls_alone(target: Target, content: bytes) -> bool:
    """Whether an input keeps a new process of its own from its end too."""
    context = multiprocessing.get_context("fork")
    process = context.Process(target=repeat, args=(target, content))
    process.start()
    process.join(STALL_SECONDS)
    stalls = process.is_alive()
    if stalls:
        process.kill()
        process.join()
    return stalls


def _begin_work(target: Target, folder: Path, *rest) -> None:
    """What is wrong with the fuzzer itself is kept too: it has no terminal here."""
    try:
        _work(target, folder, *rest)
    except BaseException:
        findings = rest[2]
        findings.mkdir(parents=True, exist_ok=True)
        (findings / f"{target.name}-fuzzer.txt").write_text(
            traceback.format_exc(), errors="replace"
        )
        raise


def _work(
    target: Target, folder: Path, seconds: float, seed: str, findings: Path, shared: mmap.mmap
) -> None:
    """In the process: try inputs one after the other, and write down what came out."""
    # Bounds, and no words of libraries.
    examples = _begin(target, folder)
    result, rng = Result(), random.Random(f"{target.name} {seed}")
    outcomes: set[str] = set()
    began = time.monotonic()
    waiting = list(examples)  # good ones first

    while waiting or time.monotonic() - began < seconds:
        content = waiting.pop() if waiting else _next(examples, target, rng)
        struct.pack_into("<QdQ", shared, 0, result.inputs, time.monotonic(), len(content))
        shared[64 : 64 + len(content)] = content
        outcome, crash, told = attempt(target, folder / target.file, content)
        result.inputs += 1
        result.accepted += outcome == "accepted"
        if crash == "hang":
            result.hangs += 1
            _keep(target, crash, content, told, findings)
        elif crash:
            result.crashes[crash] = result.crashes.get(crash, 0) + 1
            if result.crashes[crash] == 1:
                _keep(target, crash, content, told, findings)
        # What is answered in a new way is near to what is not tried yet.
        if outcome not in outcomes:
            outcomes.add(outcome)
            if len(examples) < MOST_EXAMPLES and not crash:
                examples.append(content)
    result.sentences = len(outcomes)
    (folder.parent / f"{folder.name}.json").write_text(json.dumps(vars(result)))
    os._exit(0)


def _begin(target: Target, folder: Path) -> list[bytes]:
    """The target's examples, made; then this process is bounded."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    warnings.simplefilter("ignore")
    examples = target.make(folder)
    assert examples, f"{target.name} has no examples"
    os.dup2(quiet, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _hang)
    return [example[:LONGEST] for example in examples]


def _hang(*_) -> None:
    raise Hang


def _next(examples: list[bytes], target: Target, rng: random.Random) -> bytes:
    return mutated(rng.choice(examples), target.form, examples, rng)


def attempt(target: Target, path: Path, content: bytes) -> tuple[str, str, str]:
    """Read one input: (what was answered, numbers and names aside; the kind of crash, "" where it
    is none; what is known of it)."""
    path.write_bytes(content)
    try:
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        try:
            with room.said({}):  # as every step and command has it
                target.read(path)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except target.refusals as error:
        said = str(error)
        shape = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|\(.*?\)|\d+", "", said)[:100]
        if isinstance(error, InputError) and (wrong := NOT_SAID.search(said.strip())):
            return shape, f"a sentence says {wrong[0]!r} {_place(error)}", said
        return shape, "", ""
    except Hang:
        return "hang", "hang", traceback.format_exc()
    except BaseException as error:
        kind = f"{type(error).__name__} {_place(error)}"
        return kind, kind, traceback.format_exc()[-20_000:]
    return "accepted", "", ""


def _place(error: BaseException) -> str:
    """The last function of ours that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename)
        if any(path.is_relative_to(ROOT / ours) for ours in ("shared", "components")):
            return f"in {path.relative_to(ROOT)} {frame.name}"
    return f"in {frames[-1].name}" if frames else ""


def _keep(target: Target, kind: str, content: bytes, told: str, findings: Path) -> None:
    """Keep the input of a finding, with the command that repeats it, unless there is one of its
    kind."""
    name = f"{target.name}-{hashlib.sha256(kind.encode()).hexdigest()[:8]}"
    findings.mkdir(parents=True, exist_ok=True)
    if not (findings / name).exists():
        (findings / name).write_bytes(content)
        command = f"python -m tests.fuzz --repeat {findings / name}"
        (findings / f"{name}.txt").write_text(f"{kind}\n{command}\n\n{told}", errors="replace")


def repeat(target: Target, content: bytes) -> tuple[str, str, str]:
    """What `attempt` says of one input, here, without bounds of memory."""
    signal.signal(signal.SIGPROF, _hang)
    with tempfile.TemporaryDirectory() as folder:
        target.make(Path(folder))
        return attempt(target, Path(folder) / target.file, content)
