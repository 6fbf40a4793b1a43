"""Chunks of a PNG that Pillow does not know, or meets only when it decodes."""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TAIL = 1 << 16  # bytes at a file's end in which EXIF data begin, if they stand there
WANTED = {b"eXIf", b"cICP"}  # the first may stand behind the pixels


SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the kind of colours
# Of Adam7: first row and column, and steps.
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
          (1, 0, 2, 1))  # fmt: skip


def refuse_missing_rows(file: BinaryIO) -> None:
    """Raises ValueError where a file holds fewer rows than its header says: Pillow leaves the
    others black."""
    file.seek(len(SIGNATURE) + 8)
    width, height, bits, colours, _, _, interlaced = struct.unpack(">2I5B", file.read(13))
    needed = sum(
        rows * (1 + -(-columns * bits * SAMPLES[colours] // 8))
        for top, left, down, right in (PASSES if interlaced else ((0, 0, 1, 1),))
        if (rows := -(-(height - top) // down)) > 0 and (columns := -(-(width - left) // right)) > 0
    )
    inflated = zlib.decompressobj()
    with contextlib.suppress(zlib.error):  # Pillow made nothing of what follows
        for part in _pixels(file):
            while part and needed > 0:
                needed -= len(inflated.decompress(part, 1 << 20))
                part = inflated.unconsumed_tail
    if needed > 0:
        raise ValueError("Not enough image data")


def _pixels(file: BinaryIO) -> Iterator[bytes]:
    """The compressed parts."""
    place, name = len(SIGNATURE), b""
    while name not in (b"IEND", b"\0\0\0\0"):
        file.seek(place)
        length, name = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
        if name == b"IDAT":
            yield file.read(length)
        place += length + 12


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
