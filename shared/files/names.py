"""Names that come out of files and become paths: what may be one, and where output of such a name
lies."""

import os
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from shared.errors import InputError

LONGEST_FILE = 255 - len("..partial")  # bytes: disks take 255 with what `writing.py` puts around it
# Of all that steps make of a name, a picture of the report takes the most:
# train_NAME_synthesised_onnxruntime_int8.png
LONGEST_NAME = LONGEST_FILE - len("train__synthesised_onnxruntime_int8.png")
NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}  # of Unicode: controls, halves of letters, ends of lines


def why_no_name(text: str, longest: int = LONGEST_NAME) -> str:
    """Why a text cannot name a file or folder, in words; "" where it can.

    longest: in bytes."""
    if not text:
        return "is empty"
    if "/" in text or "\\" in text or text in (".", ".."):
        return "leads to another folder"
    if not text.isprintable() and not NO_TEXT.isdisjoint(map(unicodedata.category, text)):
        return "has characters that no text has"
    if (length := len(text.encode())) > longest:
        return f"has {length} bytes, but {longest} at most fit what is named after it"
    return ""


def _as_name(text: str) -> str:
    if reason := why_no_name(text):
        raise ValueError(f"{text[:80]!r} is no name of a file: it {reason}")
    return text


Name = Annotated[str, AfterValidator(_as_name)]
"""Of a pair, of a file in a folder that a step wrote, of a run: one part of a path."""


def inside(folder: Path, *parts: str) -> Path:
    """The place of output below a folder, by names that came out of a file. Raises InputError for
    one that leads out of the folder, be it by a link that lies there."""
    for part in parts:
        if reason := why_no_name(part, LONGEST_FILE):
            raise InputError(f"{part!r} cannot be written to {folder}: it {reason}.")
    path = Path(folder, *parts)
    place, root = os.path.realpath(path.parent), os.path.realpath(folder)
    if not Path(place).is_relative_to(root):
        raise InputError(
            f"{path.parent} is a link to {place}, outside of {folder}: remove it, or name a new "
            "folder."
        )
    return path
