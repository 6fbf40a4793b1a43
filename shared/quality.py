"""How close a synthesised picture is to the photograph, on uint8 pictures (H, W, 3)."""

import numpy as np
from skimage.metrics import structural_similarity

BEST_PSNR_DB = 100.0  # of identical pictures, whose ratio would be infinite


def psnr_db(picture: np.ndarray, photo: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / mean squared error over all pixels and channels), in dB."""
    error = np.mean((picture.astype(np.float64) - photo) ** 2)
    return min(BEST_PSNR_DB, float(10 * np.log10(255**2 / error))) if error else BEST_PSNR_DB


def ssim(picture: np.ndarray, photo: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): 7x7 windows, mean over pixels and channels; 1 = identical."""
    return float(structural_similarity(picture, photo, channel_axis=2, data_range=255))
