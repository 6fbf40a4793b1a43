"""The benchmark on an NPU: fp32 is fp32, HF32 is a row of its own, and both are compared with the
CPU."""

import pytest

import components.export.run
from components.export.config import ExportConfig
from shared.contracts.measured import BenchmarkReport
from tests import tiny
from tests.asking import as_flags
from tests.on_npu import on_npu


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What `python -m components.benchmark` did on a card of A2, and its report."""
    root = tmp_path_factory.mktemp("on_npu")
    tiny.dataset(root / "dataset")
    # Weights so large that the pictures are no mid grey, which would hide what rounding does.
    tiny.model(root / "model", tiny.architecture(), gain=0.2)
    inputs = root / "model", root / "exported", root / "dataset"
    components.export.run.run(*inputs, config=ExportConfig(parity_samples=1))
    folders = {name: root / name for name in ("exported", "dataset", "model", "report")}
    # HF32 between two that must not be rounded by its switches, which are the process's.
    numbers = dict(precisions="hf32 fp32 bf16 auto".split(), batch_sizes=[1], rounds=2, warmup=1)
    done = on_npu("benchmark", *as_flags(**folders, **numbers, max_pictures=0, device="npu"))
    assert done.returncode == 0, done.stderr
    return done, BenchmarkReport.read(root / "report")


def test_fp32_equals_the_cpu_and_each_precision_has_its_own_limit(measured):
    _, report = measured
    found = {(one.runtime, one.device, one.precision): one for one in report.parity}
    assert found.keys() == {
        *(("torch", "npu", precision) for precision in ("hf32", "fp32", "bf16", "fp16")),
        ("onnxruntime", "cpu", "fp32"),
    }
    errors = {key[2]: one.max_abs_error for key, one in found.items() if key[0] == "torch"}
    assert errors["fp32"] == 0
    assert 1e-4 < errors["hf32"] < errors["fp16"] < errors["bf16"]  # 11, 10 and 7 bits of mantissa
    limits = {key[2]: one.limit for key, one in found.items() if key[0] == "torch"}
    assert limits == {"fp32": 1e-3, "hf32": 1e-2, "fp16": 5e-2, "bf16": 0.25}
    assert found["onnxruntime", "cpu", "fp32"].max_abs_error < 1e-5


def test_speed_has_a_row_of_each_and_hf32_reaches_its_kernels_alone(measured):
    done, report = measured
    rows = [(row.runtime, row.precision) for row in report.speed if not row.problem]
    torches = [("torch", precision) for precision in ("hf32", "fp32", "bf16", "fp16")]
    assert rows == [*torches, ("onnxruntime", "fp32")]
    convolutions = done.kernels["aten::convolution"]
    assert 0 < done.hf32["aten::convolution"] < convolutions / 3  # of four runtimes one
