"""Maps of ids that were resized with antialiasing, where that can be seen."""

import numpy as np

MOST_BINS = 1 << 16
# Of an id that antialiasing invents: it fills no square of 2x2 pixels, and this share of its pixels
# or more is a step between a lower and a higher neighbour.
STEPS = 0.75
FEWEST = 6  # such ids that make it sure, and
FEWEST_PIXELS, MOST_PIXELS = 0.0005, 0.3  # their share of the map


def invented_ids(ids: np.ndarray) -> np.ndarray:
    """Ids of a map (H, W) that lie nowhere but along edges, as steps from one region to the next;
    [] where it is not sure that they were made by a resize."""
    none = np.zeros(0, ids.dtype)
    if ids.dtype not in (np.uint8, np.uint16) or min(ids.shape) < 3:
        return none

    # Pixels of each id, and those of them that are steps.
    middle = ids[1:-1, 1:-1]
    up, down, left, right = ids[:-2, 1:-1], ids[2:, 1:-1], ids[1:-1, :-2], ids[1:-1, 2:]
    steps = ((left < middle) & (middle < right)) | ((left > middle) & (middle > right))
    steps |= ((up < middle) & (middle < down)) | ((up > middle) & (middle > down))
    stepping = np.bincount(middle[steps], minlength=MOST_BINS)
    candidates = np.flatnonzero(stepping)
    if len(candidates) < FEWEST:
        return none
    pixels = np.bincount(middle.ravel(), minlength=MOST_BINS)

    # Those that fill a square are regions of their own.
    squares = (ids[:-1, :-1] == ids[1:, 1:]) & (ids[:-1, :-1] == ids[1:, :-1])
    squares &= ids[:-1, :-1] == ids[:-1, 1:]
    is_region = np.zeros(MOST_BINS, bool)
    is_region[ids[:-1, :-1][squares]] = True
    steps_only = stepping[candidates] >= STEPS * pixels[candidates]
    invented = candidates[steps_only & ~is_region[candidates]]
    share = pixels[invented].sum() / ids.size
    sure = len(invented) >= FEWEST and FEWEST_PIXELS <= share <= MOST_PIXELS
    return invented.astype(ids.dtype) if sure else none
