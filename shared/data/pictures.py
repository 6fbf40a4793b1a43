"""Integer maps and pictures side by side, for people."""

import numpy as np

# Cityscapes' own colours of the labels 0..34.
CITYSCAPES = np.array(
    [
        (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0),
        (111, 74, 0), (81, 0, 81), (128, 64, 128), (244, 35, 232), (250, 170, 160),
        (230, 150, 140), (70, 70, 70), (102, 102, 156), (190, 153, 153), (180, 165, 180),
        (150, 100, 100), (150, 120, 90), (153, 153, 153), (153, 153, 153), (250, 170, 30),
        (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 90),
        (0, 0, 110), (0, 80, 100), (0, 0, 230), (119, 11, 32), (0, 0, 142),
    ],
    np.uint8,
)  # fmt: skip


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """(H, W) label ids 0..255 -> (3, H, W) uint8: Cityscapes' colours, well spread hues for ids
    above 34."""
    ids = np.arange(256, dtype=np.uint32)
    spread = np.stack([ids * 67 + 29, ids * 151 + 83, ids * 211 + 7], axis=1).astype(np.uint8)
    colours = np.concatenate([CITYSCAPES, spread[len(CITYSCAPES) :]])  # (256, 3)
    return colours.T[:, labels]


def show_inputs(inputs: np.ndarray, num_labels: int) -> np.ndarray:
    """Label ids (H, W), or where num_labels is 0 a picture (C, H, W) uint8 -> (3, H, W) uint8."""
    if num_labels:
        return colour_labels(inputs)
    return inputs[:3] if len(inputs) >= 3 else inputs[:1].repeat(3, axis=0)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """(3, H, W) uint8 pictures of one size -> one row."""
    return np.concatenate(pictures, axis=2)
