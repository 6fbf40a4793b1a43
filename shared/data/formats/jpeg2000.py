"""What a JPEG 2000 says of itself and Pillow leaves out."""

import struct
from dataclasses import dataclass

BEGINNING = 1 << 20  # bytes that hold all of it, a profile included


@dataclass(frozen=True)
class Codestream:
    """Its numbers, and what they mean."""

    bits: int
    signed: bool
    lossy: bool
    profile: bytes


def read_codestream(beginning: bytes) -> Codestream:
    """Raises ValueError where its samples are of several kinds, or cut off."""
    # The size marker ends with a byte for each component: its bits less one, and its sign.
    size = beginning.find(b"\xff\x4f\xff\x51") + 2
    head = beginning[size + 38 : size + 40]
    count = struct.unpack(">H", head)[0] if len(head) == 2 else 0
    components = {*beginning[size + 40 : size + 40 + 3 * count : 3]}
    if len(components) != 1:
        raise ValueError("its samples are of several kinds")
    depth = components.pop()

    # Ten bytes into the marker of the coding style is the wavelet: 0 is the one that rounds.
    style = beginning.find(b"\xff\x52", size)
    lossy = beginning[style + 13 : style + 14] == b"\0"

    # A box of an ICC profile: its length, `colr`, 2, two bytes, the profile.
    colours = beginning.find(b"colr\x02")
    profile = b""
    if 4 <= colours < size:
        length = struct.unpack(">I", beginning[colours - 4 : colours])[0]
        profile = beginning[colours + 7 : colours - 4 + length]
    return Codestream((depth & 127) + 1, depth > 127, lossy, profile)
