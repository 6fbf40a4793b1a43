"""Files <-> integer arrays. Ids stay integers; what a file format cannot hold is refused, never wrapped."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from shared.contracts import write_atomically
from shared.errors import InputError


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image ({error}): replace the file.") from None


def read_photo(path: Path) -> np.ndarray:
    """(H, W, 3) uint8; grey, palette and alpha pictures are converted to RGB."""
    return np.asarray(_open(path).convert("RGB"))


def read_ids(path: Path) -> np.ndarray:
    """(H, W) uint8, uint16 or int32: label or instance ids as stored, 16-bit ids above 32767 included."""
    image = _open(path)
    if image.mode not in ("L", "P", "I;16", "I;16B", "I"):
        raise InputError(
            f"{path} is a {image.mode} picture, not a map of ids: give one grey or palette channel of 8 or 16 bits."
        )
    ids = np.asarray(image)
    return ids.astype(ids.dtype.newbyteorder("="), copy=False)


def write_photo(path: Path, photo: np.ndarray) -> None:
    """(H, W, 3) or (H, W) uint8 -> file; the format follows the suffix."""
    assert photo.dtype == np.uint8, photo.dtype
    _write(path, Image.fromarray(photo))


def write_ids(path: Path, ids: np.ndarray) -> None:
    """(H, W) integers 0..65535 -> PNG of 8 bits where they fit, else 16."""
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high > 65535:
        raise InputError(f"{path}: ids {low}..{high} do not fit a 16-bit PNG (0..65535): renumber them.")
    _write(path, Image.fromarray(ids.astype(np.uint8 if high < 256 else np.uint16)))


def _write(path: Path, image: Image.Image) -> None:
    buffer = io.BytesIO()
    image.save(buffer, format=Image.registered_extensions()[path.suffix.lower()], compress_level=1)
    write_atomically(path, buffer.getvalue())


def resize_photo(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bicubic with its antialiasing, as the reference resamples photographs."""
    if photo.shape[:2] == (height, width):
        return photo
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def resize_ids(ids: np.ndarray, height: int, width: int) -> np.ndarray:
    """Nearest neighbour at pixel centres, as Pillow's NEAREST: ids are picked, never mixed."""
    if ids.shape == (height, width):
        return ids
    rows = ((np.arange(height) + 0.5) * ids.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * ids.shape[1] / width).astype(np.intp)
    return ids[rows[:, None], columns]
