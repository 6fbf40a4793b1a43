"""Whether a runtime computes the same: figures of known differences, and what passes."""

import math

import numpy as np
import pytest

from shared.condition import GREY_LEVEL
from shared.contracts.exported import Parity
from shared.deployed.parity import largest_difference, measure_parity, passes


class Constant:
    """A runtime whose pictures are of one value, with one pixel off."""

    name, device, precision, batch_size = "a runtime", "cpu", "fp32", None

    def __init__(self, value: float, off: float = 0.0, dtype=np.float32):
        self.picture = np.full((1, 3, 4, 5), value, dtype)
        self.picture[0, 0, 0, 0] += off

    def __call__(self, feeds):
        return self.picture


def test_figures_of_one_wrong_pixel():
    parity = measure_parity(Constant(0.5, off=0.25), Constant(0.5), [{}, {}], limit=0.3)
    assert (parity.runtime, parity.samples, parity.limit) == ("a runtime", 2, 0.3)
    assert parity.max_abs_error == pytest.approx(0.25)
    assert parity.mean_abs_error == pytest.approx(0.25 / 60)
    dot, found, wanted = 59 * 0.25 + 0.5 * 0.75, 59 * 0.25 + 0.75**2, 60 * 0.25
    assert parity.cosine == pytest.approx(dot / math.sqrt(found * wanted))
    levels = 223 - 191  # of 0.75 and 0.5, rounded
    assert parity.psnr_db == pytest.approx(10 * math.log10(255**2 / (levels**2 / 60)))


def test_uint8_pictures_are_measured_in_the_same_unit():
    found, wanted = Constant(100, off=1, dtype=np.uint8), Constant(100, dtype=np.uint8)
    parity = measure_parity(found, wanted, [{}], limit=1e-4)
    assert parity.max_abs_error == pytest.approx(GREY_LEVEL)


def figures(largest: float, mean: float = 0.0, output: str = "float") -> Parity:
    names = dict(
        runtime="onnxruntime", device="cpu", precision="fp32", samples=1, cosine=1, psnr_db=100
    )
    return Parity(
        max_abs_error=largest, mean_abs_error=mean, limit=largest_difference(1e-4, output), **names
    )


def test_what_passes():
    assert passes(figures(1e-4), "float") and not passes(figures(1.1e-4), "float")
    assert not passes(figures(math.nan), "float") and not passes(
        figures(math.nan, output="uint8"), "uint8"
    )
    assert passes(figures(GREY_LEVEL, 0.9e-4, "uint8"), "uint8"), (
        "single pixels on the border between two levels"
    )
    assert not passes(figures(GREY_LEVEL, 2e-4, "uint8"), "uint8")
    assert not passes(figures(2 * GREY_LEVEL, output="uint8"), "uint8")
