"""What a file says of a picture beside its bytes: the table of components/prepare/README.md, a row
for each decision. What is expected comes from algebra and the formats' specifications, or from
Pillow where it decodes the same pixels without that property."""

import functools
import io
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import psutil
import pytest
from PIL import Image, ImageCms

from components.export.synthesise.map_reading import MapReading
from components.prepare.__main__ import main
from shared.contracts.labels import RawReading
from shared.contracts.model import GeneratorInput
from shared.data.headers import probe
from shared.data.images import read_colours, read_ids, read_picture
from shared.data.names import IMAGE_SUFFIXES
from tests.asking import refusal
from tests.pictures import exif, icc_profile, interlaced_png, packed, png, tiff
from tests.places import ROOT

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (6, 8, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 8), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8, 3), np.uint16)
IDS = RNG.integers(0, 19, (6, 8), np.uint8)
IN_TIFF = dict(width=8, height=6)
RGB_TIFF = dict(**IN_TIFF, photometric=2, samples=3)

# How EXIF's orientation is shown: from the pixel at (row, column) of what is shown to that of what
# is stored, whose last row and column are `h` and `w`.
SHOWN = {
    1: lambda row, column, h, w: (row, column),
    2: lambda row, column, h, w: (row, w - column),
    3: lambda row, column, h, w: (h - row, w - column),
    4: lambda row, column, h, w: (h - row, column),
    5: lambda row, column, h, w: (column, row),
    6: lambda row, column, h, w: (h - column, row),
    7: lambda row, column, h, w: (h - column, w - row),
    8: lambda row, column, h, w: (column, w - row),
}
# Light of other primaries to that of sRGB's, as colour science prints them.
OF_P3 = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
OF_ADOBE = [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04290, 1.04290]]
# Display P3 in XYZ under D50, as Apple's profile has it.
P3_IN_XYZ = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))


def turned(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What is shown, pixel by pixel."""
    height, width = stored.shape[:2]
    size = (width, height) if orientation > 4 else (height, width)
    places = [
        [SHOWN[orientation](row, column, height - 1, width - 1) for column in range(size[1])]
        for row in range(size[0])
    ]
    return np.array([[stored[place] for place in row] for row in places])


def scaled(levels: np.ndarray, white: int) -> np.ndarray:
    """To the nearest level of 255; more than white is white."""
    return np.minimum((2 * 255 * levels.astype(np.int64) + white) // (2 * white), 255)


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=2)


def converted(colours: np.ndarray, gamma: float | None, matrix=((1, 0, 0), (0, 1, 0), (0, 0, 1))):
    """Numbers that mean number ** gamma of light (None: sRGB's curve), of other primaries, as
    sRGB."""
    x = colours / 255
    light = x**gamma if gamma else np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    light = (light @ np.array(matrix).T).clip(0, 1)
    x = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 255 * x


def saved(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    """What Pillow writes."""
    buffer = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """What Pillow reads, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def chunk_of_exif(orientation: int) -> tuple[bytes, bytes]:
    return b"eXIf", exif(orientation)


def chunk_of_profile(profile: bytes) -> tuple[bytes, bytes]:
    import zlib

    return b"iCCP", b"x\0\0" + zlib.compress(profile)


def pillow_exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[274] = orientation
    return found


def adobe_camera() -> bytes:
    """The note of a camera that is set to Adobe RGB, R03: in the third directory of EXIF data, to
    which the second leads, to which the first leads."""
    parts = [(0x8769, 4, 1, struct.pack(">I", 26)), (0xA005, 4, 1, struct.pack(">I", 44))]
    parts += [(1, 2, 4, b"R03\0")]
    directories = b"".join(
        struct.pack(">HHHI", 1, tag, kind, count) + value + bytes(4)
        for tag, kind, count, value in parts
    )
    return b"Exif\0\0MM" + struct.pack(">HI", 42, 8) + directories


def netpbm(kind: str, levels: np.ndarray, top: int) -> bytes:
    stored = levels.astype(">u2" if top > 255 else np.uint8).tobytes()
    return f"{kind}\n# drawn\n{levels.shape[1]} {levels.shape[0]}\n{top}\n".encode() + stored


def top_down(bmp: bytes) -> bytes:
    """A BMP of the height -h, whose rows are stored from the top; of rows without padding."""
    place, width, height = struct.unpack("<I4xii", bmp[10:26])
    rows = np.frombuffer(bmp[place:], np.uint8).reshape(height, -1)[::-1]
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:place] + rows.tobytes()


def primaries(*values: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(100000 * value) for value in values))


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(100000 * value))


def two_pages(kind: int = 0) -> bytes:
    """A TIFF whose second page is of that kind (1: a smaller version, 4: a mask)."""
    first, second = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::2, ::2])
    second.encoderinfo = {"tiffinfo": {254: kind}} if kind else {}
    return saved(first, "TIFF", save_all=True, append_images=[second])


def with_palette(indices: np.ndarray, colours: np.ndarray) -> Image.Image:
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.tobytes())
    return image


def ink_as_rgb(ink: np.ndarray) -> np.ndarray:
    """(H, W, 4) of cyan, magenta, yellow and black: what each leaves of the light."""
    return (255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255


def jpeg_of_ink(marked: bool) -> bytes:
    """CMYK as Adobe's programs write it, 255 for paper; or without their mark."""
    content = saved(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=95)
    place = content.index(b"\xff\xee\x00\x0eAdobe")
    return content if marked else content[:place] + content[place + 16 :]


def jp2_with_profile(profile: bytes) -> bytes:
    """What Pillow writes, with a profile in its box `colr` in place of the number for sRGB."""
    content = saved(COLOUR, "JPEG2000")
    header, colours = content.index(b"jp2h") - 4, content.index(b"colr") - 4
    old = struct.unpack(">I", content[colours : colours + 4])[0]
    box = struct.pack(">I4sBBB", 11 + len(profile), b"colr", 2, 0, 0) + profile
    length = struct.unpack(">I", content[header : header + 4])[0] + len(box) - old
    return (
        content[:header]
        + struct.pack(">I", length)
        + content[header + 4 : colours]
        + box
        + content[colours + old :]
    )


JPEG = saved(COLOUR, "JPEG", quality=95)
CMYK = np.dstack([COLOUR, GREY // 4])
CMYK_AS_RGB = ink_as_rgb(CMYK.astype(int))
INK_IN_JPEG = imagecodecs.jpeg8_decode(saved(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=95))
AVIF = saved(COLOUR, "AVIF", quality=90)
LEVELS_12 = DEEP[:, :, 0] >> 4
OPAQUE = np.full((6, 8), 255, np.uint8)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# File name -> content, what it shows, and how many levels may be off where several steps round.
Row = tuple[bytes, np.ndarray, float]
READ: dict[str, Row] = {
    **{
        f"orientation_{n}.png": (png(COLOUR, chunks=[chunk_of_exif(n)]), turned(COLOUR, n), 0)
        for n in SHOWN
    },
    "orientation_behind.png": (png(COLOUR, late_chunks=[chunk_of_exif(6)]), turned(COLOUR, 6), 0),
    "orientation_9.png": (png(COLOUR, chunks=[chunk_of_exif(9)]), COLOUR, 0),
    "orientation.tif": (
        tiff(COLOUR.tobytes(), bits=(8, 8, 8), orientation=8, **RGB_TIFF),
        turned(COLOUR, 8),
        0,
    ),
    "orientation.webp": (
        saved(COLOUR, "WEBP", lossless=True, exif=pillow_exif(6)),
        turned(COLOUR, 6),
        0,
    ),
    "orientation.jpg": (
        saved(COLOUR, "JPEG", quality=95, exif=pillow_exif(5)),
        turned(decoded(JPEG), 5),
        0,
    ),
    "orientation.avif": (
        saved(COLOUR, "AVIF", quality=90, exif=pillow_exif(8)),
        turned(decoded(AVIF), 8),
        0,
    ),
    "phone.jpg": (
        saved(COLOUR, "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (8, 6))]),
        decoded(JPEG),
        0,
    ),
    "smaller_version.tif": (two_pages(1), COLOUR, 0),
    "mask.tif": (two_pages(4), COLOUR, 0),
    "deep.png": (png(DEEP, 16), scaled(DEEP, 65535), 0),
    "deep.tif": (tiff(DEEP.tobytes(), bits=(16,) * 3, **RGB_TIFF), scaled(DEEP, 65535), 0),
    "deep_big_endian.tif": (
        tiff(DEEP.astype(">u2").tobytes(), ">", bits=(16,) * 3, **RGB_TIFF),
        scaled(DEEP, 65535),
        0,
    ),
    "deep_planar.tif": (
        tiff(
            b"".join(DEEP[:, :, c].tobytes() for c in range(3)),
            bits=(16,) * 3,
            planar=2,
            **RGB_TIFF | dict(rows=6, offset=(8, 104, 200), count=(96,) * 3),
        ),
        scaled(DEEP, 65535),
        0,
    ),
    "12_bits.tif": (
        tiff(b"".join(packed(LEVELS_12, 12)), bits=12, photometric=1, samples=1, **IN_TIFF),
        as_rgb(scaled(LEVELS_12, 4095)),
        0,
    ),
    "4_bits.tif": (
        tiff(b"".join(packed(GREY >> 4, 4)), bits=4, photometric=1, samples=1, **IN_TIFF),
        as_rgb((GREY >> 4) * 17),
        0,
    ),
    "white_is_0.tif": (
        tiff(GREY.tobytes(), bits=8, photometric=0, samples=1, **IN_TIFF),
        as_rgb(255 - GREY),
        0,
    ),
    "white_is_0_deep.tif": (
        tiff(DEEP[:, :, 0].tobytes(), bits=16, photometric=0, samples=1, **IN_TIFF),
        255 - as_rgb(scaled(DEEP[:, :, 0], 65535)),
        0,
    ),
    "low_bit_first.tif": (
        tiff(
            np.packbits(np.unpackbits(GREY), bitorder="little").tobytes(),
            bits=8,
            photometric=1,
            samples=1,
            fill_order=2,
            **IN_TIFF,
        ),
        as_rgb(GREY),
        0,
    ),
    "opaque.png": (png(np.dstack([COLOUR, OPAQUE])), COLOUR, 0),
    "opaque_deep.png": (png(np.dstack([DEEP, np.full((6, 8), 65535)]), 16), scaled(DEEP, 65535), 0),
    "opaque_grey.png": (png(np.dstack([GREY, OPAQUE])), as_rgb(GREY), 0),
    "opaque.tif": (
        tiff(
            np.dstack([COLOUR, OPAQUE]).tobytes(),
            bits=(8,) * 4,
            extra=2,
            **RGB_TIFF | dict(samples=4),
        ),
        COLOUR,
        0,
    ),
    "12_bits.pgm": (netpbm("P5", LEVELS_12, 4095), as_rgb(scaled(LEVELS_12, 4095)), 0),
    "10_bits.ppm": (netpbm("P6", DEEP >> 6, 1023), scaled(DEEP >> 6, 1023), 0),
    "few_levels.pgm": (netpbm("P5", IDS, 18), as_rgb(scaled(IDS, 18)), 0),
    "text.pgm": (
        b"P2 8 6 # of text\n18\n" + " ".join(map(str, IDS.ravel())).encode(),
        as_rgb(scaled(IDS, 18)),
        0,
    ),
    "mask.pbm": (b"P1\n8 6\n" + b"10" * 24, as_rgb(np.tile(np.uint8([0, 255]), (6, 4))), 0),
    "12_bits.jp2": (
        imagecodecs.jpeg2k_encode(DEEP >> 4, level=0, bitspersample=12),
        scaled(DEEP >> 4, 4095),
        0,
    ),
    "lossless.jp2": (saved(COLOUR, "JPEG2000"), COLOUR, 0),
    "interlaced.png": (interlaced_png(COLOUR), COLOUR, 0),
    "top_down.bmp": (top_down(saved(COLOUR, "BMP")), COLOUR, 0),
    "png_as.jpg": (png(COLOUR), COLOUR, 0),
    "jpeg_as.png": (JPEG, decoded(JPEG), 0),
    "photo.jfif": (JPEG, decoded(JPEG), 0),
    "photo.jpe": (JPEG, decoded(JPEG), 0),
    "palette.gif": (
        saved(Image.fromarray(COLOUR).quantize(16), "GIF"),
        np.asarray(Image.fromarray(COLOUR).quantize(16).convert("RGB")),
        0,
    ),
    "photo.tga": (saved(COLOUR, "TGA"), COLOUR, 0),
    "photo.qoi": (saved(COLOUR, "QOI"), COLOUR, 0),
    "photo.dib": (saved(COLOUR, "DIB"), COLOUR, 0),
    "not_square.png": (png(COLOUR, chunks=[(b"pHYs", struct.pack(">IIB", 2, 1, 0))]), COLOUR, 0),
    "linear.png": (png(COLOUR, chunks=[gamma(1)]), converted(COLOUR, 1), 1),
    "gamma_of_a_mac.png": (png(GREY, chunks=[gamma(1 / 1.8)]), converted(as_rgb(GREY), 1.8), 1),
    "usual_gamma.png": (png(COLOUR, chunks=[gamma(0.45455)]), COLOUR, 0),
    "srgb_before_gamma.png": (png(COLOUR, chunks=[(b"sRGB", b"\0"), gamma(1)]), COLOUR, 0),
    "adobe_rgb.png": (
        png(
            COLOUR,
            chunks=[gamma(256 / 563), primaries(0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)],
        ),
        converted(COLOUR, 563 / 256, OF_ADOBE),
        1,
    ),
    "p3_by_number.png": (
        png(COLOUR, chunks=[(b"cICP", bytes([12, 13, 0, 1]))]),
        converted(COLOUR, None, OF_P3),
        1,
    ),
    "srgb_by_number.png": (
        png(COLOUR, chunks=[(b"cICP", bytes([1, 13, 0, 1])), gamma(1)]),
        COLOUR,
        0,
    ),
    "p3.png": (
        png(COLOUR, chunks=[chunk_of_profile(icc_profile("RGB ", None, P3_IN_XYZ))]),
        converted(COLOUR, None, OF_P3),
        2,
    ),
    "p3.jpg": (
        saved(COLOUR, "JPEG", quality=95, icc_profile=icc_profile("RGB ", None, P3_IN_XYZ)),
        converted(decoded(JPEG), None, OF_P3),
        2,
    ),
    "p3.tif": (
        saved(COLOUR, "TIFF", icc_profile=icc_profile("RGB ", None, P3_IN_XYZ)),
        converted(COLOUR, None, OF_P3),
        2,
    ),
    "p3.webp": (
        saved(COLOUR, "WEBP", lossless=True, icc_profile=icc_profile("RGB ", None, P3_IN_XYZ)),
        converted(COLOUR, None, OF_P3),
        2,
    ),
    "p3.avif": (
        saved(COLOUR, "AVIF", quality=90, icc_profile=icc_profile("RGB ", None, P3_IN_XYZ)),
        converted(decoded(AVIF), None, OF_P3),
        2,
    ),
    "grey_of_light.png": (
        png(GREY, chunks=[chunk_of_profile(icc_profile("GRAY", 1.0))]),
        converted(as_rgb(GREY), 1),
        1,
    ),
    "srgb_profile.png": (png(COLOUR, chunks=[chunk_of_profile(SRGB_PROFILE)]), COLOUR, 0),
    "broken_profile.png": (png(COLOUR, chunks=[chunk_of_profile(b"no profile")]), COLOUR, 0),
    "profile_of_others.jpg": (
        saved(COLOUR, "JPEG", quality=95, icc_profile=icc_profile("GRAY", 1.0)),
        decoded(JPEG),
        0,
    ),
    "camera.jpg": (
        saved(COLOUR, "JPEG", quality=95, exif=adobe_camera()),
        converted(decoded(JPEG), 563 / 256, OF_ADOBE),
        1,
    ),
    "ink.tif": (saved(Image.fromarray(CMYK, "CMYK"), "TIFF"), CMYK_AS_RGB, 1),
    "ink.jpg": (jpeg_of_ink(marked=True), ink_as_rgb(255 - INK_IN_JPEG.astype(int)), 1),
    "broken_exif.jpg": (
        saved(COLOUR, "JPEG", quality=95, exif=b"Exif\0\0no"),
        decoded(JPEG),
        0,
    ),
    "p3.jp2": (
        jp2_with_profile(icc_profile("RGB ", None, P3_IN_XYZ)),
        converted(COLOUR, None, OF_P3),
        2,
    ),
    "lab.tif": (saved(Image.fromarray(as_rgb(GREY)).convert("LAB"), "TIFF"), as_rgb(GREY), 2),
}


def jpeg_of_12_bits() -> bytes:
    """By its header alone."""
    place = JPEG.index(b"\xff\xc0") + 4
    return JPEG[:place] + b"\x0c" + JPEG[place + 1 :]


def hdr_avif() -> bytes:
    """Told to be of BT.2020 and PQ."""
    place = AVIF.index(b"colrnclx") + 8
    return AVIF[:place] + struct.pack(">HH", 9, 16) + AVIF[place + 4 :]


FRAMES = dict(save_all=True, append_images=[Image.fromarray(255 - COLOUR)])
# File name -> content, and what is said of it as a picture.
REFUSED = {
    "two_pages.tif": (two_pages(), "holds several pages"),
    "animated.gif": (saved(COLOUR, "GIF", **FRAMES), "holds several frames"),
    "animated.png": (saved(COLOUR, "PNG", **FRAMES), "holds several frames"),
    "animated.webp": (saved(COLOUR, "WEBP", **FRAMES), "holds several frames"),
    "animated.avif": (saved(COLOUR, "AVIF", **FRAMES), "holds several frames"),
    "stream.pgm": (2 * netpbm("P5", GREY, 255), "holds several pictures"),
    "short.pgm": (netpbm("P5", GREY, 4095)[:-2], "cannot be read as an image (image file is trunc"),
    "2_bands.tif": (
        tiff(
            np.dstack([GREY, GREY]).tobytes(),
            bits=(8, 8),
            photometric=1,
            samples=2,
            extra=0,
            **IN_TIFF,
        ),
        "has 2 channels where 3 are wanted",
    ),
    "4_bands.tif": (
        tiff(
            np.dstack([COLOUR, GREY]).tobytes(),
            bits=(8,) * 4,
            extra=0,
            **RGB_TIFF | dict(samples=4),
        ),
        "has 4 channels where 3 are wanted",
    ),
    "signed.tif": (
        tiff(GREY.tobytes(), bits=8, photometric=1, samples=1, sample_format=2, **IN_TIFF),
        "has 1 channel of 8 bits, signed",
    ),
    "light.tif": (saved(GREY.astype(np.float32), "TIFF"), "has 1 channel of 32 bits, float"),
    "preview.tif": (
        tiff(COLOUR.tobytes(), bits=(8, 8, 8), kind=1, **RGB_TIFF),
        "begins with a preview",
    ),
    "12_bits.jpg": (jpeg_of_12_bits(), "cannot be read as an image (cannot handle 12-bit layers)"),
    "ink.jpg": (jpeg_of_ink(marked=False), "is CMYK without the mark"),
    "pq.png": (
        png(COLOUR, chunks=[(b"cICP", bytes([9, 16, 0, 1]))]),
        "has colours of a wide range",
    ),
    "pq.avif": (hdr_avif(), "has colours of a wide range (primaries 9, transfer 16)"),
    "phone.jpg": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC, which is not read"),
    "vectors.png": (saved(COLOUR, "EPS"), "is PostScript, which is not read"),
    "layers.png": (b"8BPS\0\1", "is a Photoshop document, which is not read"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    "page.png": (b"<!DOCTYPE html><html></html>", "is a web page, not the picture"),
    "empty.png": (b"", "cannot be read as an image (it is empty)"),
    "words.tga": (b"no picture", "cannot be read as an image (of no known format)"),
}
# File name -> content, and its ids: numbers as they are stored, turned as the picture is.
IDS_OF = {
    "turned.png": (png(IDS, chunks=[chunk_of_exif(6)]), turned(IDS, 6)),
    "turned.tif": (
        tiff(IDS.tobytes(), bits=8, photometric=1, samples=1, orientation=7, **IN_TIFF),
        turned(IDS, 7),
    ),
    "many.png": (png(DEEP[:, :, 0], 16), DEEP[:, :, 0]),
    "2_bits.png": (png(IDS % 4, 2), IDS % 4),
    "1_bit.png": (png(IDS % 2, 1), IDS % 2),
    "colours_mean_nothing.png": (
        png(IDS, chunks=[gamma(1), chunk_of_profile(icc_profile("GRAY", 1.0))]),
        IDS,
    ),
    "one_is_transparent.png": (png(IDS, chunks=[(b"tRNS", b"\0\5")]), IDS),
    "one_is_transparent_2_bits.png": (png(IDS % 4, 2, chunks=[(b"tRNS", b"\0\1")]), IDS % 4),
    "4_bits.tif": (
        tiff(b"".join(packed(IDS % 16, 4)), bits=4, photometric=1, samples=1, **IN_TIFF),
        IDS % 16,
    ),
    "12_bits.tif": (
        tiff(b"".join(packed(LEVELS_12, 12)), bits=12, photometric=1, samples=1, **IN_TIFF),
        LEVELS_12,
    ),
    "signed.tif": (
        tiff(
            (IDS.astype(np.int16) - 9).tobytes(),
            bits=16,
            photometric=1,
            samples=1,
            sample_format=2,
            **IN_TIFF,
        ),
        IDS.astype(int) - 9,
    ),
    "signed_8_bits.tif": (
        tiff(
            (IDS.astype(np.int8) - 9).tobytes(),
            bits=8,
            photometric=1,
            samples=1,
            sample_format=2,
            **IN_TIFF,
        ),
        IDS.astype(int) - 9,
    ),
    "palette.tif": (saved(Image.fromarray(IDS, "P"), "TIFF"), IDS),
    "palette.gif": (saved(Image.fromarray(IDS, "P"), "GIF", optimize=False), IDS),
    "own_highest.pgm": (netpbm("P5", IDS, 18), IDS),
    "text.pgm": (b"P2 8 6 999 " + " ".join(map(str, IDS.ravel())).encode(), IDS),
    "12_bits.pgm": (netpbm("P5", LEVELS_12, 4095), LEVELS_12),
    "12_bits.jp2": (imagecodecs.jpeg2k_encode(LEVELS_12, level=0, bitspersample=12), LEVELS_12),
    "mask.pbm": (b"P1\n8 6\n" + b"10" * 24, np.tile([0, 1], (6, 4))),
    "white_is_0_1_bit.tif": (
        tiff(b"".join(packed(IDS % 2, 1)), bits=1, photometric=0, samples=1, **IN_TIFF),
        1 - IDS % 2,
    ),
}
REFUSED_IDS = {
    "white_is_0.tif": (
        READ["white_is_0.tif"][0],
        "is a picture of 1 channel of 8 bits, 0 is white, not a map of ids",
    ),
    "two_pages.tif": (two_pages(), "holds several pages"),
    "light.tif": (REFUSED["light.tif"][0], "1 channel of 32 bits, float"),
    "large.tif": (
        tiff(
            (IDS.astype(np.uint32) + 2**31).tobytes(), bits=32, photometric=1, samples=1, **IN_TIFF
        ),
        "holds ids up to 2147483",
    ),
}
ALPHA = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
INDICES = np.arange(48, dtype=np.uint8).reshape(6, 8) % 4
PALETTE = RNG.integers(0, 256, (4, 3), np.uint8)
# File name -> content, colours and alpha.
TRANSPARENT = {
    "alpha.png": (png(np.dstack([COLOUR, ALPHA])), COLOUR, ALPHA),
    "alpha.webp": (
        saved(np.dstack([COLOUR, ALPHA]), "WEBP", lossless=True, exact=True),
        COLOUR,
        ALPHA,
    ),
    "grey.png": (png(np.dstack([GREY, ALPHA])), as_rgb(GREY), ALPHA),
    "deep.png": (png(np.dstack([DEEP, ALPHA * np.uint16(257)]), 16), scaled(DEEP, 65535), ALPHA),
    "one_colour.png": (
        png(COLOUR, chunks=[(b"tRNS", struct.pack(">3H", *COLOUR[0, 0]))]),
        COLOUR,
        np.where((COLOUR == COLOUR[0, 0]).all(axis=2), 0, 255),
    ),
    "palette.png": (
        saved(with_palette(INDICES, PALETTE), "PNG", transparency=bytes([0, 100, 255, 30])),
        PALETTE[INDICES],
        np.uint8([0, 100, 255, 30])[INDICES],
    ),
    "alpha.tif": (
        tiff(
            np.dstack([COLOUR, ALPHA]).tobytes(),
            bits=(8,) * 4,
            extra=2,
            **RGB_TIFF | dict(samples=4),
        ),
        COLOUR,
        ALPHA,
    ),
    "alpha.tga": (saved(np.dstack([COLOUR, ALPHA]), "TGA"), COLOUR, ALPHA),
}


@pytest.mark.parametrize("name", READ)
def test_a_picture_is_read_as_it_is_shown(tmp_path, name):
    content, shown, off = READ[name]
    (tmp_path / name).write_bytes(content)
    picture, header = read_picture(tmp_path / name), probe(tmp_path / name)
    assert picture.shape == (3, *shown.shape[:2]) == (3, header.height, header.width)
    found = np.stack(list(picture), axis=2).astype(float)
    assert np.abs(found - shown).max() <= off + 0.5 * (off > 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_right_is_refused_by_name(tmp_path, name):
    content, found = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    assert refusal(read_picture, tmp_path / name).startswith(f"{tmp_path / name} {found}")


@pytest.mark.parametrize("name", IDS_OF)
def test_ids_are_read_as_they_are_stored(tmp_path, name):
    content, ids = IDS_OF[name]
    (tmp_path / name).write_bytes(content)
    found, header = read_ids(tmp_path / name), probe(tmp_path / name)
    assert found.dtype in (np.uint8, np.uint16, np.int32) and header.holds_ids
    assert found.shape == (header.height, header.width)
    assert np.array_equal(found, ids)


@pytest.mark.parametrize("name", REFUSED_IDS)
def test_numbers_that_are_no_ids_are_refused(tmp_path, name):
    content, found = REFUSED_IDS[name]
    (tmp_path / name).write_bytes(content)
    assert found in refusal(read_ids, tmp_path / name)


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_refused_or_done_with_as_it_was_said(tmp_path, name):
    content, colours, alpha = TRANSPARENT[name]
    (tmp_path / name).write_bytes(content)
    path, opacity = tmp_path / name, alpha[:, :, None] / 255
    share = f"{100 * (alpha < 255).mean():.3g}%"
    assert f"{path} is transparent on {share} of its pixels: " in refusal(read_picture, path)
    assert np.array_equal(as_hwc(read_picture(path, transparency="drop")), colours)
    for transparency, background in (("white", 255), ("black", 0)):
        mixed = opacity * colours + (1 - opacity) * background
        found = as_hwc(read_picture(path, transparency=transparency))
        assert np.abs(found - mixed).max() <= 0.51
    channels = 2 if name == "grey.png" else 4
    assert np.array_equal(read_picture(path, channels)[-1], alpha)


def as_hwc(picture: np.ndarray) -> np.ndarray:
    return np.stack(list(picture), axis=2).astype(int)


def test_colours_that_alpha_was_multiplied_into_are_divided_again(tmp_path):
    """Up to what 8 bits keep of them; on black they are as stored."""
    alpha = np.maximum(ALPHA, 40)
    stored = (COLOUR * (alpha[:, :, None] / 255)).round().astype(np.uint8)
    content = np.dstack([stored, alpha]).tobytes()
    tags = dict(bits=(8,) * 4, extra=1, **RGB_TIFF | dict(samples=4))
    (tmp_path / "a.tif").write_bytes(tiff(content, **tags))
    found = as_hwc(read_picture(tmp_path / "a.tif", transparency="drop"))
    assert np.abs(found - COLOUR).max() <= 255 / 40 / 2 + 1
    assert (
        np.abs(as_hwc(read_picture(tmp_path / "a.tif", transparency="black")) - stored).max() <= 1
    )


def test_bands_beyond_colour_are_channels_of_an_input(tmp_path):
    bands = RNG.integers(0, 65536, (6, 8, 7), np.uint16)
    tags = dict(bits=(16,) * 7, extra=(0,) * 6, photometric=1, samples=7, **IN_TIFF)
    (tmp_path / "a.tif").write_bytes(tiff(bands.tobytes(), **tags))
    assert probe(tmp_path / "a.tif").channels == 7
    assert np.array_equal(as_hwc(read_picture(tmp_path / "a.tif", 7)), scaled(bands, 65535))


def test_colours_of_labels_are_read_as_they_are_stored(tmp_path):
    """Though a profile says that they look otherwise; turned, and with their alpha."""
    profile = chunk_of_profile(icc_profile("RGB ", None, P3_IN_XYZ))
    (tmp_path / "a.png").write_bytes(png(COLOUR, chunks=[profile, chunk_of_exif(6)]))
    red, green, blue = (turned(COLOUR, 6)[:, :, channel].astype(np.int64) for channel in range(3))
    assert np.array_equal(
        read_colours(tmp_path / "a.png"), red + 256 * green + 65536 * blue + (255 << 24)
    )
    (tmp_path / "b.png").write_bytes(png(np.dstack([COLOUR, ALPHA])))
    assert np.array_equal(read_colours(tmp_path / "b.png") >> 24, ALPHA)


@pytest.mark.parametrize(("white_level", "white"), [(65535, 4095), (4095, 4095), (1023, 1023)])
def test_a_white_level_is_a_level_of_the_file(tmp_path, white_level, white):
    """Which may hold less than it."""
    (tmp_path / "a.pgm").write_bytes(netpbm("P5", LEVELS_12, 4095))
    assert np.array_equal(
        read_picture(tmp_path / "a.pgm", 1, white_level)[0], scaled(LEVELS_12, white)
    )


# As `synthesise --image FILE --photo FILE` reads them.
AS_SCENE = MapReading(
    GeneratorInput(num_labels=0, input_nc=3, use_instances=False, feat_num=0),
    labels=None, raw=RawReading(), is_raw=True, named=[],
)  # fmt: skip


def test_prepare_and_synthesise_read_the_same(tmp_path):
    """Every file of READ as photo and as input picture, through the command line and as a scene."""
    for name, (content, _, _) in READ.items():
        for folder in ("train_A", "train_B"):
            place = tmp_path / "raw" / folder / name.replace(".", "_") / name
            place.parent.mkdir(parents=True)
            place.write_bytes(content)
    (tmp_path / "raw" / "test_A").mkdir()
    (tmp_path / "raw" / "test_A" / "x.png").write_bytes(png(COLOUR))
    flags = ["--size", "keep", "--num-labels", "0", "--instances", "none"]
    raw, dataset = str(tmp_path / "raw"), tmp_path / "dataset"
    main(["--raw-data", raw, "--dataset", str(dataset), *flags])
    for name, (_, shown, off) in READ.items():
        place = name.replace(".", "_")
        prepared = f"{place}_{Path(name).stem}.png"
        source = tmp_path / "raw" / "train_A" / place / name
        as_scene = AS_SCENE.photo(source)
        assert np.array_equal(AS_SCENE.input(source), as_scene)
        for folder in ("train_A", "train_B"):
            found = np.asarray(Image.open(dataset / folder / prepared)).astype(float)
            assert np.array_equal(found, as_hwc(as_scene)), name
            assert np.abs(found - shown).max() <= off + 0.5 * (off > 0), name


def in_strips(content: bytes, count: int, **tags) -> bytes:
    """A TIFF that tells of `count` strips of two rows."""
    size = 2 * 8 * tags["samples"]
    starts = tuple(8 + number * size for number in range(count))
    whole = dict(rows=2, offset=starts, count=(size,) * count)
    return tiff(content, bits=(8,) * tags["samples"], **IN_TIFF, **tags, **whole)


@pytest.mark.parametrize(
    "content, tags",
    [(CMYK, dict(photometric=5, samples=4)), (COLOUR, dict(photometric=2, samples=3))],
)
def test_a_tiff_that_lacks_strips_of_its_picture_is_refused(tmp_path, content, tags):
    """Pillow would show what is not there as black."""
    (tmp_path / "a.tif").write_bytes(in_strips(content.tobytes(), 3, **tags))
    whole = read_picture(tmp_path / "a.tif")
    assert whole.shape == (3, 6, 8) and whole[:, 4:].any()
    (tmp_path / "a.tif").write_bytes(in_strips(content.tobytes(), 2, **tags))
    for read in (probe, read_picture):
        assert "2 of 3 parts are there" in refusal(read, tmp_path / "a.tif")


def twice_as_high(content: bytes) -> bytes:
    """A PNG whose header says so, with its checksum."""
    header = content[12:20] + struct.pack(">I", 2 * struct.unpack(">I", content[20:24])[0])
    header += content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "interlaced"])
def test_a_png_that_lacks_rows_of_its_picture_is_refused(tmp_path, mode):
    """Pillow would show what is not there as black."""
    if mode == "interlaced":
        content = interlaced_png(COLOUR)
    else:
        content = saved(Image.fromarray(COLOUR).convert(mode), "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert read_picture(path, 3).shape == (3, 6, 8)
    path.write_bytes(twice_as_high(content))
    read = read_ids if mode in ("P", "L") else functools.partial(read_picture, channels=3)
    for reader in (read, functools.partial(read_picture, channels=3)):
        assert "cannot be read as an image" in refusal(reader, path)


def test_a_png_whose_pixels_end_in_nonsense_is_refused(tmp_path):
    colours = Image.fromarray(np.tile(COLOUR, (40, 40, 1))).convert("P")
    content = bytearray(saved(colours, "PNG"))
    place = content.index(b"IDAT")
    length = struct.unpack(">I", content[place - 4 : place])[0]
    end = place + 4 + length
    content[end - length // 2 : end] = b"\xff" * (length // 2)
    content[end : end + 4] = struct.pack(">I", zlib.crc32(content[place:end]))
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_picture, read_ids):
        assert "cannot be read as an image" in refusal(read, tmp_path / "a.png")


def test_the_readme_lists_what_is_read():
    text = (ROOT / "components" / "prepare" / "README.md").read_text()
    listed = text.partition("\nRead: `")[2].partition("`")[0].split()
    assert set(listed) == set(IMAGE_SUFFIXES) and len(listed) == len(IMAGE_SUFFIXES)


@pytest.mark.parametrize(("free_gib", "is_read"), [(2, False), (3, True)])
def test_the_free_memory_bounds_a_picture_by_its_header(tmp_path, monkeypatch, free_gib, is_read):
    """13400 x 13400 pixels in RGB, four times: 2.007 GiB. Its pixels are never looked at."""
    (tmp_path / "a.png").write_bytes(png(GREY, size=(13400, 13400)))
    free = SimpleNamespace(available=free_gib * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    if is_read:
        assert probe(tmp_path / "a.png").height == 13400
    else:
        found = "is 13400x13400 and would take 2.0 GiB of memory, more than is free"
        assert refusal(probe, tmp_path / "a.png").startswith(f"{tmp_path}/a.png {found}: cut it")


@pytest.mark.slow
def test_a_picture_above_pillows_limit_is_read(tmp_path):
    tile = np.zeros((13400, 13400), np.uint8)
    tile[:4000, ::3] = 200
    (tmp_path / "tile.png").write_bytes(imagecodecs.png_encode(tile, level=1))
    assert np.array_equal(read_picture(tmp_path / "tile.png", 1)[0], tile)
    assert np.array_equal(read_ids(tmp_path / "tile.png"), tile)
