"""Whose turn it is to do a step: each pod has a folder of its own, and goes on with what the one
before had done."""

import contextlib
import itertools
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared.errors import WorkFailed
from shared.files.owned import LOCK
from shared.files.writing import make_folder, take_over

LOOK_SECONDS = 10.0  # between two looks for a later turn
TRIES = 5  # to take over what somebody may still write to


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
