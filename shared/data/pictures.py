"""Integer maps and pictures side by side, for people."""

import numpy as np


def show_inputs(inputs: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Label ids (H, W), or a picture (C, H, W) uint8 -> (3, H, W) uint8.

    colours: (256, 3) uint8, of every label id."""
    if inputs.ndim == 2:
        return colours.T[:, inputs]
    return to_rgb(inputs)


def to_rgb(picture: np.ndarray) -> np.ndarray:
    """(C, H, W) uint8 -> (3, H, W): its first three channels, or three times its first."""
    return picture[:3] if len(picture) >= 3 else picture[:1].repeat(3, axis=0)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures (C, H, W) uint8 of one size -> one row, (3, H, W)."""
    return np.concatenate([to_rgb(picture) for picture in pictures], axis=2)
