"""From a model to pictures by way of an NPU: every command is real, atc and ais_bench are stand-ins
(tests/stand_ins).

Contract tests: no NPU took part. What each of the two refuses, and how it fails, is in test_om and
test_ais_bench."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from components.benchmark.__main__ import main as benchmark_main
from components.export.__main__ import main
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, OmFile
from shared.contracts.measured import BenchmarkReport
from shared.data.images import read_picture
from shared.data.reader import PairReader
from shared.deployed.form import Form
from shared.deployed.synthesiser import Synthesiser, to_pixels
from shared.networks.checkpoint import load_generator
from tests import tiny
from tests.asking import as_flags
from tests.places import STAND_INS, put_atc

H, W = 32, 64


@pytest.fixture(autouse=True, scope="module")
def machine(tmp_path_factory):
    """A machine with CANN and an NPU; on it a data set and two models, "styled" one with instance
    features."""
    root = tmp_path_factory.mktemp("machine")
    atc = put_atc(root / "bin")
    tiny.dataset(root / "dataset", test=3, height=H, width=W)
    # The gain is large enough for pictures with contrast.
    tiny.model(root / "plain" / "model", tiny.architecture(), gain=0.1)
    styled = tiny.model(root / "styled" / "model", tiny.architecture(feat_num=3), gain=0.1)
    tiny.write_clusters(root / "styled" / "clusters", styled.digest, tiny.style_of_each_label(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{atc.parent}:/usr/bin:/bin")
        patch.setenv("HOME", str(root))  # for CANN's logs
        patch.setenv("PYTHONPATH", str(STAND_INS))
        patch.syspath_prepend(STAND_INS)
        yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "ais_bench"]:
        del sys.modules[name]


def arguments(machine: Path, model: str, exported: Path, *flags: str) -> list[str]:
    """Of `python -m components.export`."""
    folders = dict(model=machine / model / "model", dataset=machine / "dataset", exported=exported)
    if model == "styled":
        folders["clusters"] = machine / model / "clusters"
    om = dict(format="om", soc_version="Ascend310P3", parity_samples=2)
    return [*as_flags(**folders, **om), *flags]


def export(*args) -> int:
    """Exit status of the step, in this process."""
    try:
        main(arguments(*args))
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.fixture(scope="module")
def plain(machine):
    exported = machine / "plain" / "exported"
    assert export(machine, "plain", exported, "--om-batch-sizes", "4", "1") == 0
    return exported


@pytest.fixture(scope="module")
def gears(machine):
    """All that differs from the other one: styles as input, ids of 16 bits, pictures of 8, one
    file."""
    exported = machine / "styled" / "exported"
    form = ("--style", "label", "--ids", "int16", "--output", "uint8")
    assert (
        export(machine, "styled", exported, *form, "--om-gears", "--om-batch-sizes", "1", "2") == 0
    )
    return exported


def left(exported: Path) -> list[str]:
    return sorted(path.name for path in exported.iterdir())


def check_onnx_stays(exported: Path) -> None:
    """The step wrote and proved it before it came to atc."""
    assert not list(exported.rglob("*.om"))
    card = ExportCard.read(exported)
    assert card.om == [] and [parity.runtime for parity in card.parity] == ["onnxruntime"]
    onnx.checker.check_model(exported / card.file, full_check=True)


# The export step.


def test_a_file_for_each_batch_size(plain):
    card = ExportCard.read(plain)
    made = dict(soc_version="Ascend310P3", precision="fp16")
    assert card.om == [OmFile(file=f"generator_bs{n}.om", batch_sizes=[n], **made) for n in (1, 4)]
    assert [
        (parity.runtime, parity.device, parity.precision, parity.limit) for parity in card.parity
    ] == [
        ("onnxruntime", "cpu", "fp32", 1e-4),
        ("om", "npu", "fp16", 0.05),
        ("om", "npu", "fp16", 0.05),
    ]
    assert all(parity.max_abs_error < 1e-4 for parity in card.parity), (
        "the stand-in computes in fp32"
    )
    oms = [f"generator_bs{n}.om" for n in (1, 4)]
    assert left(plain) == [
        "atc_bs1.log",
        "atc_bs4.log",
        "export.json",
        "generator.onnx",
        *oms,
        "paint.py",
    ]
    assert {(plain / om).stat().st_mode & 0o777 for om in oms} == {0o640}
    assert [
        onnx.load(plain / om).graph.input[0].type.tensor_type.shape.dim[0].dim_value for om in oms
    ] == [1, 4]


def test_one_file_with_gears(gears):
    card = ExportCard.read(gears)
    assert card.om == [
        OmFile(file="generator_gears.om", soc_version="Ascend310P3", batch_sizes=[1, 2])
    ]
    assert [parity.runtime for parity in card.parity] == ["onnxruntime", "om"]
    assert left(gears) == [
        "atc_gears.log",
        "export.json",
        "generator.onnx",
        "generator_gears.om",
        "paint.py",
    ]
    log = (gears / "atc_gears.log").read_text()
    assert f"--input_shape=labels:-1,{H},{W};instances:-1,{H},{W};style:-1,36,3'" in log
    assert "--dynamic_batch_size=1,2" in log


def test_without_cann_the_onnx_file_stays(machine, tmp_path, monkeypatch, capsys):
    (tmp_path / "generator_bs1.om").write_bytes(b"of an earlier run")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert export(machine, "plain", tmp_path) == 2
    assert capsys.readouterr().err == (
        "export refused: --format om needs atc, which is not on PATH: install the CANN toolkit "
        "and run `source /usr/local/Ascend/ascend-toolkit/set_env.sh`, or use the image of "
        "docker/npu.Dockerfile; the ONNX file stays as it is.\n"
    )
    check_onnx_stays(tmp_path)


def test_a_failure_of_atc_is_shown(machine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(
        "ATC_STAND_IN_FAILS", "E16002: No ONNX parser is registered for optype ai.onnx::17::Pad."
    )
    assert export(machine, "plain", tmp_path, "--om-fallback", "onehot") == 1, "not of the ids"
    problem, error, trace, empty, advice, logs = capsys.readouterr().err.splitlines()
    assert problem == "export failed: atc did not compile generator_bs1.om: exit status 255."
    assert error.startswith("  E16002: [PID: ") and error.endswith(
        "registered for optype ai.onnx::17::Pad."
    )
    assert advice.startswith("Advice: this CANN cannot read that operator at this opset")
    assert logs.startswith(
        f"Logs: {tmp_path}/atc_bs1.log and {machine}/ascend/log/debug/plog/plog-"
    )
    check_onnx_stays(tmp_path)


def of_the_seeds_form(exported: Path) -> ExportCard:
    card = ExportCard.read(exported)
    assert card.graph.form == "onehot" and [spec.name for spec in card.inputs] == ["input_concat"]
    assert [(one.runtime, one.device) for one in card.parity] == [
        ("onnxruntime", "cpu"),
        ("om", "npu"),
    ]
    assert [one.file for one in card.om] == ["generator_bs1.om"]
    return card


ADVICE = "Advice: this atc does not take the integers of --form maps; say --form onehot"


def test_refused_ids_are_advised_against(machine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATC_STAND_IN_REFUSES", "INT32")
    assert export(machine, "plain", tmp_path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "export failed: atc did not compile generator_bs1.om: exit status 255."
    assert "data type DT_INT32 of input [x] is not supported" in lines[1]
    assert lines[-1] == f"{ADVICE}, or --om-fallback onehot, which does that by itself."
    check_onnx_stays(tmp_path)


def test_with_a_fallback_the_steps_after_follow_the_seeds_form(
    machine, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("ATC_STAND_IN_REFUSES", "INT32")
    exported = tmp_path / "exported"
    assert export(machine, "plain", exported, "--om-fallback", "onehot") == 0
    said = capsys.readouterr().out
    assert "data type DT_INT32 of input" in said
    assert "export: --om-fallback onehot: exports in that form\n" in said
    of_the_seeds_form(exported)

    # What measures it, and what feeds it.
    given = as_flags(exported=exported, dataset=machine / "dataset")
    quick = as_flags(batch_sizes=(1,), rounds=2, warmup=1, max_pictures=1, device="cpu")
    model = as_flags(model=machine / "plain" / "model", report=tmp_path / "report")
    benchmark_main([*given, *model, *quick])
    report = BenchmarkReport.read(tmp_path / "report")
    assert [row.problem for row in report.speed if row.runtime == "ais_bench"] == [""]
    assert ("om", "npu") in {(parity.runtime, parity.device) for parity in report.parity}
    main(["offline", "inputs", *given, "--out", f"{tmp_path}/inputs"])
    assert left(tmp_path / "inputs") == ["input_concat"]


@pytest.mark.slow
def test_a_fallback_that_fails_leaves_the_earlier_export(
    machine, plain, tmp_path, monkeypatch, capsys
):
    exported = shutil.copytree(plain, tmp_path / "exported")
    monkeypatch.setenv("ATC_STAND_IN_REFUSES", "UINT8")
    monkeypatch.setenv("ATC_STAND_IN_SCALES", "1.5")
    assert export(machine, "plain", exported, "--om-fallback", "onehot") == 1
    said = capsys.readouterr()
    assert "exports in that form" in said.out
    assert "the file differs from the PyTorch model" in said.err
    for file in ("export.json", "generator.onnx", "generator_bs1.om", "generator_bs4.om"):
        assert (exported / file).read_bytes() == (plain / file).read_bytes(), file


def test_a_file_that_computes_something_else_does_not_stay(machine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATC_STAND_IN_SCALES", "1.5")
    assert export(machine, "plain", tmp_path, "--om-batch-sizes", "1", "2") == 1
    said = capsys.readouterr()
    assert re.fullmatch(
        r"export failed: the file differs from the PyTorch model on map \S+: om on npu, fp16: "
        r"max abs error \S+, .*; PyTorch's own fp32 and fp64 are \S+ apart there\.\n",
        said.err,
    )
    assert "equal to PyTorch: onnxruntime on cpu" in said.out
    check_onnx_stays(tmp_path)


# The choice of a norm.


def compared_norms(machine: Path, out: Path, *flags: str) -> int:
    folders = dict(model=machine / "plain" / "model", dataset=machine / "dataset", out=out)
    how = dict(soc_version="Ascend310P3", parity_samples=1, rounds=4)
    try:
        main(["compare-norms", *as_flags(**folders, **how), *flags])
    except SystemExit as stop:
        return stop.code
    return 0


def test_both_norms_are_compiled_proven_timed_and_one_is_named(machine, tmp_path, capsys):
    assert compared_norms(machine, tmp_path, "--om-batch-sizes", "1", "2") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    found = json.loads(line)
    assert json.loads((tmp_path / "norms.json").read_text()) == found
    assert [(row["instance_norm"], row["batch_size"]) for row in found["rows"]] == [
        ("precise", 1),
        ("precise", 2),
        ("native", 1),
        ("native", 2),
    ]
    for row in found["rows"]:
        assert row["passes"] and row["limit"] == 0.05 and 0 < row["max_abs_error"] < 1e-4
        assert 0 < row["ms_p25"] <= row["ms_p50"] <= row["ms_p75"] < 1000
    for norm, operators in (("precise", 0), ("native", 7)):
        graph = onnx.load(tmp_path / norm / "generator_bs2.om").graph
        named = [node for node in graph.node if node.op_type == "InstanceNormalization"]
        assert len(named) == operators, norm
    assert found["instance_norm"] in ("precise", "native") and found["reason"]
    assert (found["soc_version"], found["rounds"]) == ("Ascend310P3", 4)


@pytest.mark.slow
def test_a_chip_without_the_native_norm(machine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATC_STAND_IN_REFUSES", "InstanceNormalization")
    assert compared_norms(machine, tmp_path) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    problem = "atc did not compile generator_bs1.om: exit status 255"
    assert found["instance_norm"] == "precise"
    assert found["reason"] == f"native cannot be used: {problem}"
    assert [row["problem"] for row in found["rows"]] == ["", problem]


@pytest.mark.slow
def test_a_chip_that_takes_neither(machine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATC_STAND_IN_REFUSES", "Conv")
    assert compared_norms(machine, tmp_path) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("compare-norms failed: neither form of InstanceNorm can be used: ")
    assert json.loads((tmp_path / "norms.json").read_text())["instance_norm"] == ""


def test_norms_are_not_compared_in_vain(machine, tmp_path, monkeypatch, capsys):
    tiny.model(tmp_path / "model", tiny.architecture(norm="batch"))
    flags = ["--model", f"{tmp_path}/model"]
    assert compared_norms(machine, tmp_path / "out", *flags) == 2
    assert "has no InstanceNorm: there is nothing to compare" in capsys.readouterr().err
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(STAND_INS)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "ais_bench"]:
        monkeypatch.delitem(sys.modules, name)
    assert compared_norms(machine, tmp_path / "out") == 2
    assert "ais_bench is not there for" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Afterwards.


def test_the_benchmark_has_rows_of_the_npu(machine, plain, tmp_path):
    model, dataset = machine / "plain" / "model", machine / "dataset"
    folders = as_flags(exported=plain, dataset=dataset, model=model, report=tmp_path)
    quick = as_flags(batch_sizes=(1, 4, 8), rounds=2, warmup=1, max_pictures=1, device="cpu")
    benchmark_main([*folders, *quick])
    report = BenchmarkReport.read(tmp_path)
    one, four, eight = (row for row in report.speed if row.runtime == "ais_bench")
    assert (one.batch_size, one.device, one.precision, one.problem) == (1, "npu", "fp16", "")
    assert (four.batch_size, four.problem) == (4, "")
    # Executions of 10 and 11 ms; the copies of two inputs take 0.5 ms each, of the picture 0.25.
    assert four.device_images_per_second == pytest.approx(4000 / 10.5)
    assert four.images_per_second == pytest.approx(4000 / 11.75)
    assert (eight.batch_size, eight.problem) == (8, "no file was compiled for this batch size")
    assert eight.images_per_second is None
    assert ("om", "npu") in {(parity.runtime, parity.device) for parity in report.parity}


@pytest.mark.parametrize(
    ("model", "om", "batch_flags", "outfmt"),
    [
        ("plain", "generator_bs4.om", ["--batch-size", "4"], "NPY"),
        ("plain", "generator_bs1.om", [], "BIN"),
        ("styled", "generator_gears.om", ["--gears", "--batch-size", "2"], "BIN"),
    ],
)
def test_pictures_from_ais_bench_are_those_of_pytorch(
    machine, tmp_path, request, capsys, model, om, batch_flags, outfmt
):
    """The seed's three scripts; three maps, so that the last batch of two or four is filled up."""
    exported = request.getfixturevalue({"plain": "plain", "styled": "gears"}[model])
    dataset = ["--dataset", f"{machine}/dataset"]
    main(
        ["offline", "inputs", *dataset, "--exported", str(exported), "--out", f"{tmp_path}/inputs"]
    )
    inputs = capsys.readouterr().out.splitlines()[-1].removeprefix("--input ")
    flags = as_flags(om=f"{exported / om}", inputs=inputs, out=f"{tmp_path}/results", outfmt=outfmt)
    benchmark_main(["ais_bench", "inputs", *flags, *batch_flags])
    # a .bin does not tell that it is uint8
    sizes = ["--size", f"{H}x{W}"] if model == "styled" else dataset
    pictures = tmp_path / "pictures"
    outputs = as_flags(outputs=f"{tmp_path}/results/outputs", out=pictures)
    main(["offline", "pictures", *outputs, *sizes])

    card, generator = load_generator(machine / model / "model")
    style = torch.tensor(ExportCard.read(exported).style) if model == "styled" else None
    synthesiser = Synthesiser(generator, card.architecture, style)
    reader = PairReader(machine / "dataset", DatasetManifest.read(machine / "dataset"), "test")
    assert left(pictures) == ["test_0.png", "test_1.png", "test_2.png"]
    for i, file in enumerate(left(pictures)):
        sample = reader.read(i)
        feed = Form(card.architecture, synthesiser.graph).feed(sample)
        with torch.inference_mode():
            wanted = to_pixels(synthesiser(*map(torch.from_numpy, feed.values()))[0].numpy())
        assert wanted.std() > 10
        found = read_picture(pictures / file)
        assert np.abs(found.astype(int) - wanted).max() <= 1
