"""The benchmark on a card: fp32 is fp32, what rounds it is a row of its own, and all are compared
with the CPU."""

from pathlib import Path

import pytest
import torch

import components.export.run
from components.benchmark.__main__ import main
from components.export.config import ExportConfig
from shared.contracts.exported import Parity
from shared.contracts.measured import BenchmarkReport
from tests import tiny
from tests.asking import as_flags
from tests.on_npu import on_npu

NUMBERS = dict(batch_sizes=[1], rounds=2, warmup=1, max_pictures=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("on_cards")
    tiny.dataset(root / "dataset")
    # Weights so large that the pictures are no mid grey, which would hide what rounding does.
    tiny.model(root / "model", tiny.architecture(), gain=0.2)
    inputs = root / "model", root / "exported", root / "dataset"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1))
    return {name: root / name for name in ("exported", "dataset", "model", "report")}


@pytest.fixture(scope="module")
def measured(folders):
    """What `python -m components.benchmark` did on a card of A2, and its report."""
    # HF32 between two that must not be rounded by its switches, which are the process's.
    numbers = NUMBERS | dict(precisions="hf32 fp32 bf16 auto".split(), device="npu")
    done = on_npu("benchmark", *as_flags(**folders, **numbers))
    assert done.returncode == 0, done.stderr
    return done, BenchmarkReport.read(folders["report"])


def of_torch(report: BenchmarkReport) -> dict[str, Parity]:
    """By precision."""
    return {one.precision: one for one in report.parity if one.runtime == "torch"}


def test_fp32_equals_the_cpu_and_each_precision_has_its_own_limit(measured):
    _, report = measured
    found = of_torch(report)
    assert {one.device for one in found.values()} == {"npu"}
    errors = {precision: one.max_abs_error for precision, one in found.items()}
    assert errors["fp32"] == 0
    assert 1e-4 < errors["hf32"] < errors["fp16"] < errors["bf16"]  # 11, 10 and 7 bits of mantissa
    limits = {precision: one.limit for precision, one in found.items()}
    assert limits == {"hf32": 1e-2, "fp32": 1e-3, "bf16": 0.25, "fp16": 5e-2}
    (file,) = [one for one in report.parity if one.runtime == "onnxruntime"]
    assert (file.device, file.limit) == ("cpu", 1e-4) and file.max_abs_error < 1e-5


def test_speed_has_a_row_of_each_and_hf32_reaches_its_kernels_alone(measured):
    done, report = measured
    rows = [(row.runtime, row.precision) for row in report.speed if not row.problem]
    torches = [("torch", precision) for precision in ("hf32", "fp32", "bf16", "fp16")]
    assert rows == [*torches, ("onnxruntime", "fp32")]
    convolutions = done.kernels["aten::convolution"]
    assert 0 < done.hf32["aten::convolution"] < convolutions / 3  # of four runtimes one


@pytest.mark.slow
def test_fp32_is_left_out_on_a_chip_that_has_none(folders, tmp_path):
    words = as_flags(**folders | {"report": tmp_path / "report"}, **NUMBERS, device="npu")
    done = on_npu("benchmark", *words, chip="910")
    assert done.returncode == 0, done.stderr
    assert "benchmark: not measured: --precision fp32: this Ascend910A has no conv" in done.stdout
    rows = BenchmarkReport.read(tmp_path / "report").speed
    assert [(row.device, row.precision) for row in rows] == [("npu", "fp16"), ("cpu", "fp32")]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_a_gpu_is_compared_with_the_cpu_too(folders, tmp_path):
    numbers = NUMBERS | dict(precisions="tf32 fp32 fp16".split(), device="cuda")
    main(as_flags(**folders | {"report": tmp_path / "report"}, **numbers))
    found = of_torch(BenchmarkReport.read(tmp_path / "report"))
    assert 0 < found["fp32"].max_abs_error < found["fp32"].limit == 1e-3
    assert found["fp32"].max_abs_error < found["tf32"].max_abs_error < found["tf32"].limit == 1e-2
