"""What is said where a disk or the memory is full, or a device fails, by whatever library met it:
one sentence with what needs how much where, and what to do. `shared.command` says it for every step
and command."""

import contextlib
import errno
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import InputError, WorkFailed, repeat
from shared.files.writing import NoRoom, partial_of
from shared.flags import as_flag
from shared.terminal.device_errors import device_problem

# What helps where a disk does not take a file, by its answer.
REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`)",
    errno.EROFS: "mount it to be written to",
    errno.EIO: "look for the disk's fault in the system's log",
}
STATES = {errno.EROFS: "is read-only", errno.EIO: "fails"}  # room is not what these lack
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)  # of what somebody has given as a path
# The same by libraries that tell no number.
FULL = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")
STREAM = re.compile(r"StreamWriter failed writing|file write failed|iostream error")

OF_DEVICE = re.compile(
    r"CUDA(?: error:)? out of memory|NPU out of memory|CU(?:BLAS|DNN)_STATUS_ALLOC_FAILED"
    r"|DEVICE_ALLOCATION_FAILED|\[207001\]|error code is 2(?:00000|07001|07018)\b|EL0004",
    re.IGNORECASE,
)
OF_MACHINE = re.compile(
    r"not enough memory: you tried|can't allocate memory|Failed to allocate memory|bad_alloc"
    r"|bad allocation|Cannot allocate memory|allocate memory for requested buffer",
    re.IGNORECASE,
)
KILLED = re.compile(
    r"worker .*(killed by signal: Killed|exited unexpectedly)|process pool was terminated abruptly"
)
SHARED = re.compile(
    r"unable to \w+ (shared memory|.*</?torch_)|insufficient shared memory"
    r"|worker .*killed by signal: Bus error"
)

# Options that memory depends on: what to say, for those that are not at their least.
LOWER: Mapping[str, str] = {
    "batch_size": "a smaller --batch-size",
    "batch_sizes": "smaller --batch-sizes",
    "crop": "a smaller --crop",
    "size": "a smaller --size",
    "activation_checkpointing": "--activation-checkpointing",
    "workers": "fewer --workers",
    "cache": "--cache off",
    "cache_limit_gb": "a smaller --cache-limit-gb",
    "parity_samples": "fewer --parity-samples",
}
AT_LEAST = {"batch_size": 1, "batch_sizes": (1,), "activation_checkpointing": True, "workers": 0}
AT_LEAST |= {"cache": "off", "cache_limit_gb": 0}


@contextlib.contextmanager
def said(options: Mapping[str, Any]) -> Iterator[None]:
    """Raises WorkFailed with one sentence where a disk or the memory is full in the block, or a
    device fails.

    options: of the command, by name: of its folders one may be full, of its numbers some decide how
    much memory it takes."""
    try:
        yield
    except (InputError, WorkFailed):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_PATH:
            named = os.fsdecode(error.filename or "")
            raise InputError(
                f"{ascii(named[:80])} ... is no path on this disk ({error.strerror}): give a "
                "shorter one."
            ) from None
        for one in (error, error.__cause__):
            if one and (found := disk_problem(one, options) or memory_problem(one, options)):
                raise failed(found) from None
        if found := device_problem(error):
            raise failed(found) from None
        raise


def failed(found: str) -> WorkFailed:
    """The sentence of a problem, which ends with what to do."""
    return WorkFailed(f"{found} and say {repeat()}; what was finished before is kept.")


# Disks.


def disk_problem(error: BaseException, options: Mapping[str, Any]) -> str:
    """What a disk is asked for and has, and what to do; "" where that is not what fails."""
    number = error.errno if isinstance(error, OSError) else None
    if number not in REMEDIES:
        if not FULL.search(str(error)) and not STREAM.search(str(error)):
            return ""
        number = errno.ENOSPC

    # Where: what the error names, else the fullest of the disks that are written to.
    named = getattr(error, "filename", None)
    place = Path(os.fsdecode(named)) if isinstance(named, str | bytes) and named else None
    if place is None:
        place = min(_written_to(options), key=lambda one: shutil.disk_usage(_existing(one)).free)
    folders = {name: one for name, one in options.items() if isinstance(one, Path)}
    below = (as_flag(name) for name in folders if _is_of(place, folders[name]))
    flag = next(below, "")
    remedy = REMEDIES[number]
    if flag and number == errno.EROFS:
        remedy += f", or give another {flag}"
    elif not flag and _is_below(place, Path(tempfile.gettempdir())):
        remedy += ", or name a folder of another disk in TMPDIR"

    # How much.
    needed = error.needed if isinstance(error, NoRoom) else 0
    wants = f"needs {_size(needed)}" if needed else "is to be written"
    has = f"has {_size(shutil.disk_usage(_existing(place)).free)} free"
    if number == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        has = f"has {_size(limit)} for a file" if limit > 0 else has
    has = STATES.get(number, has)
    what = f"{flag} {place}".strip()
    return f"{what} {wants}, but its disk {has} ({os.strerror(number)}): {remedy}"


def _written_to(options: Mapping[str, Any]) -> list[Path]:
    """The folders that a command writes to, or may."""
    given = [folder for folder in options.values() if isinstance(folder, Path)]
    return [*given, Path(tempfile.gettempdir())]


def _is_of(path: Path, folder: Path) -> bool:
    """Whether a path is of a folder, or of the hidden one that takes its place in the end."""
    return _is_below(path, folder) or bool(folder.name) and _is_below(path, partial_of(folder))


def _is_below(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())


def _existing(path: Path) -> Path:
    """A path, or what there is of the way to it."""
    path = path.absolute()
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"


# Memory.


def is_of_machine(error: BaseException) -> bool:
    """Whether the machine is the reason of an error, and not what it was given."""
    return is_out_of_memory(error) or bool(device_problem(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of whatever library, says that memory of machine or device is full."""
    words = f"{type(error).__name__}: {error}"
    is_numbered = isinstance(error, OSError) and error.errno == errno.ENOMEM
    is_error = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return bool(is_error or is_numbered or OF_DEVICE.search(words) or OF_MACHINE.search(words))


def memory_problem(error: BaseException, options: Mapping[str, Any]) -> str:
    """Which memory is full and what to lower; "" where that is not what fails."""
    words = f"{type(error).__name__}: {error}"
    left_out: set[str] = set()
    if SHARED.search(words):
        return (
            "shared memory, /dev/shm, is full, through which worker processes hand over batches: "
            "give --workers 0, or the container more (--shm-size)"
        )
    if KILLED.search(words):
        which = "a worker process was killed, most likely by the system for want of memory"
    elif not is_out_of_memory(error):
        return ""
    elif OF_DEVICE.search(words) or type(error).__name__ == "OutOfMemoryError":
        which, left_out = "the device is out of memory", {"workers"}
        left_out |= {"cache"} if options.get("cache") != "device" else set()
    else:
        which = "this machine is out of memory"
    if tried := re.search(r"(?:Tried|tried) to allocate ([\d.]+ ?\w+)", words):
        which += f" ({tried[1]} more were asked for)"

    # What would need less.
    lower = [
        what
        for name, what in LOWER.items()
        if name in options and name not in left_out and options[name] != AT_LEAST.get(name)
    ]
    remedy = f"give {', '.join(lower)}" if lower else "end other programs that hold some"
    return f"{which}: {remedy}, or take a machine with more"
