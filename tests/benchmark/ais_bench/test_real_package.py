"""The real Python package of ais_bench, over a stand-in of aclruntime, its part in C++, gives what
the stand-in of the package gives: commands, proofs, rows and files.

AIS_BENCH_SOURCES names the folder that holds `ais_bench/`, such as
ais-bench_workload/tool/ais_bench of https://gitcode.com/Ascend/tools (tried: 8da7f645, December
2025)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport
from tests import tiny
from tests.asking import as_flags
from tests.places import ROOT, STAND_INS, put_atc

SOURCES = os.environ.get("AIS_BENCH_SOURCES", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SOURCES, reason="AIS_BENCH_SOURCES names no sources of ais_bench"),
]
PACKAGES = {"stand-in": [STAND_INS], "real": [Path(SOURCES), STAND_INS]}  # aclruntime is in both


def run(root: Path, package: str, step: str, *words: str, **flags) -> str:
    """What a command says on its standard output."""
    environment = os.environ | {
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        "HOME": str(root),
        "PYTHONPATH": os.pathsep.join(map(str, PACKAGES[package])),
    }
    command = [sys.executable, "-m", f"components.{step}", *words, *as_flags(**flags)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A machine with atc, a data set and a model; with each package an export."""
    root = tmp_path_factory.mktemp("machine")
    put_atc(root / "bin")
    tiny.dataset(root / "dataset", test=3, height=32, width=64)
    tiny.model(root / "model", tiny.architecture(), gain=0.1)
    om = dict(format="om", soc_version="Ascend310P3", parity_samples=2, om_batch_sizes=(1, 2))
    for package in PACKAGES:
        folders = dict(model=root / "model", dataset=root / "dataset", exported=root / package)
        run(root, package, "export", **folders, **om)
    return root


def of_npu(rows: list) -> list[dict]:
    """Of a card or a report, with what differs from run to run left out."""
    return [row.model_dump() for row in rows if row.device == "npu"]


def test_the_package_is_the_real_one(root):
    code = "import ais_bench.infer.interface as it; print(it.__file__)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PACKAGES["real"]))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(SOURCES), done.stderr


def test_proofs_are_the_same(root):
    cards = {package: ExportCard.read(root / package) for package in PACKAGES}
    assert of_npu(cards["real"].parity) == of_npu(cards["stand-in"].parity)
    assert len(of_npu(cards["real"].parity)) == 2


@pytest.mark.parametrize("batch_size", [1, 2])
def test_figures_of_pure_are_the_same(root, batch_size):
    om = root / "real" / f"generator_bs{batch_size}.om"
    figures = {
        package: json.loads(
            run(
                root,
                package,
                "benchmark",
                "ais_bench",
                "pure",
                om=om,
                batch_size=batch_size,
                loop=5,
                warmup=2,
            ).splitlines()[-1]
        )
        for package in PACKAGES
    }
    assert figures["real"] == pytest.approx(figures["stand-in"])
    assert figures["real"]["compute_ms_mean"] == 12, "of 10, 11, 12, 13 and 14"


def test_files_of_inputs_are_the_same(root):
    given = dict(dataset=root / "dataset", exported=root / "real", out=root / "inputs")
    said = run(root, "real", "export", "offline", "inputs", **given)
    inputs = said.splitlines()[-1].removeprefix("--input ")
    om = dict(om=root / "real" / "generator_bs2.om", batch_size=2, inputs=inputs)
    figures, files = {}, {}
    for package in PACKAGES:
        out = root / "results" / package
        said = run(root, package, "benchmark", "ais_bench", "inputs", **om, out=out)
        figures[package] = json.loads(said.splitlines()[-1])
        files[package] = {path.name: path.read_bytes() for path in (out / "outputs").iterdir()}
    assert sorted(files["real"]) == [f"test_{i}_0.bin" for i in range(3)]
    assert files["real"] == files["stand-in"]
    assert figures["real"] == pytest.approx(figures["stand-in"])


def test_rows_of_the_benchmark_are_the_same(root):
    rows = {}
    quick = dict(batch_sizes=(1, 2), rounds=2, warmup=1, max_pictures=1, device="cpu")
    for package in PACKAGES:
        folders = dict(exported=root / "real", dataset=root / "dataset", model=root / "model")
        report = root / "reports" / package
        run(root, package, "benchmark", **folders, report=report, **quick)
        read = BenchmarkReport.read(report)
        rows[package] = of_npu(read.parity), of_npu(read.speed)
    assert rows["real"] == rows["stand-in"]
    parity, speed = rows["real"]
    assert len(parity) == 1 and [row["problem"] for row in speed] == ["", ""]


def test_norms_are_compared_with_it(root):
    folders = dict(model=root / "model", dataset=root / "dataset", out=root / "norms")
    how = dict(soc_version="Ascend310P3", parity_samples=1, rounds=3)
    said = run(root, "real", "export", "compare-norms", **folders, **how)
    rows = json.loads(said.splitlines()[-1])["rows"]
    assert [row["passes"] for row in rows] == [True, True]
