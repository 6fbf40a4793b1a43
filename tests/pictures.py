"""Contents of image files, bit by bit by the formats' specifications, for what Pillow does not
write."""

import struct
import zlib
from collections.abc import Iterable

import numpy as np

PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # its colour type by channels
TIFF_TAGS = dict(
    kind=254, width=256, height=257, bits=258, compression=259, photometric=262, fill_order=266,
    offset=273, orientation=274, samples=277, rows=278, count=279, planar=284, extra=338,
    sample_format=339,
)  # fmt: skip


def packed(samples: np.ndarray, bits: int) -> list[bytes]:
    """Rows of samples, (H, W) or (H, W, C), as whole bytes, high bits first."""
    height = len(samples)
    both_bytes = samples.reshape(height, -1).astype(">u2").view(np.uint8).reshape(height, -1, 2)
    bit = np.unpackbits(both_bytes, axis=2)[:, :, 16 - bits :]
    return [line.tobytes() for line in np.packbits(bit.reshape(height, -1), axis=1)]


def png(
    samples: np.ndarray,
    bits: int = 8,
    chunks: Iterable[tuple[bytes, bytes]] = (),
    late_chunks: Iterable[tuple[bytes, bytes]] = (),
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG of (H, W) or (H, W, C) samples, with chunks before and behind its pixels; `size` is
    what it claims to be."""
    height, width = size or samples.shape[:2]
    colour_type = PNG_COLOURS[samples.shape[2] if samples.ndim == 3 else 1]
    content = zlib.compress(b"".join(b"\0" + line for line in packed(samples, bits)))
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", content), *late_chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def tiff(content: bytes, order: str = "<", **tags: int | tuple[int, ...]) -> bytes:
    """An uncompressed TIFF of one strip, by the names of TIFF_TAGS."""
    tags = dict(offset=8, rows=tags["height"], count=len(content), compression=1) | tags
    place = 8 + len(content) + len(content) % 2
    entries, more = [], b""
    at_end = place + 2 + 12 * len(tags) + 4
    for name, value in sorted(tags.items(), key=lambda item: TIFF_TAGS[item[0]]):
        values = value if isinstance(value, tuple) else (value,)
        kind = "H" if max(values) < 65536 else "I"
        body = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(body) > 4:
            more, body = more + body, struct.pack(f"{order}I", at_end + len(more))
        number = struct.pack(f"{order}HHI", TIFF_TAGS[name], 3 if kind == "H" else 4, len(values))
        entries.append(number + body.ljust(4, b"\0"))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, place)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    return head + content + b"\0" * (len(content) % 2) + directory + more


def exif(orientation: int, order: str = ">") -> bytes:
    """EXIF data of one tag, without the mark before them."""
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HI", 42, 8)
    tag = struct.pack(f"{order}HHIHH", 274, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}H", 1) + tag + b"\0\0\0\0"


def interlaced_png(samples: np.ndarray) -> bytes:
    """The same in Adam7's seven passes, for (H, W, 3) samples of 8 bits."""
    starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # fmt: skip
    passes = [samples[row::down, column::right] for row, column, down, right in starts]
    lines = b"".join(
        b"\0" + line.tobytes() for part in passes if part.size for line in part.astype(np.uint8)
    )
    plain = png(samples)
    content, place = zlib.compress(lines), plain.index(b"IDAT") - 4
    header = plain[16:28] + b"\1"
    parts = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    assert plain[12:16] == b"IHDR" and place > 0
    return plain[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def icc_profile(
    space: str,
    gamma: float | None,
    columns: tuple[tuple[float, float, float], ...] = (),
) -> bytes:
    """An ICC profile of version 4: "RGB " by its colours in XYZ under D50, or "GRAY"; light is
    number ** gamma, None: by sRGB's curve."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(65536 * value) for value in values))

    curve = b"para\0\0\0\0\0\0\0\0" + fixed(gamma or 1)
    if gamma is None:
        curve = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    text = b"mluc\0\0\0\0" + struct.pack(">IIHHII", 1, 12, 0x656E, 0x5553, 2, 28) + b"\0x"
    tags = {b"desc": text, b"cprt": text, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)}
    if space == "GRAY":
        tags[b"kTRC"] = curve
    for name, column in zip((b"r", b"g", b"b"), columns, strict=False):
        tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + fixed(*column), name + b"TRC": curve}

    # A table of places, then what stands there.
    place, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        content += b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content
    length = place + len(body)
    head = struct.pack(
        ">I4sI4s4s4s", length, b"\0\0\0\0", 0x04300000, b"mntr", space.encode(), b"XYZ "
    )
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + table + body
