"""What the C library does with the memory of freed tensors on the CPU."""

import ctypes
import functools
import os

SWITCH = "KEEP_FREED_MEMORY"  # environment
# Bytes from which a block is still a map of its own, by what the switch says. Of more is kept, more
# lies idle between what is used: a training with features at 512x1024 took 8 % less of the CPU with
# 2 % more memory, or with all kept 24 % and 26 %.
LARGEST = {"": 64 << 20, "1": 1 << 30}  # otherwise nothing is changed

# Of malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = 2**31 - 1

# By which a user or an image has told the library already.
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")


@functools.cache
def keep_freed_memory() -> bool:
    """Let the GNU C library keep freed memory for the next tensor; return whether it does.

    It takes every block above 32 MiB from the system and gives it back, and small ones when there
    are many: each large feature map is pages that the system zeroes again, at a fault each, which
    may take longer than the convolution. Elsewhere (musl, macOS) and where the environment says
    how, nothing is changed. Source: mallopt(3). Said once: it goes through all free blocks."""
    is_told = any(name in os.environ for name in OWN)
    is_told = is_told or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    largest = LARGEST.get(os.environ.get(SWITCH, ""))
    if is_told or largest is None:
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    told = (M_MMAP_THRESHOLD, largest), (M_TRIM_THRESHOLD, NEVER)
    return all([library.mallopt(name, value) for name, value in told])
