"""The folder --out of the commands."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError
from shared.files.writing import NoRoom


@contextlib.contextmanager
def refused_if_unwritable(out: Path) -> Iterator[None]:
    """Says an error of the disk as a refusal of --out, but for a full one."""
    try:
        yield
    except NoRoom:
        raise
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error.strerror}: {error.filename}): give a place "
            "you can write to."
        ) from None
