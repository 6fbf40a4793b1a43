"""OpenVINO computes what the exported file says, in the arithmetic that was asked for."""

import json
import subprocess
import sys

import numpy as np
import pytest

import components.export.run
from components.benchmark.__main__ import main as benchmark
from components.export.__main__ import main as export
from components.export.config import ExportConfig
from shared.contracts.measured import BenchmarkReport
from shared.data.images import read_picture
from shared.deployed import openvino_runner
from shared.deployed.openvino_runner import OpenVinoRunner, has_bf16
from shared.deployed.runners import OnnxRunner
from shared.errors import InputError
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.places import ROOT
from tests.shared.deployed.doubling import doubling_file

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("openvino")
    tiny.dataset(root / "dataset")
    tiny.model(root / "model", tiny.architecture())
    inputs = root / "model", root / "exported", root / "dataset"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1, size="dynamic"))
    return {name: root / name for name in ("exported", "dataset", "model")}


def test_batches_are_filled_up_and_cut_as_in_onnx_runtime(tmp_path):
    for size in (3, "batch"):
        file = doubling_file(tmp_path / "doubling.onnx", size)
        runner = OpenVinoRunner(file, "fp32")
        assert runner.batch_size == OnnxRunner(file, "fp32").batch_size
        for count in (1, 2, 3):
            x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
            assert np.array_equal(runner({"x": x}), 2 * x)
    assert (runner.name, runner.device, runner.precision) == ("openvino", "cpu", "fp32")
    with pytest.raises(InputError, match="takes x but is given z: export the model again"):
        runner({"z": x})


def test_a_result_is_not_the_next_ones(tmp_path):
    runner = OpenVinoRunner(doubling_file(tmp_path / "any.onnx", "batch"), "fp32")
    first = runner({"x": np.ones((1, 2), np.float32)})
    runner({"x": np.zeros((1, 2), np.float32)})
    assert (first == 2).all()


# A handler of Python runs on the stack that the thread has for signals; as torch's DataLoader sets
# one for the ends of its workers.
OUTLIVED = """
import signal, subprocess, sys
from shared.deployed.openvino_runner import OpenVinoRunner
first, second = (OpenVinoRunner(sys.argv[1], "fp32") for _ in range(2))
del first
del second
signal.signal(signal.SIGCHLD, lambda *_: print("told"))
subprocess.run(["true"])
"""


def test_a_process_outlives_its_runners(tmp_path):
    file = doubling_file(tmp_path / "any.onnx", "batch")
    command = [sys.executable, "-c", OUTLIVED, str(file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "told\n"), ended.stderr


def test_what_cannot_be_read_or_computed_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x08no graph")
    with pytest.raises(InputError) as refused:
        OpenVinoRunner(tmp_path / "broken.onnx", "fp32")
    said = str(refused.value)
    assert said.startswith(f"{tmp_path}/broken.onnx cannot be loaded by OpenVINO (")
    assert said.endswith("): export the model again.") and "\n" not in said
    file = doubling_file(tmp_path / "any.onnx", "batch")
    with pytest.raises(InputError, match="^--precision fp16: OpenVINO computes in fp32"):
        OpenVinoRunner(file, "fp32", "fp16")
    monkeypatch.setattr(openvino_runner, "has_bf16", lambda: False)
    with pytest.raises(InputError) as refused:
        OpenVinoRunner(file, "fp32", "bf16")
    assert str(refused.value) == (
        "--precision bf16: OpenVINO computes in fp32 on this CPU: say one."
    )


@pytest.mark.slow
def test_without_the_package_the_benchmark_is_refused_before_work(
    folders, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(openvino_runner.importlib.util, "find_spec", lambda name: None)
    flags = as_flags(**folders, report=tmp_path / "report", runtimes="openvino")
    assert refusal_of_command(capsys, benchmark, *flags) == (
        "OpenVINO is not installed: `pip install openvino==2026.4.1`, or leave openvino out."
    )
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_the_benchmark_has_rows_and_parity_of_it(folders, tmp_path, capsys):
    flags = dict(runtimes=("onnxruntime", "openvino"), batch_sizes=(1, 2), rounds=1, warmup=1)
    benchmark(as_flags(**folders, report=tmp_path / "report", **flags, device="cpu"))
    report = BenchmarkReport.read(tmp_path / "report")
    precisions = ["fp32"] + ["bf16"] * has_bf16()
    rows = [(row.runtime, row.precision, row.batch_size) for row in report.speed]
    assert all(("openvino", one, size) in rows for one in precisions for size in (1, 2))
    assert all(row.images_per_second > 0 for row in report.speed)
    errors = {(one.runtime, one.precision): one.max_abs_error for one in report.parity}
    assert errors["openvino", "fp32"] <= 1e-4
    if has_bf16():
        assert 1e-4 < errors["openvino", "bf16"] < 0.25
    headline = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert headline["fps/openvino_fp32/batch_1"] > 0


@pytest.mark.slow
def test_synthesise_paints_with_it(folders, tmp_path):
    pictures = {}
    for runtime in ("onnx", "openvino"):
        flags = as_flags(exported=folders["exported"], dataset=folders["dataset"])
        flags += as_flags(runtime=runtime, out=tmp_path / runtime)
        export(["synthesise", *flags])
        files = sorted((tmp_path / runtime).iterdir())
        pictures[runtime] = [read_picture(file).astype(int) for file in files]
    assert len(pictures["onnx"]) == len(pictures["openvino"]) > 0
    for one, other in zip(*pictures.values(), strict=True):
        assert np.abs(one - other).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--device", "cuda"], "--device cuda: OpenVINO is for CPUs here: leave it out, or use"),
        (["--precision", "tf32"], "--precision tf32: OpenVINO computes in fp32"),
    ],
)
def test_synthesise_says_what_it_cannot(words, sentence, folders, tmp_path, capsys):
    flags = as_flags(exported=folders["exported"], dataset=folders["dataset"])
    flags += as_flags(runtime="openvino", out=tmp_path / "out")
    said = refusal_of_command(capsys, export, "synthesise", *flags, *words)
    assert said.startswith(sentence)
