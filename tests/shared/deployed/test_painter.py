"""A form in a runtime: each opens by its name, and paints maps of any size."""

import numpy as np
import pytest

from shared.contracts.exported import Graph, OmFile
from shared.data.maps import Sample
from shared.deployed.form import Form
from shared.deployed.painter import ExportedFile, Painter, open_runner
from shared.errors import InputError
from shared.networks.checkpoint import load_generator
from tests import tiny
from tests.asking import refusal

LABELS = np.random.default_rng(0).integers(0, 35, (32, 64), dtype=np.uint8)


class Double:
    """A runner: every pixel of a picture is twice the label."""

    def __call__(self, feeds):
        return (feeds["labels"][:, None] * np.ones((1, 3, 1, 1))).astype(np.uint8) * np.uint8(2)


def test_the_maps_are_resized_to_the_file_and_its_picture_back():
    form = Form(tiny.architecture(), Graph(output="uint8"), size=(8, 16))
    sevens = Sample.of_maps("", np.full((32, 64), 7, np.uint8), np.zeros((32, 64), np.int32))
    picture = Painter(form, Double()).paint(sevens)
    assert picture.shape == (3, 32, 64) and (picture == 14).all()
    free = Form(tiny.architecture(), Graph(output="uint8"))
    assert (Painter(free, Double()).paint(Sample.of_maps("", LABELS, LABELS)) == LABELS * 2).all()


def test_torch_opens_the_generator_in_the_precision_asked_for(tmp_path):
    card = tiny.model(tmp_path, tiny.architecture())
    generator, form = load_generator(tmp_path)[1], Form(card.architecture, Graph())
    runner = open_runner(form, "torch", generator, "cpu", "bf16")
    assert (runner.name, runner.device, runner.precision) == ("torch", "cpu", "bf16")
    feed = form.feed(Sample.of_maps("", LABELS, LABELS))
    assert runner(feed).shape == (1, 3, 32, 64)


def test_the_file_of_a_runtime_is_the_onnx_one_or_the_compiled_one_of_the_smallest_batches(
    tmp_path,
):
    card = tiny.export_card(tmp_path, tiny.architecture(), Graph())
    assert f"--exported {tmp_path} has lost its generator.onnx: export the model again." == refusal(
        ExportedFile.of, tmp_path, card, "onnxruntime"
    )
    (tmp_path / "generator.onnx").touch()
    onnx = ExportedFile.of(tmp_path, card, "onnxruntime")
    assert (onnx.path, onnx.precision) == (tmp_path / "generator.onnx", "fp32")

    assert "holds no compiled file" in refusal(ExportedFile.of, tmp_path, card, "om")
    of_soc = dict(soc_version="Ascend310P3")
    large, small = (OmFile(file=f"{n}.om", **of_soc, batch_sizes=n) for n in ([4, 8], [2, 4]))
    om = ExportedFile.of(tmp_path, card.model_copy(update={"om": [large, small]}), "om")
    assert (om.path, om.precision, om.batch_size) == (tmp_path / small.file, "fp16", 2)


def test_an_om_without_ais_bench_is_refused(tmp_path):
    form = Form(tiny.architecture(), Graph())
    with pytest.raises(InputError, match="ais_bench"):
        open_runner(form, "om", ExportedFile(tmp_path / "a.om", "fp16"))
