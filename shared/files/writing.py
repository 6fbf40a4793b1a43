"""Files appear whole or not at all, and stay when power is lost: content is on the disk before its
name is, and its name before anybody goes on.

All that is renamed into its place is so here.
"""

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, Protocol

# What a disk answers that does not take a file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# Of disks that know no such call, as some of a network or of user space do.
UNKNOWN_CALL = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


class NoRoom(OSError):
    """A disk that does not take a file, of `needed` bytes; see `shared.files.room`."""

    needed: int = 0


@contextlib.contextmanager
def taken_by_disk(path: Path, needed: int) -> Iterator[None]:
    """Raises NoRoom, which knows the file and its bytes, where a disk does not take it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        failure = NoRoom(error.errno, error.strerror, str(path))
        failure.needed = needed
        raise failure from None


def link_or_copy(source: Path, target: Path) -> None:
    """A file that takes no room of its own, where the disk knows hard links."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without
        shutil.copyfile(source, target)


def take_over(
    source: Path, target: Path, leave: Sequence[str] = (), copied: Sequence[str] = ()
) -> None:
    """Make `target` a copy of a folder that needs no room: its files are hard links, where the
    disk knows them, so that either may be deleted. It appears whole or not at all.

    Args:
        leave: Patterns of what is left out, by its place in the folder.
        copied: The same of files that are no links in any case: the source's are written to.
    """
    partial = partial_of(target)
    for folder in (partial, target):
        shutil.rmtree(folder, ignore_errors=True)

    def is_one(place: str, patterns: Sequence[str]) -> bool:
        place = Path(place).relative_to(source).as_posix()
        return any(fnmatch(place, pattern) for pattern in patterns)

    def left(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if is_one(os.path.join(folder, name), leave)}

    def link(file: str, copy: str) -> None:
        if not is_one(file, copied):
            with contextlib.suppress(OSError):  # another disk, or one without hard links
                os.link(file, copy, follow_symlinks=False)
                return
        shutil.copy2(file, copy, follow_symlinks=False)

    shutil.copytree(source, partial, symlinks=True, ignore=left, copy_function=link)
    put_in_place(partial, target)


def partial_of(path: Path) -> Path:
    """The hidden place beside a file or a folder, where it is written until it is whole."""
    return path.with_name(f".{path.name}.partial")


def put_in_place(partial: Path, path: Path, synced: bool = True) -> None:
    """Give a file, or a folder with all that is in it, the name under which it is believed; what
    had that name is replaced.

    synced: see `written_together`."""
    if synced:
        (sync_all if partial.is_dir() else sync)(partial)
    os.replace(partial, path)
    if synced:
        sync(path.parent)


def sync(path: Path) -> None:
    """Bring to the disk what a file holds, or which names a folder does. Raises OSError where that
    fails: some disks say only now that they are full."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that can be written, but not listed
        return
    try:
        _ask_disk(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Bring to the disk all that a folder holds, however many files, in one call: the disk writes
    them in its own order, which takes a fraction of a call for each."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _ask_disk(_syncfs, descriptor)
    finally:
        os.close(descriptor)


def _ask_disk(call: Callable[[int], None], descriptor: int) -> None:
    try:
        call(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN_CALL:
            raise


def _syncfs(descriptor: int) -> None:
    """syncfs(2), which Python has not; elsewhere than on Linux sync(2)."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        os.sync()
    elif call(descriptor):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where it is not there."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in new:
        sync(one.parent)


class Streamed(Protocol):
    """Content that is never in memory as a whole."""

    nbytes: int  # about

    def write_to(self, file: BinaryIO) -> None: ...


Write = Callable[[Path, bytes | Path | Streamed], None]


@contextlib.contextmanager
def written_together(synced: bool = True) -> Iterator[Write]:
    """Files that are written in the block appear at its end, each whole, or none where it fails (a
    full disk: NoRoom).

    What is given to write: the content, as bytes or streamed; or a file that takes no room where
    the disk knows hard links, one written before in the block or one that is there.

    synced: whether they stay when power is lost; of many files the caller may see to that at once,
    by `sync_all`."""
    places: dict[Path, Path] = {}

    def write(path: Path, content: bytes | Path | Streamed) -> None:
        if synced:
            make_folder(path.parent)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        places[partial := partial_of(path)] = path
        partial.unlink(missing_ok=True)  # of a killed run, which may be a link
        if isinstance(content, Path):
            written = partial_of(content)
            link_or_copy(written if written in places else content, partial)
        else:
            _write_content(partial, content, path)

    try:
        yield write
        for partial in places if synced else ():
            with taken_by_disk(places[partial], partial.stat().st_size):
                sync(partial)
        for partial, path in places.items():
            os.replace(partial, path)
            partial.unlink(missing_ok=True)  # it stays where both are links to one file
    except BaseException:
        for partial in places:
            partial.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in places.values()} if synced else ():
        sync(folder)


def _write_content(partial: Path, content: bytes | Streamed, path: Path) -> None:
    if isinstance(content, bytes | memoryview):
        with taken_by_disk(path, len(content)):
            partial.write_bytes(content)
    else:
        with taken_by_disk(path, content.nbytes), partial.open("wb") as file:
            content.write_to(file)


def write_atomically(path: Path, content: bytes | Streamed, synced: bool = True) -> None:
    """The file appears whole or not at all, also when the process is killed while it writes.

    synced: see `written_together`."""
    with written_together(synced) as write:
        write(path, content)
