"""What passes between steps beside weights: JSON files, features, the cache."""

import io
from functools import partial
from pathlib import Path

import numpy as np

from shared.contracts.clusters import ClusterTable, read_features
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.measured import BenchmarkReport, Quality, SpeedRow
from shared.data.frames import cache_file
from shared.data.reader import PairReader
from shared.deployed.form import Form
from shared.deployed.script import python_script, usage
from shared.networks.checkpoint import load_encoder, load_generator
from shared.pipeline.runs import begin, find
from tests import tiny
from tests.fuzz.engine import Target


def _features(folder: Path) -> list[bytes]:
    examples = []
    for save in (np.savez, np.savez_compressed):
        save(buffer := io.BytesIO(), **tiny.COLUMNS)
        examples.append(buffer.getvalue())
    tiny.write_clusters(folder, "m", {0: [[0.5, 0.5]]})
    return examples


def _read_features(path: Path) -> None:
    for more in (False, True):
        read_features(path.parent, ClusterTable.read(path.parent), tiny.IMAGES, more)


def _clusters(folder: Path) -> list[bytes]:
    tiny.write_clusters(folder, "m", tiny.TWO_STYLES)
    return [(folder / ClusterTable.FILE).read_bytes()]


def _model(folder: Path) -> list[bytes]:
    tiny.model(folder, tiny.architecture(feat_num=3))
    return [(folder / "model.json").read_bytes()]


def _read_model(path: Path) -> None:
    card, _ = load_generator(path.parent)
    if card.architecture.feat_num:
        load_encoder(path.parent, card)


def _manifest(folder: Path, cache: bool = False) -> list[bytes]:
    tiny.dataset(folder, train=1, test=1, height=16, width=16, cache=cache)
    return [(folder / DatasetManifest.FILE).read_bytes()]


def _read_manifest(path: Path) -> None:
    manifest = DatasetManifest.read(path.parent)
    for split in ("train", "test"):
        reader = PairReader(path.parent, manifest, split)
        for index in range(min(len(reader), 2)):
            reader.read(index)


def _cache(folder: Path) -> list[bytes]:
    _manifest(folder, cache=True)
    return [cache_file(folder, "train").read_bytes()]


def _read_cache(path: Path) -> None:
    folder = path.parent.parent
    PairReader(folder, DatasetManifest.read(folder), "train").read(0)


def _export(folder: Path) -> list[bytes]:
    a = tiny.architecture(feat_num=3)
    style = [[0.0] * 3] * 36
    tiny.export_card(folder, a, Graph(style="fixed"), (32, 64), style=style)
    fixed = (folder / ExportCard.FILE).read_bytes()
    tiny.export_card(folder, tiny.architecture(), Graph(form="onehot"))
    return [fixed, (folder / ExportCard.FILE).read_bytes()]


def _read_export(path: Path) -> None:
    card = ExportCard.read(path.parent)
    Form.of_export(card)
    python_script(card)
    usage(card)


def _report(folder: Path) -> list[bytes]:
    names = dict(runtime="torch", device="cpu", precision="fp32", batch_size=1)
    row = SpeedRow(**names, images_per_second=3.5, latency_ms_p50=2.0)
    tiny.report(speed=[row], quality=Quality(pairs=2, psnr_db=20.0)).write(folder)
    return [(folder / BenchmarkReport.FILE).read_bytes()]


def _run(folder: Path) -> list[bytes]:
    config = {"prepare": {"size": "64x128"}, "train_global": {"epochs": 2}}
    (folder / "runs" / "a").mkdir(parents=True)
    run = begin("demo", config, "/data", {"team": "vision"}, {"git.commit": "abc"}, folder)
    return [(run.folder / "run.json").read_bytes()]


def _read_run(path: Path) -> None:
    run = find(path.parents[1], "latest", "--continue")
    run.raw_data(None)


TARGETS = [
    Target("features", _features, _read_features, ClusterTable.FEATURES, "zip"),
    Target("clusters", _clusters, lambda path: ClusterTable.read(path.parent).default_style(35),
           ClusterTable.FILE, "json"),
    Target("model", _model, _read_model, "model.json", "json"),
    Target("manifest", _manifest, _read_manifest, DatasetManifest.FILE, "json"),
    Target("manifest-of-cache", partial(_manifest, cache=True), _read_manifest,
           DatasetManifest.FILE, "json"),
    Target("cache", _cache, _read_cache, "cache/train.bin"),
    Target("export", _export, _read_export, ExportCard.FILE, "json"),
    Target("report", _report, lambda path: BenchmarkReport.read(path.parent).headline(),
           BenchmarkReport.FILE, "json"),
    Target("run", _run, _read_run, "runs/a/run.json", "json"),
]  # fmt: skip
