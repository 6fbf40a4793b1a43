"""A data set that begins with maps without content goes the whole way: trained, exported, painted,
measured."""

import numpy as np
import pytest
from PIL import Image

from components.benchmark.__main__ import main as benchmark
from components.cluster.__main__ import main as cluster
from components.export.__main__ import main as export
from components.train.__main__ import main as train
from shared.contracts.exported import ExportCard
from shared.contracts.labels import IGNORED
from shared.contracts.measured import BenchmarkReport
from tests import tiny
from tests.asking import as_flags
from tests.tiny import one_thread  # noqa: F401 - a fixture


def dataset(folder, input_nc):
    """Pairs of 32x64, of which the first two of each split are blank: one label and none, or one
    colour."""
    rng = np.random.default_rng(0)
    splits = {split: {} for split in ("train", "test")}
    for pairs in splits.values():
        for name, value in {"a": 0, "b": IGNORED, "c": None, "d": None}.items():
            pairs[name] = pair = tiny.sample(rng, 32, 64, input_nc)
            if value is not None:
                pair["input"][:] = value
                pair["instance"][:] = 1  # without edges
                pair["photo"][:] = 90
    tiny.write(folder, splits, num_labels=0 if input_nc else 35, input_nc=input_nc)


@pytest.mark.parametrize(
    "input_nc, of_train, of_export, steps",
    [
        pytest.param(
            *(0, dict(instance_features=True), dict(style="fixed"), [cluster]),
            marks=pytest.mark.slow,
        ),
        (3, dict(netG="resnet_6blocks"), dict(instance_norm="native", output="uint8"), []),
        pytest.param(
            *(3, dict(netG="resnet_6blocks", norm="batch"), dict(batch_norm="picture"), []),
            marks=pytest.mark.slow,
        ),
        pytest.param(*(0, {}, dict(size="dynamic", precision="fp16"), []), marks=pytest.mark.slow),
    ],
    ids=["features", "sketches", "picture_statistics", "dynamic_fp16"],
)
def test_blank_maps_come_first(tmp_path, capsys, input_nc, of_train, of_export, steps):
    # Trained, on them too.
    dataset(tmp_path / "data", input_nc)
    places = dict(dataset=tmp_path / "data", model=tmp_path / "model")
    small = tiny.TRAIN | dict(n_downsample_global=3, n_blocks_global=3)
    short = dict(epochs=1, epochs_decay=0, device="cpu")
    train(as_flags(**places, **small | short | of_train))
    for step in steps:
        step(as_flags(**places, clusters=tmp_path / "clusters", device="cpu"))
        places["clusters"] = tmp_path / "clusters"

    # Exported, and proven on all: none is left out.
    exported = dict(exported=tmp_path / "exported")
    export(as_flags(**places, **exported, **of_export))
    (parity,) = ExportCard.read(tmp_path / "exported").parity
    assert parity.samples == (8 if of_export.get("size") else 4)
    assert parity.max_abs_error <= parity.limit and "left out" not in capsys.readouterr().out

    # Painted: one colour, by the model and by the file.
    for source in (dict(model=places["model"]), exported):
        out = tmp_path / f"pictures_of_{next(iter(source))}"
        clusters = {"clusters": places["clusters"]} if steps and "model" in source else {}
        pictures = dict(dataset=places["dataset"], out=out)
        export(["synthesise", *as_flags(**source, **clusters, **pictures)])
        blank = np.asarray(Image.open(out / "a.png"), np.int16)
        if of_export.get("batch_norm") != "picture":
            assert np.ptp(blank, axis=(0, 1)).max() == 0
    by_model = np.asarray(Image.open(tmp_path / "pictures_of_model" / "a.png"), np.int16)
    if of_train.get("norm") != "batch":  # whose statistics the model paints by
        assert np.abs(blank - by_model).max() <= 1

    # Measured, in 16 bits too.
    precisions = dict(runtimes=("torch", "onnxruntime"), precisions=("fp32", "bf16"))
    quick = dict(rounds=1, warmup=1, batch_sizes=2, device="cpu")
    benchmark(as_flags(**places, **exported, report=tmp_path / "report", **precisions, **quick))
    for one in BenchmarkReport.read(tmp_path / "report").parity:
        assert one.max_abs_error <= (0.02 if one.precision != "fp32" else one.limit), one
