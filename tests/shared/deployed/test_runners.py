"""Runtimes behind one call compute what the network computes, and leave it as it was."""

import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from components.train.networks.init import initialise
from shared.contracts.exported import Graph
from shared.data.maps import Sample
from shared.deployed.form import Feeds, Form, stack
from shared.deployed.runners import OnnxRunner, TorchRunner
from shared.deployed.styles import Style
from shared.deployed.synthesiser import Synthesiser, to_pixels
from shared.device import pick
from shared.networks.build import build_generator
from shared.quality import psnr_db
from tests import tiny
from tests.places import ROOT
from tests.shared.deployed.doubling import doubling_file

STYLE = Style(np.random.default_rng(1).uniform(-1, 1, (36, 3)).astype(np.float32))


def deployed(graph: Graph | None = None, **architecture) -> Synthesiser:
    """With random weights, the same at every call."""
    a = tiny.architecture(**architecture)
    torch.manual_seed(0)
    fixed = torch.from_numpy(STYLE.by_label) if graph and graph.style == "fixed" else None
    return Synthesiser(initialise(build_generator(a), "normal", 0.02, False), a, fixed, graph)


def batch(synthesiser: Synthesiser, count: int, seed: int = 0) -> Feeds:
    """Maps of 32 x 64 pixels."""
    rng = np.random.default_rng(seed)
    a, graph = synthesiser.reads, synthesiser.graph
    samples = [Sample.of_maps("", *tiny.maps(rng, 32, 64)) for _ in range(count)]
    return stack([Form(a, graph).feed(sample, STYLE) for sample in samples])


def direct(synthesiser: Synthesiser, feed: Feeds) -> np.ndarray:
    """What the network itself says, without a runner."""
    with torch.inference_mode():
        return synthesiser.eval()(*(torch.from_numpy(array) for array in feed.values())).numpy()


def snapshot(synthesiser: Synthesiser) -> dict[str, tuple]:
    """Values, place, type and layout of every tensor."""
    tensors = synthesiser.state_dict().items()
    return {
        name: (t.clone().numpy().tobytes(), t.data_ptr(), t.dtype, t.stride())
        for name, t in tensors
    }


def psnr(pictures: np.ndarray, wanted: np.ndarray) -> float:
    """Of the worst one."""
    return min(
        psnr_db(to_pixels(found), to_pixels(picture))
        for found, picture in zip(pictures, wanted, strict=True)
    )


# PyTorch.


def test_eager_is_the_network_itself():
    synthesiser = deployed(Graph(style="fixed"), netG="local", feat_num=3)
    runner, feed = TorchRunner(synthesiser, pick("cpu", "fp32")), batch(synthesiser, 2)
    pictures = runner(feed)
    assert (pictures.shape, pictures.dtype) == ((2, 3, 32, 64), np.float32)
    assert np.array_equal(pictures, direct(synthesiser, feed))
    assert (runner.name, runner.device, runner.precision, runner.batch_size) == (
        "torch",
        "cpu",
        "fp32",
        None,
    )
    assert runner.peak_memory_mb() > 0


def test_bf16_is_cast_in_a_copy():
    """Convolutions alone: the statistics of a BatchNorm stay those of the network, in 32 bits."""
    synthesiser = deployed(netG="resnet_6blocks", norm="batch")
    before, feed = snapshot(synthesiser), batch(synthesiser, 2)
    runner = TorchRunner(synthesiser, pick("cpu", "bf16"))
    pictures = runner(feed)
    assert pictures.dtype == np.float32
    assert not np.array_equal(pictures, wanted := direct(synthesiser, feed))
    assert psnr(pictures, wanted) > 38
    assert snapshot(synthesiser) == before
    for name, module in synthesiser.named_modules():
        is_convolution = isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        for own, parameter in zip(
            runner.synthesiser.get_submodule(name).parameters(recurse=False),
            module.parameters(recurse=False),
            strict=True,
        ):
            assert own.dtype == (torch.bfloat16 if is_convolution else torch.float32), name
            assert (own is parameter) == (not is_convolution), name


def test_rounded_pictures_stay_uint8():
    synthesiser = deployed(Graph(output="uint8"))
    feed = batch(synthesiser, 1)
    for precision in ("fp32", "bf16"):
        pictures = TorchRunner(synthesiser, pick("cpu", precision))(feed)
        assert pictures.dtype == np.uint8
        assert psnr(pictures, direct(synthesiser, feed)) > 38


def test_computing_what_was_uploaded_is_the_call():
    synthesiser = deployed()
    runner, feed, made = TorchRunner(synthesiser, pick("cpu", "fp32")), batch(synthesiser, 2), []
    synthesiser.generator.register_forward_hook(
        lambda module, inputs, picture: made.append(picture.numpy())
    )
    pictures = runner(feed)
    uploaded = runner.upload(feed)
    runner.compute(uploaded)
    runner.compute(uploaded)
    assert len(made) == 3 and all(np.array_equal(picture, pictures) for picture in made)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_is_the_same_function(precision):
    synthesiser = deployed(Graph(style="instance"), netG="local", feat_num=3)
    before = snapshot(synthesiser)
    runner = TorchRunner(synthesiser, pick("cpu", precision), compiled=True)
    assert runner.name == "torch-compile"
    batches = [batch(synthesiser, count, seed) for seed, count in enumerate((1, 1, 2, 2))]
    assert len({feed["style"].shape for feed in batches}) == 4, "tables of several lengths"
    compiled = counters["stats"]["unique_graphs"]
    for feed in batches:
        pictures, wanted = runner(feed), direct(synthesiser, feed)
        runner.compute(runner.upload(feed))
        assert pictures.dtype == np.float32
        if precision == "fp32":
            assert np.abs(pictures - wanted).max() <= 1e-4
        assert psnr(pictures, wanted) > 38
    assert counters["stats"]["unique_graphs"] - compiled == 2, "one per batch size"
    assert snapshot(synthesiser) == before


@pytest.mark.slow
def test_a_missing_compiler_is_said_shortly(tmp_path):
    """In a process of its own, without what was compiled before."""
    script = (
        "from components.benchmark.measure.speed import describe_problem\n"
        "from tests.shared.deployed.test_runners import TorchRunner, batch, deployed, pick\n"
        "synthesiser = deployed()\n"
        "try:\n"
        "    TorchRunner(synthesiser, pick('cpu', 'fp32'), compiled=True)(batch(synthesiser, 1))\n"
        "except Exception as error:\n"
        "    print(describe_problem(error))\n"
    )
    nowhere = os.environ | {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=nowhere, capture_output=True, text=True
    )
    assert "InvalidCxxCompiler: No working C++ compiler found" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1


# ONNX Runtime.


def test_a_file_of_one_batch_size_is_filled_up(tmp_path):
    runner = OnnxRunner(doubling_file(tmp_path / "three.onnx", 3), "fp32")
    assert (runner.name, runner.device, runner.precision, runner.batch_size) == (
        "onnxruntime",
        "cpu",
        "fp32",
        3,
    )
    for count in (1, 2, 3):
        x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
        assert np.array_equal(runner({"x": x}), 2 * x)


def test_a_file_of_any_batch_size_takes_the_batch_as_it_is(tmp_path):
    runner = OnnxRunner(doubling_file(tmp_path / "any.onnx", "batch"), "fp32")
    assert runner.batch_size is None
    x = np.ones((5, 2), np.float32)
    assert np.array_equal(runner({"x": x}), 2 * x)


def test_onnx_computes_what_was_uploaded(tmp_path):
    runner = OnnxRunner(doubling_file(tmp_path / "any.onnx", "batch"), "fp32")
    feed = {"x": np.array([[1, 2], [3, 4]], np.float32)}
    uploaded = runner.upload(feed)
    runner.compute(uploaded)
    assert np.array_equal(uploaded.copy_outputs_to_cpu()[0], runner(feed))


def test_an_onnx_file_of_an_npu_machine_is_computed_on_the_cpu(tmp_path, monkeypatch):
    """Also beside onnxruntime-cann, which is not used."""
    providers = ["CANNExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    runner = OnnxRunner(doubling_file(tmp_path / "any.onnx", "batch"), "fp32", "npu")
    assert runner.device == "cpu" and runner.session.get_providers() == ["CPUExecutionProvider"]
