"""What the C library does with the memory of freed tensors on the CPU."""

import ctypes
import functools
import os

SWITCH = "KEEP_FREED_MEMORY"  # environment: 1 asks for it

# Of malloc.h of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MAP = 1 << 30  # bytes; larger blocks are still maps of their own
NEVER = 2**31 - 1

# By which a user or an image has told the library already.
OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")


@functools.cache
def keep_freed_memory() -> bool:
    """Let the GNU C library keep freed memory for the next tensor where the environment asks for
    that; return whether it does.

    It takes every block above 32 MiB from the system and gives it back: each large feature map is
    pages that the system zeroes again, at a fault each, which may take longer than the convolution.
    Elsewhere (musl, macOS) and where the environment says how, nothing is changed. Source:
    mallopt(3). Said once: it goes through all free blocks."""
    is_told = any(name in os.environ for name in OWN)
    is_told = is_told or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if is_told or os.environ.get(SWITCH) != "1":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    told = (M_MMAP_THRESHOLD, LARGEST_MAP), (M_TRIM_THRESHOLD, NEVER)
    return all([library.mallopt(name, value) for name, value in told])
