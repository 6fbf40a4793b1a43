"""Image files of every format that is read, and arrays in their place."""

import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from components.export.offline.pictures import read_output
from shared.data.headers import probe
from shared.data.images import encode_array, highest_level, read_colours, read_ids, read_picture
from shared.errors import InputError
from tests.fuzz.engine import Target
from tests.pictures import exif, icc_profile, interlaced_png, png, tiff

RAMP = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
IDS = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
PROFILE = icc_profile("RGB ", 1.8, ((0.44, 0.22, 0.01), (0.38, 0.72, 0.1), (0.14, 0.06, 0.71)))


def pillow(array: np.ndarray, file_format: str, mode: str | None = None, **options) -> bytes:
    image = Image.fromarray(array)
    image = image.convert(mode) if mode else image
    image.save(buffer := io.BytesIO(), file_format, **options)
    return buffer.getvalue()


def _png(folder: Path) -> list[bytes]:
    with_profile = pillow(RAMP, "PNG", icc_profile=PROFILE)
    chunks = [(b"gAMA", b"\0\0\xb1\x8f"), (b"eXIf", exif(6))]
    return [
        png(RAMP), png(RAMP[:, :, 0]), png(IDS, 16), png(RAMP[:, :, :2]), with_profile,
        png(RAMP[:, :, 0] % 4, 2), png(RAMP, chunks=chunks), interlaced_png(RAMP),
        pillow(RAMP, "PNG", "P"), pillow(RAMP, "PNG", "RGBA"), pillow(RAMP, "PNG", "1"),
    ]  # fmt: skip


def _jpeg(folder: Path) -> list[bytes]:
    return [
        pillow(RAMP, "JPEG"), pillow(RAMP, "JPEG", "L"), pillow(RAMP, "JPEG", "CMYK"),
        pillow(RAMP, "JPEG", progressive=True, icc_profile=PROFILE),
        pillow(RAMP, "JPEG", exif=b"Exif\0\0" + exif(8)),
    ]  # fmt: skip


def _tiff(folder: Path) -> list[bytes]:
    size = dict(width=4, height=4, photometric=1)
    return [
        tiff(IDS.tobytes(), bits=16, samples=1, **size),
        tiff(RAMP.tobytes(), bits=(8, 8, 8), samples=3, width=4, height=4, photometric=2),
        tiff(IDS.astype("<i4").tobytes(), bits=32, samples=1, sample_format=2, **size),
        pillow(RAMP, "TIFF", compression="tiff_lzw"), pillow(RAMP, "TIFF", compression="jpeg"),
        pillow(RAMP, "TIFF", "CMYK"), pillow(RAMP, "TIFF", "P"), pillow(RAMP, "TIFF", "RGBA"),
        pillow(RAMP, "TIFF", "1", compression="group4"),
        pillow(RAMP, "TIFF", compression="tiff_adobe_deflate", icc_profile=PROFILE),
    ]  # fmt: skip


def _others(folder: Path) -> list[bytes]:
    return [
        pillow(RAMP, "BMP"), pillow(RAMP, "BMP", "P"), pillow(RAMP, "GIF", "P"),
        pillow(RAMP, "WEBP"), pillow(RAMP, "WEBP", "RGBA", lossless=True),
        pillow(RAMP, "JPEG2000"), pillow(RAMP[:, :, 0], "JPEG2000"),
        imagecodecs.jpeg2k_encode(IDS, level=0), pillow(RAMP, "AVIF"),
        pillow(RAMP, "TGA"), pillow(RAMP, "PCX"),
        b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n",
    ]  # fmt: skip


def _netpbm(folder: Path) -> list[bytes]:
    return [
        b"P5 4 4 255\n" + bytes(16), b"P6 # a word\n4 4\n65535\n" + bytes(96),
        b"P2 2 2 9\n1 2 3 4\n", b"P3 1 1 255 1 2 3\n", b"P4 8 2\n\xff\0", b"P1 2 2 1 0 0 1",
        b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(12),
        b"Pf\n2 2\n-1.0\n" + bytes(16),
    ]  # fmt: skip


def _npy(folder: Path) -> list[bytes]:
    arrays = (RAMP, RAMP[:, :, 0], IDS, IDS.astype(np.int64), RAMP.astype(np.float32), RAMP > 9)
    return [*map(encode_array, arrays), encode_array(np.asfortranarray(IDS.astype(">u2")))]


def _read(path: Path) -> None:
    """By every reader of images, of which one may refuse what another takes."""
    readers: tuple[Callable, ...] = (
        probe, read_ids, read_colours, highest_level,
        partial(read_picture, channels=3), partial(read_picture, channels=1),
    )  # fmt: skip
    refusal = None
    for reader in readers:
        try:
            reader(path)
        except InputError as error:
            refusal = error
    if refusal:
        raise refusal


def _read_output(path: Path) -> None:
    for certain in (True, False):
        with contextlib.suppress(InputError):
            read_output(path, 4, 4, size_is_certain=certain)
    read_output(path, 4, 4, size_is_certain=True)


def _outputs(folder: Path) -> list[bytes]:
    picture = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    return [encode_array(picture), encode_array(picture[0].astype(np.float16)), _npy(folder)[0]]


TARGETS = [
    Target("png", _png, _read, "a.png", "png"),
    Target("jpeg", _jpeg, _read, "a.jpg"),
    Target("tiff", _tiff, _read, "a.tif"),
    Target("netpbm", _netpbm, _read, "a.ppm", "text"),
    Target("other-pictures", _others, _read, "a.png"),
    Target("npy", _npy, _read, "a.npy", "npy"),
    Target("outputs", _outputs, _read_output, "a_0.npy", "npy"),
]
