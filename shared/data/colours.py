"""Label maps by colour: what stands for which label, as people's tools write it.

Colours are single numbers, 0xAABBGGRR, as `images.read_colours` gives them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shared.contracts.labels import IGNORED, Label
from shared.errors import InputError

OPAQUE = 0xFF  # alpha of a pixel that hides all below it
UNKNOWN = -1
Colour = tuple[int, int, int]  # red, green and blue, 0..255
MOST_DESCRIBED = 8  # colours without label; the others are counted
AT_ONCE = 1 << 14  # colours that are compared with the table at a time


def to_levels(codes: np.ndarray) -> np.ndarray:
    """(K,) colours -> (K, 3) levels of red, green and blue."""
    return np.stack([codes & 0xFF, codes >> 8 & 0xFF, codes >> 16 & 0xFF], axis=-1)


def describe(code: int) -> str:
    """A colour in words for people, as in a file of labels."""
    levels, alpha = str(to_levels(np.array([code]))[0].tolist()), int(code) >> 24
    return levels if alpha == OPAQUE else f"{levels} under alpha {alpha}"


def of_other_label(
    meant: Iterable[tuple[int, Colour]], labels: Iterable[Label]
) -> tuple[int, Colour, Label] | None:
    """The first label that is given with a colour which others have, but not it, and one of those;
    None where there is none."""
    by_colour: dict[Colour, dict[int, Label]] = {}
    for label in labels:
        by_colour.setdefault(label.colour, {})[label.id] = label
    for label, colour in meant:
        owners = by_colour.get(colour)
        if owners and label not in owners:
            return label, colour, next(iter(owners.values()))
    return None


def says_colours(palette: np.ndarray | None) -> bool:
    """Whether a palette (K, 3) says more than that numbers are greys, as tools write where there is
    none."""
    return palette is not None and bool((palette != np.arange(len(palette))[:, None]).any())


@dataclass(frozen=True)
class Runs:
    """Pixels in reading order as runs of one colour: maps have few, so that all that follows is
    fast."""

    codes: np.ndarray  # (K,) uint32, the distinct colours
    pixels: np.ndarray  # (K,) int64, how many of each
    positions: np.ndarray  # (R,) of each run, in `codes`
    lengths: np.ndarray  # (R,) of each run, in pixels

    @classmethod
    def of(cls, pixels: np.ndarray) -> "Runs":
        """Find the runs of a map (H, W) uint32."""
        flat = pixels.ravel()
        starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        lengths = np.diff(starts, append=flat.size)
        codes, positions = np.unique(flat[starts], return_inverse=True)
        counts = np.bincount(positions, lengths, len(codes)).astype(np.int64)
        return cls(codes, counts, positions, lengths)


@dataclass(frozen=True)
class ColourTable:
    """The label of each colour."""

    levels: np.ndarray  # (N, 3) int16, red, green and blue
    labels: np.ndarray  # (N,) int16
    tolerance: int  # grey levels that each channel may be off
    transparent_label: int  # of pixels of alpha 0; UNKNOWN: they have none

    @classmethod
    def of(cls, labels: Iterable[Label], tolerance: int, transparent_label: int) -> "ColourTable":
        """Make the table. Raises InputError where a colour may mean two labels."""
        table = sorted(labels, key=lambda label: label.id)
        levels = np.array([label.colour for label in table], np.int16).reshape(-1, 3)
        ids = np.array([label.id for label in table], np.int16)

        # How far any two of different labels are apart, in the channel that tells them best.
        apart = np.abs(levels[:, None] - levels).max(axis=2)  # (N, N)
        apart[ids[:, None] == ids] = 256
        if len(table) and apart.min() <= 2 * tolerance:
            first, second = (table[i] for i in np.unravel_index(apart.argmin(), apart.shape))
            both = f"labels {first.id} ({first.name}) and {second.id} ({second.name})"
            if not apart.min():
                raise InputError(
                    f"--labels: {both} both have colour {list(first.colour)}, but label maps are "
                    "read by colour: give each its own, or both id 255 (ignored)."
                )
            raise InputError(
                f"--colour-tolerance {tolerance}: a colour may be within it of both {both}, which "
                f"are {apart.min()} apart: give {(apart.min() - 1) // 2} or less."
            )
        return cls(levels, ids, tolerance, transparent_label)

    def translate(self, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """(H, W) colours -> (H, W) uint8 labels, and in words the colours without label, which
        become IGNORED, the commonest first, with their shares of the pixels.

        Pixels of alpha 0 have `transparent_label`; those that shine through in part have none."""
        runs = Runs.of(pixels)
        found = self.labels_of(runs.codes)
        is_unknown = found == UNKNOWN
        labels = np.where(is_unknown, IGNORED, found).astype(np.uint8)[runs.positions]
        order = np.argsort(-runs.pixels[is_unknown], kind="stable")
        codes = runs.codes[is_unknown][order]
        shares = runs.pixels[is_unknown][order] / pixels.size
        words = map(describe, codes[:MOST_DESCRIBED].tolist())
        unknown = dict(zip(words, shares[:MOST_DESCRIBED].tolist(), strict=True))
        if (more := len(codes) - MOST_DESCRIBED) > 0:
            unknown[f"{more} more colours"] = float(shares[MOST_DESCRIBED:].sum())
        return np.repeat(labels, runs.lengths).reshape(pixels.shape), unknown

    def labels_of(self, codes: np.ndarray) -> np.ndarray:
        """(K,) colours with alpha -> (K,) int16 labels, UNKNOWN where there is none."""
        labels = np.full(len(codes), UNKNOWN, np.int16)
        for start in range(0, len(codes) if len(self.labels) else 0, AT_ONCE):
            some = to_levels(codes[start : start + AT_ONCE]).astype(np.int16)
            off = np.abs(some[:, None] - self.levels).max(axis=2)  # (K, N)
            nearest = off.argmin(axis=1)
            within = off.min(axis=1) <= self.tolerance
            labels[start : start + AT_ONCE][within] = self.labels[nearest[within]]
        alpha = codes >> 24
        labels[alpha < OPAQUE] = UNKNOWN
        labels[alpha == 0] = self.transparent_label
        return labels
