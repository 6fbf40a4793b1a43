"""The figures are consistent, and right where they can be derived; the page is whole and
self-contained."""

import base64
import html
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import components.export.run
from components.benchmark.__main__ import main
from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.workload import Workload
from components.benchmark.page.table import text_table
from components.benchmark.run import run
from components.export.config import ExportConfig
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.measured import BenchmarkReport
from shared.data.images import read_picture, resize_picture
from shared.data.labels import colours_of
from shared.deployed.form import Form
from shared.deployed.runners import OnnxRunner, TorchRunner
from shared.deployed.synthesiser import Synthesiser
from shared.device import pick
from shared.errors import WorkFailed
from shared.networks.checkpoint import load_generator
from shared.quality import psnr_db, ssim
from tests import tiny
from tests.alone import run_alone
from tests.asking import as_flags, refusal
from tests.places import ROOT
from tests.tiny import one_thread  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A data set, a model with instance features, its export: the three folders that the step
    reads."""
    root = tmp_path_factory.mktemp("benchmark")
    tiny.dataset(root / "dataset")
    card = tiny.model(root / "model", tiny.architecture(netG="local", feat_num=3))
    tiny.write_clusters(root / "clusters", card.digest, tiny.TWO_STYLES)
    inputs = root / "model", root / "exported", root / "dataset", root / "clusters"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1))
    return {name: root / name for name in ("exported", "dataset", "model", "clusters")}


@pytest.fixture(scope="module")
def measured(tmp_path_factory, folders):
    """The report folder of one run, and the figures it returned."""
    report = tmp_path_factory.mktemp("report")
    figures = run(
        **folders, report=report, config=config(batch_sizes=(1, 3), rounds=4, max_pictures=2)
    )
    return report, figures


def config(**changes) -> BenchmarkConfig:
    return BenchmarkConfig.check(dict(device="cpu", rounds=2, warmup=1) | changes)


# Speed.


def test_a_file_of_another_batch_size_is_a_row(tmp_path, folders):
    """An export for batches of two, asked for one and two."""
    components.export.run.run(
        folders["model"],
        tmp_path / "exported",
        folders["dataset"],
        folders["clusters"],
        config=ExportConfig(parity_samples=1, batch_size=2),
    )
    inputs = {name: folders[name] for name in ("dataset", "model")} | {
        "exported": tmp_path / "exported"
    }
    run(**inputs, report=tmp_path / "report", config=config(batch_sizes=(1, 2), max_pictures=0))
    rows = {(r.runtime, r.batch_size): r for r in BenchmarkReport.read(tmp_path / "report").speed}
    assert (
        rows["onnxruntime", 1].problem == "its file takes batches of 2"
        and not rows["onnxruntime", 2].problem
    )


def test_a_table_of_problems_alone_is_a_failure(tmp_path, folders, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    monkeypatch.setattr("components.benchmark.measure.speed._timed", out_of_memory)
    with pytest.raises(WorkFailed, match="nothing could be timed.*the first: out of memory"):
        run(**folders, report=tmp_path, config=config(batch_sizes=(1,), max_pictures=0))
    assert "out of memory" in (tmp_path / BenchmarkReport.TABLE).read_text()


def test_both_runners_are_the_same_function(folders):
    card, generator = load_generator(folders["model"])
    export = ExportCard.read(folders["exported"])
    eager = TorchRunner(
        Synthesiser(generator, card.architecture, torch.tensor(export.style)), pick("cpu", "fp32")
    )
    onnx = OnnxRunner(folders["exported"] / export.file, export.precision)
    assert (onnx.device, onnx.precision, eager.device, eager.precision) == (
        "cpu",
        "fp32",
        "cpu",
        "fp32",
    )
    rng = np.random.default_rng(0)
    maps = {
        "labels": rng.integers(0, 35, (2, 32, 64), dtype=np.uint8),
        "instances": rng.integers(0, 9, (2, 32, 64), dtype=np.int32),
    }
    pictures = eager(maps), onnx(maps)
    assert [(picture.dtype.name, picture.shape) for picture in pictures] == [
        ("float32", (2, 3, 32, 64))
    ] * 2
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
        assert (
            row.device_images_per_second > 0 < row.end_to_end_images_per_second and row.speedup > 0
        )
        # The mean call lies between the fastest and the slowest, and half of four calls are no
        # longer than p50.
        mean_ms = 1000 * row.batch_size / row.images_per_second
        assert row.latency_ms_p50 / 2 < mean_ms < 2 * row.latency_ms_p99
    export = ExportCard.read(folders["exported"])
    assert [(p.runtime, p.precision) for p in report.parity] == [
        ("torch", "fp32"),
        ("onnxruntime", "fp32"),
    ]
    assert (
        report.parity[0].max_abs_error
        == 0
        < report.parity[1].max_abs_error
        < report.parity[1].limit
        == 1e-4
    )
    assert report.model_digest == export.model_digest
    assert report.dataset_digest == DatasetManifest.read(folders["dataset"]).digest
    assert (report.height, report.width) == (32, 64)
    assert (
        "4 timed rounds" in report.method
        and "after 1 that" in report.method
        and "of onnxruntime" in report.method
    )
    assert measured[1] == report.headline()


def test_quality_is_that_of_the_pictures_written(folders, measured):
    """Read back from the PNG files: two training pairs shown; one of the two test pairs has a
    photo."""
    report = BenchmarkReport.read(measured[0])
    for split, names, quality in (
        ("train", ["train_0", "train_1"], report.train_quality),
        ("test", ["test_0"], report.quality),
    ):
        pictures = [
            read_picture(measured[0] / "pictures" / f"{split}_{name}_synthesised.png")
            for name in names
        ]
        photos = [
            read_picture(folders["dataset"] / f"{split}_img" / f"{name}.png") for name in names
        ]
        assert quality.pairs == len(names)
        assert quality.psnr_db == pytest.approx(
            np.mean([psnr_db(*p) for p in zip(pictures, photos, strict=True)])
        )
        assert quality.ssim == pytest.approx(
            np.mean([ssim(*p) for p in zip(pictures, photos, strict=True)])
        )


def test_the_whole_test_set_is_shown_beside_the_report(tmp_path, folders):
    """Also what the report shows no picture of, and what has no photo."""
    options = dict(batch_sizes=(1,), rounds=1, max_pictures=0, max_styled_maps=0, gallery=True)
    run(**folders, report=tmp_path, config=config(**options))
    page = (tmp_path / "gallery" / "index.html").read_text()
    assert re.findall("<h2>(.*?) <span", page) == ["test_0", "test_1"]
    files = [f"00001_{kind}" for kind in ("input.png", "synthesised.jpg", "real.jpg")]
    files += [f"00002_{kind}" for kind in ("input.png", "synthesised.jpg")]
    assert re.findall('src="(.*?)"', page) == files
    report = (tmp_path / "report.html").read_text()
    assert '<a href="gallery/index.html">2 test pairs as pictures</a>' in report
    assert BenchmarkReport.read(tmp_path).quality.pairs == 1

    run(**folders, report=tmp_path, config=config(**options | dict(gallery=False)))
    assert not (tmp_path / "gallery").exists()
    assert "gallery" not in (tmp_path / "report.html").read_text()


def test_every_test_photo_counts_whether_shown_or_not(tmp_path, folders):
    figures = run(
        **folders,
        report=tmp_path,
        config=config(batch_sizes=(1,), rounds=1, max_pictures=0, max_styled_maps=0),
    )
    report = BenchmarkReport.read(tmp_path)
    assert (report.quality.pairs, report.train_quality.pairs) == (1, 0)
    assert "test/psnr_db" in figures and "train/psnr_db" not in figures
    assert (
        not (tmp_path / "pictures").exists()
        and "<img" not in (tmp_path / "report.html").read_text()
    )


def test_page_is_self_contained_and_shows_every_picture(folders, measured):
    page = (measured[0] / "report.html").read_text()
    assert not re.search(r"https?:|<link|@import|url\(|<script[^>]*src", page)
    rows = [row.split("</article>")[0] for row in page.split('<article class="pair">')[1:]]
    kinds = [re.findall(r'<img class="(\w+)"', row) for row in rows]
    pair = ["input", "synthesised", "real"]
    assert kinds == [pair, pair[:2], pair, pair], "test pairs first, the second without a photo"
    assert "All 4 pictures of onnxruntime equal PyTorch&#39;s within one grey level." in page
    for source in re.findall(r'<img class="input" [^>]*src="data:image/png;base64,([^"]+)"', page):
        with Image.open(io.BytesIO(base64.b64decode(source))) as image:
            assert image.size == (64, 32) and image.format == "PNG"

    files = {path.name for path in (measured[0] / "pictures").iterdir()}
    assert len(files) == 3 * 3 + 2 and "test_test_1_real.png" not in files
    labels = read_picture(folders["dataset"] / "train_label" / "train_0.png")[0]
    shown = read_picture(measured[0] / "pictures" / "train_train_0_input.png")
    assert np.array_equal(shown, colours_of([]).T[:, labels])


def test_the_page_says_what_was_made(folders, measured):
    """In words first, then by digests."""
    page = (measured[0] / "report.html").read_text()
    title = "pix2pixHD, local enhancer, 32×64, on tests"
    assert f"<h1>{title}</h1>" in page and f"<title>{title}</title>" in page
    report = BenchmarkReport.read(measured[0])
    facts = re.search('<dl class="facts">(.*?)</dl>', page, re.DOTALL).group(1)
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", facts) == [
        ("network", "pix2pixHD, local enhancer, ngf 4, instance edges, 3 instance features"),
        ("size", "32×64, the file takes this alone"),
        ("training", "1 epoch, 1 image seen"),
        ("data set", "tests: 4 training pairs, 2 test pairs, 35 labels"),
        ("measured", report.environment["measured"]),
        ("commit", re.sub("(?<=^[0-9a-f]{10})[0-9a-f]{30}", "", report.environment["commit"])),
    ]
    assert re.match("[0-9a-f]{40}|not known", report.environment["commit"])
    assert page.index(title) < page.index(report.model_digest)


def test_the_lines_of_the_page_run_the_file_alone(tmp_path, folders, measured):
    """Their picture is that of the report."""
    page = (measured[0] / "report.html").read_text()
    script = re.search('aria-label="paint.py"><code>(.*?)</code>', page, re.DOTALL).group(1)
    (tmp_path / "paint.py").write_text(html.unescape(script))
    maps = [folders["dataset"] / f"test_{kind}" / "test_0.png" for kind in ("label", "inst")]
    file, picture = folders["exported"] / "generator.onnx", tmp_path / "picture.png"
    done = run_alone([[tmp_path / "paint.py", file, *maps, picture]])
    assert done.returncode == 0, done.stderr
    wanted = read_picture(measured[0] / "pictures" / "test_test_0_synthesised.png")
    assert np.array_equal(read_picture(picture), wanted)


def test_styles_are_in_the_report(folders, measured):
    """Label 7 has two centres in the table that the fixture writes, label 26 one."""
    report = BenchmarkReport.read(measured[0])
    assert [(style.label, style.centres, style.explained) for style in report.styles] == [
        (7, 2, 0.5),
        (26, 1, 0.5),
    ]
    assert "styles-" in (measured[0] / "report.html").read_text()
    assert measured[1]["styles/explained"] == 0.5


def test_a_model_of_another_size_and_without_instances(tmp_path, folders):
    """The data set is 32x64: maps and photos come at the model's size."""
    tiny.model(tmp_path / "model", tiny.architecture(use_instances=False), height=16, width=32)
    components.export.run.run(
        tmp_path / "model", tmp_path / "exported", config=ExportConfig(parity_samples=1)
    )
    inputs = dict(
        exported=tmp_path / "exported", model=tmp_path / "model", dataset=folders["dataset"]
    )
    run(**inputs, report=tmp_path / "report", config=config(batch_sizes=(2,), max_pictures=1))
    shown = read_picture(tmp_path / "report" / "pictures" / "train_train_0_real.png")
    whole = read_picture(folders["dataset"] / "train_img" / "train_0.png")
    assert np.abs(shown.astype(int) - resize_picture(whole, 16, 32)).max() <= 1


@pytest.mark.parametrize(("input_nc", "height", "width"), [(3, 33, 50), (5, 32, 64), (1, 17, 64)])
def test_pictures_as_input_at_any_size(tmp_path, input_nc, height, width):
    """From a cache, with one style; the report shows the first three channels, or grey."""
    tiny.dataset(tmp_path / "dataset", input_nc=input_nc, cache=True)
    architecture = tiny.architecture(num_labels=0, input_nc=input_nc, feat_num=3)
    card = tiny.model(tmp_path / "model", architecture, height=height, width=width)
    tiny.write_clusters(tmp_path / "clusters", card.digest, tiny.TWO_STYLES)
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
        name: (3, height, width) for name in ("input", "synthesised", "real")
    }
    manifest = DatasetManifest.read(tmp_path / "dataset")
    picture = read_picture(
        manifest.path(tmp_path / "dataset", "train", "input", "train_0"), input_nc
    )
    channels = picture[:3] if input_nc >= 3 else picture.repeat(3, axis=0)
    assert np.abs(shown["input"].astype(int) - resize_picture(channels, height, width)).max() <= 2


def test_torch_paints_a_cached_sample_without_a_warning(tmp_path):
    """It does where ONNX Runtime has no GPU; arrays of a cache are read-only, of which torch
    warns."""
    manifest = tiny.dataset(tmp_path / "dataset", cache=True)
    card = tiny.model(tmp_path / "model", tiny.architecture())
    eager = TorchRunner(
        Synthesiser(load_generator(tmp_path / "model")[1], card.architecture, None), pick("cpu")
    )
    form = Form(card.architecture, Graph(), size=(32, 64))
    workload = Workload(tmp_path / "dataset", manifest, form, 2)
    with tiny.warnings_are_errors():
        assert eager(workload.batch(0, 2)).shape == (2, 3, 32, 64)


def test_bf16_pictures_of_torch_are_float32(folders):
    card, generator = load_generator(folders["model"])
    style = torch.tensor(ExportCard.read(folders["exported"]).style)
    eager = TorchRunner(Synthesiser(generator, card.architecture, style), pick("cpu", "bf16"))
    maps = {"labels": np.zeros((1, 32, 64), np.uint8), "instances": np.zeros((1, 32, 64), np.int32)}
    assert eager(maps).dtype == np.float32 and eager.precision == "bf16"


# Refusals.


def refuse(tmp_path, match, **inputs):
    report = tmp_path / "report"
    assert re.search(match, refusal(run, **inputs, report=report, config=config()))
    assert not (tmp_path / "report").exists()


def test_folders_that_do_not_belong_together(tmp_path, folders):
    refuse(tmp_path, "--exported .* holds no export.json", **folders | {"exported": tmp_path})
    refuse(tmp_path, "--dataset .* holds no manifest.json", **folders | {"dataset": tmp_path})

    tiny.model(tmp_path / "other", tiny.architecture(feat_num=3))
    refuse(
        tmp_path,
        r"--exported .* was made from model \w+ but --model .* is \w+",
        **folders | {"model": tmp_path / "other"},
    )

    manifest = DatasetManifest.read(folders["dataset"])
    for name, match, changes in (
        (
            "few_labels",
            "has maps of 8 labels as input but the model was trained with maps of 35",
            dict(num_labels=8),
        ),
        (
            "pictures",
            "has pictures of 3 channels as input but the model was",
            dict(num_labels=0, input_nc=3),
        ),
        ("no_instances", "--dataset .* has no instance maps", dict(has_instances=False)),
        ("empty", "--dataset .* holds no pairs", dict(train=[], test=[])),
    ):
        manifest.model_copy(update=changes).write(tmp_path / name)
        refuse(tmp_path, match, **folders | {"dataset": tmp_path / name})

    tiny.write_clusters(tmp_path / "clusters", "another", tiny.TWO_STYLES)
    refuse(
        tmp_path,
        "--clusters .* belongs to model another",
        **folders | {"clusters": tmp_path / "clusters"},
    )

    ExportCard.read(folders["exported"]).write(tmp_path / "without_file")
    refuse(
        tmp_path,
        "--exported .* has no generator.onnx",
        **folders | {"exported": tmp_path / "without_file"},
    )


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
        main([*inputs, "--report", str(tmp_path / "report"), *flags])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_as_a_user_runs_it(tmp_path, folders):
    inputs = [text for name, path in folders.items() for text in (f"--{name}", str(path))]
    flags = as_flags(report=tmp_path, batch_sizes=(1, 2), rounds=1, max_pictures=1)
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
    with_photo = [
        pair.name for pair in DatasetManifest.read(folders["dataset"]).test if pair.has_photo
    ]
    assert report.quality.pairs == 1 and with_photo == ["test_0"]
