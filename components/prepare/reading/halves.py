"""Whether pictures look like two halves side by side, or like one picture each."""

import numpy as np

from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import Problem
from shared.data.images import read_picture, resize_picture
from shared.errors import InputError

SAMPLE_PICTURES = 8
SMALLEST = 32  # pixels of a half's sides: of less nothing can be said
COMPARED_SIZE = 64  # pixels of the sides at which halves are compared
# Where two pictures meet, brightness jumps more than beside it; two pictures of one scene have
# their outlines at the same places. Single photographs have neither.
SEAM, LIKENESS = 2.0, 0.1

REMEDY = (
    "say --layout side_by_side if each is a pair of halves, or give the folder that holds both the "
    "inputs and the photos"
)


def doubt_halves(pairs: list[RawPair]) -> list[Problem]:
    """The problem of pictures that were guessed to be two halves and do not look so."""
    seams, likenesses = [], []
    for pair in pairs[:SAMPLE_PICTURES]:
        try:
            grey = read_picture(pair.input, 1)[0].astype(np.float32)  # (H, W)
        except InputError:  # another check tells
            continue
        if min(grey.shape[0], grey.shape[1] // 2) >= SMALLEST:
            seams.append(_seam(grey))
            likenesses.append(_likeness(grey))
    if not seams or np.median(seams) > SEAM or np.median(likenesses) > LIKENESS:
        return []
    found = "looks like one picture, not like an input and a photo side by side"
    return [Problem("doubtful layout", pairs[0].input, found, REMEDY)]


def _seam(grey: np.ndarray) -> float:
    """How much more (H, W) brightness changes in its middle than beside it."""
    middle = grey.shape[1] // 2
    steps = np.abs(np.diff(grey[:, middle - 8 : middle + 8])).mean(axis=0)  # (15,), the 8th across
    return float(steps[7] / (np.median(np.delete(steps, 7)) + 0.5))


def _likeness(grey: np.ndarray) -> float:
    """Correlation of the outlines in the left and the right half of (H, W) brightness. What all of
    a row has in common does not count: skies are empty in all photographs."""
    middle = grey.shape[1] // 2
    outlines = []
    for half in (grey[:, :middle], grey[:, middle : 2 * middle]):
        small = resize_picture(half.astype(np.uint8)[None], COMPARED_SIZE, COMPARED_SIZE)[0]
        down, across = np.gradient(small.astype(np.float32))
        strength = np.hypot(down, across)
        outlines.append((strength - strength.mean(axis=1, keepdims=True)).ravel())
    left, right = outlines
    norm = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / norm) if norm else 0.0
