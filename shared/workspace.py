"""The disk that all pods of a cluster share: what is too large for each pod to have a copy, and
what a pod that was ended leaves to the next.

    <workspace>/<run>/<step>/<turn>/<output>

The first pod that does a step of a run has turn 1, each that is started as it was lost the next. A
turn goes on with what the one before had done, in a folder of its own: so two pods never write to
one folder, also where the lost one is still alive. A lock cannot promise that: some network disks
know none between machines, others keep that of a dead one. The latest turn counts, an earlier one
ends when it sees it.
"""

import contextlib
import itertools
import os
import platform
import re
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared.contracts.location import Location
from shared.errors import InputError, WorkFailed
from shared.files.digests import sha256_of
from shared.files.owned import LOCK
from shared.files.room import REMEDIES
from shared.files.writing import make_folder, take_over

RUN_ID = "KFP_RUN_ID"  # environment: the label of a pod that says of which run it is
RUN_LABEL = "metadata.labels['pipeline/runid']"  # where Kubernetes has it
PREPARED = ".prepared"  # on a workspace: which data sets were made there
LOOK_SECONDS = 10.0  # between two looks for a later turn
TRIES = 5  # to take over what somebody may still write to


@dataclass(frozen=True)
class Stays:
    """What of a step's output stays on the workspace; the rest becomes its artifact."""

    names: tuple[str, ...]  # patterns of names at its top
    described_by: str = ""  # the file by which later steps read it there; "": they read none of it
    grows: tuple[str, ...] = ()  # patterns of files that are written to where they stand


# Outputs.


@contextlib.contextmanager
def output_on(workspace: str, step: str, output: str, artifact: Path, stays: Stays):
    """Give the block a folder on the workspace to write a step's output to. At its end the artifact
    gets what does not stay there.

    Args:
        step: Name of the step in its run.
        output: What the folder is called.

    Raises InputError where there is no workspace or nothing can be written to it, and WorkFailed
    where another pod does the step by now.
    """
    root, run = mounted(workspace), run_id()
    with _refused_if_unwritable(root):
        turn = Turn.begin(root / run / step, stays.grows)
    folder = turn.folder / output
    with turn.watched():
        yield folder
    turn.refuse_if_over()

    # The artifact, and where the rest of it is. Some runs make none, as one for its speed.
    if not folder.is_dir():
        return
    take_over(folder, artifact, leave=(*stays.names, ".*"))
    if stays.described_by:
        location = Location(
            workspace=str(root),
            place=str(folder),
            run=run,
            described_by=stays.described_by,
            sha256=sha256_of(folder / stays.described_by).hex(),
        )
        location.write(artifact)
        for version in (root / PREPARED).glob("*"):
            location.write(version / run)
    turn.remove_earlier()


def mounted(workspace: str) -> Path:
    """Raises InputError where the workspace is not there: a folder that was made in its place would
    be gone with the pod."""
    if not os.path.isdir(workspace):
        raise InputError(
            f"the workspace {workspace} is not there: let the cluster file name a volume that can "
            "be mounted into every pod."
        )
    return Path(workspace)


def run_id() -> str:
    """The run that this pod belongs to. Raises InputError where nothing says so."""
    run = os.environ.get(RUN_ID, "")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run):
        raise InputError(
            f"{RUN_ID} {run!r} names no run, whose folder on the workspace is to be written: let "
            f"it be {RUN_LABEL} of the pod, as `pipeline.py compile --cluster` does."
        )
    return run


@contextlib.contextmanager
def _refused_if_unwritable(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        number = error.errno
        remedy = REMEDIES.get(number, "let the user or the group of the pod (fsGroup) write to it")
        raise InputError(
            f"the workspace {root} cannot be written ({os.strerror(number) if number else error}): "
            f"{remedy}."
        ) from None


# Turns.


@dataclass(frozen=True)
class Turn:
    """A pod that does a step."""

    step: Path  # folder of all turns
    number: int

    @classmethod
    def begin(cls, step: Path, grows: tuple[str, ...]) -> "Turn":
        """Be the latest turn, and go on with what the one before had done. Raises OSError.

        grows: Patterns of files that are written to where they stand, and so are not shared."""
        # Who makes the file first has the number.
        make_folder(step)
        earlier = _turns(step)
        for number in itertools.count(max(earlier, default=0) + 1):
            how = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            with contextlib.suppress(FileExistsError):
                claim = os.open(_claim(step, number), how, 0o644)
                break
        with os.fdopen(claim, "w") as file:
            file.write(f"pod {platform.node()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        turn = cls(step, number)

        # The folder appears whole, so that the next turn may take over from it.
        whole = [one for one in earlier if (step / str(one)).is_dir()]
        if not whole:
            turn.folder.mkdir()
            return turn
        before = max(whole)
        print(f"goes on with what {_described(step, before)}, has left", flush=True)
        leave = (f"*/{LOCK}", "*/.*.partial")
        for attempt in range(TRIES):
            try:
                take_over(step / str(before), turn.folder, leave, grows)
                break
            except (shutil.Error, FileNotFoundError):  # somebody writes to it
                turn.refuse_if_over()
                if attempt == TRIES - 1:
                    raise
                time.sleep(1)
        for one in earlier:
            if one < before:
                _remove(step, one)
        return turn

    @property
    def folder(self) -> Path:
        return self.step / str(self.number)

    def over(self) -> str:
        """Who has a later turn, in a sentence; "" for nobody."""
        latest = max(_turns(self.step), default=0)
        if latest <= self.number:
            return ""
        return (
            f"{_described(self.step, latest)}, does this step by now, since this pod was taken for "
            "lost: it goes on with what is saved, and this one ends"
        )

    def refuse_if_over(self) -> None:
        """Raises WorkFailed where there is a later turn."""
        if sentence := self.over():
            raise WorkFailed(f"{sentence}.")

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, a later turn stops this process, as SIGTERM does."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_SECONDS):
                if (sentence := self.over()) and not ended.is_set():
                    print(sentence, file=sys.stderr, flush=True)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

        threading.Thread(target=look, name="turn", daemon=True).start()
        try:
            yield
        finally:
            ended.set()  # nobody waits for the thread: its disk may be silent

    def remove_earlier(self) -> None:
        """Remove what this turn has taken over, and what was left before."""
        for number in _turns(self.step):
            if number < self.number:
                _remove(self.step, number)


def _turns(step: Path) -> list[int]:
    """The numbers of all turns; none where the disk does not answer."""
    with contextlib.suppress(OSError):
        names = (os.path.splitext(name) for name in os.listdir(step))
        return [int(name) for name, end in names if end == ".claim" and name.isdecimal()]
    return []


def _claim(step: Path, number: int) -> Path:
    return step / f"{number}.claim"


def _described(step: Path, number: int) -> str:
    """Whose turn it is, in words."""
    with contextlib.suppress(OSError):
        if words := _claim(step, number).read_text("utf-8", "replace")[:200]:
            return words
    return "another pod"


def _remove(step: Path, number: int) -> None:
    shutil.rmtree(step / str(number), ignore_errors=True)
    with contextlib.suppress(OSError):
        _claim(step, number).unlink()


# Inputs.


def located(folder: Path, flag: str) -> Path:
    """Where a step reads an artifact: on a workspace, if it says so, else in its own folder.

    flag: What names the folder on the command line.
    Raises InputError where the workspace has not what the artifact describes."""
    if not (folder / Location.FILE).is_file():
        return folder
    location = Location.read(folder)
    described = Path(location.place) / location.described_by
    what = f"{flag} {folder} lies in {location.place}"
    if not os.path.isdir(location.workspace):
        raise InputError(
            f"{what}, but the workspace {location.workspace} is not there: let the cluster file "
            "name a volume that can be mounted into every pod."
        )
    anew = "start a new run, which prepares it again."
    if not described.is_file():
        raise InputError(
            f"{what}, but there is no {location.described_by} any more: the workspace is another "
            f"than in run {location.run}, or was emptied; {anew}"
        )
    if sha256_of(described).hex() != location.sha256:
        raise InputError(
            f"{what}, but the {location.described_by} there is another than run {location.run} "
            f"wrote: {anew}"
        )
    return Path(location.place)


def version_of(workspace: str) -> str:
    """A name that stays the same as long as all data sets that were prepared on a workspace are
    still there. With it in their keys KFP's cache forgets them once one is gone. Raises InputError
    where nothing can be written."""
    prepared = mounted(workspace) / PREPARED
    with _refused_if_unwritable(prepared.parent):
        for version in sorted(prepared.glob("*")):
            try:
                for folder in version.iterdir():
                    located(folder, "")
            except InputError:
                shutil.rmtree(version)
                continue
            return version.name
        (version := prepared / uuid.uuid4().hex[:8]).mkdir(parents=True)
    return version.name
