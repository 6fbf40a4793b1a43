"""Chunks of a PNG that Pillow does not know, or meets only when it decodes."""

import os
import struct
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TAIL = 1 << 16  # bytes at a file's end in which EXIF data begin, if they stand there
WANTED = {b"eXIf", b"cICP"}  # the first may stand behind the pixels


def without_colours(content: bytes) -> bytes:
    """The file without its profile, of which libpng has many complaints for the terminal."""
    place = content.find(b"iCCP") - 4
    length = struct.unpack(">I", content[place : place + 4])[0] + 12 if place > 0 else 0
    return content[:place] + content[place + length :] if length else content


def chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """The wanted chunks that are there; a file that ends early has those up to its end."""
    found, place, end = {}, len(SIGNATURE), file.seek(0, os.SEEK_END)
    goes_on = False
    while True:
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if name in WANTED:
            found[name] = file.read(length)

        # From pixels to pixels only where something may stand behind them: they are hundreds.
        if name == b"IDAT" and not goes_on:
            file.seek(max(place, end - TAIL))
            goes_on = b"eXIf" in file.read(TAIL)
        if name in (b"IEND", b"\0\0\0\0") or (name == b"IDAT" and not goes_on):
            return found
        place += length + 12
