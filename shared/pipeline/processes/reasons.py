"""Why a step has ended, where not by itself."""

import re
import signal
from collections.abc import Sequence
from pathlib import Path

import psutil

from shared.machine import cgroups

DISK_IS_FULL = r"No space left on device|Disk quota exceeded|disk is full"


def reason_of(
    status: int, last_lines: Sequence[str], peak_bytes: int | None, oom_kills: int | None
) -> str:
    """What outside a step has ended it, in one sentence; "" where its own last line says it.

    Args:
        status: Its exit status, negative where a signal ended it; 128 + signal as shells say it.
        last_lines: The last that it printed.
        peak_bytes: Most memory of the largest of its processes; None = unknown.
        oom_kills: Processes that the kernel has ended meanwhile for want of memory; None = unknown.
    """
    # By which signal; a worker that was killed makes the step fail with an exit status of its own.
    text = "\n".join(last_lines)
    number = -status if status < 0 else max(0, status - 128)
    if "a worker process was killed" in text:
        number = signal.SIGKILL
    if re.search(r"shared memory, /dev/shm, is full|insufficient shared memory", text):
        number = signal.SIGBUS

    # Memory.
    if number == signal.SIGKILL:
        known = peak_bytes is not None
        had = f"its largest process had {_gib(peak_bytes)} of " if known else "this machine has "
        memory = f"{had}{_gib(memory_bytes())} GiB; a smaller batch or fewer workers need less"
        if oom_kills == 0:
            return (
                "killed from outside (SIGKILL), by a person or a service, not by the kernel for "
                f"want of memory: {memory}."
            )
        likely = "" if oom_kills else "most likely "
        return f"killed by the system, {likely}for want of memory: {memory}."
    if number == signal.SIGBUS:
        size = psutil.disk_usage("/dev/shm").total if Path("/dev/shm").exists() else 0
        return (
            "killed by a bus error (SIGBUS): most likely shared memory is full, /dev/shm has "
            f"{_gib(size)} GiB; give the container more (--shm-size), or use fewer workers."
        )

    # Other signals, and the disk.
    if number in {signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}:
        name = signal.Signals(number).name
        return f"crashed in native code ({name}): a library or a driver, not this program."
    if number in {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
        return f"stopped from outside ({signal.Signals(number).name})."
    if re.search(DISK_IS_FULL, text):
        return "the disk is full: make room, and the run can be continued."
    return ""


def came_from_outside(reason: str) -> bool:
    """Whether this is the reason of a step that something outside it has ended: it may get further
    another time."""
    outside = rf"killed (by|from) |stopped from outside|{DISK_IS_FULL}"
    return re.search(outside, reason) is not None


def memory_bytes() -> int:
    """Memory of this machine, or of the container where that has less."""
    found = [psutil.virtual_memory().total]
    for folder, version in cgroups.folders("memory"):
        limit = cgroups.read(folder / ("", "memory.limit_in_bytes", "memory.max")[version]).strip()
        found += [int(limit)] if limit.isdigit() else []
    return min(found)


def count_oom_kills() -> int | None:
    """Processes that the kernel has ended for want of memory since it started; None = unknown."""
    counts = cgroups.read(cgroups.ROOT / "proc/vmstat")
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found[1]) if found else None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"
