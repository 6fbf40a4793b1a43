"""InstanceNorm in the file is that of the network: on normal maps, on constant ones, at every
opset."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from components.export.config import OnnxOptions
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.norm import (
    NativeInstanceNorm,
    PreciseInstanceNorm,
    with_graph_norm,
)
from components.export.proof_maps import generated_maps
from shared.contracts.exported import Graph
from shared.deployed.form import Form
from shared.deployed.synthesiser import Synthesiser
from shared.networks.build import build_generator
from shared.networks.layers import InstanceNorm, instance_norm
from tests import tiny
from tests.tiny import one_thread  # noqa: F401 - a fixture

KINDS = pytest.mark.parametrize("kind", [PreciseInstanceNorm, NativeInstanceNorm])
ALGEBRA = dict(n_downsample_global=3, n_blocks_global=3)  # deep enough for rounding to grow to 1


@KINDS
@pytest.mark.parametrize(("mean", "std"), [(0, 1), (5, 0.1)])
def test_the_graphs_norm_is_instance_norm(kind, mean, std):
    x = mean + std * torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    x[1] = 0.3
    affine = InstanceNorm(3, affine=True)
    nn.init.normal_(affine.weight)
    nn.init.normal_(affine.bias)
    for norm in (instance_norm(3), affine):
        found = kind(norm, torch.float32)(x)
        torch.testing.assert_close(found, norm(x), rtol=1e-4, atol=1e-4)
        assert torch.equal(found[1], norm(x)[1]), "of a constant map exactly 0, or the bias"


def test_a_copy_shares_the_weights_and_leaves_the_model_alone():
    synthesiser = Synthesiser(build_generator(tiny.architecture()), tiny.architecture(), None)
    copied = with_graph_norm(synthesiser, OnnxOptions())
    norms = [
        [type(m) for m in s.modules() if "Norm" in type(m).__name__] for s in (synthesiser, copied)
    ]
    assert set(norms[0]) == {InstanceNorm} and set(norms[1]) == {PreciseInstanceNorm}
    assert len(norms[0]) == len(norms[1])
    mine, copies = list(synthesiser.parameters()), list(copied.parameters())
    assert len(mine) == len(copies) and all(a is b for a, b in zip(mine, copies, strict=True))


class Case:
    """A network of random weights as a file, and maps for it."""

    def __init__(self, file, size, **options):
        torch.manual_seed(0)
        self.options = OnnxOptions(**options)
        a = tiny.architecture(**ALGEBRA)
        self.form = Form(a, Graph(), size=size)
        self.synthesiser = self.form.synthesiser(build_generator(a))
        (sample,) = generated_maps(a, 1, size)
        self.normal = self.form.feed(sample)
        self.blank = {name: np.full_like(array, 7) for name, array in self.normal.items()}
        self.ignored = self.blank | {"labels": np.full_like(self.blank["labels"], 255)}
        deployed = with_graph_norm(self.synthesiser, self.options)
        to_onnx(deployed, self.normal, file, self.options, {})
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    @torch.inference_mode()
    def error(self, feed):
        wanted = self.synthesiser(*map(torch.from_numpy, feed.values())).numpy()
        assert wanted.std() > 0.01
        return np.abs(self.session.run(None, feed)[0] - wanted).max()


@pytest.mark.parametrize(
    "opset",
    [11, 13, 18, *(pytest.param(opset, marks=pytest.mark.slow) for opset in (12, 14, 15, 16, 17))],
)
@pytest.mark.parametrize("instance_norm", ["precise", "native"])
def test_blank_maps_at_every_opset(tmp_path, instance_norm, opset):
    case = Case(tmp_path / "file.onnx", (32, 64), opset=opset, instance_norm=instance_norm)
    assert max(case.error(case.blank), case.error(case.ignored)) < 1e-6
    assert case.error(case.normal) < 1e-4
    both = {name: np.concatenate([case.normal[name], case.blank[name]]) for name in case.blank}
    alone = case.session.run(None, case.blank)[0]
    assert np.abs(case.session.run(None, both)[0][1:] - alone).max() < 1e-6


@pytest.mark.parametrize("instance_norm", ["precise", "native"])
def test_blank_maps_in_16_bits(tmp_path, instance_norm):
    names = dict(precision="fp16", instance_norm=instance_norm)
    case = Case(tmp_path / "file.onnx", (32, 64), **names)
    assert max(case.error(case.blank), case.error(case.ignored)) < 1e-3  # the head's own rounding
    assert case.error(case.normal) < 0.05


def test_precise_norm_is_why_a_larger_picture_passes(tmp_path):
    """ONNX Runtime's own InstanceNormalization is off by more than ten times as much at 256x512."""

    def error(kind):
        case = Case(tmp_path / f"{kind}.onnx", (256, 512), instance_norm=kind)
        return case.error(case.normal)

    precise, native = error("precise"), error("native")
    assert precise < 1e-5 and native > 10 * precise


def test_two_means_see_a_small_spot(tmp_path):
    """Far from 0 a mean's rounding is as large as what one spot makes of the deviation."""
    x = torch.full((1, 1, 256, 512), 3.0)
    x[..., 100:103, 200:203] += 0.01
    exact = x.double() - x.double().mean()
    exact = exact / (exact.square().mean() + 1e-5).sqrt()
    found = PreciseInstanceNorm(instance_norm(1), torch.float32)(x)
    # of one mean in float32: 3 * 2^-24 * 316
    assert (found - exact).abs().max() < 1e-5
