"""Checkpoints on a disk that may be full, and the copies of earlier ones."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError


@contextlib.contextmanager
def stopped_by_full_disk(model: Path) -> Iterator[None]:
    """Raises InputError for a checkpoint that does not fit; the one before stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"--model {model} has no room for a checkpoint ({error.strerror}): the one before is "
            "whole, "
            "make room and say the same command again."
        ) from None


def keep_copies(model: Path, epoch: int, count: int) -> None:
    """Keep this checkpoint's weights under its epoch too, and of earlier ones the latest, `count`
    in all."""
    if count == 0:
        return
    for path in model.glob("latest_net_*.pth"):
        copy = path.with_name(path.name.replace("latest", str(epoch)))
        copy.unlink(missing_ok=True)
        os.link(path, copy)  # no bytes of its own until the next checkpoint replaces `latest`
    numbers = sorted({int(path.name.partition("_")[0]) for path in model.glob("[0-9]*_net_*.pth")})
    for old in numbers[:-count]:
        for path in model.glob(f"{old}_net_*.pth"):
            path.unlink()
