"""Locks that a process holds together with all that it starts, and that say who holds them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import InputError
from shared.files.owned import note_holder, take

# The locks that this process and those above it hold, by their file descriptors.
LOCKS = "PIPELINE_LOCKS"


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock of a file inside the block, and as long as any process lives that was started
    there.

    What a killed holder has left behind ends by itself within seconds: that is waited for. Raises
    Held, which says who holds it, and InputError for a place that cannot be written or locked.
    """
    try:
        lock = open(path, "a+b", buffering=0)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None
    with lock:
        try:
            take(lock.fileno(), lambda holder: f"{path} is held by {holder}: wait for it to end.")
        except OSError as error:
            raise InputError(f"{path} cannot be locked: {error.strerror}.") from None
        with contextlib.suppress(OSError):  # on a full disk nobody knows who holds it
            note_holder(lock.fileno())

        # The lock belongs to what is open, here and in all that inherit it: it is never unlocked,
        # only closed.
        above = os.environ.get(LOCKS, "")
        os.environ[LOCKS] = f"{above},{lock.fileno()}".strip(",")
        try:
            yield
        finally:
            os.environ[LOCKS] = above


def held_files() -> list[int]:
    """File descriptors of the locks that are held here, for a process that shall share them."""
    fds = [int(fd) for fd in os.environ.get(LOCKS, "").split(",") if fd]
    return [fd for fd in fds if _is_open(fd)]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
        return True
    except OSError:
        return False
