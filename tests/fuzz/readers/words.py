"""Texts that people and programs write: recipes, options, times, sentences, secrets."""

import contextlib
import json
from datetime import UTC
from pathlib import Path
from unittest import mock

from components.benchmark.config import BenchmarkConfig
from components.cluster.config import ClusterConfig
from components.export.config import ExportConfig
from components.prepare.config import PrepareConfig
from components.train.config import TrainConfig
from pipeline import CONFIGS
from shared.code_version import code_version
from shared.command import _arguments
from shared.errors import InputError
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.images.named import read_images
from shared.pipeline.images.registry import parse
from shared.pipeline.recipes import read_recipe
from shared.pipeline.schedules import crontab, systemd
from shared.pipeline.schedules.cron import read_cron
from shared.pipeline.schedules.schedule import MARK, check_name, describe, find_zone
from shared.pipeline.server.credentials import access_of, shown
from shared.pipeline.server.submitting import check_raw_data
from shared.pipeline.submitting import ServerOptions
from shared.recipes.words import in_words_of_recipe, owners_of
from shared.secrets import without_secrets
from tests.fuzz.engine import Target
from tests.fuzz.readers.raw import text_of

ROOT = Path(__file__).parents[3]
BUILT_IN = ROOT / "shared" / "recipes"
CLUSTERS = [ROOT / "docker" / "kubernetes" / f"{name}.yaml" for name in ("nvidia", "ascend910b")]


def _recipes(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(BUILT_IN.glob("*.yaml"))] + [
        b"prepare: {size: 1x2}\n"
    ]


def _read_recipe(path: Path) -> None:
    read_recipe(str(path), CONFIGS, ())


def _clusters(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in CLUSTERS] + [b"mlflow_uri: http://mlflow:5000\n"]


def _images(folder: Path) -> list[bytes]:
    whole = f"sha256:{'0' * 64}"
    image = dict(name="r.example/t/p:1-cpu", id=whole, digest=whole, size_bytes=1)
    of_all = {one: image | {"code_version": code_version(one)} for one in ("prepare", "train")}
    return [json.dumps(dict(format=1, device="cpu", revision="1", images=of_all)).encode()]


def _overrides(folder: Path) -> list[bytes]:
    return [
        b"train_global.epochs=3\ntrain_global.learning_rate=1e-4",
        b"benchmark.batch_sizes=[1, 4]\nprepare.size=64x128\nprepare.ignore_labels=0,255",
        b"export.opset=17\nexport.size=dynamic\ncluster.min_area=0.1",
    ]


def _override(path: Path) -> None:
    read_recipe("demo", CONFIGS, tuple(text_of(path).split("\n")[:20]))


def _step(config: type):
    def step(dataset: Path, *, config) -> None:
        """Do nothing."""

    step.__annotations__["config"] = config
    return step


STEPS = {
    name: _step(config)
    for name, config in (("prepare", PrepareConfig), ("train", TrainConfig),
                         ("cluster", ClusterConfig), ("export", ExportConfig),
                         ("benchmark", BenchmarkConfig))
}  # fmt: skip


def _options(folder: Path) -> list[bytes]:
    lines = (
        "prepare --dataset d --size 128x256 --num-labels 35 --remap {} --max-images 3",
        "train --dataset d --epochs 3 --learning-rate 2e-4 --ngf 64 --crop 64x64 --no-flip",
        "cluster --dataset d --n-clusters 10 --min-area 0.015 --seed 1",
        "export --dataset d --opset 17 --batch-sizes 1 4 --size dynamic --precision fp16",
        "benchmark --dataset d --batch-sizes 1 4 --precisions fp32 --loop 5 --champion c",
    )
    return [line.replace(" ", "\n").encode() for line in lines]


def _read_options(path: Path) -> None:
    step, *words = text_of(path).split("\n")[:50]
    if step in STEPS and not {"--help", "-h"} & set(words):
        _arguments(STEPS[step], step, words)


def _crontab(folder: Path) -> list[bytes]:
    return [
        f"{MARK} night /p/pipeline.py\n0 2 * * * cd /x && python pipeline.py nightly\n".encode(),
        f"MAILTO=x\n{MARK} n /p\n#off 0 2 * * * cd /x\n".encode(),
    ]


def _read_crontab(path: Path) -> None:
    with mock.patch.object(crontab, "_read", lambda: text_of(path).splitlines()):
        crontab.find()
        crontab._without("night")


def _timer(folder: Path) -> list[bytes]:
    (folder / "systemd" / "user").mkdir(parents=True)
    return [f"{MARK} n /p/pipeline.py\n[Timer]\nOnCalendar=*-*-* 02:00:00\n".encode()]


def _read_timer(path: Path) -> None:
    path.with_suffix(".service").write_bytes(path.read_bytes())
    with mock.patch.object(systemd, "folder_of_units", lambda: path.parent):
        systemd.find()


def _times(folder: Path) -> list[bytes]:
    return [
        b"0 2 * * *",
        b"*/15 1-5 1,15 jan-mar mon-fri",
        b"@daily",
        b"30 2 31 * 0",
        b"Europe/Berlin",
    ]


def _read_times(path: Path) -> None:
    for read in (find_zone, check_name):
        with contextlib.suppress(InputError):
            read(text_of(path))
    describe(read_cron(text_of(path)), "cron", "UTC", UTC)


def _sentences(folder: Path) -> list[bytes]:
    return [
        b"--device npu is not there: say --device cpu, or `python -m x --help`.",
        b"--batch-sizes 1 4: --no-flip, but prepare's --size '1x2' and --remap \"a b\" is: "
        b"use --ngf=4.",
    ]


def _say(path: Path) -> None:
    in_words_of_recipe(text_of(path), owners_of(CONFIGS), "train_global")


def _secrets(folder: Path) -> list[bytes]:
    return [
        b"GET https://user:pa@ss/w@rd@host:80/a?token=abc&X-Amz-Signature=00#x failed",
        b"Authorization: Bearer abcdefghijk, s3://k:s@b/c?sig=1;pwd=2",
    ]


def _hide(path: Path) -> None:
    without_secrets(text_of(path))
    before = text_of(path)[:1000].rpartition(" ")[0]
    assert "geheim99" not in without_secrets(f"{before} https://me:geheim99@host/x")


def _addresses(folder: Path) -> list[bytes]:
    return [
        b"http://u:p@kfp:8080/pipeline",
        b"https://[::1]/",
        b"localhost:5000/a/b:tag",
        b"a@sha256:0",
    ]


def _read_address(path: Path) -> None:
    parse(text_of(path))
    text = text_of(path)
    for read in (shown, check_raw_data, lambda host: access_of(ServerOptions(host=host))):
        with contextlib.suppress(InputError):
            read(text)


TARGETS = [
    Target("recipe", _recipes, _read_recipe, "own.yaml", "text"),
    Target("cluster-file", _clusters, read_cluster, "own.yaml", "text"),
    Target("images-file", _images, lambda path: read_images(str(path)), "own.json", "text"),
    Target("set", _overrides, _override, form="text"),
    Target("options", _options, _read_options, form="text"),
    Target("crontab", _crontab, _read_crontab, form="text"),
    Target("timer", _timer, _read_timer, "systemd/user/n.timer", "text"),
    Target("times", _times, _read_times, form="text"),
    Target("sentences", _sentences, _say, form="text"),
    Target("secrets", _secrets, _hide, form="text"),
    Target("addresses", _addresses, _read_address, form="text"),
]
