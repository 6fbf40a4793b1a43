"""How close synthesised pictures are to photographs: pair by pair on uint8 (H, W, 3), or as two
sets of features."""

import numpy as np
from skimage.metrics import structural_similarity

BEST_PSNR_DB = 100.0  # of identical pictures, whose ratio would be infinite
KERNEL_ROWS = (
    1024  # of a block of the kernel's matrix, which would be as large as the square of the pictures
)


def psnr_db(picture: np.ndarray, photo: np.ndarray) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / mean squared error over all pixels and
    channels), in dB."""
    error = np.mean((picture.astype(np.float64) - photo) ** 2)
    return min(BEST_PSNR_DB, float(10 * np.log10(255**2 / error))) if error else BEST_PSNR_DB


def ssim(picture: np.ndarray, photo: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): 7x7 windows, mean over pixels and channels; 1 =
    identical."""
    return float(structural_similarity(picture, photo, channel_axis=2, data_range=255))


def l1(picture: np.ndarray, photo: np.ndarray) -> float:
    """Mean absolute difference over pixels and channels, of pictures in [0, 1]."""
    return float(np.abs(picture.astype(np.int16) - photo).mean() / 255)


def frechet_distance(features: np.ndarray, real: np.ndarray) -> float:
    """Frechet distance of two sets (N, C), N >= 2, as Gaussians with covariances over N - 1 (FID,
    Heusel et al. 2017).

    |mean - mean'|^2 + tr(S + S' - 2 (S S')^(1/2)). With S = A^T A and S' = B^T B the root's trace
    is the sum of the singular values of A B^T: exact also of fewer pictures than channels, where a
    matrix root is only near."""
    (mean, a), (real_mean, b) = _gaussian(features), _gaussian(real)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(((mean - real_mean) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * root))


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (C,), and A (min(N, C), C) of which A^T A is the covariance."""
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    return mean, np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1)


def kernel_distance(features: np.ndarray, real: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two sets (N, C), N >= 2, with kernel (x.y / C + 1)^3
    (KID, Binkowski 2018).

    The unbiased estimate over all pairs of pictures, where other programs average it over random
    subsets."""
    x, y = features.astype(np.float64), real.astype(np.float64)
    between = _kernel_sum(x, y) / (len(x) * len(y))
    return _kernel_mean_without_self(x) + _kernel_mean_without_self(y) - 2 * between


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    rows = range(0, len(x), KERNEL_ROWS)
    return sum(float(((x[i : i + KERNEL_ROWS] @ y.T / x.shape[1] + 1) ** 3).sum()) for i in rows)


def _kernel_mean_without_self(x: np.ndarray) -> float:
    with_self = float((((x * x).sum(axis=1) / x.shape[1] + 1) ** 3).sum())
    return (_kernel_sum(x, x) - with_self) / (len(x) * (len(x) - 1))
