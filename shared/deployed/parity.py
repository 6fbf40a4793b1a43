"""Is a runtime the same function as PyTorch in fp32? The measure of the export's proof and of the
benchmark."""

import numpy as np
import torch

from shared.condition import GREY_LEVEL, to_signed
from shared.contracts.exported import Parity
from shared.deployed.form import Feeds
from shared.deployed.runners import Runner
from shared.deployed.synthesiser import to_pixels
from shared.quality import psnr_db


def measure_parity(runner: Runner, reference: Runner, samples: list[Feeds], limit: float) -> Parity:
    """`runner` against `reference`, PyTorch in fp32, sample by sample.

    Args:
        samples: Batches of one.
        limit: Largest difference of pictures in [-1, 1] that `passes`.
    """
    largest, means, cosines, psnrs = [], [], [], []
    for sample in samples:
        wanted, found = reference(sample)[0], runner(sample)[0]  # (output_nc, H, W)
        psnrs.append(psnr_db(to_pixels(found), to_pixels(wanted)))
        wanted, found = signed(wanted), signed(found)
        error = np.abs(found - wanted)
        largest.append(error.max())
        means.append(error.mean())
        cosines.append((found * wanted).sum() / np.sqrt((found**2).sum() * (wanted**2).sum()))
    return Parity(
        runtime=runner.name,
        device=runner.device,
        precision=runner.precision,
        samples=len(samples),
        max_abs_error=float(np.max(largest)),
        mean_abs_error=float(np.mean(means)),
        cosine=float(np.min(cosines)),
        psnr_db=float(np.min(psnrs)),
        limit=limit,
    )


def largest_difference(limit: float, output: str) -> float:
    """The limit for pictures of this type, where float ones have `limit`.

    Of pictures that are rounded to uint8 single pixels may fall to the other side: one grey level.
    """
    return limit + GREY_LEVEL if output == "uint8" else limit


def passes(parity: Parity, output: str) -> bool:
    """Whether the differences are within the limit; nan is not.

    As many pixels fall to the other side as the difference before rounding was large: the mean has
    the float limit."""
    return parity.max_abs_error <= parity.limit and (
        output != "uint8" or parity.mean_abs_error <= parity.limit - GREY_LEVEL
    )


def describe(parity: Parity) -> str:
    """The figures in one line, for people."""
    figures = f"max abs error {parity.max_abs_error:.2e}, mean {parity.mean_abs_error:.2e}, "
    figures += f"cosine {parity.cosine:.7f}, PSNR {parity.psnr_db:.1f} dB, limit {parity.limit:g}"
    where = f"{parity.runtime} on {parity.device}, {parity.precision}"
    return f"{where}: {figures}, on {parity.samples} samples"


def signed(picture: np.ndarray) -> np.ndarray:
    """A picture of either type as float64 in [-1, 1]."""
    if picture.dtype == np.uint8:
        picture = to_signed(torch.from_numpy(picture)).numpy()
    return picture.astype(np.float64)
