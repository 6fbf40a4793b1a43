"""Colours as a file means them -> sRGB, as screens show them."""

import io
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# x and y of white, red, green and blue.
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
DISPLAY_P3 = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
BT_2020 = (0.3127, 0.3290, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
ADOBE_GAMMA = 563 / 256
# How white is adapted to another white (Bradford).
CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# What rounding alone may change: profiles of sRGB come in many versions.
SAME_LEVELS = 2
CLOSE_GAMMA, CLOSE_XY = 0.05, 0.005  # PNG's 1/2.2 stands for sRGB's curve
INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE


@dataclass(frozen=True)
class ColourSpace:
    """What the numbers of a picture mean, where that is not sRGB. A profile goes before the
    rest."""

    profile: bytes = b""  # ICC
    gamma: float | None = None  # light = number ** gamma; None: by sRGB's curve
    primaries: tuple[float, ...] = SRGB

    @property
    def is_srgb(self) -> bool:
        near = np.abs(np.subtract(self.primaries, SRGB)).max() < CLOSE_XY
        return not self.profile and near and self.gamma is None

    @classmethod
    def of_png(cls, gamma: float | None, primaries: tuple[float, ...] | None) -> "ColourSpace":
        """By its chunks gAMA, the exponent of its encoding, and cHRM."""
        exponent = 1 / gamma if gamma else None
        space = cls(primaries=primaries or SRGB)
        is_usual = exponent and abs(exponent - 2.2) < CLOSE_GAMMA * 2.2
        return space if is_usual and space.is_srgb else replace(space, gamma=exponent)

    @classmethod
    def of_code_points(cls, primaries: int, transfer: int) -> "ColourSpace | None":
        """By the numbers of ITU-T H.273; None for those that no 8 bits of sRGB can show (HDR)."""
        known = {1: SRGB, 2: SRGB, 9: BT_2020, 12: DISPLAY_P3}
        # Of video and sRGB, gamma 2.2, gamma 2.8, linear.
        curves = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
        if primaries not in known or transfer not in curves:
            return None
        return cls(gamma=curves[transfer], primaries=known[primaries])


def to_srgb(colours: np.ndarray, space: ColourSpace) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 -> the same in sRGB; a profile of grey gives (H, W, 3).

    A profile that is broken, or of another kind of picture, changes nothing: no viewer shows it
    otherwise."""
    if space.profile:
        if colours.ndim == 2:
            table = _table_of_greys(space.profile)
            return colours if table is None else table[colours]
        transform = _transform(space.profile, "RGB")
        return (
            colours if transform is None else np.asarray(transform.apply(Image.fromarray(colours)))
        )
    if space.is_srgb:
        return colours

    # Numbers -> light -> light of sRGB's primaries -> numbers.
    levels = np.arange(256) / 255
    light = _light_of_srgb(levels) if space.gamma is None else levels**space.gamma
    light = light.astype(np.float32)[colours]
    if colours.ndim == 3:
        to_srgb_light = (
            np.linalg.inv(_to_xyz(SRGB)) @ _adapt(space.primaries) @ _to_xyz(space.primaries)
        )
        light = (light @ to_srgb_light.T.astype(np.float32)).clip(0, 1)
    numbers = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * numbers).round().astype(np.uint8)


def cmyk_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An RGB picture: by the profile, else as ink that mixes ideally."""
    transform = _transform(profile, "CMYK") if profile else None
    return image.convert("RGB") if transform is None else transform.apply(image)


def _light_of_srgb(numbers: np.ndarray) -> np.ndarray:
    return np.where(numbers <= 0.04045, numbers / 12.92, ((numbers + 0.055) / 1.055) ** 2.4)


def _white(xy: tuple[float, ...]) -> np.ndarray:
    return np.array([xy[0] / xy[1], 1, (1 - xy[0] - xy[1]) / xy[1]])


def _to_xyz(primaries: tuple[float, ...]) -> np.ndarray:
    """The matrix from light of these primaries to XYZ."""
    columns = [[x, y, 1 - x - y] for x, y in zip(primaries[2::2], primaries[3::2], strict=True)]
    matrix = np.array(columns).T
    return matrix * np.linalg.solve(matrix, _white(primaries))


def _adapt(primaries: tuple[float, ...]) -> np.ndarray:
    """The matrix that makes their white that of sRGB."""
    scale = (CONES @ _white(SRGB)) / (CONES @ _white(primaries))
    return np.linalg.inv(CONES) @ np.diag(scale) @ CONES


@lru_cache(maxsize=32)
def _transform(
    profile: bytes, mode: str, flags: ImageCms.Flags = FLAGS
) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where it changes nothing, is broken or of another mode."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", INTENT, flags)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    if mode != "RGB":
        return transform

    # Tried on 17 levels of each colour.
    steps = np.linspace(0, 255, 17).round().astype(np.uint8)
    tried = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, -1, 3)
    found = np.asarray(transform.apply(Image.fromarray(tried)))
    return None if np.abs(found.astype(int) - tried).max() <= SAME_LEVELS else transform


@lru_cache(maxsize=32)
def _table_of_greys(profile: bytes) -> np.ndarray | None:
    """(256, 3) uint8; None where the profile changes nothing, or is broken. A profile of colour on
    a grey picture: its greys are those colours."""
    greys = np.arange(256, dtype=np.uint8)[None]  # (1, 256)
    # Without its shortcut, which is 10 levels off where dark numbers mean much light.
    transform = _transform(profile, "L", FLAGS | ImageCms.Flags.NOOPTIMIZE)
    if transform is None:
        transform, greys = _transform(profile, "RGB"), np.dstack([greys] * 3)
    if transform is None:
        return None
    table = np.asarray(transform.apply(Image.fromarray(greys)))[0]
    is_same = np.abs(table.astype(int) - np.arange(256)[:, None]).max() <= SAME_LEVELS
    return None if is_same else table
