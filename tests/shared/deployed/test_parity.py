"""Whether a runtime computes the same: figures of known differences, and what passes."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from shared.condition import GREY_LEVEL
from shared.contracts.exported import Graph, Parity
from shared.deployed.parity import largest_difference, measure_parity, passes, prove_equal
from shared.deployed.runners import TorchRunner
from shared.deployed.synthesiser import Synthesiser
from shared.device import pick
from shared.errors import WorkFailed
from tests import tiny


class Constant:
    """A runtime whose pictures are of one value, with one pixel off."""

    name, device, precision, batch_size = "a runtime", "cpu", "fp32", None

    def __init__(self, value: float, off: float = 0.0, dtype=np.float32):
        self.picture = np.full((1, 3, 4, 5), value, dtype)
        self.picture[0, 0, 0, 0] += off

    def __call__(self, feeds):
        return self.picture


def test_figures_of_one_wrong_pixel():
    parity = measure_parity(Constant(0.5, off=0.25), Constant(0.5), {"a": {}, "b": {}}, limit=0.3)
    assert (parity.runtime, parity.samples, parity.limit) == ("a runtime", 2, 0.3)
    assert parity.max_abs_error == pytest.approx(0.25)
    assert parity.mean_abs_error == pytest.approx(0.25 / 60)
    dot, found, wanted = 59 * 0.25 + 0.5 * 0.75, 59 * 0.25 + 0.75**2, 60 * 0.25
    assert parity.cosine == pytest.approx(dot / math.sqrt(found * wanted))
    levels = 223 - 191  # of 0.75 and 0.5, rounded
    assert parity.psnr_db == pytest.approx(10 * math.log10(255**2 / (levels**2 / 60)))


def test_uint8_pictures_are_measured_in_the_same_unit():
    found, wanted = Constant(100, off=1, dtype=np.uint8), Constant(100, dtype=np.uint8)
    parity = measure_parity(found, wanted, {"a": {}}, limit=1e-4)
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


class Speck(nn.Module):
    """Paints how far each pixel is from the mean."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        return torch.tanh(self.gain * (x - x.mean((2, 3), keepdim=True)))


class Rounding(nn.Module):
    """Paints what is lost where 1000 is added: in float64 nothing that can be seen."""

    def forward(self, x):
        return torch.tanh(1e4 * ((x + 1000) - 1000 - x))


def runner_of(generator, output="float"):
    reads = tiny.architecture(num_labels=0, input_nc=3, use_instances=False)
    graph = Graph(output=output)
    return TorchRunner(Synthesiser(generator, reads, None, graph), pick("cpu", "fp32"))


GREY = {"image": np.full((1, 3, 33, 47), 77, np.uint8)}  # between two numbers of float32
BLACK = {"image": np.zeros((1, 3, 33, 47), np.uint8)}  # -1, of which every sum is exact
STRIPES = {"image": np.indices((1, 3, 33, 47), np.uint8)[3] * 5}


def test_a_map_on_which_pytorch_is_not_reproducible_is_left_out_and_said(capsys):
    file, reference = runner_of(Speck(0.0)), runner_of(Rounding())  # exactly 0, and 0 rounded
    maps = {"test/grey": GREY, "test/black": BLACK}
    parity = prove_equal("export", file, reference, maps, 1e-4, "float")
    assert (parity.samples, parity.max_abs_error) == (1, 0.0)
    line = capsys.readouterr().out
    assert line.startswith("export: map test/grey says nothing of the file and is left out: they ")
    assert line.endswith(" apart there\n") and line.count("\n") == 1

    with pytest.raises(WorkFailed, match=r"^no map shows whether .* each of 1 PyTorch's own fp32"):
        prove_equal("export", file, reference, {"test/grey": GREY}, 1e-4, "float")


@pytest.mark.parametrize("output", ["float", "uint8"])
def test_another_function_fails_by_the_name_of_the_map(output):
    maps = {"test/black": BLACK, "train/stripes": STRIPES}
    wrong, reference = runner_of(Speck(1.1), output), runner_of(Speck(1.0), output)
    limit = largest_difference(1e-4, output)
    with pytest.raises(WorkFailed) as failed:
        prove_equal("export", wrong, reference, maps, limit, output)
    sentence = str(failed.value)
    assert sentence.startswith(
        "the file differs from the PyTorch model on map train/stripes: torch"
    )
    assert "test/black" not in sentence and "\n" not in sentence
    exact = prove_equal("export", runner_of(Speck(1.0)), runner_of(Speck(1.0)), maps, 0.0, "float")
    assert exact.samples == 2 and exact.cosine == 1, "a picture in mid grey is equal to itself"


def test_a_picture_that_is_not_finite_fails_by_the_name_of_the_map():
    file, reference = runner_of(Speck(math.nan)), runner_of(Speck(1.0))
    with pytest.raises(WorkFailed, match=r"^the picture of map test/grey is not finite: torch on"):
        prove_equal("export", file, reference, {"test/grey": GREY}, 1e-4, "float")
