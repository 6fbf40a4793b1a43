"""Output folders that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError


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
def written_whole(folder: Path, flag: str) -> Iterator[Path]:
    """A temporary folder beside `folder`: takes its place when the block ends well, disappears when
    it does not."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        if partial.exists():  # a run was killed
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(
            f"{flag} {folder} cannot be made ({error.strerror}: {error.filename}): give a place "
            "you can write to."
        ) from None
    try:
        yield partial
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
