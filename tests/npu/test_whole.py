"""What takes longest on the stand-in of an NPU: two cards, and a whole pipeline."""

import json

import pytest

from shared.contracts.measured import BenchmarkReport
from tests import tiny
from tests.asking import as_flags
from tests.calling import SMALL
from tests.on_npu import on_npu

pytestmark = pytest.mark.slow
STEPS_WITH_A_DEVICE = ("train_global", "cluster", "train_local", "benchmark")


def test_two_cards_train_one_model(tmp_path):
    """Each process on its own card; gradients and weights go by hccl alone, which takes tensors of
    the device only."""
    tiny.dataset(tmp_path / "dataset")
    options = as_flags(**tiny.TRAIN | dict(epochs=1, epochs_decay=0, batch_size=2, devices=2))
    folders = ["--dataset", tmp_path / "dataset", "--model", tmp_path / "model"]
    done = on_npu("train", *folders, *options, "--device", "npu", "--precision", "fp32")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"set_device(0)", "set_device(1)"} <= done.calls.keys()
    assert done.calls["hccl.allreduce"] and done.calls["hccl.broadcast"]
    assert done.copies["npu->cpu"] and (tmp_path / "model" / "latest_net_G.pth").is_file()


def test_the_pipeline_runs_on_an_npu_from_pictures_to_its_verdict(tmp_path):
    numbers = [*SMALL, *(f"{step}.device=npu" for step in STEPS_WITH_A_DEVICE)]
    numbers += ["prepare.max_images=8", "train_global.epochs=1", "benchmark.rounds=1"]
    runs = tmp_path / "runs"
    done = on_npu("pipeline", "submit", "--runs", runs, "--set", *numbers, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = runs.rglob(f"report/{BenchmarkReport.FILE}")
    report = BenchmarkReport.read(file.parent)
    assert {row.precision for row in report.speed if row.runtime == "torch"} >= {"fp32", "fp16"}
    assert "npu" in json.dumps(report.environment)
    on_device = [p for p in done.processes if p["kernels"].get("aten::convolution")]
    assert len(on_device) == len(STEPS_WITH_A_DEVICE) and not done.unlisted
