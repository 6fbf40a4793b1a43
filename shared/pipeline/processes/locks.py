"""Locks that a process holds together with all that it starts, and that say who holds them."""

import contextlib
import fcntl
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from shared.errors import InputError

# The locks that this process and those above it hold, by their file descriptors.
LOCKS = "PIPELINE_LOCKS"
PATIENCE_SECONDS = 90.0  # for what a killed holder has left: more than its guards take to end it


class Held(InputError):
    """A lock is held by another process."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock of a file inside the block, and as long as any process lives that was started
    there.

    What a killed holder has left behind ends by itself within seconds: that is waited for. Raises
    Held, which says who holds it, and InputError for a place that cannot be written or locked.
    """
    try:
        lock = open(path, "ab", buffering=0)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None
    with lock:
        _take(lock, path)

        # Who holds it, for the next one; on a full disk nobody knows.
        us = psutil.Process()
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        holder = dict(pid=us.pid, started=us.create_time(), host=platform.node(), since=since)
        with contextlib.suppress(OSError):
            lock.truncate(0)
            lock.write(json.dumps(holder).encode() + b"\n")

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


def _take(lock, path: Path) -> None:
    """Lock an open file. Raises Held, at once if the holder lives."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for attempt in itertools.count():
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(path)
        except OSError as error:
            raise InputError(f"{path} cannot be locked: {error.strerror}.") from None
        # Twice, since whoever asks for the holder holds it for a moment.
        if attempt and _is_alive(holder) or time.monotonic() > deadline:
            raise Held(f"{path} is held by {_describe(holder)}.")
        if attempt == 1:
            print(f"waiting for the end of what {_describe(holder)}, has left", file=sys.stderr)
        time.sleep(0.1)


def _holder(path: Path) -> dict:
    """What the holder of a lock has written; {} while it is about to."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def _is_alive(holder: dict) -> bool:
    """Whether it lives, as far as can be known: on another host, or unnamed yet, it does."""
    if holder.get("host", platform.node()) != platform.node() or "pid" not in holder:
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
