"""What ais_bench refuses about paths."""

import os
import re
import stat
from pathlib import Path


def error(text: str) -> None:
    print(f"[ERROR] {text}", flush=True)


def check_path(value: str, writes: bool = False) -> Path:
    """Says on stdout what is wrong; raises ValueError."""
    path = Path(os.path.abspath(value))
    if re.search(r"[^_A-Za-z0-9/.-]", str(path)):
        error("path contains illegal char, legal chars include A-Z a-z 0-9 _ - / .")
        raise ValueError("illegal character")
    if path.is_symlink():
        error(
            f"path :{path} is a soft link, not supported, please import file(or directory) directly"
        )
        raise ValueError("soft link")
    if not path.exists():
        if writes:
            return path
        error(f"path: {path} not exist, please check if file or dir is exist")
        raise ValueError("not there")
    forbidden = stat.S_IWGRP | stat.S_IWOTH | (stat.S_IROTH | stat.S_IXOTH if writes else 0)
    if path.stat().st_mode & forbidden:
        kind, most = ("export", "0o750(rwxr-x---)") if writes else ("import", "0o755(rwxr-xr-x)")
        error(
            f"The file {path} is group writable, or is others writable, as {kind} file(or "
            "directory), "
            f"permission should not be over {most}"
        )
        raise ValueError("permissions")
    return path


def check_om(value: str) -> Path:
    path = check_path(value)
    if not path.is_file() or path.suffix != ".om":
        error(
            f"path: {path} is not a file"
            if not path.is_file()
            else f"path:{path}, file type not in ['om']"
        )
        raise ValueError("no .om")
    return path
