"""The quality of several synthesised pictures as one record."""

import numpy as np

from shared.contracts import Quality


def mean_quality(figures: list[tuple[float, float]]) -> Quality:
    """figures: (PSNR in dB, SSIM) of each pair."""
    if not figures:
        return Quality(pairs=0, psnr_db=None, ssim=None)
    psnr, similarity = np.mean(figures, axis=0)
    return Quality(pairs=len(figures), psnr_db=float(psnr), ssim=float(similarity))
