"""A disk or a memory that is soon full, of one command. To be run in it as a `Case.inside`.

FULL_FOLDER: lies on a disk of its own (a tmpfs that this process alone sees, which takes root) with
FULL_BYTES free; what is on it at the end comes back to the folder. FULL_FILE: most bytes of a file
(RLIMIT_FSIZE, EFBIG). FULL_MEMORY: bytes that may be allocated from here on (RLIMIT_AS).
"""

import atexit
import ctypes
import os
import resource
import shutil
from pathlib import Path

CLONE_NEWNS, MS_PRIVATE, MS_REC = 1 << 17, 1 << 18, 1 << 14
PAGE = 4096


LIBC = ctypes.CDLL(None, use_errno=True)


def call(failed: int) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def small_disk(folder: Path, free: int) -> None:
    """Put a folder with what it holds on a disk of its own."""
    call(LIBC.unshare(CLONE_NEWNS))
    call(LIBC.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    below = f"/proc/self/fd/{os.open(folder, os.O_RDONLY)}"
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(-(-path.stat().st_size // PAGE) * PAGE for path in files) + free
    words = b"tmpfs", os.fsencode(folder), b"tmpfs"
    call(LIBC.mount(*words, ctypes.c_ulong(0), f"size={max(PAGE, size)}".encode()))
    shutil.copytree(below, folder, dirs_exist_ok=True, symlinks=True)

    def bring_back() -> None:
        os.chdir("/")
        for path in Path(below).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(folder, below, dirs_exist_ok=True, symlinks=True)

    atexit.register(bring_back)


if "FULL_FOLDER" in os.environ:
    small_disk(Path(os.environ["FULL_FOLDER"]).absolute(), int(os.environ["FULL_BYTES"]))
if "FULL_FILE" in os.environ:
    most = int(os.environ["FULL_FILE"])
    # What is said goes to files here, whose limit this would be too.
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
if "FULL_MEMORY" in os.environ:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(os.environ["FULL_MEMORY"])
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
