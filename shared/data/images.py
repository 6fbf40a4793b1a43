"""Files <-> integer arrays. Ids stay integers; what a file format cannot hold is refused, never
wrapped.

Pictures are (C, H, W) everywhere but in files, in Pillow and in MLflow: (H, W, C) is known to this
file alone."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from shared.contracts.folder import write_atomically
from shared.data.headers import load_npy, open_image, unreadable
from shared.errors import InputError

ID_MODES = ("1", "L", "P", "I;16", "I;16B", "I")
CONVERTED = ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX")
WHITE_16_BIT = 65535
GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow and libpng stretch grey of 2 and 4 bits to 0..255


class WrongContent(InputError):
    """The file can be read, but holds something else than is wanted."""


def to_chw(pixels: np.ndarray) -> np.ndarray:
    """(H, W, C) as files and Pillow have it -> (C, H, W), a view: the inverse of `to_hwc`."""
    return pixels.transpose(2, 0, 1)


def to_hwc(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (H, W, C) as files, Pillow and MLflow want it, in one piece of memory."""
    pixels = picture.transpose(1, 2, 0)
    # Also of one row or column, whose strides NumPy leaves as they are, and codecs stumble over.
    return pixels.ravel().reshape(pixels.shape)


def _load(path: Path, image: Image.Image, as_picture: bool = False) -> np.ndarray:
    """Pixels as stored, (H, W) or (H, W, C); of a picture, palettes and other colour spaces become
    RGB."""
    plain = image.mode in ("L", "LA", "RGB", "RGBA", "I;16") and "transparency" not in image.info
    try:
        if as_picture and (image.mode in CONVERTED or "transparency" in image.info):
            image = image.convert("L" if image.mode == "1" else "RGB")
        if image.format == "PNG" and plain and image.tile[0][3] not in GREY_STEPS:
            # 1.7 times as fast as Pillow, and with all 16 bits of RGB.
            return imagecodecs.png_decode(Path(path).read_bytes())
        pixels = np.asarray(image)
    except imagecodecs.PngError:
        raise unreadable(path, ValueError("damaged or cut off")) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise unreadable(path, error) from None
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def read_picture(path: Path, channels: int = 3, white_level: int = WHITE_16_BIT) -> np.ndarray:
    """(channels, H, W) uint8, maybe a view. Grey becomes RGB and RGB grey, alpha is dropped, unless
    that many channels are wanted.

    Of 16-bit pictures `white_level` becomes 255, and what is brighter too. Raises InputError where
    the file has other channels, or numbers that are no grey levels of 8 or 16 bits."""
    # Numbers as stored.
    if Path(path).suffix.lower() == ".npy":
        pixels = load_npy(path)
    else:
        with open_image(path) as image:
            pixels = _load(path, image, as_picture=True)  # (H, W) or (H, W, C)

    # 8 bits a channel.
    if pixels.dtype == np.uint16:
        levels = np.arange(1 << 16) * (255 / white_level)
        pixels = levels.round().clip(0, 255).astype(np.uint8)[pixels]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise WrongContent(
            f"{path} holds {pixels.dtype} of shape {pixels.shape}: give a picture of 8 or 16 bits "
            "a channel."
        )

    # The channels that are wanted.
    picture = pixels[None] if pixels.ndim == 2 else to_chw(pixels)  # (C, H, W)
    match len(picture), channels:
        case found, wanted if found == wanted:
            return picture
        case ((1 | 2), 3):
            return np.repeat(picture[:1], 3, axis=0)
        case (2, 1) | (4, 3):
            return picture[:channels]
        case ((3 | 4), 1):
            return np.asarray(Image.fromarray(to_hwc(picture[:3])).convert("L"))[None]
        case found, wanted:
            raise WrongContent(
                f"{path} has {found} channels where {wanted} are wanted: give files of one kind."
            )


def read_colours(path: Path) -> np.ndarray:
    """(H, W) uint32: colours as they are stored, for maps that mean labels by colour, each the
    number 0xAABBGGRR. Grey and palettes are colours too; without alpha all is opaque.

    Raises InputError for other files than of 8 bits a channel."""
    if Path(path).suffix.lower() == ".npy":
        pixels, found = load_npy(path), "an array"
    else:
        with open_image(path) as image:
            found = f"Pillow's mode {image.mode}"
            is_plain = image.mode in ("RGB", "RGBA") and "transparency" not in image.info
            if image.mode in ("1", "L", "LA", "P", "PA", "RGB"):
                image = image if is_plain else image.convert("RGBA")
            pixels = _load(path, image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise WrongContent(f"{path} has {found}: give RGB of 8 bits a channel.")
    levels = np.full((*pixels.shape[:2], 4), 255, np.uint8)
    levels[:, :, : pixels.shape[2]] = pixels
    return levels.view("<u4")[:, :, 0]


def read_ids(path: Path) -> np.ndarray:
    """(H, W) uint8, uint16 or int32: label or instance ids as stored, 16-bit ids above 32767
    included."""
    if Path(path).suffix.lower() == ".npy":
        ids = load_npy(path)
        fits = ids.dtype.kind in "ui" and np.array_equal(ids, ids.astype(np.int32))
        if ids.ndim != 2 or not fits:
            raise WrongContent(
                f"{path} holds {ids.dtype} of shape {ids.shape}: give (height, width) ids of up "
                "to 32 bits, signed."
            )
        return ids if ids.dtype in (np.uint8, np.uint16) else ids.astype(np.int32)
    with open_image(path) as image:
        if image.mode not in ID_MODES:
            raise WrongContent(
                f"{path} is a {image.mode} picture, not a map of ids: give one grey or palette "
                "channel, or --num-labels 0 for pictures as input."
            )
        step = GREY_STEPS.get(image.tile[0][3], 1) if image.format == "PNG" else 1
        ids = _load(path, image)
    return ids.astype(np.uint8) // step if step > 1 or ids.dtype == bool else ids


def write_picture(path: Path, picture: np.ndarray) -> None:
    """(C, H, W) uint8 -> file; the format follows the suffix."""
    assert picture.dtype == np.uint8, picture.dtype
    write_atomically(path, encode_picture(picture, path.suffix))


def write_ids(path: Path, ids: np.ndarray) -> None:
    """(H, W) ids -> PNG of 8 bits where they fit, else 16; TIFF holds 32 bits."""
    write_atomically(path, encode_ids(ids, path))


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
