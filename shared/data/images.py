"""Files <-> integer arrays. Ids stay integers; what a file format cannot hold is refused, never
wrapped; pictures come as they are shown: upright, in sRGB.

Pictures are (C, H, W) everywhere but in files, in Pillow and in MLflow: (H, W, C) is known to this
file alone, and to what decodes below it."""

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
from PIL import Image

from shared.data.formats import netpbm, png, tiff
from shared.data.formats.refusals import WrongContent, refused
from shared.data.formats.srgb import cmyk_to_srgb, to_srgb
from shared.data.headers import WHITE_16_BIT, OpenedImage, load_npy, open_image
from shared.errors import InputError
from shared.files.writing import write_atomically

Transparency = Literal["refuse", "white", "black", "drop"]
Check = Callable[[OpenedImage], None]  # of a file that is open and not decoded yet
BACKGROUNDS = {"white": 255, "black": 0}


def to_chw(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) as files and Pillow have it -> (C, H, W), a view: the inverse of `to_hwc`."""
    return pixels.transpose(2, 0, 1)


def to_hwc(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C) as files, Pillow and MLflow want it, in one piece of memory."""
    pixels = picture.transpose(1, 2, 0)
    # Also of one row or column, whose strides NumPy leaves as they are, and codecs stumble over.
    return pixels.ravel().reshape(pixels.shape)


def read_picture(
    path: Path,
    channels: int = 3,
    white_level: int = WHITE_16_BIT,
    transparency: Transparency = "refuse",
    check: Check | None = None,
) -> np.ndarray:
    """(channels, H, W) uint8, maybe a view: upright and in sRGB. Grey becomes RGB and RGB grey.

    Args:
        white_level: What becomes 255 of levels of more than 8 bits, and what is brighter too; their
            highest where that is lower.
        transparency: What becomes of alpha where it is not one of the channels that are wanted, and
            not opaque all over: shown on a colour, dropped, or refused.
        check: Raises for a file that is not wanted.

    Raises InputError where the file has other channels, or numbers that are no grey levels of 8 or
    16 bits."""
    # Numbers as stored, their colours in 8 bits, and alpha beside them.
    with open_image(path) as opened:
        header = opened.header
        if check:
            check(opened)
        if not header.holds_levels:
            raise WrongContent(
                f"{path} has {header.description}: give a picture of 8 or 16 bits a channel."
            )
        pixels, alpha = _levels(opened)
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (2, 3):
        raise WrongContent(
            f"{path} holds {pixels.dtype} of shape {pixels.shape}: give a picture of 8 or 16 bits "
            "a channel."
        )
    white = min(white_level, header.white) if header.white > 255 else header.white
    pixels = _to_8_bits(pixels, white, header.is_negative)
    has_colours = pixels.ndim == 2 or pixels.shape[2] in (1, 3)
    if has_colours and not header.colours.is_srgb:
        flat = pixels[:, :, 0] if pixels.shape[2:] == (1,) else pixels
        pixels = to_srgb(flat, header.colours)

    # The channels that are wanted. Alpha is one of them, or is done with before.
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    found, wants_alpha = pixels.shape[2], alpha is not None and channels == pixels.shape[2] + 1
    if not wants_alpha and found != channels and (found, channels) not in ((1, 3), (3, 1)):
        raise WrongContent(
            f"{path} has {found + (alpha is not None)} channels where {channels} are wanted: give "
            "files of one kind."
        )
    if wants_alpha:
        pixels = np.dstack([pixels, alpha])
    elif alpha is not None and transparency != "drop" and alpha.min() < 255:
        pixels = _shown_on(path, pixels, alpha, transparency)
    picture = to_chw(_upright(pixels, header.orientation))  # (C, H, W)
    match len(picture), channels:
        case 1, 3:
            return np.repeat(picture, 3, axis=0)
        case 3, 1:
            return to_grey(picture)
        case _:
            return picture


def to_grey(picture: np.ndarray) -> np.ndarray:
    """(3, H, W) uint8 -> (1, H, W): ITU-R 601-2 luma as Pillow rounds it, by which pix2pix reads
    grey photos; equal channels stay as they are."""
    bands = [Image.fromarray(channel) for channel in picture]
    return np.asarray(Image.merge("RGB", bands).convert("L"))[None]


def read_colours(path: Path) -> np.ndarray:
    """(H, W) uint32, upright: colours as they are stored, for maps that mean labels by colour, each
    the number 0xAABBGGRR. Grey and palettes are colours too; without alpha all is opaque.

    Raises InputError for other files than of 8 bits a channel."""
    with open_image(path) as opened:
        header = opened.header
        is_colour = header.holds_levels and header.white <= 255 and header.mode != "CMYK"
        pixels, alpha = _levels(opened) if is_colour else (np.zeros(0), None)
    if pixels.ndim == 3 and header.format == "npy" and pixels.shape[2] == 4:
        pixels, alpha = pixels[:, :, :3], pixels[:, :, 3]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise WrongContent(f"{path} has {header.description}: give RGB of 8 bits a channel.")
    levels = np.full((*pixels.shape[:2], 4), 255, np.uint8)
    levels[:, :, :3] = pixels.reshape(*pixels.shape[:2], -1)
    if alpha is not None:
        levels[:, :, 3] = alpha
    return _upright(levels.view("<u4")[:, :, 0], header.orientation)


def read_ids(path: Path, check: Check | None = None) -> np.ndarray:
    """(H, W) uint8, uint16 or int32: label or instance ids as stored, 16-bit ids above 32767
    included; upright. check: raises for a file that is not wanted."""
    if Path(path).suffix.lower() == ".npy":
        return _ids_of_array(path)
    with open_image(path) as opened:
        header = opened.header
        if check:
            check(opened)
        if not header.holds_ids:
            raise WrongContent(
                f"{path} is a picture of {header.description}, not a map of ids: give one grey or "
                "palette channel, or --num-labels 0 for pictures as input."
            )
        ids = _stored(opened)
    ids = ids[:, :, 0] if ids.ndim == 3 else ids  # without the colour that PNG makes transparent
    if header.step > 1:
        ids = ids // header.step
    if header.is_negative:
        ids = 1 - ids
    if ids.dtype in (np.uint8, np.uint16):
        return _upright(ids, header.orientation)
    if not np.array_equal(ids, ids.astype(np.int32)):
        raise WrongContent(f"{path} holds ids up to {ids.max()}: give ids of 32 bits, signed.")
    return _upright(ids.astype(np.int32), header.orientation)


def _ids_of_array(path: Path) -> np.ndarray:
    ids = load_npy(path)
    fits = ids.dtype.kind in "ui" and np.array_equal(ids, ids.astype(np.int32))
    if ids.ndim != 2 or not fits:
        raise WrongContent(
            f"{path} holds {ids.dtype} of shape {ids.shape}: give (height, width) ids of up "
            "to 32 bits, signed."
        )
    return ids if ids.dtype in (np.uint8, np.uint16) else ids.astype(np.int32)


def highest_level(path: Path) -> int:
    """The highest number of a picture as it is stored, alpha left out. Raises InputError."""
    with open_image(path) as opened:
        levels = _levels(opened)[0]
    if levels.dtype.kind not in "ui" or not levels.size:
        raise WrongContent(f"{path} holds {levels.dtype} of shape {levels.shape}, no levels.")
    return int(levels.max())


def _stored(opened: OpenedImage) -> np.ndarray:
    """(H, W) or (H, W, C) as the file has it: indices, ids or levels, not turned yet. Raises what
    decoders raise."""
    header, file, image = opened.header, opened.file, opened.image
    match header.format:
        case "npy":
            return load_npy(opened.path)
        case "TIFF" if image is None:
            file.seek(0)
            return tiff.decode(file.read(), opened.page)
        case "PNG" if header.mode not in ("P", "PA") and not _is_interlaced(opened):
            # 1.7 times as fast as Pillow, and with all 16 bits of RGB.
            file.seek(0)
            content = file.read()
            if "icc_profile" in image.info:
                content = png.without_colours(content)
            return imagecodecs.png_decode(content)
        case "PPM" if header.mode != "1":
            try:
                return netpbm.decode(file, image)
            except LookupError:
                raise refused(opened.path, "several pictures", "holds several pictures") from None
        case "JPEG2000" if header.white != 255:
            file.seek(0)
            return imagecodecs.jpeg2k_decode(file.read())
    pixels = _by_pillow(opened, image.mode)
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _by_pillow(opened: OpenedImage, mode: str) -> np.ndarray:
    """(H, W) or (H, W, C), in one of Pillow's modes. Raises what decoders raise."""
    pixels = np.asarray(opened.image.convert(mode))
    if opened.header.format == "PNG":
        png.refuse_missing_rows(opened.file)
    return pixels


def _is_interlaced(opened: OpenedImage) -> bool:
    """Whether a PNG is of eight bits, opaque and interlaced, of which libpng has a complaint for
    the terminal."""
    header = opened.header
    return "interlace" in opened.image.info and header.white == 255 and not header.alpha


def _levels(opened: OpenedImage) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey or colours, (H, W) or (H, W, C) as stored, and alpha (H, W) uint8 where there is one;
    palettes, ink and the like become RGB."""
    header, image = opened.header, opened.image
    if header.format == "TIFF" and header.mode == "P":
        return header.palette[_stored(opened)], None
    if header.mode == "1" and header.format != "TIFF":
        pixels = _stored(opened)
        return (pixels * (255 // max(1, int(pixels.max())))) if pixels.max() else pixels, None
    by_pillow = header.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX", "La", "RGBa")
    if image is not None and by_pillow:
        if header.mode == "CMYK":
            return np.asarray(cmyk_to_srgb(image, header.colours.profile)), None
        pixels = _by_pillow(opened, "RGBA" if header.alpha else "RGB")
    else:
        pixels = _stored(opened)
    if not header.alpha or pixels.ndim != 3 or pixels.shape[2] not in (2, 4):
        return pixels, None

    # Alpha beside the colours, which may have been multiplied by it.
    alpha, pixels = pixels[:, :, -1], pixels[:, :, :-1]
    if header.alpha == "premultiplied":
        divisor = np.maximum(alpha, 1)[:, :, None].astype(np.uint32)
        whole = (pixels.astype(np.uint32) * header.white + divisor // 2) // divisor
        pixels = whole.clip(0, header.white).astype(pixels.dtype)
    return pixels, _to_8_bits(alpha, header.white)


def _to_8_bits(levels: np.ndarray, white: int, is_negative: bool = False) -> np.ndarray:
    """uint8 or uint16 -> uint8: `white` becomes 255, and what is brighter too."""
    if levels.dtype == np.uint8 and white == 255 and not is_negative:
        return levels
    return _table(white, 1 << 8 * levels.itemsize, is_negative)[levels]


@lru_cache(maxsize=16)
def _table(white: int, size: int, is_negative: bool) -> np.ndarray:
    """(size,) uint8: what each level becomes."""
    nearest = (2 * 255 * np.arange(size) + white) // (2 * white)
    table = nearest.clip(max=255).astype(np.uint8)
    return 255 - table if is_negative else table


def _shown_on(
    path: Path, pixels: np.ndarray, alpha: np.ndarray, transparency: Transparency
) -> np.ndarray:
    """Colours (H, W, C) on a background, as a browser mixes them. Raises InputError where none is
    said."""
    if transparency == "refuse":
        share = 100 * float((alpha < 255).mean())
        raise refused(path, "transparent picture", f"is transparent on {share:.3g}% of its pixels")
    weight = alpha[:, :, None].astype(np.uint16)
    mixed = pixels * weight + np.uint16(BACKGROUNDS[transparency]) * (255 - weight)
    return ((mixed.astype(np.uint32) + 127) // 255).astype(np.uint8)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (H, W) or (H, W, C) as EXIF's orientation says; a view."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return pixels.swapaxes(0, 1)[:, ::-1]
        case 7:
            return pixels.swapaxes(0, 1)[::-1, ::-1]
        case 8:
            return pixels.swapaxes(0, 1)[::-1]
        case _:
            return pixels


def write_picture(path: Path, picture: np.ndarray) -> None:
    """(C, H, W) uint8 -> file; the format follows the suffix."""
    assert picture.dtype == np.uint8, picture.dtype
    write_atomically(path, encode_picture(picture, path.suffix), synced=False)


def write_ids(path: Path, ids: np.ndarray) -> None:
    """(H, W) ids -> PNG of 8 bits where they fit, else 16; TIFF holds 32 bits."""
    write_atomically(path, encode_ids(ids, path), synced=False)


def encode_picture(
    picture: np.ndarray, suffix: str, quality: int = 95, full_colour: bool = False
) -> bytes:
    """(C, H, W) uint8 -> content of a file of that suffix; .npy, (H, W, C), takes any number of
    channels.

    Of JPEG: its quality, and `full_colour` where colours are to be as sharp as brightness."""
    pixels = to_hwc(picture)
    if suffix == ".npy":
        return encode_array(pixels)
    pixels = pixels[:, :, 0] if len(picture) == 1 else pixels
    of_jpeg = {"subsampling": "4:4:4"} if full_colour else {}
    return _encode(pixels, suffix, quality=quality, **of_jpeg)


def encode_array(array: np.ndarray) -> bytes:
    """Any array -> content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def encode_ids(ids: np.ndarray, path: Path) -> bytes:
    """(H, W) ids -> content of the file `path`. Raises InputError for ids that its format cannot
    hold."""
    if path.suffix == ".tif":
        return _encode(ids.astype(np.int32), path.suffix)
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high > 65535:
        raise InputError(
            f"{path}: ids {low}..{high} do not fit a 16-bit PNG (0..65535): renumber them."
        )
    return _encode(ids.astype(np.uint8 if high < 256 else np.uint16), path.suffix)


def _encode(pixels: np.ndarray, suffix: str, **of_jpeg) -> bytes:
    """(H, W) or (H, W, C) -> content of a file."""
    # Twice as fast as Pillow, and decoded a quarter faster, for 8% more bytes.
    if suffix == ".png":
        pixels = np.ascontiguousarray(pixels)
        return imagecodecs.png_encode(pixels, level=1, filter=imagecodecs.PNG.FILTER.UP)
    buffer = io.BytesIO()
    file_format = Image.registered_extensions()[suffix.lower()]
    Image.fromarray(pixels).save(buffer, format=file_format, **of_jpeg)
    return buffer.getvalue()


def resize_picture(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(C, H, W) uint8 -> (C, height, width), by Pillow's bicubic with its antialiasing, as the
    references resample photographs; where it has that size already the picture itself."""
    if picture.shape[1:] == (height, width):
        return picture
    channels = [Image.fromarray(channel) for channel in picture]
    # Three at once are faster. Others each for itself: Pillow would weight colours with alpha.
    if len(channels) == 3:
        return to_chw(_bicubic(Image.merge("RGB", channels), height, width))
    return np.stack([_bicubic(channel, height, width) for channel in channels])


def _bicubic(image: Image.Image, height: int, width: int) -> np.ndarray:
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def resize_ids(ids: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest neighbour at pixel centres, as Pillow's NEAREST: ids are picked, never mixed."""
    if ids.shape == (height, width):
        return ids
    rows = ((np.arange(height) + 0.5) * ids.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * ids.shape[1] / width).astype(np.intp)
    return ids.take(rows, axis=0).take(columns, axis=1)
