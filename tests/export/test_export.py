"""The exported file is the PyTorch model, for every architecture, opset and batch size; what is not
leaves no file."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from kfp import dsl
from torch import nn

import components.export.run
from components.export.__main__ import main
from components.export.component import export
from components.export.config import ExportConfig, OnnxOptions
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.norm import with_graph_norm
from components.export.proof_maps import generated_maps, real_maps
from components.export.run import run
from shared.code_version import code_version
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.labels import IGNORED
from shared.contracts.model import Architecture, ModelCard
from shared.data.maps import Sample
from shared.deployed.form import Feeds, Form, stack
from shared.deployed.styles import Style
from shared.deployed.synthesiser import Synthesiser
from shared.errors import WorkFailed
from shared.networks.checkpoint import load_generator
from tests import tiny
from tests.asking import as_flags, refusal, refusal_of_command
from tests.places import ROOT
from tests.tiny import one_thread  # noqa: F401 - a fixture


def config(**changes) -> ExportConfig:
    return ExportConfig.check(changes)


def session(file: Path | bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def form_of(card: ModelCard, size: tuple[int, int] | None) -> Form:
    return Form(card.architecture, Graph(), size=size)


def batch(
    samples: list[Sample], a: Architecture, graph: Graph | None = None, style: Style | None = None
) -> Feeds:
    """All samples as one batch, in the form of a file with maps as input unless another is
    given."""
    return stack([Form(a, graph or Graph()).feed(sample, style) for sample in samples])


@torch.inference_mode()
def by_torch(synthesiser: Synthesiser, feed: Feeds) -> np.ndarray:
    return synthesiser(*map(torch.from_numpy, feed.values())).numpy()


def traced(synthesiser: Synthesiser, example: Feeds, path: Path) -> onnxruntime.InferenceSession:
    """A session on the file that `to_onnx` makes."""
    first = {name: array[:1] for name, array in example.items()}
    to_onnx(synthesiser, first, path, OnnxOptions(), {})
    return session(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder)
    return folder


@pytest.mark.parametrize("feat_num", [0, 3])
@pytest.mark.parametrize("use_instances", [True, False])
@pytest.mark.parametrize("netG", ["global", "local"])
def test_file_equals_torch_at_every_batch_size(tmp_path, dataset, netG, use_instances, feat_num):
    architecture = tiny.architecture(netG=netG, use_instances=use_instances, feat_num=feat_num)
    card = tiny.model(tmp_path / "model", architecture)
    clusters = (
        tiny.write_clusters(tmp_path / "clusters", card.digest, tiny.TWO_STYLES)
        if feat_num
        else None
    )

    figures = run(
        tmp_path / "model",
        tmp_path / "exported",
        dataset,
        tmp_path / "clusters" if feat_num else None,
        config=config(parity_samples=3),
    )

    written = ExportCard.read(tmp_path / "exported")
    assert (written.opset, written.precision, written.model_digest) == (17, "fp32", card.digest)
    (parity,) = written.parity
    assert (parity.runtime, parity.device, parity.precision) == ("onnxruntime", "cpu", "fp32")
    assert (parity.samples, parity.limit) == (3, 1e-4)
    assert figures["parity/max_abs_error"] == parity.max_abs_error <= 1e-5
    assert 0 < parity.mean_abs_error < parity.max_abs_error
    assert 1 - 1e-6 < parity.cosine <= 1 + 1e-6 and parity.psnr_db > 60
    names = ["labels", "instances"] if use_instances else ["labels"]
    assert [(spec.name, spec.dtype, spec.shape) for spec in written.inputs] == [
        (name, {"labels": "uint8", "instances": "int32"}[name], ["batch", 32, 64]) for name in names
    ]
    assert [spec.shape for spec in written.outputs] == [["batch", 3, 32, 64]]

    # Independently of the step: the file on disk against the model folder, at batch sizes other
    # than the traced one.
    file = session(tmp_path / "exported" / written.file)
    assert [(i.name, i.type, i.shape) for i in file.get_inputs()] == [
        (name, {"labels": "tensor(uint8)", "instances": "tensor(int32)"}[name], ["batch", 32, 64])
        for name in names
    ]
    assert [(o.name, o.type, o.shape) for o in file.get_outputs()] == [
        ("picture", "tensor(float)", ["batch", 3, 32, 64])
    ]
    style = torch.from_numpy(clusters.default_style(35)) if feat_num else None
    assert np.array_equal(written.style, style if feat_num else [])
    generator = load_generator(tmp_path / "model")[1]
    size = card.height, card.width
    for samples in (
        real_maps(dataset, form_of(card, size), 1),
        real_maps(dataset, form_of(card, size), 3),
    ):
        feed = batch(samples, architecture)
        wanted = by_torch(Synthesiser(generator, architecture, style), feed)
        assert np.abs(file.run(None, feed)[0] - wanted).max() <= 1e-4


@pytest.mark.parametrize("from_data", [True, False])
@pytest.mark.parametrize("input_nc", [1, 3, 5])
def test_a_file_of_pictures_as_input_equals_torch(tmp_path, input_nc, from_data):
    """The input is `image`, of as many channels as the pictures; the output is `picture`."""
    tiny.dataset(tmp_path / "dataset", input_nc=input_nc)
    architecture = tiny.architecture(num_labels=0, input_nc=input_nc, feat_num=3)
    card = tiny.model(tmp_path / "model", architecture)
    table = tiny.write_clusters(tmp_path / "clusters", card.digest, tiny.TWO_STYLES)
    folders = tmp_path / "model", tmp_path / "exported", tmp_path / "dataset" if from_data else None
    run(*folders, tmp_path / "clusters", config=config(parity_samples=2))

    written = ExportCard.read(tmp_path / "exported")
    assert [(spec.name, spec.dtype, spec.shape) for spec in written.inputs] == [
        ("image", "uint8", ["batch", input_nc, 32, 64]),
        ("instances", "int32", ["batch", 32, 64]),
    ]
    assert written.inputs[0].meaning == "picture of 0 .. 255"
    assert np.array_equal(written.style, table.default_style(0)) and len(written.style) == 1
    file = session(tmp_path / "exported" / written.file)
    assert [(i.name, i.type, i.shape) for i in file.get_inputs()] == [
        ("image", "tensor(uint8)", ["batch", input_nc, 32, 64]),
        ("instances", "tensor(int32)", ["batch", 32, 64]),
    ]
    synthesiser = Synthesiser(
        load_generator(tmp_path / "model")[1], architecture, torch.tensor(written.style)
    )
    size = card.height, card.width
    for samples in (
        real_maps(tmp_path / "dataset", form_of(card, size), 3),
        generated_maps(architecture, 2, size),
    ):
        feed = batch(samples, architecture)
        assert np.abs(file.run(None, feed)[0] - by_torch(synthesiser, feed)).max() <= 1e-4


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("netG", ["global", "local"])
@pytest.mark.parametrize(("height", "width"), [(33, 50), (3, 70)])
def test_any_size_is_exported(tmp_path, dataset, netG, opset, height, width):
    """Strides of 4 and 8: padding and crop are inside the file, as constants."""
    architecture = tiny.architecture(netG=netG)
    card = tiny.model(tmp_path / "model", architecture, height=height, width=width)
    run(
        tmp_path / "model",
        tmp_path / "exported",
        dataset,
        config=config(opset=opset, parity_samples=2),
    )
    written = ExportCard.read(tmp_path / "exported")
    assert [spec.shape for spec in written.inputs] == [["batch", height, width]] * 2
    assert [spec.shape for spec in written.outputs] == [["batch", 3, height, width]]
    assert written.parity[0].max_abs_error <= 1e-4

    file = tmp_path / "exported" / written.file
    assert session(file).get_outputs()[0].shape == ["batch", 3, height, width]
    feed = batch(real_maps(dataset, form_of(card, (height, width)), 3), architecture)
    wanted = by_torch(Synthesiser(load_generator(tmp_path / "model")[1], architecture, None), feed)
    picture = session(file).run(None, feed)[0]
    assert picture.shape == (3, 3, height, width) and np.abs(picture - wanted).max() <= 1e-4

    graph = onnx.load(file).graph
    constants = {tensor.name for tensor in graph.initializer}
    assert not {"Shape", "Reshape", "Constant"} & {node.op_type for node in graph.node}
    slices = [node for node in graph.node if node.op_type == "Slice"]
    assert slices and all(name in constants for node in slices for name in node.input[1:])


def test_a_picture_in_the_graph_is_signed_and_painted_with_one_style(tmp_path):
    """With nothing as generator, as below."""
    a = tiny.architecture(num_labels=0, input_nc=5, feat_num=3)
    style = np.array([[0.5, -1, 0.25]], np.float32)
    encoder = Synthesiser(nn.Identity(), a, torch.from_numpy(style)).eval()
    maps = batch(generated_maps(a, 2, (32, 64)), a)
    maps["image"][0, :, 0, :64] = np.arange(64)  # among other values
    channels = traced(encoder, maps, tmp_path / "file.onnx").run(None, maps)[0]
    assert channels.shape == (2, 5 + 1 + 3, 32, 64)
    assert np.allclose(channels[:, :5], maps["image"] / 127.5 - 1, atol=1e-6)
    assert np.array_equal(channels[:, 6:], np.broadcast_to(style[0][:, None, None], (2, 3, 32, 64)))


def test_one_hot_edges_and_painted_features_in_the_graph_are_exact(dataset, tmp_path):
    """With nothing as generator, the file gives the channels themselves: compared with NumPy, pixel
    for pixel.

    Pixels without a label have no channel, and take the last row of the style.
    """
    card = tiny.model(tmp_path, tiny.architecture(feat_num=3))
    style = np.random.default_rng(0).standard_normal((36, 3)).astype(np.float32)
    encoder = Synthesiser(nn.Identity(), card.architecture, torch.from_numpy(style)).eval()
    maps = batch(real_maps(dataset, form_of(card, (32, 64)), 4), card.architecture)
    maps["instances"][0, :8] = 2**31 - 1  # ids beyond 16 bits, and beyond what float32 tells apart
    maps["instances"][0, 4:8] -= 1
    maps["labels"][1, 3:9, 5:20] = IGNORED

    channels = traced(encoder, maps, tmp_path / "file.onnx").run(None, maps)[0]

    labels, ids = np.minimum(maps["labels"], 35), maps["instances"]
    assert (channels[1, :35, 3:9, 5:20] == 0).all() and channels[1, :35].sum() == 32 * 64 - 6 * 15
    assert np.array_equal(
        channels[:, :35], np.moveaxis(np.eye(36, 35, dtype=np.float32)[labels], -1, 1)
    )
    edge = np.zeros(ids.shape, bool)
    for axis in (1, 2):
        differs = np.diff(ids.astype(np.int64), axis=axis) != 0
        first, last = [(0, 0)] * 3, [(0, 0)] * 3
        first[axis], last[axis] = (1, 0), (0, 1)
        edge |= np.pad(differs, first) | np.pad(differs, last)
    assert edge[0, 3].all() and edge[0, 4].all(), "the two large ids were told apart"
    assert np.array_equal(channels[:, 35], edge)
    assert np.array_equal(channels[:, 36:], np.moveaxis(style[labels], -1, 1))


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
@pytest.mark.parametrize("instance_norm", ["precise", "native"])
def test_opset_is_honoured_and_the_graph_is_what_atc_reads(tmp_path, instance_norm, opset):
    tiny.model(tmp_path / "model", tiny.architecture(netG="local"))
    run(
        tmp_path / "model",
        tmp_path / "exported",
        config=config(opset=opset, instance_norm=instance_norm, parity_samples=1),
    )

    model = onnx.load(tmp_path / "exported" / "generator.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert ExportCard.read(tmp_path / "exported").opset == opset
    constants = {tensor.name for tensor in model.graph.initializer}
    operators = Counter(node.op_type for node in model.graph.node)
    assert (operators["InstanceNormalization"] == 0) == (instance_norm == "precise")
    assert not {"Constant", "ConstantOfShape", "Shape", "Reshape", "If", "Loop"} & set(operators)
    for node in model.graph.node:
        if node.op_type == "Pad":
            assert len(node.input) == 2 and node.input[1] in constants
        if node.op_type in ("Conv", "ConvTranspose"):
            assert "kernel_shape" in {attribute.name for attribute in node.attribute}


def zero_padding(synthesiser: Synthesiser) -> Synthesiser:
    first = next(m for m in synthesiser.generator.modules() if isinstance(m, nn.ReflectionPad2d))
    first.forward = nn.ZeroPad2d(3).forward
    return synthesiser


def no_edges(synthesiser: Synthesiser) -> Synthesiser:
    weights = synthesiser.generator.model[1].weight.detach().clone()
    weights[:, 35] = 0
    synthesiser.generator.model[1].weight = nn.Parameter(weights, requires_grad=False)
    return synthesiser


@pytest.mark.parametrize("damage", [zero_padding, no_edges])
def test_a_wrong_export_fails_and_leaves_the_proven_one(tmp_path, dataset, monkeypatch, damage):
    tiny.model(tmp_path / "model", tiny.architecture())
    run(tmp_path / "model", tmp_path / "exported", dataset, config=config(parity_samples=1))
    good = {path.name: path.read_bytes() for path in (tmp_path / "exported").iterdir()}
    assert good.keys() == set(ExportConfig.WRITES)
    monkeypatch.setattr(
        components.export.run, "with_graph_norm", lambda s, o: damage(with_graph_norm(s, o))
    )
    with pytest.raises(
        WorkFailed, match=r"^the file differs from the PyTorch model on map test/test_0: onnxrun"
    ):
        run(tmp_path / "model", tmp_path / "exported", dataset, config=config())
    left = {path.name: path.read_bytes() for path in (tmp_path / "exported").iterdir()}
    assert left == good


def test_nothing_is_within_a_tiny_limit(tmp_path):
    tiny.model(tmp_path / "model", tiny.architecture())
    with pytest.raises(
        WorkFailed, match=r"^no map shows .*: on each of 2 PyTorch's own .*, and the limit is 1e-15"
    ):
        run(
            tmp_path / "model",
            tmp_path / "exported",
            config=config(parity_limit=1e-15, parity_samples=2),
        )
    assert list((tmp_path / "exported").iterdir()) == []


def test_maps_of_another_size_are_resized_to_the_files(tmp_path, dataset):
    card = tiny.model(tmp_path, tiny.architecture())
    half, whole = (
        real_maps(dataset, form_of(card, (16, 32)), 100),
        real_maps(dataset, form_of(card, None), 100),
    )
    assert len(half) == len(whole) == 6
    for small, large in zip(half, whole, strict=True):
        assert (small.inputs.dtype, small.instances.dtype) == (np.uint8, np.int32)
        assert np.array_equal(small.inputs, large.inputs[1::2, 1::2])
        assert np.array_equal(small.instances, large.instances[1::2, 1::2])


def test_generated_pictures_have_a_colour_per_label_and_its_ids():
    a = tiny.architecture(num_labels=0, input_nc=5)
    for sample, again in zip(
        generated_maps(a, 2, (32, 64)), generated_maps(a, 2, (32, 64)), strict=True
    ):
        assert (sample.inputs.dtype, sample.inputs.shape, sample.instances.shape) == (
            np.uint8,
            (5, 32, 64),
            (32, 64),
        )
        labels = np.where(sample.instances < 1000, sample.instances, sample.instances // 1000)
        colours = {tuple(pixel) for pixel in np.moveaxis(sample.inputs, 0, -1).reshape(-1, 5)}
        assert len(colours) == len(np.unique(labels)) > 4
        assert np.array_equal(sample.inputs, again.inputs)


def test_generated_maps_have_bands_things_and_ids_of_their_label():
    a = tiny.architecture()
    for sample, again in zip(
        generated_maps(a, 2, (32, 64)), generated_maps(a, 2, (32, 64)), strict=True
    ):
        labels, ids = sample.inputs, sample.instances
        assert (
            labels.dtype == np.uint8
            and ids.dtype == np.int32
            and labels.shape == ids.shape == (32, 64)
        )
        assert labels.max() < 35 and len(np.unique(labels)) > 4
        assert np.array_equal(np.where(ids < 1000, ids, ids // 1000), labels)
        assert np.array_equal(labels, again.inputs)


def refuse(tmp_path, match, dataset=None, clusters=None):
    folders = (tmp_path / "model", tmp_path / "exported", dataset, clusters)
    assert re.search(match, refusal(run, *folders, config=config()))
    assert not (tmp_path / "exported").exists()


def test_refusals(tmp_path, dataset):
    refuse(tmp_path, "--model .* holds no model.json")
    plain = tiny.model(tmp_path / "model", tiny.architecture())
    tiny.write_clusters(tmp_path / "clusters", plain.digest, tiny.TWO_STYLES)
    refuse(tmp_path, "--clusters .* takes no instance features", clusters=tmp_path / "clusters")
    refuse(tmp_path, "--dataset .* holds no manifest.json", dataset=tmp_path)

    tiny.model(tmp_path / "model", tiny.architecture(num_labels=8))
    sentence = (
        "--dataset .* has maps of 35 labels as input but the model was trained with maps "
        "of 8 labels: give"
    )
    refuse(tmp_path, sentence, dataset=dataset)
    tiny.model(tmp_path / "model", tiny.architecture(num_labels=0, input_nc=5))
    sentence = (
        "has maps of 35 labels as input but the model was trained with pictures of 5 "
        "channels: give a data set"
    )
    refuse(tmp_path, sentence, dataset=dataset)

    featured = tiny.model(tmp_path / "model", tiny.architecture(feat_num=3))
    refuse(tmp_path, "takes 3 instance features but --clusters was not given")
    tiny.write_clusters(tmp_path / "clusters", "another", tiny.TWO_STYLES)
    refuse(tmp_path, "--clusters .* belongs to model another", clusters=tmp_path / "clusters")
    tiny.write_clusters(tmp_path / "clusters", featured.digest, {7: [[0.1, 0.2]]})
    refuse(tmp_path, r"belongs to model \w+ \(2 features\)", clusters=tmp_path / "clusters")


def test_clusters_of_the_parent_are_the_models_own(tmp_path):
    """Stage two is trained from the model whose features were clustered."""
    tiny.model(
        tmp_path / "model", tiny.architecture(netG="local", feat_num=3), parent_digest="stage-one"
    )
    tiny.write_clusters(tmp_path / "clusters", "stage-one", tiny.TWO_STYLES)
    run(
        tmp_path / "model",
        tmp_path / "exported",
        clusters=tmp_path / "clusters",
        config=config(parity_samples=1),
    )
    assert ExportCard.read(tmp_path / "exported").style[7] == [0.5, -0.5, 0.25]


@pytest.mark.parametrize("flags", [["--opset", "10"], ["--opset", "19"], ["--parity-samples", "0"]])
def test_bad_values_are_refused(tmp_path, capsys, flags):
    with pytest.raises(SystemExit) as stop:
        main(["--model", str(tmp_path), "--exported", str(tmp_path / "exported"), *flags])
    assert stop.value.code == 2
    assert f"{flags[0]} {flags[1]}: should be" in capsys.readouterr().err


def test_kfp_face_hands_over_folders_config_and_figures(tmp_path, dataset):
    tiny.model(tmp_path / "model", tiny.architecture())
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    export.python_func(
        model=dsl.Model(uri=str(tmp_path / "model")),
        exported=dsl.Model(uri=str(tmp_path / "exported")),
        metrics=metrics,
        config={"opset": 14, "parity_samples": 1},
        given={"opset": 13.0},  # numbers of a KFP struct come as floats
        workspace="",
        code_version=code_version("export"),
        files_version="",
        dataset=dsl.Dataset(uri=str(dataset)),
    )
    card = ExportCard.read(tmp_path / "exported")
    assert card.opset == 13
    assert metrics.metadata["parity/max_abs_error"] == card.parity[0].max_abs_error


def test_as_a_user_runs_it(tmp_path, dataset, capsys):
    tiny.model(tmp_path / "model", tiny.architecture())
    folders = as_flags(model=tmp_path / "model", exported=tmp_path / "exported")
    command = [sys.executable, "-m", "components.export", *folders]
    flags = as_flags(dataset=dataset, parity_samples=1)
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "equal to PyTorch: onnxruntime on cpu, fp32: max abs error" in done.stdout
    assert f"{32 * 64 * 5:,} bytes in per picture" in done.stdout
    assert done.stderr == ""

    (tmp_path / "model" / "latest_net_G.pth").unlink()
    sentence = refusal_of_command(capsys, main, *folders)
    assert "has no latest_net_G.pth" in sentence


def test_pix2pix_exports_with_the_statistics_of_the_picture(tmp_path):
    """As BatchNorm in training mode on one picture, which is what the benchmark then compares with
    too."""
    a = tiny.architecture(
        netG="resnet_6blocks", norm="batch", num_labels=0, input_nc=3, netD="n_layers"
    )
    tiny.model(tmp_path / "model", a)
    run(tmp_path / "model", tmp_path / "own", config=ExportConfig(batch_norm="picture"))
    run(tmp_path / "model", tmp_path / "running", config=ExportConfig())
    assert ExportCard.read(tmp_path / "own").batch_norm == "picture"
    card, generator = load_generator(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (1, 3, card.height, card.width), np.uint8)
    x = {"image": image, "instances": np.zeros((1, card.height, card.width), np.int32)}
    with torch.no_grad():
        wanted = Synthesiser(generator.train(), a, None)(
            *(torch.from_numpy(array) for array in x.values())
        ).numpy()
    own, running = (
        onnxruntime.InferenceSession(tmp_path / name / "generator.onnx").run(None, x)[0]
        for name in ("own", "running")
    )
    assert np.abs(own - wanted).max() < 1e-4 < np.abs(running - wanted).max()
