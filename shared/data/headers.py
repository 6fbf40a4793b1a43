"""What image files say before a pixel is decoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shared.data.names import FORMATS, FORMATS_BY_SUFFIX
from shared.errors import InputError

COMPRESSION = 259  # of a TIFF; JPEG in its two forms, JPEG 2000, LERC, WebP, JPEG XL
LOSSY_COMPRESSIONS = {6, 7, 33003, 33005, 34712, 34887, 34892, 50001, 50002, 52546}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says."""

    format: str  # Pillow's name of it, whatever the suffix; or "npy"
    mode: str  # Pillow's, or "npy"
    height: int
    width: int
    channels: int
    lossy: bool = False  # other numbers come back than were stored: no home for ids
    palette: np.ndarray | None = None  # (K, 3) uint8, the colours of its indices


def probe(path: Path) -> ImageHeader:
    """Read the header alone. Raises InputError for no image."""
    if Path(path).suffix.lower() == ".npy":
        array = load_npy(path, mmap_mode="r")
        if array.ndim not in (2, 3):
            raise InputError(
                f"{path} is an array of shape {array.shape}: give (height, width) or (height, "
                "width, C)."
            )
        channels = array.shape[2] if array.ndim == 3 else 1
        return ImageHeader("npy", "npy", *array.shape[:2], channels)
    with open_image(path) as image:
        return ImageHeader(
            image.format,
            image.mode,
            image.height,
            image.width,
            len(image.getbands()),
            _is_lossy(path, image),
            _palette(image),
        )


def _palette(image: Image.Image) -> np.ndarray | None:
    """(K, 3) uint8, without decoding a pixel, as Pillow's `getpalette` would."""
    if image.mode not in ("P", "PA") or image.palette is None:
        return None
    rawmode, colours = image.palette.rawmode or image.palette.mode, image.palette.palette
    holder = Image.new("P", (1, 1))
    holder.putpalette(bytes(colours), rawmode)
    return np.array(holder.getpalette(), np.uint8).reshape(-1, 3)


def _is_lossy(path: Path, image: Image.Image) -> bool:
    """Whether the pixels went through a compression that changes them."""
    match image.format:
        case "JPEG" | "MPO" | "AVIF":
            return True
        case "TIFF":
            return image.tag_v2.get(COMPRESSION, 1) in LOSSY_COMPRESSIONS
        case "WEBP":
            return b"VP8 " in _beginning(path)  # VP8L is its lossless kind
        case "JPEG2000":
            # Its COD marker: ten bytes on is the wavelet, 0 for the one that rounds.
            head = _beginning(path)
            wavelet = head.find(b"\xff\x52") + 13
            return head[wavelet : wavelet + 1] == b"\0"
        case _:
            return False


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 16)


def open_image(path: Path) -> Image.Image:
    """The image by its content, of the formats that are read: nothing that starts a program."""
    formats = (*FORMATS, *FORMATS_BY_SUFFIX.get(Path(path).suffix.lower(), ()))
    try:
        return Image.open(path, formats=formats)
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from None


def load_npy(path: Path, mmap_mode: str | None = None) -> np.ndarray:
    try:
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except Exception as error:  # a broken header raises errors of many types
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
    return InputError(f"{path} cannot be read as an image ({reason}): replace the file.")
