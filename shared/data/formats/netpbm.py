"""Numbers of PGM and PPM files as they are stored: Pillow stretches them to 255 or 65535, which
ruins ids."""

import re
from typing import BinaryIO

import numpy as np
from PIL import Image


def highest_level(image: Image.Image) -> int:
    """The file's MaxVal: the number of white."""
    kind, _, _, how = image.tile[0]
    if image.mode == "1":
        return 255  # Pillow's black and white
    if kind == "raw":  # Pillow decodes these two by itself
        return 65535 if how == "I;16B" else 255
    return how[-1]


def decode(file: BinaryIO, image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 or uint16. Raises ValueError for a file that ends early, and
    LookupError for one of several pictures."""
    kind, _, offset, _ = image.tile[0]
    file.seek(offset)
    content, top = file.read(), highest_level(image)
    shape = (image.height, image.width, 3)[: 3 if image.mode == "RGB" else 2]
    count = int(np.prod(shape))

    # As text, or as bytes, the high one first.
    if kind == "ppm_plain":
        words = re.sub(rb"#[^\r\n]*", b"", content).split()
        levels, rest = np.array([int(word) for word in words[:count]]), words[count:]
        several = bool(rest) and rest[0].startswith(b"P")
    else:
        stored = np.dtype(">u2" if top > 255 else np.uint8)
        end = count * stored.itemsize
        levels = np.frombuffer(content[: end - end % stored.itemsize], stored)
        several = re.match(rb"\s*P[1-7]\s", content[end:]) is not None

    # All of them, and nothing more.
    if len(levels) < count:
        raise ValueError("image file is truncated")
    if several:
        raise LookupError("several pictures")
    if levels.min() < 0 or levels.max() > top:
        raise ValueError(f"holds levels above its own highest, {top}")
    return levels.reshape(shape).astype(np.uint16 if top > 255 else np.uint8)
