"""The journal of a run: what its processes tell MLflow, first as lines of files.

A journal is a folder. It holds
    <step>-<time>-<id>.jsonl             of each process that logs: a line per call
    <step>-<time>-<id>.delivered.json    how far MLflow has it
    <run>.run.json                       what an MLflow run is made from; <run> is its name here
    <run>.mlflow.json                    as which run MLflow has it
    files/                               pictures, and files that could change, until delivered

A process holds a lock on its .jsonl while it lives: it is dead where the lock is free. Where it
leaves the delivery to the pipeline's process the lock is a shared one.
"""

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter
from pydantic_core import from_json

from shared.errors import runnable
from shared.files.names import LONGEST_FILE, why_no_name
from shared.files.writing import write_atomically
from shared.secrets import without_secrets
from shared.servers import plain

FILES = "files"
ENTRIES = ".jsonl"
MOST_IN_MEMORY = 10_000  # entries, where there is no place on the disk

Place = Annotated[int, Field(ge=0, lt=2**62)]  # in a file
Entry = dict[str, Any]  # run, kind, time in ms since 1970, and what the kind needs
NEEDED = {
    "metrics": {"values": dict, "time": int},
    "params": {"values": dict, "time": int},
    "tags": {"values": dict, "time": int},
    "picture": {"path": str, "key": str, "step": int, "time": int},
    "file": {"path": str, "name": str},
}


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return time.time_ns() // 1_000_000


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"warning: MLflow: {runnable(plain(without_secrets(text)))}", file=sys.stderr, flush=True)


class Journal:
    """The entries of this process, which are appended; it raises nothing.

    Attributes:
        is_left: Whether the pipeline's process delivers them.
        unwritten: Entries for which there was no place on the disk.
    """

    def __init__(self, folder: Path, title: str, leave: bool = False):
        """leave: leave the delivery to the pipeline's process, where the disk knows locks."""
        stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self.folder = folder
        self.file = folder / f"{title}-{stamp}-{secrets.token_hex(3)}{ENTRIES}"
        self.unwritten: list[Entry] = []
        self._lock = threading.Lock()
        self._file: int | None = None
        self._torn = self._complained = self.is_left = False
        try:
            folder.mkdir(0o700, parents=True, exist_ok=True)
            (folder / FILES).mkdir(exist_ok=True)
            self._file = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_RDWR, 0o600)
            with contextlib.suppress(OSError):  # a disk that knows no locks
                kind = fcntl.LOCK_SH if leave else fcntl.LOCK_EX
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
                self.is_left = leave
        except OSError as error:
            self._complain(error)

    def append(self, run: str, kind: str, **content) -> None:
        """Write down a call of `kind` for a run of this folder."""
        entry = {"run": run, "kind": kind, "time": now_ms(), **content}
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            if self._file is not None and not self.unwritten:
                try:
                    self._write(line)
                    return
                except OSError as error:
                    self._complain(error)
            self.unwritten.append(entry)
            del self.unwritten[:-MOST_IN_MEMORY]

    def _write(self, line: bytes) -> None:
        """Raises OSError where not all of it found a place."""
        line = b"\n" + line if self._torn else line
        written = os.write(self._file, line)
        self._torn = written < len(line)
        if self._torn:
            raise OSError(f"{written} of {len(line)} bytes were written")

    def _complain(self, error: OSError) -> None:
        if self._complained:
            return
        self._complained = True
        warn(
            f"the journal {self.file} cannot be written ({error.strerror or error}): what MLflow "
            "does not take now is lost."
        )

    def take_unwritten(self) -> list[Entry]:
        """What is in memory only, once; later entries try the disk again."""
        with self._lock:
            taken, self.unwritten = self.unwritten, []
            return taken

    def put_back(self, entries: list[Entry]) -> None:
        """Keep in memory what was taken and not delivered."""
        with self._lock:
            self.unwritten = [*entries, *self.unwritten][-MOST_IN_MEMORY:]

    def close(self) -> None:
        """Let go of the file, so that others may deliver it."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None


def read_entries(file: Path, start: int) -> Iterator[tuple[int, int, Entry | None]]:
    """(begin, end, entry) of every whole line from the byte `start` on; of a line that is torn or
    no JSON, or leads out of the journal, the entry is None."""
    with open(file, "rb") as lines:
        lines.seek(start)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            begin, start = start, start + len(line)
            try:
                entry = from_json(line)
                yield begin, start, entry if _is_whole(entry) and _stays_inside(entry) else None
            except (ValueError, TypeError, KeyError, AttributeError):
                yield begin, start, None


def _is_whole(entry: Entry) -> bool:
    """Whether an entry has what is read of its kind; what a kind of a later version needs is not
    known."""
    needed = {"run": str, "kind": str} | NEEDED.get(entry["kind"], {})
    is_numbered = isinstance(entry.get("step", 0), int)
    return is_numbered and all(isinstance(entry[name], kind) for name, kind in needed.items())


def _stays_inside(entry: Entry) -> bool:
    """Whether names of files in an entry are such, and the file that goes once MLflow has it is the
    journal's own. A large file that is no copy may be anywhere."""
    names = [entry["run"]]
    if field := {"file": "name", "picture": "key"}.get(entry["kind"]):
        names.append(entry[field])
        folder, _, name = entry["path"].rpartition("/")
        if entry.get("is_copy") or not entry["path"].startswith("/"):
            names += [name] if folder == FILES else [""]
    return not any(map(why_no_name, names))


def curve_ends(folder: Path, run: str) -> dict[str, int]:
    """The last step so far of every curve and every series of pictures of a run."""
    ends: dict[str, int] = {}
    for file in journals_in(folder):
        for _, _, entry in read_entries(file, 0):
            if entry and entry["run"] == run and entry["kind"] in ("metrics", "picture"):
                for key in entry["values"] if entry["kind"] == "metrics" else [entry["key"]]:
                    ends[key] = max(entry.get("step", 0), ends.get(key, 0))
    return ends


@contextlib.contextmanager
def of_dead_process(file: Path) -> Iterator[bool]:
    """Whether the process of a .jsonl is gone; inside, nobody else delivers it."""
    with open(file, "ab") as own:
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a disk that knows no locks: only its age can tell
            yield time.time() - file.stat().st_mtime > 3600
            return
        yield True


@contextlib.contextmanager
def left_to_pipeline(file: Path) -> Iterator[bool]:
    """Whether the pipeline's process is to deliver a .jsonl: its process leaves that to it, or is
    gone; inside, nobody else does. Raises OSError where the file is gone."""
    with open(file, "rb") as own:
        try:
            fcntl.flock(own, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # a disk that knows no locks: then it is left to nobody
            yield False
            return
        yield True


def append_to(file: Path, entry: Entry) -> None:
    """Add an entry to the .jsonl of a dead process, whose last line may be torn."""
    with open(file, "r+b") as own:
        size = own.seek(0, os.SEEK_END)
        own.seek(max(0, size - 1))
        torn = own.read(1) not in (b"\n", b"")
        own.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")


def journals_in(folder: Path) -> list[Path]:
    """The .jsonl files of a journal, the oldest first."""
    try:
        files = [path for path in folder.iterdir() if path.suffix == ENTRIES]
    except OSError:
        return []
    return sorted(files, key=lambda path: path.name.rsplit("-", 3)[1:])


# Small files beside the entries. What cannot be written is kept by whoever has it in memory.


@dataclass
class Note:
    """Base of a small JSON file: unknown fields of newer versions are not read."""

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """None where there is none, or none that can be read."""
        try:
            return _reader(cls).validate_json(file.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, file: Path) -> None:
        with contextlib.suppress(OSError):
            write_atomically(file, json.dumps(dataclasses.asdict(self)).encode())


@functools.cache
def _reader(kind: type[Note]) -> TypeAdapter:
    return TypeAdapter(kind)


@dataclass
class RunNote(Note):
    """What an MLflow run is made from, by the first delivery that needs it."""

    name: str  # that people see
    uid: str  # by which a run is found that was made while the reply was lost
    started: int  # ms
    experiment: str | None = None  # its name
    experiment_id: str | None = None  # goes before the name
    parent: str | None = None  # name in this journal
    parent_id: str | None = None  # where the parent is of another journal
    given_id: str | None = None  # somebody else made the run, and will close it
    tags: dict[str, str] = field(default_factory=dict)
    uri: str = ""  # of the store, without secrets
    opened_by: str = ""  # the .jsonl of the process that opened it last
    status: str = "RUNNING"

    @staticmethod
    def file(folder: Path, run: str) -> Path:
        return folder / f"{run}.run.json"

    def __post_init__(self):
        for name in filter(None, (self.parent, self.opened_by)):
            if reason := why_no_name(name, LONGEST_FILE):
                raise ValueError(f"{name!r} {reason}")
        if self.parent == "":
            raise ValueError("the parent is empty")


@dataclass
class MadeNote(Note):
    """As which run MLflow has a run."""

    run_id: str
    experiment_id: str

    @staticmethod
    def file(folder: Path, run: str) -> Path:
        return folder / f"{run}.mlflow.json"


@dataclass
class Position(Note):
    """How far MLflow has the entries of a .jsonl, of which it takes figures and files apart."""

    figures: Place = 0  # bytes from the begin
    files: Place = 0
    postponed: list[Place] = field(default_factory=list)  # where entries begin that come again
    run_ids: dict[str, str] = field(default_factory=dict)  # in MLflow, of the runs so far
    delivered: int = 0  # entries
    refused: int = 0

    @staticmethod
    def file(entries: Path) -> Path:
        return entries.with_suffix(".delivered.json")
