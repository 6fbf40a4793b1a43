"""Is a runtime the same function as PyTorch in fp32? The measure of the export's proof and of the
benchmark."""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from shared.condition import GREY_LEVEL, to_signed
from shared.contracts.exported import Parity
from shared.deployed.form import Feeds
from shared.deployed.runners import Runner, TorchRunner
from shared.deployed.synthesiser import Synthesiser, to_pixels
from shared.device import pick
from shared.errors import WorkFailed
from shared.quality import psnr_db

# A file rounds elsewhere than PyTorch in fp32, and may differ from it by some times what that
# differs from fp64: 0.5 to 2 were seen where a speck is all that a picture holds.
OWN_ROUNDING = 10


def prove_equal(
    step: str,
    runner: Runner,
    reference: TorchRunner,
    samples: dict[str, Feeds],
    limit: float,
    output: str,
) -> Parity:
    """`measure_parity` on the maps on which PyTorch itself is reproducible. Raises WorkFailed where
    the runtime computes something else.

    What is left out a line says: a map of which the network makes rounding into a picture, in every
    runtime another, tells nothing of a file.

    Args:
        step: Who says that line.
        output: Type of the pictures, see `Graph.output`.
    """
    parity = measure_parity(runner, reference, samples, limit)
    if passes(parity, output):
        return parity

    # Map by map: where is it too much, and is that PyTorch's own rounding?
    exact = in_float64(reference)
    kept = {}
    for name, sample in samples.items():
        one = measure_parity(runner, reference, {name: sample}, limit)
        if passes(one, output):
            kept[name] = sample
            continue
        own = measure_parity(exact, reference, {name: sample}, limit).max_abs_error
        apart = f"PyTorch's own fp32 and fp64 are {own:.1e} apart there"
        if not math.isfinite(one.max_abs_error):
            raise WorkFailed(f"the picture of map {name} is not finite: {describe(one)}; {apart}.")
        if one.max_abs_error > OWN_ROUNDING * own:
            raise WorkFailed(
                f"the file differs from the PyTorch model on map {name}: {describe(one)}; {apart}."
            )
        print(
            f"{step}: map {name} says nothing of the file and is left out: they are "
            f"{one.max_abs_error:.1e} apart, but {apart}",
            flush=True,
        )
    if not kept:
        raise WorkFailed(
            f"no map shows whether the file equals the PyTorch model: on each of {len(samples)} "
            f"{apart.removesuffix(' there')} or so, and the limit is {limit:g}."
        )
    return measure_parity(runner, reference, kept, limit)


class InFloat64(nn.Module):
    """A copy of a generator that computes in float64."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = copy.deepcopy(generator).cpu().double()

    def forward(self, x: Tensor) -> Tensor:
        return self.generator(x.double())


def in_float64(reference: TorchRunner) -> TorchRunner:
    """The same function in float64, on the CPU: an NPU has none."""
    of = reference.synthesiser
    exact = Synthesiser(InFloat64(of.generator), of.reads, of.style, of.graph)
    return TorchRunner(exact, pick("cpu", "fp32"))


def measure_parity(
    runner: Runner, reference: Runner, samples: dict[str, Feeds], limit: float
) -> Parity:
    """`runner` against `reference`, PyTorch in fp32, sample by sample.

    Args:
        samples: Batches of one, by the name of their map.
        limit: Largest difference of pictures in [-1, 1] that `passes`.
    """
    largest, means, cosines, psnrs = [], [], [], []
    for sample in samples.values():
        wanted, found = reference(sample)[0], runner(sample)[0]  # (output_nc, H, W)
        psnrs.append(psnr_db(to_pixels(found), to_pixels(wanted)))
        wanted, found = signed(wanted), signed(found)
        error = np.abs(found - wanted)
        largest.append(error.max())
        means.append(error.mean())
        lengths = np.sqrt((found**2).sum() * (wanted**2).sum())  # 0 of a picture in mid grey
        cosines.append((found * wanted).sum() / lengths if lengths else float(not error.any()))
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
    if parity.least_psnr_db:
        return parity.psnr_db >= parity.least_psnr_db
    return parity.max_abs_error <= parity.limit and (
        output != "uint8" or parity.mean_abs_error <= parity.limit - GREY_LEVEL
    )


def describe(parity: Parity) -> str:
    """The figures in one line, for people."""
    figures = f"max abs error {parity.max_abs_error:.2e}, mean {parity.mean_abs_error:.2e}, "
    figures += f"cosine {parity.cosine:.7f}, PSNR {parity.psnr_db:.1f} dB, "
    figures += limit_text(parity)
    where = f"{parity.runtime} on {parity.device}, {parity.precision}"
    return f"{where}: {figures}, on {parity.samples} samples"


def limit_text(parity: Parity) -> str:
    """What passes, in words."""
    if parity.least_psnr_db:
        return f"limit {parity.least_psnr_db:g} dB"
    return f"limit {parity.limit:g}"


def signed(picture: np.ndarray) -> np.ndarray:
    """A picture of either type as float64 in [-1, 1]."""
    if picture.dtype == np.uint8:
        picture = to_signed(torch.from_numpy(picture)).numpy()
    return picture.astype(np.float64)
