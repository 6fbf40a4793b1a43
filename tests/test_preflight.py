"""What a run will need is said before its first step, of all steps at once."""

import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

import components.benchmark.checks as benchmark_checks
import components.prepare.checks as prepare_checks
import components.train.checks as train_checks
import pipeline
from components.benchmark.config import BenchmarkConfig
from components.prepare.config import PrepareConfig
from components.train.config import TrainConfig
from components.train.run import run as run_training
from shared.contracts.forecast import Forecast, PreparedData
from shared.contracts.model import ModelCard
from shared.pipeline import preflight
from shared.pipeline.images import registry as images
from shared.pipeline.preflight import (
    check_disk,
    check_runs_folder,
    check_store,
)
from shared.pipeline.recipes import read_recipe
from shared.pipeline.runs import begin
from shared.published.files import INCEPTION, LPIPS_VGG, VGG16, VGG19
from tests import tiny
from tests.asking import refusal
from tests.calling import call
from tests.loopback import serving
from tests.measuring import mean_colour
from tests.places import NOWHERE
from tests.prepare.files import noise, save


def missed(capfd, *words: str) -> list[str]:
    """What a verb misses that is called in this process, a line each."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        pipeline.main([*words])
    assert stop.value.code == 2
    return capfd.readouterr().err.splitlines()


def begins(said: list[str], *beginnings: str) -> None:
    """Each line is one sentence, and begins as it should, in this order."""
    assert len(said) == len(beginnings), said
    for line, beginning in zip(said, beginnings, strict=True):
        assert line.startswith(beginning) and line.endswith("."), line


@pytest.mark.parametrize(
    "weights, unknown, refused",
    [
        ("auto", "--vgg-weights auto: whether pods can download it", ""),
        ("/weights/vgg.pth", "--vgg-weights /weights/vgg.pth: whether pods see it", ""),
        ("vgg.pth", "", "--vgg-weights vgg.pth is a path from here, which leads nowhere in a pod"),
    ],
)
def test_of_vgg_on_a_server_it_says_what_nobody_sees_from_here(weights, unknown, refused):
    config = TrainConfig(vgg_weights=weights, lambda_vgg=10)
    forecast = train_checks.preflight(None, None, None, Path("model"), config, here=False)
    for said, found in ((unknown, forecast.unknown), (refused, forecast.refusals)):
        assert [one[: len(said)] for one in found] == [said] * bool(said)
    off = TrainConfig(vgg_weights=weights, lambda_vgg=0)
    silent = train_checks.preflight(None, None, None, Path("model"), off, here=False)
    assert not silent.unknown and not list(silent.refusals)


def test_files_tools_and_devices_of_all_steps_are_missed_at_once_and_nothing_was_made(tmp_path):
    mean_colour(tmp_path / "one_input.onnx")
    words = "submit --runs made/here --set train_global.device=cuda".split()
    words += "train_local.lambda_vgg=1 train_local.vgg_weights=v.pth".split()
    words += "export.format=om export.soc_version=Ascend310P3".split()
    words += "benchmark.lpips_network=one_input.onnx benchmark.fid_network=nix.onnx".split()
    words += "benchmark.segmentation_network=none.onnx train_local.amp_backend=apex".split()
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    begins(
        done.stderr.splitlines(),
        "train_global: --set train_global.device=cuda: torch sees no NVIDIA GPU here",
        "train_local: --set train_local.amp_backend=apex needs apex.amp, which is not installed",
        "train_local: train_local.lambda_vgg is 1 but --set train_local.vgg_weights='v.pth' is no",
        "export: --set export.format=om needs atc, which is not on PATH",
        "benchmark: --set benchmark.lpips_network=one_input.onnx has 1 inputs (x)",
        "benchmark: --set benchmark.fid_network=nix.onnx is no file",
        "benchmark: --set benchmark.segmentation_network=none.onnx is no file",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["one_input.onnx"]


def test_weights_that_will_be_downloaded_are_said_with_their_size_or_missed(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    words = "preflight --recipe label2city_512p --set benchmark.lpips_network=vgg".split()
    words.append("benchmark.fid_network=inception")
    sizes = {file.name: file.size for file in (VGG19, VGG16, LPIPS_VGG, INCEPTION)}
    with serving(**dict.fromkeys(sizes, b"")) as server:
        monkeypatch.setenv("WEIGHTS_MIRROR", server.url)
        server.claims = {f"/{name}": size for name, size in sizes.items()}
        pipeline.main(words)
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["train_global"].endswith(", vgg19-dcbb9e9d.pth (575 MB) will be downloaded")
    assert rows["benchmark"].endswith(
        "on cpu, vgg16-397923af.pth (553 MB) will be downloaded, lpips-vgg-a78928a0.pth will be "
        "downloaded, pt_inception-2015-12-05-6726825d.pth (96 MB) will be downloaded"
    )

    assert not list(tmp_path.iterdir())


def test_weights_that_can_not_be_downloaded_are_missed(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("WEIGHTS_MIRROR", "http://user:secret@127.0.0.1:9")
    train = TrainConfig(lambda_vgg=1, lpips_network="alex", fid_network="inception")
    said = train_checks.preflight(None, None, None, NOWHERE, train).refusals
    begins(
        said,
        "--vgg-weights auto needs vgg19-dcbb9e9d.pth (575 MB), which is not here and cannot",
        "--lpips-network alex needs alexnet-owt-7be5be79.pth (244 MB), which is not here",
        "--lpips-network alex needs lpips-alex-df73285e.pth, which is not here",
        "--fid-network inception needs pt_inception-2015-12-05-6726825d.pth (96 MB), which",
    )
    assert f"and put it to {tmp_path}/torch/hub/checkpoints/vgg19-dcbb9e9d.pth" in said[0]
    assert not any("secret" in sentence for sentence in said)
    small = BenchmarkConfig(lpips_network="alex")
    (_, _, refused) = benchmark_checks.preflight(None, (16, 64), small).refusals
    assert refused.startswith("--lpips-network alex needs pictures of 31 pixels a side or more but")


def test_contradictions_between_steps_and_a_place_that_cannot_be_written_are_said(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    words = "--runs a_file/below --set prepare.instances=none prepare.size=8x64".split()
    words += "prepare.remap=none.json export.style=instance".split()
    said = missed(capfd, "preflight", *words)
    needs_maps = "--set {step}.feature_regions=instances needs instance maps, but the data set has"
    begins(
        said,
        "prepare: --set prepare.remap=none.json is no file",
        f"train_global: {needs_maps.format(step='train_global')}",
        "cluster: the data set of prepare has no instance maps",
        "train_local: the data set holds demo, which is 8x64 but these networks need 16 pixels",
        f"train_local: {needs_maps.format(step='train_local')}",
        "export: --set export.style=instance needs instance maps",
        f"runs: --runs {tmp_path}/a_file/below cannot be written ({tmp_path}/a_file is a file)",
    )
    assert "or leave out train_local.instance_features." in said[4]
    assert "prepare it with --set prepare.instances=files" in said[4]


def test_a_run_that_goes_on_needs_nothing_for_what_it_has_done(tmp_path, monkeypatch, capfd):
    """Paths are those of the folder in which it was started."""
    (tmp_path / "start").mkdir()
    mean_colour(tmp_path / "start" / "fid.onnx")
    monkeypatch.chdir(tmp_path / "start")
    overrides = "train_global.device=cuda train_local.device=npu benchmark.fid_network=fid.onnx"
    config = read_recipe("demo", pipeline.CONFIGS, tuple(overrides.split()))
    run = begin("demo", config, "/gone", {}, {}, tmp_path / "runs")
    run.note_step("prepare", state="finished")
    run.note_step("train_global", state="reused")
    (tmp_path / "elsewhere").mkdir()
    arguments = ["--continue", run.name, "--runs", "../runs"]
    monkeypatch.chdir(tmp_path / "elsewhere")
    (only,) = missed(capfd, "submit", *arguments)
    assert only.startswith("train_local: --set train_local.device=npu: torch_npu is not")
    run.note_step("train_local", state="finished")
    monkeypatch.chdir(tmp_path / "elsewhere")
    pipeline.main(["preflight", *arguments])
    assert capfd.readouterr().out.splitlines()[-1] == "preflight: all there"
    assert not list((tmp_path / "elsewhere").iterdir())


# What single steps say, from this process.


def of_prepare(raw_data: object, runs: Path, **options) -> Forecast:
    config = PrepareConfig.check(options | {"copies": str(runs / "copies")})
    return prepare_checks.preflight(raw_data and str(raw_data), runs / "dataset", config)


def raw_pairs(folder: Path, count: int) -> Path:
    """`count` flat training pairs of 40x80, 41x80, ... pixels and one test pair."""
    for split, rows in (("train", range(40, 40 + count)), ("test", [40])):
        for height in rows:
            maps = noise(height, height, 80, high=35)
            save(folder / f"{split}_label" / f"{height}.png", maps)
            save(folder / f"{split}_inst" / f"{height}.png", maps.astype(np.uint16))
            save(folder / f"{split}_img" / f"{height}.png", noise(height, height, 80, 3))
    return folder


def test_pairs_of_a_folder_are_counted_and_the_first_are_measured(tmp_path):
    raw = raw_pairs(tmp_path / "raw", 3)
    seen = of_prepare(raw, tmp_path, size="keep")
    assert (seen.found, seen.refusals, seen.unknown) == ("3 + 1 pairs", [], [])
    assert [pair.height for pair in seen.gives.manifest.train] == [40, 41, 42]
    trained = train_checks.preflight(seen.gives, None, None, NOWHERE, TrainConfig(batch_size=2))
    (refused,) = trained.refusals
    assert refused.startswith("--batch-size 2: 40 gives 40x80 but 41 41x80")

    save(raw / "train_label" / "41.png", noise(0, 7, 80, high=35))
    (refused,) = of_prepare(raw, tmp_path, size="keep").refusals
    assert refused.startswith("--raw-data: ") and "is 41x80 but" in refused
    assert not (tmp_path / "dataset").exists()


def test_raw_data_that_are_not_here_yet_are_a_note_and_of_known_size(tmp_path):
    raw = raw_pairs(tmp_path / "raw", 1)
    archive = Path(shutil.make_archive(str(tmp_path / "set"), "zip", raw))
    packed = of_prepare(archive, tmp_path, size="32x64")
    assert packed.refusals == []
    assert packed.unknown == [f"{archive}: what is packed in it was not looked at"]
    assert packed.gives.manifest.common_size() == (32, 64)
    assert of_prepare(archive, tmp_path, size="keep").gives is None
    archive.write_bytes(archive.read_bytes()[:100])
    assert "no whole archive" in of_prepare(archive, tmp_path).refusals[0]


def test_stores_demo_scenes_and_missing_folders_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    (refused,) = of_prepare("s3://bucket/x", tmp_path).refusals
    assert refused == "--raw-data s3://bucket/x needs s3fs: pip install s3fs."
    assert "is no folder" in of_prepare(tmp_path / "none", tmp_path).refusals[0]
    (refused,) = of_prepare(None, tmp_path, layout="side_by_side").refusals
    assert refused.startswith("--layout side_by_side does not fit the demo scenes")


def test_a_disk_that_is_too_small_is_said_with_the_estimate(tmp_path, monkeypatch):
    """The sum of what stays, and the most that passes."""
    forecasts = {"a": Forecast(stay_bytes=2e9, passing_bytes=1e9), "b": Forecast(passing_bytes=3e9)}
    free = iter([4.9e9, 5.1e9])
    usage = lambda _: SimpleNamespace(free=next(free))  # noqa: E731
    monkeypatch.setattr("shared.pipeline.preflight.disk_usage", usage)
    sentence = refusal(check_disk, forecasts, tmp_path)
    assert "about 5 GB by estimate (a 2) but" in sentence and "has 4.9 GB free" in sentence
    assert "5.1 GB free" in check_disk(forecasts, tmp_path)


def test_runs_that_cannot_be_written_are_refused():
    sentence = refusal(check_runs_folder, Path("/proc/none/runs"))
    assert sentence.startswith("--runs /proc/none/runs cannot be written (")


def test_an_environment_in_which_mlflow_makes_no_database_is_refused(monkeypatch):
    spec = SimpleNamespace(origin="/a 100%/.venv/lib/mlflow/__init__.py")
    monkeypatch.setattr("shared.pipeline.preflight.find_spec", lambda _: spec)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "from /a 100%/.venv/lib/mlflow, a path with a %" in refusal(check_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    check_store()


def test_a_training_that_goes_on_needs_nothing_of_what_it_began_at(tmp_path):
    manifest = tiny.dataset(tmp_path / "dataset")
    prepared, model = PreparedData(manifest, has_cache=True), tmp_path / "model"
    once = tiny.TRAIN | dict(epochs=1, epochs_decay=0, validate_every_epochs=0)
    gone = TrainConfig.check(dict(epochs=2, start_from=str(tmp_path / "gone")))
    (refused,) = train_checks.preflight(prepared, None, None, model, gone).refusals
    assert refused.startswith(f"--start-from {tmp_path / 'gone'} is no folder")
    run_training(tmp_path / "dataset", model, config=TrainConfig.check(once))
    seen = train_checks.preflight(prepared, None, None, model, gone)
    assert seen.refusals == [] and seen.gives.architecture == ModelCard.read(model).architecture


def test_weights_to_start_from_that_are_others_are_said_before_the_first_step(tmp_path):
    manifest, start = tiny.dataset(tmp_path / "dataset"), tmp_path / "start"
    prepared = PreparedData(manifest, has_cache=True)
    tiny.model(start, tiny.architecture())
    config = TrainConfig.check(tiny.TRAIN | dict(epochs=1, start_from=str(start)))
    ask = [prepared, None, None, NOWHERE, config]
    assert train_checks.preflight(*ask).refusals == []
    torch.save({}, start / "latest_net_G.pth")
    (refused,) = train_checks.preflight(*ask).refusals
    assert refused.startswith(
        f"--start-from {start}: latest_net_G.pth is not the file that was written with model.json: "
    )


def test_the_estimate_of_a_training_is_what_it_leaves(tmp_path):
    dataset = tmp_path / "dataset"
    manifest = tiny.dataset(dataset)
    config = TrainConfig.check(tiny.TRAIN | dict(epochs=2, epochs_decay=0, validate_every_epochs=1))
    expected = train_checks.preflight(
        PreparedData(manifest, has_cache=True), None, None, NOWHERE, config
    )
    run_training(dataset, tmp_path / "model", config=config)
    left = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*.pt*"))
    copied = sum(file.stat().st_size for file in (tmp_path / "model").glob("latest*"))
    assert left + copied == pytest.approx(expected.stay_bytes, rel=0.15)  # headers of tiny tensors


def test_workers_need_shared_memory(tmp_path, monkeypatch):
    manifest = tiny.dataset(tmp_path / "dataset")
    few = lambda _: SimpleNamespace(free=1000)  # noqa: E731
    monkeypatch.setattr("components.train.checks.shutil.disk_usage", few)
    check = train_checks.check_shared_memory
    sentence = refusal(check, TrainConfig(workers=2), manifest, has_cache=False)
    assert sentence.startswith(
        "--workers 2 hand over batches through /dev/shm, where 0 MB are free"
    )
    check(TrainConfig(workers=2), manifest, has_cache=True)
    check(TrainConfig(workers=0), manifest, has_cache=False)
    check(TrainConfig(workers=2, cache="memory"), manifest, has_cache=False)


# Images.


@pytest.mark.parametrize(
    "image, parts",
    [
        ("name", ("", "name", "latest")),
        ("user/name:2", ("", "user/name", "2")),
        ("host:5000/name", ("host:5000", "name", "latest")),
        ("ghcr.io/user/name:2", ("ghcr.io", "user/name", "2")),
        ("localhost/name@sha256:00", ("localhost", "name", "sha256:00")),
        ("ghcr.io/name:2@sha256:00", ("ghcr.io", "name", "sha256:00")),
    ],
)
def test_an_images_name_is_parsed_by_dockers_rule(image, parts):
    assert images.parse(image) == parts


# Its process, and what is done meanwhile.

WAITING = """
import pathlib, sys, time
here = pathlib.Path(__file__).parent
(here / "begun").touch()
while not (here / "done").exists():
    time.sleep(0.02)
sys.exit(2)
"""


def wait_for(file):
    end = time.monotonic() + 60
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.02)


def test_what_is_loaded_meanwhile_is_loaded_while_the_preflight_works(tmp_path, monkeypatch):
    (tmp_path / "pipeline.py").write_text(WAITING)
    monkeypatch.setattr(preflight, "ROOT", tmp_path)

    def meanwhile():
        wait_for(tmp_path / "begun")
        (tmp_path / "done").touch()

    with pytest.raises(SystemExit) as end:
        preflight.run_preflight(meanwhile, recipe="demo")
    assert end.value.code == 2


def test_a_stop_meanwhile_ends_the_preflight(tmp_path, monkeypatch):
    (tmp_path / "pipeline.py").write_text(WAITING)
    monkeypatch.setattr(preflight, "ROOT", tmp_path)
    started = []

    def meanwhile():
        wait_for(tmp_path / "begun")
        for one in psutil.Process().children():
            started.extend([one] if str(tmp_path / "pipeline.py") in one.cmdline() else [])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preflight.run_preflight(meanwhile)
    assert started and not any(one.is_running() for one in started)
