"""The figures are consistent, and right where they can be derived; the page is whole and self-contained."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import components.export.run
from components.benchmark.config import BenchmarkConfig
from components.benchmark.pictures import Shown
from components.benchmark.quality import mean_quality
from components.benchmark.report import text_table, write_page
from components.benchmark.run import run
from components.benchmark.runners import OnnxRunner, TorchRunner, batch_of, maps_of
from components.benchmark.speed import measure_speed, speed_row
from components.export.config import ExportConfig
from shared.checkpoint import load_generator
from shared.contracts import BenchmarkReport, DatasetManifest, ExportCard, Parity, Quality, SpeedRow
from shared.device import pick
from shared.errors import InputError
from shared.images import read_picture, resize_photo
from shared.networks import Synthesiser
from shared.pictures import colour_labels
from shared.quality import psnr_db, ssim
from shared.samples import PairReader
from shared.step import main
from tests import tiny
from tests.test_export import one_thread, write_clusters, write_model  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data set, a model with instance features, its export: the three folders that the step reads."""
    root = tmp_path_factory.mktemp("benchmark")
    tiny.dataset(root / "dataset")
    card = write_model(root / "model", tiny.architecture(netG="local", feat_num=3))
    write_clusters(root / "clusters", card.digest)
    inputs = root / "model", root / "exported", root / "dataset", root / "clusters"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1))
    return {name: root / name for name in ("exported", "dataset", "model")}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, folders):
    """The report folder of one run, and the figures it returned."""
    report = tmp_path_factory.mktemp("report")
    figures = run(**folders, report=report, config=config(batch_sizes=(1, 3), rounds=4, max_pictures=2))
    return report, figures


def config(**changes) -> BenchmarkConfig:
    return BenchmarkConfig.check(dict(device="cpu", rounds=2, warmup=1) | changes)


# Quality.


def test_quality_of_identical_pictures():
    photo = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    assert psnr_db(photo, photo) == 100
    assert ssim(photo, photo) == 1


def test_quality_of_a_constant_offset():
    """Mean squared error: the offset squared. SSIM without variance: (2ab + C1) / (a^2 + b^2 + C1), C1 = 2.55^2."""
    a, b = np.full((16, 24, 3), 100, np.uint8), np.full((16, 24, 3), 110, np.uint8)
    assert psnr_db(a, b) == psnr_db(b, a) == pytest.approx(20 * np.log10(255 / 10))
    C1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 110 + C1) / (100**2 + 110**2 + C1))


def test_worst_psnr_is_zero_and_differences_do_not_wrap():
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert psnr_db(black, white) == psnr_db(white, black) == 0


def test_psnr_of_one_wrong_pixel():
    photo = np.zeros((8, 8, 3), np.uint8)
    picture = photo.copy()
    picture[3, 4, 1] = 51  # a fifth of 255, in one of 192 values
    assert psnr_db(picture, photo) == pytest.approx(10 * np.log10(25 * 192))


def test_mean_quality():
    assert mean_quality([(10.0, 0.5), (20.0, 0.75)]) == Quality(pairs=2, psnr_db=15, ssim=0.625)
    assert mean_quality([]) == Quality(pairs=0, psnr_db=None, ssim=None)


# Speed.


class Fake:
    """Writes down what it is called with."""

    device, precision = "cpu", "fp32"

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def __call__(self, maps):
        self.calls.append((self.name, maps["labels"][:, 0, 0].tolist()))

    def peak_memory_mb(self):
        return 12.0


def test_runtimes_take_turns_on_the_same_cycled_batches():
    calls = []
    samples = [{"labels": np.full((1, 2, 2), i, np.uint8)} for i in range(3)]
    rows = measure_speed([Fake("a", calls), Fake("b", calls)], samples, (1, 2), rounds=2, warmup=1)
    batches = [[0], [1], [2], [0, 1], [2, 0], [1, 2]]  # three calls of one map, three of two
    assert calls == [(name, batch) for batch in batches for name in "ab"]
    assert [(row.runtime, row.batch_size) for row in rows] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_speed_row_of_known_durations():
    row = speed_row(Fake("a", []), 4, np.array([0.1, 0.2, 0.3, 0.4, 1.0]))
    assert row.images_per_second == pytest.approx(4 * 5 / 2.0)
    assert (row.latency_ms_p50, row.latency_ms_p90) == (pytest.approx(300), pytest.approx(760))
    assert row.latency_ms_p99 == pytest.approx(976)
    assert row.peak_memory_mb == 12


def test_batches_are_cycled():
    samples = [{"labels": np.full((1, 2, 2), i, np.uint8)} for i in range(3)]
    assert batch_of(samples, 2, 5)["labels"].shape == (5, 2, 2)
    assert batch_of(samples, 2, 5)["labels"][:, 0, 0].tolist() == [2, 0, 1, 2, 0]


def test_both_runners_are_the_same_function(folders):
    card, generator = load_generator(folders["model"])
    export = ExportCard.read(folders["exported"])
    eager = TorchRunner(Synthesiser(generator, card.architecture, torch.tensor(export.style)), pick("cpu", "fp32"))
    onnx = OnnxRunner(folders["exported"] / export.file, export.precision, prefer_cuda=True)
    assert (onnx.device, onnx.precision, eager.device, eager.precision) == ("cpu", "fp32", "cpu", "fp32")
    rng = np.random.default_rng(0)
    maps = {
        "labels": rng.integers(0, 35, (2, 32, 64), dtype=np.uint8),
        "instances": rng.integers(0, 9, (2, 32, 64), dtype=np.int32),
    }
    pictures = eager(maps), onnx(maps)
    assert [(picture.dtype.name, picture.shape) for picture in pictures] == [("float32", (2, 3, 32, 64))] * 2
    assert np.abs(pictures[0] - pictures[1]).max() <= 1e-4


# The step.


def test_report_has_the_rows_asked_for_and_they_are_consistent(folders, measured):
    report = BenchmarkReport.read(measured[0])
    assert [(row.runtime, row.batch_size) for row in report.speed] == [
        ("torch", 1), ("onnxruntime", 1), ("torch", 3), ("onnxruntime", 3),
    ]  # fmt: skip
    for row in report.speed:
        assert (row.device, row.precision) == ("cpu", "fp32")
        assert 0 < row.latency_ms_p50 <= row.latency_ms_p90 <= row.latency_ms_p99
        assert row.peak_memory_mb > 10
        # The mean call lies between the fastest and the slowest, and half of four calls are no longer than p50.
        mean_ms = 1000 * row.batch_size / row.images_per_second
        assert row.latency_ms_p50 / 2 < mean_ms < 2 * row.latency_ms_p99
    export = ExportCard.read(folders["exported"])
    assert (report.parity, report.model_digest) == (export.parity, export.model_digest)
    assert report.dataset_digest == DatasetManifest.read(folders["dataset"]).digest
    assert (report.height, report.width) == (32, 64)
    assert "4 timed calls" in report.method and "1 warm-up" in report.method and "of onnxruntime" in report.method
    assert measured[1] == report.headline()


def test_quality_is_that_of_the_pictures_written(folders, measured):
    """Read back from the PNG files: two training pairs shown; one of the two test pairs has a photo."""
    report = BenchmarkReport.read(measured[0])
    for split, names, quality in (
        ("train", ["train_0", "train_1"], report.train_quality),
        ("test", ["test_0"], report.quality),
    ):
        pictures = [read_picture(measured[0] / "pictures" / f"{split}_{name}_synthesised.png") for name in names]
        photos = [read_picture(folders["dataset"] / f"{split}_img" / f"{name}.png") for name in names]
        assert quality.pairs == len(names)
        assert quality.psnr_db == pytest.approx(np.mean([psnr_db(*p) for p in zip(pictures, photos, strict=True)]))
        assert quality.ssim == pytest.approx(np.mean([ssim(*p) for p in zip(pictures, photos, strict=True)]))


def test_every_test_photo_counts_whether_shown_or_not(tmp_path, folders):
    figures = run(**folders, report=tmp_path, config=config(batch_sizes=(1,), rounds=1, warmup=0, max_pictures=0))
    report = BenchmarkReport.read(tmp_path)
    assert (report.quality.pairs, report.train_quality.pairs) == (1, 0)
    assert "test/psnr_db" in figures and "train/psnr_db" not in figures
    assert not (tmp_path / "pictures").exists() and "<img" not in (tmp_path / "report.html").read_text()


def test_page_is_self_contained_and_shows_every_picture(folders, measured):
    page = (measured[0] / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", page)
    sources = re.findall(r'<img class="(\w+)" alt="([^"]+)" src="data:image/(png|jpeg);base64,([^"]+)">', page)
    assert len(sources) == page.count("<img") == 3 + 3 + 3 + 2, "the last test pair has no photo"
    for caption, _, kind, data in sources:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.size == (64, 32) and image.format == kind.upper()
            if caption == "input":
                assert kind == "png"
    rows = [row.split("</article>")[0] for row in page.split('<article class="pair">')[1:]]
    assert [re.findall(r"<figcaption>(\w+)<", row) for row in rows] == [
        ["input", "synthesised", "real"],
        ["input", "synthesised", "real"],
        ["input", "synthesised", "real"],
        ["input", "synthesised"],
    ]
    assert "no photo" in rows[3] and "PSNR" in rows[2]

    files = {path.name for path in (measured[0] / "pictures").iterdir()}
    assert len(files) == 11 and "test_test_1_real.png" not in files
    labels = read_picture(folders["dataset"] / "train_label" / "train_0.png")[..., 0]
    assert np.array_equal(read_picture(measured[0] / "pictures" / "train_train_0_input.png"), colour_labels(labels))


def test_names_are_escaped(tmp_path):
    grey = np.full((8, 8, 3), 128, np.uint8)
    shown = [Shown("test", '<script src="x">', grey, grey, None, None, None)]
    write_page(tmp_path, small_report(), shown)
    assert "<script" not in (tmp_path / "report.html").read_text()


def small_report() -> BenchmarkReport:
    def row(runtime, batch_size, images_per_second):
        latencies = dict(latency_ms_p50=10.0, latency_ms_p90=11.06, latency_ms_p99=1234.5)
        return SpeedRow(
            runtime=runtime,
            device="cpu",
            precision="fp32",
            batch_size=batch_size,
            images_per_second=images_per_second,
            peak_memory_mb=512.4,
            **latencies,
        )

    return BenchmarkReport(
        speed=[row("torch", 1, 9.5), row("onnxruntime", 16, 123.456)],
        parity=Parity(samples=4, max_abs_error=2.5e-6, mean_abs_error=3e-7, limit=1e-4),
        quality=Quality(pairs=0, psnr_db=None, ssim=None),
        train_quality=Quality(pairs=1, psnr_db=12.345, ssim=0.5),
        height=128,
        width=256,
        model_digest="m",
        dataset_digest="d",
        environment={"measured": "today"},
        method="as tests do",
    )


def test_text_table():
    assert text_table(small_report()) == (
        "runtime      device  precision  batch  images/s  p50 ms  p90 ms  p99 ms  peak MB\n"
        "torch        cpu     fp32           1      9.50    10.0    11.1  1234.5      512\n"
        "onnxruntime  cpu     fp32          16    123.46    10.0    11.1  1234.5      512\n"
        "parity   max abs error 2.5e-06, mean 3.0e-07 of pictures in [-1, 1] (limit 0.0001, 4 samples)\n"
        "test     no pairs with a photo\n"
        "train    PSNR 12.35 dB, SSIM 0.500 (mean of 1 pair)"
    )


def test_a_model_of_another_size_and_without_instances(tmp_path, folders):
    """The data set is 32x64: maps and photos come at the model's size."""
    write_model(tmp_path / "model", tiny.architecture(use_instances=False), height=16, width=32)
    components.export.run.run(tmp_path / "model", tmp_path / "exported", config=ExportConfig(parity_samples=1))
    inputs = dict(exported=tmp_path / "exported", model=tmp_path / "model", dataset=folders["dataset"])
    run(**inputs, report=tmp_path / "report", config=config(batch_sizes=(2,), max_pictures=1))
    shown = read_picture(tmp_path / "report" / "pictures" / "train_train_0_real.png")
    whole = read_picture(folders["dataset"] / "train_img" / "train_0.png")
    assert np.abs(shown.astype(int) - resize_photo(whole, 16, 32)).max() <= 1


@pytest.mark.parametrize(("input_nc", "height", "width"), [(3, 33, 50), (5, 32, 64), (1, 17, 64)])
def test_pictures_as_input_at_any_size(tmp_path, input_nc, height, width):
    """From a cache, with one style; the report shows the first three channels, or grey."""
    tiny.dataset(tmp_path / "dataset", input_nc=input_nc, cache=True)
    architecture = tiny.architecture(num_labels=0, input_nc=input_nc, feat_num=3)
    card = write_model(tmp_path / "model", architecture, height, width)
    write_clusters(tmp_path / "clusters", card.digest)
    inputs = tmp_path / "model", tmp_path / "exported", tmp_path / "dataset", tmp_path / "clusters"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1))
    inputs = {name: tmp_path / name for name in ("exported", "dataset", "model")}
    run(**inputs, report=tmp_path / "report", config=config(batch_sizes=(2,), max_pictures=1))

    report = BenchmarkReport.read(tmp_path / "report")
    assert (report.height, report.width) == (height, width) and report.quality.pairs == 1
    shown = {
        path.stem.removeprefix("train_train_0_"): read_picture(path)
        for path in (tmp_path / "report" / "pictures").glob("train_train_0_*.png")
    }
    assert {name: picture.shape for name, picture in shown.items()} == {
        name: (height, width, 3) for name in ("input", "synthesised", "real")
    }
    manifest = DatasetManifest.read(tmp_path / "dataset")
    picture = read_picture(manifest.path(tmp_path / "dataset", "train", "input", "train_0"), input_nc)
    channels = picture[:, :, :3] if input_nc >= 3 else picture.repeat(3, axis=2)
    assert np.abs(shown["input"].astype(int) - resize_photo(channels, height, width)).max() <= 2


def test_torch_paints_a_cached_sample_without_a_warning(tmp_path):
    """It does where ONNX Runtime has no GPU; arrays of a cache are read-only, of which torch warns."""
    manifest = tiny.dataset(tmp_path / "dataset", cache=True)
    card = write_model(tmp_path / "model", tiny.architecture())
    eager = TorchRunner(Synthesiser(load_generator(tmp_path / "model")[1], card.architecture, None), pick("cpu"))
    with tiny.warnings_are_errors():
        assert eager(maps_of(PairReader(tmp_path / "dataset", manifest, "test").read(0), card)).shape == (1, 3, 32, 64)


def test_bf16_pictures_of_torch_are_float32(folders):
    card, generator = load_generator(folders["model"])
    style = torch.tensor(ExportCard.read(folders["exported"]).style)
    eager = TorchRunner(Synthesiser(generator, card.architecture, style), pick("cpu", "bf16"))
    maps = {"labels": np.zeros((1, 32, 64), np.uint8), "instances": np.zeros((1, 32, 64), np.int32)}
    assert eager(maps).dtype == np.float32 and eager.precision == "bf16"


# Refusals.


def refuse(tmp_path, match, **inputs):
    with pytest.raises(InputError, match=match) as refusal:
        run(**inputs, report=tmp_path / "report", config=config())
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
    assert not (tmp_path / "report").exists()


def test_folders_that_do_not_belong_together(tmp_path, folders):
    refuse(tmp_path, "--exported .* holds no export.json", **folders | {"exported": tmp_path})
    refuse(tmp_path, "--dataset .* holds no manifest.json", **folders | {"dataset": tmp_path})

    write_model(tmp_path / "other", tiny.architecture(feat_num=3))
    refuse(
        tmp_path,
        r"--exported .* was made from model \w+ but --model .* is \w+",
        **folders | {"model": tmp_path / "other"},
    )

    manifest = DatasetManifest.read(folders["dataset"])
    for name, match, changes in (
        ("few_labels", "has maps of 8 labels as input but the model was trained with maps of 35", dict(num_labels=8)),
        ("pictures", "has pictures of 3 channels as input but the model was", dict(num_labels=0, input_nc=3)),
        ("no_instances", "--dataset .* has no instance maps", dict(has_instances=False)),
        ("empty", "--dataset .* holds no pairs", dict(train=[], test=[])),
    ):
        manifest.model_copy(update=changes).write(tmp_path / name)
        refuse(tmp_path, match, **folders | {"dataset": tmp_path / name})

    ExportCard.read(folders["exported"]).write(tmp_path / "without_file")
    refuse(tmp_path, "--exported .* has no generator.onnx", **folders | {"exported": tmp_path / "without_file"})


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--batch-sizes", "0"], "--batch-sizes 0: should be greater than or equal to 1."),
        (["--batch-sizes", "1", "-4"], "--batch-sizes -4: should be greater than or equal to 1."),
        (["--batch-sizes"], "--batch-sizes"),
        (["--rounds", "0"], "--rounds 0: should be greater than or equal to 1."),
        (["--device", "cuda"], "--device cuda: torch sees no NVIDIA GPU here"),
    ],
)
def test_bad_values_are_refused(tmp_path, folders, capsys, flags, sentence):
    if flags == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    inputs = [text for name, path in folders.items() for text in (f"--{name}", str(path))]
    with pytest.raises(SystemExit) as stop:
        main(run, BenchmarkConfig, [*inputs, "--report", str(tmp_path / "report"), *flags])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_as_a_user_runs_it(tmp_path, folders):
    inputs = [text for name, path in folders.items() for text in (f"--{name}", str(path))]
    flags = ["--report", str(tmp_path), "--batch-sizes", "1", "2", "--rounds", "1", "--max-pictures", "1"]
    command = [sys.executable, "-m", "components.benchmark", *inputs, *flags, "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    report = BenchmarkReport.read(tmp_path)
    assert text_table(report) in done.stdout
    assert (tmp_path / "table.txt").read_text() == text_table(report) + "\n"
    assert f"report: {tmp_path / 'report.html'}" in lines
    assert json.loads(lines[-1]) == report.headline()
    with_photo = [pair.name for pair in DatasetManifest.read(folders["dataset"]).test if pair.has_photo]
    assert report.quality.pairs == 1 and with_photo == ["test_0"]
