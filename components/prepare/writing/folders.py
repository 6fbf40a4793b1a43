"""Output folders that appear whole or not at all."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError, repeat
from shared.files.writing import put_in_place
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


def partial_folder(folder: Path) -> Path:
    """The hidden folder beside `folder` that holds what is written so far."""
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def written_whole(folder: Path, flag: str, journal: str = "") -> Iterator[Path]:
    """Give the block a hidden folder to write to, which takes the place of `folder` at its end.

    Where the block fails the hidden folder disappears, unless a file named `journal` in it has
    content: then it is kept, and the next call goes on with it. One process at a time writes; a
    second is refused, as is a place that cannot be written to (InputError).
    """
    partial = partial_folder(folder)

    def can_continue() -> bool:
        file = partial / journal
        return bool(journal) and file.is_file() and file.stat().st_size > 0

    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY)
    except OSError as error:
        raise InputError(
            f"{flag} {folder} cannot be made ({error.strerror}: {error.filename}): give a place "
            "you can write to."
        ) from None
    try:
        # The folder itself is locked, not a file in it: the lock moves with the folder, and no
        # process can make a second one meanwhile.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{flag} {folder} is being written by another run: wait for it to end."
            ) from None

        try:
            # Another run may have ended between the caller's look and the lock.
            if is_occupied(folder, flag):
                raise InputError(
                    f"{flag} {folder} was written by another run meanwhile: say {repeat()}."
                )
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
                shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Remove everything in a folder."""
    for place in folder.iterdir():
        shutil.rmtree(place) if place.is_dir() else place.unlink()
