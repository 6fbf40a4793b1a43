"""kill -9 just before every file that a step opens for writing, renames, removes or makes.

After each, whoever reads the folder says one sentence, or reads all of what was there before or all
of what was to come; and the same command again ends well, with what it would have made unkilled.
"""

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import GOOD, KILL, Case, Ended, Outcome, Target, contents

CUT_BYTES = 300  # of a file that is killed in the middle of a write
SPARE = "state/training.before.pt"
EVERY = 3  # of the files that are opened for writing


@dataclass
class Writer:
    """A command that is killed at all places."""

    command: list[str]
    result: str  # folder that it writes
    prepare: Callable[[Path], object] = lambda folder: None
    readers: list[tuple[list[str], str]] = field(default_factory=list)  # and what each writes
    between: list[str] = field(default_factory=list)  # makes what is whole on the way


def without(name: str) -> Callable[[Path], object]:
    return lambda folder: shutil.rmtree(folder / name)


# What sub-commands read and write, beside what is in a night.
REFERENCE = [*night.CLUSTER, "--reference-files"]
MAPS = ["cluster", "exchange", "maps"]
MAPS += as_flags(clusters="clusters", dataset="dataset", form="png", out="maps")
INPUTS = ["export", "offline", "inputs"]
INPUTS += as_flags(dataset="dataset", exported="exported", out="inputs")
MADE = as_flags(dataset="dataset", model="model", clusters="read")
READ_MAPS = ["cluster", "exchange", "read-maps", "--maps", "maps/train_feat", *MADE]
READ = ["cluster", "exchange", "read", "--features", "clusters/features.npy", *MADE]
SYNTHESISE = ["export", "synthesise"]
SYNTHESISE += as_flags(exported="exported", dataset="dataset", out="pictures")
SCENES = ["prepare", "demo", *as_flags(out="scenes", train=1, test=1, size=night.SIZE)]
PAINT = ["export", "synthesise", "--device", "cpu"]
PAINT += as_flags(model="model", dataset="dataset", out="pictures", clusters="clusters")
PAINT_READ = [*PAINT[:-1], "read"]

CLUSTERED, PAINTED = [(night.CLUSTER, "clusters")], [(PAINT, "pictures")]
WRITERS = {
    "prepare demo": Writer(SCENES, "scenes"),
    "prepare": Writer(night.PREPARE, "dataset", without("dataset"), CLUSTERED),
    "train": Writer(
        night.MODEL,
        "model",
        without("model"),
        CLUSTERED,
        between=[*night.MODEL, "--epochs", "1"],
    ),
    "train continued": Writer(night.STOPPED, "stopped"),
    "train adopt": Writer(
        ["train", "adopt", "--model", "model"],
        "model",
        lambda folder: (folder / "model" / "model.json").unlink(),
        CLUSTERED,
    ),
    "cluster": Writer(night.CLUSTER, "clusters", without("clusters"), PAINTED),
    "cluster again": Writer([*REFERENCE, "--n-clusters", "1"], "clusters", readers=PAINTED),
    "cluster exchange maps": Writer(MAPS, "maps", without("maps")),
    "cluster exchange read": Writer(READ, "read", readers=[(PAINT_READ, "pictures")]),
    "cluster exchange read-maps": Writer(READ_MAPS, "read", readers=[(PAINT_READ, "pictures")]),
    "export": Writer(night.EXPORT, "exported", without("exported"), [(INPUTS, "inputs")]),
    "export again": Writer(
        [*night.EXPORT, "--ids", "int16"], "exported", readers=[(SYNTHESISE, "pictures")]
    ),
    "export synthesise": Writer(SYNTHESISE, "pictures"),
    "export offline inputs": Writer(INPUTS, "inputs"),
    "benchmark": Writer(night.BENCHMARK, "report", without("report")),
    "benchmark again": Writer([*night.BENCHMARK, "--max-pictures", "2", "--gallery"], "report"),
    "compile": Writer(["pipeline.py", "compile", "--recipe", "demo"], "pipeline.yaml"),
}


def with_exchanged(target: Target) -> None:
    """Put into the night what the exchange with pix2pixHD's own code is read from."""
    target.fresh()
    target.made(REFERENCE)
    target.made(MAPS)
    shutil.rmtree(target.night)
    shutil.copytree(target.folder, target.night, symlinks=True)


def cases(target: Target) -> Iterator[Case]:
    with_exchanged(target)
    for name, writer in WRITERS.items():
        yield from cases_of(target, name, writer)


def cases_of(target: Target, name: str, writer: Writer) -> Iterator[Case]:
    """A case for each place of a command, and for writes in the middle."""
    # What is read before and after.
    states = []
    writer.prepare(target.fresh())
    states.append(read(target, writer))
    writer.prepare(target.fresh())
    events = events_of(target, writer)
    whole = made_by(target, writer)
    states.append(read(target, writer))
    if writer.between:
        writer.prepare(target.fresh())
        target.made(writer.between)
        states.append(read(target, writer))

    opened = [number for number, event in enumerate(events, 1) if event.startswith("open")]
    left_out = set(opened) - set(opened[::EVERY])
    for number, event in enumerate(events, 1):
        if number in left_out:
            continue
        for cut in [0] + [CUT_BYTES] * (number in opened):
            how = f"cut after {cut} bytes" if cut else "killed"
            at = dict(KILL_AT=str(number), KILL_CUT=str(cut))

            def then(target: Target, _ended: list[Ended], at=at) -> tuple[Outcome, str] | None:
                return afterwards(target, writer, at, states, whole)

            yield Case(f"{name}: {how} at {number}, {event}", writer.prepare, then=then)


def events_of(target: Target, writer: Writer) -> list[str]:
    """Run the command to its end, and tell what it does to files."""
    log = target.place / "events"
    log.unlink(missing_ok=True)
    ended = target.run(writer.command, dict(KILL_LOG=str(log)), KILL)
    assert ended.code == 0, ended.err
    return [line.rstrip() for line in log.read_text().splitlines()]


def made_by(target: Target, writer: Writer) -> dict:
    """What the command has made, without what depends on the kills and counts for nothing: which
    state is the one before the last, and at the end of an epoch its random numbers, of which the
    next one draws none."""
    made = contents(target.folder, [writer.result])
    state = made.get(f"{writer.result}/state/training.pt")
    if state and state["pairs"] == 0:
        del state["random"]
    return {name: one for name, one in made.items() if not name.endswith(SPARE)}


def read(target: Target, writer: Writer) -> list[object]:
    """What each reader of the folder makes of it; None where it is refused in a sentence."""
    made = []
    for command, result in writer.readers:
        shutil.rmtree(target.folder / result, ignore_errors=True)
        ended = target.run(command)
        if ended.outcome not in (None, Outcome.SENTENCE):
            raise Unreadable(ended)
        made.append(contents(target.folder, [result]) if ended.code == 0 else None)
    return made


class Unreadable(Exception):
    """A reader ended in another way than well or with a sentence."""

    def __init__(self, ended: Ended):
        self.ended = ended


def afterwards(
    target: Target, writer: Writer, at: dict[str, str], states: list, whole: dict
) -> tuple[Outcome, str] | None:
    """Kill the command, read what it left, and say it again."""
    # Killed, where a file was as large as the cut.
    log = target.place / "killed"
    log.unlink(missing_ok=True)
    killed = target.run(writer.command, at | dict(KILL_LOG=str(log)), KILL)
    if killed.code not in (-signal.SIGKILL, -signal.SIGXFSZ):
        if at["KILL_CUT"] == "0" or killed.outcome:
            return killed.outcome or Outcome.OTHER, killed.last_words
        return None

    # Read.
    try:
        for reader, made in enumerate(read(target, writer)):
            if made is not None and made not in [state[reader] for state in states]:
                return Outcome.OTHER, f"{writer.readers[reader][0][0]} reads a mixture"
    except Unreadable as error:
        return error.ended.outcome, f"{error.ended.command[0]} reads: {error.ended.last_words}"

    # Again.
    again = target.run(writer.command)
    if again.code:  # of some commands the folder must be new: all of it is there
        if again.outcome is Outcome.SENTENCE and made_by(target, writer) == whole:
            return None
        outcome = again.outcome
        return Outcome.LOST if outcome in GOOD else outcome, f"again: {again.last_words}"
    made = made_by(target, writer)
    if made != whole:
        different = {
            name for name in made.keys() | whole.keys() if made.get(name) != whole.get(name)
        }
        return Outcome.OTHER, f"again: other {', '.join(sorted(different))}"
    return None
