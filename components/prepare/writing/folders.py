"""Output folders that appear whole or not at all."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError, repeat
from shared.files.owned import LOCK
from shared.files.writing import partial_of, put_in_place
from shared.terminal.stopping import is_stopping


def is_occupied(folder: Path, flag: str) -> bool:
    """Whether something is in the folder; refuses a place where no folder can be put."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError(f"{flag} {folder} is a file: give a new or empty folder.")
    if any(folder.iterdir()):
        return True
    if folder.is_mount():
        raise InputError(
            f"{flag} {folder} is a mount point, which cannot be replaced: give a folder inside it."
        )
    return False


@contextlib.contextmanager
def written_whole(folder: Path, flag: str, journal: str = "") -> Iterator[Path]:
    """Give the block a hidden folder to write to, which takes the place of `folder` at its end.

    Where the block fails the hidden folder disappears, unless a file named `journal` in it has
    content: then it is kept, and the next call goes on with it. Whoever calls it is the only writer
    of both (shared/files/owned.py).
    """
    partial = partial_of(folder)

    def can_continue() -> bool:
        file = partial / journal
        return bool(journal) and file.is_file() and file.stat().st_size > 0

    try:
        if is_occupied(folder, flag):
            raise InputError(f"{flag} {folder} was filled meanwhile: give a new folder.")
        partial.mkdir(parents=True, exist_ok=True)
        if not can_continue():
            clear(partial)
        yield partial
        put_in_place(partial, folder)
    except BaseException:
        if can_continue() and is_stopping():  # which has its own line
            pass
        elif can_continue():
            print(
                f"prepare: what is done is kept in {partial}: {repeat()} goes on from there",
                flush=True,
            )
        else:
            with contextlib.suppress(OSError):
                clear(partial)
                partial.rmdir()  # but for a lock
        raise


def clear(folder: Path) -> None:
    """Remove everything in a folder but the lock of who writes to it."""
    for place in folder.iterdir():
        if place.name != LOCK:
            is_folder = place.is_dir() and not place.is_symlink()
            shutil.rmtree(place) if is_folder else place.unlink()
