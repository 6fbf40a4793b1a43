"""Why ais_bench came to no figures, in one sentence."""

import re
import subprocess

from shared.deployed.om_runner import one_clause, unavailable
from shared.errors import InputError

IMPORT_FAILED = re.compile(
    r"^(?:ImportError|ModuleNotFoundError): (.+)|^.*: (No module named ais_bench.*)", re.MULTILINE
)
NO_DEVICE = re.compile(
    r"acl open device \d+ failed|acl init failed|Failed to get all devices count"
)
OTHER_CHIP = re.compile(r"supported socVersion=(\w+), but the model socVersion=(\w+)")
# 207001 is ACL_ERROR_RT_MEMORY_ALLOCATION; EL0004 its entry in the error block of CANN; the rest is
# of ais_bench.
OUT_OF_MEMORY = re.compile(
    r"EL0004|207001|Malloc ptrData failed|memory allocation fail|MemoryError|bad_alloc"
)
KILLED = -9


class AisBenchFailed(RuntimeError):
    """ais_bench ran and came to no figures; the message says why, mostly in its own words."""


def failure_of(done: subprocess.CompletedProcess, device: int) -> InputError | AisBenchFailed:
    """Tell from its words why a run failed.

    An InputError where ais_bench or the NPU is not there.
    """
    words = f"{done.stdout}\n{done.stderr}"
    if found := IMPORT_FAILED.search(done.stderr):
        return unavailable(found[1] or found[2])

    # What it said: the first of its error lines is the cause, the others are the way up to the top.
    found = re.search(r"\[ERROR\] *(.+)", words, re.IGNORECASE)
    found = found or re.search(r"error: (argument .+)", done.stderr)
    last = (words.strip().splitlines() or ["it said nothing"])[-1]
    said = one_clause(found[1] if found else last)

    # What that means.
    if NO_DEVICE.search(words):
        return InputError(
            f"--device {device} cannot be opened by ais_bench ({said}): look at `npu-smi info`, "
            "and in a container pass it the device and the driver."
        )
    if found := OTHER_CHIP.search(words):
        return AisBenchFailed(f"compiled for {found[2]} but the NPU is an {found[1]}")
    if OUT_OF_MEMORY.search(words):
        return AisBenchFailed(f"out of memory ({said})")
    if done.returncode == KILLED:
        return AisBenchFailed("killed by the system, most likely for want of memory on the host")
    return AisBenchFailed(said)
