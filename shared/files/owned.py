"""One writer per folder, whose place is tried before work; and locks in general.

A lock is flock's, of an open file: it is gone with the process, however that ends, so that the file
which a killed one leaves bars nobody. In the file stands who holds it.

Readers take no lock: a model that is being trained can be exported, as its last checkpoint is. What
they read is renamed into place, and compared with the card; between two renames of one checkpoint
they are told that a run writes to it.
"""

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from shared.errors import InputError
from shared.files import room
from shared.files.writing import NoRoom, partial_of

LOCK = ".writer.lock"  # in a folder while it is written to
PATIENCE_SECONDS = 90.0  # for what a killed holder has left: more than its guards take to end it
MOST_ATTEMPTS = 100  # while others that end remove the folder
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # of some network disks
IN_THE_WAY = (FileExistsError, FileNotFoundError, NotADirectoryError)


class Held(InputError):
    """A lock is held by another process."""


# Folders, and files that are named alone.


@contextlib.contextmanager
def only_writer(
    folder: Path,
    flag: str,
    files: Iterable[str] = (),
    appears_whole: bool = False,
    doing: str = "",
) -> Iterator[None]:
    """Be the one process that writes to a folder. It is made where it is not there, and goes again
    where it stays empty.

    Args:
        flag: What names the folder on the command line.
        files: What will be written below it, whose places are tried too.
        appears_whole: At the end the hidden folder beside it takes its place: that is owned.
        doing: What is done inside, where the second waits for the first: see `wait_for`.

    Raises Held where another process writes to it, and InputError where nothing can be written.
    """
    place = partial_of(Path(os.path.realpath(folder))) if appears_whole else folder
    made = [one for one in (place, *place.parents) if not os.path.exists(one)]
    try:
        with contextlib.ExitStack() as held:
            with refused_if_unwritable(folder, flag):
                there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
                if not os.path.isdir(there):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
                held.enter_context(_locked_folder(place, f"{flag} {folder}", doing))
                for name in files:
                    _try(place / name)
            yield
    finally:
        for one in made:
            with contextlib.suppress(OSError):
                one.rmdir()


@contextlib.contextmanager
def _locked_folder(folder: Path, named: str, doing: str) -> Iterator[None]:
    """Hold the lock in a folder, which is made. Raises OSError, and Held."""

    def held_by(holder: str) -> str:
        return f"{named} is being written by {holder}: wait for it to end, or give another place."

    def lock_it(lock: int) -> None:
        wait_for(lock, doing) if doing else take(lock, held_by)

    for attempt in itertools.count():
        try:
            place, lock = _opened(folder, lock_it)
            break
        except FileNotFoundError:  # who held it has ended and removed it, perhaps with the folder
            if attempt == MOST_ATTEMPTS:
                raise
    try:
        note_holder(lock)
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(LOCK, dir_fd=place)
        os.close(lock)
        os.close(place)


def _opened(folder: Path, lock_it: Callable[[int], None]) -> tuple[int, int]:
    """Descriptors of a folder, which is made, and of the lock in it, after `lock_it` was called.
    The lock is found by the folder's, also where that is renamed.

    Raises FileNotFoundError where they are no more in their places."""
    with contextlib.ExitStack() as opened:
        folder.mkdir(parents=True, exist_ok=True)
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, place)
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        lock = os.open(LOCK, how, 0o644, dir_fd=place)
        opened.callback(os.close, lock)
        lock_it(lock)
        pairs = (lock, os.stat(LOCK, dir_fd=place)), (place, folder.stat())
        if not all(os.path.samestat(os.fstat(ours), there) for ours, there in pairs):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        opened.pop_all()
    return place, lock


def writer_of(folder: Path) -> str:
    """Who writes to a folder at this moment, in words; "" for nobody. A reader whose files do not
    fit together may have come between two of their renames."""
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return "" if try_lock(lock) else _describe(_holder(lock))
    except OSError:
        return ""
    finally:
        os.close(lock)


def refuse_unwritable(place: Path, flag: str, files: Iterable[str] = ()) -> None:
    """Raises InputError where a file that a flag names cannot be written, or files below it."""
    with refused_if_unwritable(place, flag):
        for file in [place / name for name in files] or [place]:
            _try(file)


def _try(file: Path) -> None:
    """Raises OSError where nothing can be put into a place, as far as the way to it is there."""
    # What is there is a file that another may replace.
    for one in (file, partial_of(file)):
        if os.path.isdir(one):
            raise IsADirectoryError(errno.EISDIR, "it is a folder", str(one))
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:  # immutable, or mounted for reading
        if error.errno in (errno.EPERM, errno.EROFS):
            raise

    # Another can be written beside it.
    place = next(one for one in file.parents if os.path.lexists(one))
    probe = partial_of(place / file.name).with_suffix(".probing")  # as long a name
    try:
        probe.write_bytes(b"x")
    except OSError as error:
        error.filename = str(file)
        raise
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


@contextlib.contextmanager
def refused_if_unwritable(place: Path, flag: str) -> Iterator[None]:
    """Raises InputError for an error of the disk; of one that is full while work is done, that is
    said elsewhere (room.py)."""
    try:
        yield
    except NoRoom:
        raise
    except OSError as error:
        raise unwritable(place, flag, error) from None


def unwritable(place: Path, flag: str, error: OSError) -> InputError:
    """The sentence for a place that cannot be written, by the error of the disk."""
    found = Path(os.fsdecode(error.filename or place))
    found = place if found.name == LOCK else found
    error.filename = str(found)
    if problem := room.disk_problem(error, {flag.removeprefix("--"): place}):
        return InputError(f"{problem}.")

    # What is in the way, where it stands.
    reason = _in_the_way(found) if isinstance(error, IN_THE_WAY) else ""
    if not reason:
        reason = error.strerror + (f": {found}" if found != place else "")
    return InputError(
        f"{flag} {place} cannot be written ({reason}): give a place you can write to."
    )


def _in_the_way(place: Path) -> str:
    """The file on the way to a place, or the link to nothing; "" where there is none."""
    for one in (place, *place.parents):
        if os.path.islink(one) and not os.path.exists(one):
            return f"{one} is a link to {os.readlink(one)}, which is not there"
        if os.path.exists(one):
            return "" if os.path.isdir(one) else f"{one} is a file"
    return ""


# Locks.


def try_lock(file: int) -> bool:
    """Lock what is open, for whoever has it open here or by inheritance; False where another has
    it. A disk that knows no locks gives it to everybody. Raises OSError."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _warn_of_no_locks(error.strerror)
    return True


@functools.cache
def _warn_of_no_locks(reason: str) -> None:
    print(
        f"warning: this disk knows no locks ({reason}): see yourself that no other run writes to "
        "the same folder",
        file=sys.stderr,
        flush=True,
    )


def take(lock: int, held_by: Callable[[str], str]) -> None:
    """Lock an open file in which its holder stands; what a killed holder has left, such as
    workers, is waited for.

    held_by: The sentence for a holder that lives. Raises Held with it, and OSError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for attempt in itertools.count():
        if try_lock(lock):
            return
        holder = _holder(lock)
        # Twice, since whoever asks for the holder holds it for a moment.
        if attempt and _is_alive(holder) or time.monotonic() > deadline:
            raise Held(held_by(_describe(holder)))
        if attempt == 1:
            print(f"waiting for the end of what {_describe(holder)}, has left", file=sys.stderr)
        time.sleep(0.1)


def wait_for(lock: int, doing: str) -> None:
    """Lock an open file once nobody else has it; a line says what is `doing`, and by whom."""
    if not try_lock(lock):
        if doing:
            print(f"{doing} by {_describe(_holder(lock))}: it is waited for", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


@contextlib.contextmanager
def one_at_a_time(file: Path, doing: str = "", mode: int = 0o644) -> Iterator[None]:
    """Inside, no other process is inside for the same file, which is made where it is not there:
    who comes second waits.

    doing: What is done inside, for the line that says who is waited for; "" where it takes no time.
    mode: Of a file that is made.
    Raises OSError where the file cannot be opened."""
    opener = functools.partial(os.open, mode=mode)
    with open(file, "a+b", buffering=0, opener=opener) as lock:
        wait_for(lock.fileno(), doing)
        if doing:
            note_holder(lock.fileno())
        yield


def note_holder(lock: int) -> None:
    """Write into a file that is locked who holds it. Raises OSError."""
    us = psutil.Process()
    since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    holder = dict(pid=us.pid, started=us.create_time(), host=platform.node(), since=since)
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(holder).encode() + b"\n", 0)


def _holder(lock: int) -> dict:
    """What the holder of a lock has written; {} while it is about to."""
    with contextlib.suppress(OSError, ValueError):
        holder = json.loads(os.pread(lock, 4096, 0))
        if isinstance(holder, dict) and {"pid", "started", "host", "since"} <= holder.keys():
            return holder
    return {}


def _is_alive(holder: dict) -> bool:
    """Whether it lives, as far as can be known: on another host, or unnamed yet, it does."""
    if not holder or holder["host"] != platform.node():
        return True
    try:
        process = psutil.Process(holder["pid"])
        is_same = abs(process.create_time() - holder["started"]) < 1
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _describe(holder: dict) -> str:
    if not holder:
        return "another process"
    return f"process {holder['pid']} of {holder['host']}, since {holder['since']}"
