"""Raw files for the tests of prepare."""

import numpy as np
from PIL import Image


def save(path, pixels):
    """Write a file by Pillow, or by NumPy for .npy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels) if path.suffix == ".npy" else Image.fromarray(pixels).save(path)


def load(path):
    return np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))


def noise(seed, *shape, high=256, dtype=np.uint8):
    """Random whole numbers of 0 .. high - 1."""
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)
