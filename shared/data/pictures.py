"""Integer maps and pictures side by side, for people."""

import numpy as np


def show_inputs(inputs: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Label ids (H, W), or a picture (C, H, W) uint8 -> (3, H, W) uint8.

    colours: (256, 3) uint8, of every label id."""
    if inputs.ndim == 2:
        return colours.T[:, inputs]
    return inputs[:3] if len(inputs) >= 3 else inputs[:1].repeat(3, axis=0)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """(3, H, W) uint8 pictures of one size -> one row."""
    return np.concatenate(pictures, axis=2)
