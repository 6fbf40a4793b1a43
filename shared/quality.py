"""How close synthesised pictures are to photographs: the figures of quality, and their table.

A new figure is a row of METRICS at the end of this file and a field of `Quality` in
`contracts/measured.py`. One of a new measuring network takes that network (`scorers/`) and its
flag as well."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from skimage.metrics import structural_similarity

BEST_PSNR_DB = 100.0  # of identical pictures, whose ratio would be infinite
WINDOW = 7  # side of SSIM's, in pixels
# Rows of a block of the kernel's matrix: whole it would be as large as the square of the pictures.
KERNEL_ROWS = 1024


# Of a pair of pictures, uint8 (1 or 3, H, W).


def psnr_db(picture: np.ndarray, photo: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared error over pixels and
    channels)."""
    error = np.mean((picture.astype(np.float64) - photo) ** 2)
    return min(BEST_PSNR_DB, float(10 * np.log10(255**2 / error))) if error else BEST_PSNR_DB


def ssim(picture: np.ndarray, photo: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): 7x7 windows, mean over pixels and channels; 1 =
    identical. A side of less is mirrored to 7."""
    short = [(0, 0), *((0, max(0, WINDOW - side)) for side in picture.shape[1:])]
    picture, photo = (np.pad(one, short, "symmetric") for one in (picture, photo))
    return float(
        structural_similarity(picture, photo, win_size=WINDOW, channel_axis=0, data_range=255)
    )


def l1(picture: np.ndarray, photo: np.ndarray) -> float:
    """Mean absolute difference over pixels and channels, of pictures in [0, 1]."""
    return float(np.abs(picture.astype(np.int16) - photo).mean() / 255)


# Of two sets of features (N, C), of the synthesised pictures and of the photos.


def frechet_distance(features: np.ndarray, real: np.ndarray) -> float:
    """Frechet distance of two sets, N >= 2, as Gaussians (FID, Heusel et al. 2017).

    |mean - mean'|^2 + tr(S + S' - 2 (S S')^(1/2)), covariances over N - 1. With S = A^T A and
    S' = B^T B the root's trace is the sum of the singular values of A B^T: exact also of fewer
    pictures than channels, where a matrix root is only near."""
    (mean, a), (real_mean, b) = _gaussian(features), _gaussian(real)
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return max(0.0, float(((mean - real_mean) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * root))


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (C,), and A (min(N, C), C) of which A^T A is the covariance."""
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    return mean, np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1)


def kernel_distance(features: np.ndarray, real: np.ndarray) -> float:
    """Squared maximum mean discrepancy of two sets, N >= 2 (KID, Binkowski 2018).

    The kernel is (x.y / C + 1)^3. This is the unbiased estimate over all pairs of pictures, where
    other programs average it over random subsets."""
    x, y = features.astype(np.float64), real.astype(np.float64)
    between = _kernel_sum(x, y) / (len(x) * len(y))
    return _kernel_mean_without_self(x) + _kernel_mean_without_self(y) - 2 * between


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    """The kernel summed over all pairs of a row of x and a row of y, block by block."""
    rows = range(0, len(x), KERNEL_ROWS)
    return sum(float(((x[i : i + KERNEL_ROWS] @ y.T / x.shape[1] + 1) ** 3).sum()) for i in rows)


def _kernel_mean_without_self(x: np.ndarray) -> float:
    """Its mean over all pairs of two different rows."""
    with_self = float((((x * x).sum(axis=1) / x.shape[1] + 1) ** 3).sum())
    return (_kernel_sum(x, x) - with_self) / (len(x) * (len(x) - 1))


# Of a confusion matrix (labels, labels + 1) of one pixel or more: pixels by true label and found
# label, the last column for those in which no label was found.


def mean_iou(confusion: np.ndarray) -> float:
    """Intersection / union of each label, mean over the labels that occur."""
    hits = np.diag(confusion)
    true, found = confusion.sum(axis=1), confusion.sum(axis=0)[:-1]
    occurs = true > 0
    iou = hits / np.maximum(true + found - hits, 1)
    return float(iou[occurs].mean())


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Share of the pixels whose label is found again."""
    return float(np.trace(confusion) / confusion.sum())


# The table.


@dataclass(frozen=True)
class Metric:
    """A figure of quality: where it comes from, and how people read it.

    Args:
        name: Of the figure in `contracts.measured.Quality` and in MLflow.
        title: As the literature calls it.
        text: How a value is written, with its unit.
        better: Which direction is.
        network: The measuring network that it needs, see `scorers/`; "" for none.
        function: Takes (picture, photo) where no network is needed, else what the network made of
            all pairs: two sets of features, or a confusion matrix. None where the network itself
            gives the figure of a pair.
        how: How it is measured, for the report's method; "" where the network says it.
    """

    name: str
    title: str
    text: str
    better: Literal["higher", "lower"]
    network: Literal["", "lpips", "features", "segmentation"]
    function: Callable[..., float] | None
    how: str = ""


PSNR_HOW = "from the mean squared error over pixels and channels (100 dB = identical)"
METRICS = (
    Metric("psnr_db", "PSNR", "{:.2f} dB", "higher", "", psnr_db, PSNR_HOW),
    Metric("ssim", "SSIM", "{:.3f}", "higher", "", ssim, "with 7x7 windows"),
    Metric("l1", "L1", "{:.4f}", "lower", "", l1, "of pictures in [0, 1]"),
    Metric("lpips", "LPIPS", "{:.3f}", "lower", "lpips", None),
    Metric("fid", "FID", "{:.1f}", "lower", "features", frechet_distance),
    Metric("kid", "KID", "{:.4f}", "lower", "features", kernel_distance),
    Metric("miou", "mIoU", "{:.3f}", "higher", "segmentation", mean_iou),
    Metric("pixel_accuracy", "pixel accuracy", "{:.3f}", "higher", "segmentation", pixel_accuracy),
)  # in the order of every table and page


def metrics_of(network: str) -> list[Metric]:
    """The figures that this measuring network gives; of "", those that need none."""
    return [metric for metric in METRICS if metric.network == network]
