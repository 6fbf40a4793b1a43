"""TIFF by its tags: Pillow reads many kinds not at all, 16-bit colour as 8 bits, bands beyond
colour and signs not as what they are."""

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL.TiffImagePlugin import PREFIXES, ImageFileDirectory_v2

GREY_WHITE_IS_0, GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
COLOURS = {GREY_WHITE_IS_0: 1, GREY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
PREVIEW, PAGE, MASK = 1, 2, 4  # bits of NewSubfileType
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of an extra sample that is alpha
# JPEG in its two forms, JPEG 2000, LERC, WebP, JPEG XL
LOSSY_COMPRESSIONS = {6, 7, 33003, 33005, 34712, 34887, 34892, 50001, 50002, 52546}


@dataclass(frozen=True)
class Page:
    """What the tags of the first page say."""

    height: int
    width: int
    bits: int
    samples: int
    photometric: int
    numbers: int  # UNSIGNED, SIGNED or FLOAT
    extras: tuple[int, ...]  # what the samples beyond the colours are
    planar: bool  # a plane after the other
    compression: int
    orientation: int
    palette: np.ndarray | None  # (K, 3) uint8
    profile: bytes
    is_preview: bool
    several: bool  # more pages of their own follow

    @property
    def mode(self) -> str:
        """What Pillow calls such a picture, or "bands"."""
        if self.numbers == FLOAT:
            return "F"
        if self.photometric == PALETTE and self.samples == 1:
            return "P"
        if self.samples == 1:
            is_wide = self.bits > 16 or (self.numbers == SIGNED and self.bits > 8)
            return "I" if is_wide else {1: "1", 2: "L", 4: "L", 8: "L"}.get(self.bits, "I;16")
        if self.photometric == RGB and self.samples == 3:
            return "RGB"
        if self.alpha:
            return "RGBA" if self.photometric == RGB else "LA"
        return "bands"

    @property
    def alpha(self) -> int:
        """PREMULTIPLIED, STRAIGHT, or 0 where no sample is alpha. A fourth sample of RGB that no
        tag explains is taken for alpha, as Pillow does: old programs left the tag out."""
        if self.photometric == RGB and self.samples == 4 and not self.extras:
            return STRAIGHT
        is_last = self.samples == COLOURS.get(self.photometric, 0) + 1 and len(self.extras) == 1
        return self.extras[0] if is_last and self.extras[0] in (PREMULTIPLIED, STRAIGHT) else 0


def is_tiff(beginning: bytes) -> bool:
    return beginning.startswith(tuple(PREFIXES))


ONE_NUMBER = (254, 256, 257, 259, 262, 274, 277, 284)  # tags that have one each


def read_page(file: BinaryIO) -> Page:
    """The tags of a file's first page, of which nothing is decoded. Raises ValueError, SyntaxError
    or their like for what is no TIFF."""
    # Every page points to the next. Smaller versions and masks of the first are no pages.
    file.seek(0)
    head = file.read(8)
    tags = ImageFileDirectory_v2(head + (file.read(8) if 43 in head[2:4] else b""))
    seen, first, several = set(), {}, False
    while tags.next and tags.next not in seen and not several:
        seen.add(tags.next)
        file.seek(tags.next)
        tags.load(file)
        if first:
            kind = tags.get(254, 0) & (PREVIEW | MASK) or tags.get(255) == 2
            several = not kind
        else:
            first = dict(tags)

    if not all(isinstance(first.get(tag, 0), int) for tag in ONE_NUMBER):
        raise ValueError("a tag holds something else than a number")

    _refuse_missing_parts(first)

    # One value for all samples: others mean a mixture that nothing reads.
    samples = first.get(277, 1)
    bits, numbers = (_one_of(first.get(tag, default)) for tag, default in ((258, 1), (339, 1)))
    photometric = first.get(262, GREY_WHITE_IS_0)
    return Page(
        height=first[257],
        width=first[256],
        bits=bits,
        samples=samples,
        photometric=photometric,
        numbers=numbers,
        extras=tuple(np.atleast_1d(first.get(338, ())).tolist()),
        planar=first.get(284, 1) == 2 and samples > 1,
        compression=first.get(259, 1),
        orientation=first.get(274, 1),
        palette=_palette(first.get(320, ())) if photometric == PALETTE else None,
        profile=bytes(first.get(34675, b"")),
        is_preview=bool(first.get(254, 0) & PREVIEW),
        several=several,
    )


def _refuse_missing_parts(tags: dict[int, Any]) -> None:
    """Raises ValueError where a page tells of fewer strips or tiles than its picture has: Pillow
    would leave black what it does not find."""
    height, width, planes = tags[257], tags[256], tags.get(277, 1) if tags.get(284) == 2 else 1
    places, rows, columns = tags.get(273), tags.get(278, height), width
    if 324 in tags:
        places, rows, columns = tags[324], tags[323], tags[322]
    if places is None:  # in the old form of JPEG they may stand elsewhere
        return
    needed = math.ceil(height / max(rows, 1)) * math.ceil(width / max(columns, 1)) * planes
    if np.size(places) < needed:
        raise ValueError(f"{np.size(places)} of {needed} parts are there")


def _one_of(values: int | tuple[int, ...]) -> int:
    found = set(np.atleast_1d(values).tolist())
    if len(found) != 1:
        raise ValueError("its samples are of several kinds")
    return found.pop()


def _palette(colours: tuple[int, ...]) -> np.ndarray:
    """All red, then all green, then all blue, of 16 bits -> (K, 3) uint8."""
    return (np.array(colours).reshape(3, -1).T // 256).astype(np.uint8)


def decodes(page: Page) -> bool:
    """Whether `decode` knows it; Pillow knows the others, whose numbers are no grey and no RGB."""
    jpeg_of_ycbcr = page.photometric == YCBCR or page.compression == 6
    return page.photometric in (GREY_WHITE_IS_0, GREY, RGB, PALETTE) and not jpeg_of_ycbcr


def decode(content: bytes, page: Page) -> np.ndarray:
    """(H, W) or (H, W, samples) as stored, of any type of number."""
    stored = imagecodecs.tiff_decode(content, index=0)
    if page.planar:
        stored = np.stack(list(stored), axis=-1)
    expected = (page.height, page.width, page.samples)[: 2 + (page.samples > 1)]
    if stored.shape != expected:
        raise ValueError(f"holds {stored.shape} where its tags say {expected}")
    return stored.astype(np.uint8) if stored.dtype == bool else stored
