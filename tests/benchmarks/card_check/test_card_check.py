"""The check that an owner of a card runs: its frame by made parts, its parts on the stand-ins."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from shared.device import Runtime, pick
from tests.benchmarks.card_check import __main__ as check
from tests.benchmarks.card_check import frame, step
from tests.benchmarks.card_check.counts import counted
from tests.benchmarks.card_check.frame import FAILED, LATE, LEFT_OUT, RAN, Part
from tests.benchmarks.card_check.part import MODULES
from tests.benchmarks.card_check.speed import CASES
from tests.benchmarks.card_check.work import Case
from tests.on_npu import environment
from tests.places import ROOT, STAND_INS, put_atc

# The frame.

MADE_PARTS = """
import json, os, signal, subprocess, sys, time

name, rows = sys.argv[1], sys.argv[3]

def say(what, value, holds=None):
    row = dict(what=what, value=value, unit="", wanted="", holds=holds)
    open(rows, "a").write(json.dumps(row) + "\\n")

say("a figure", 1.5, True)
if name == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    say("child", child.pid)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    open(rows, "a").write('{"what": "cut o')
    time.sleep(600)
if name == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if name == "fails":
    print("--device npu: there is none.")
    sys.exit(1)
if name == "breaks":
    say("a promise", 3, False)
"""


def named(name, limit_s=30, **more):
    return Part(name, f"what {name}", limit_s, **more)


@pytest.fixture
def made_parts(tmp_path, monkeypatch):
    script = tmp_path / "made.py"
    script.write_text(MADE_PARTS)
    monkeypatch.setattr(frame, "COMMAND", [sys.executable, str(script)])
    monkeypatch.setattr(frame, "END_SECONDS", 0.2)
    return tmp_path


def test_each_part_fails_alone_and_what_it_found_stays(made_parts, capsys):
    parts = [named("hangs", limit_s=1), named("crashes"), named("fails"), named("breaks")]
    parts += [named("lacks", needs=("json", "torch_of_mars")), named("runs")]
    outcomes = list(frame.run_parts("npu-check", parts, made_parts, ["--tiny"], total_s=60))
    found = {one.name: one for one in outcomes}
    assert [one.ended for one in outcomes] == [LATE, FAILED, FAILED, RAN, LEFT_OUT, RAN]
    assert [one.name for one in outcomes if one.is_well] == ["runs"]
    assert found["hangs"].reason == "stopped after 1 s"
    assert "signal 11" in found["crashes"].reason
    assert found["fails"].reason == "--device npu: there is none."
    assert "has no torch_of_mars: `" in found["lacks"].reason
    assert [row.what for row in found["crashes"].rows] == ["a figure"]

    # What a stopped part had started is gone with it; its line that was cut off is not read.
    assert [row.what for row in found["hangs"].rows] == ["a figure", "child"]
    with contextlib.suppress(psutil.NoSuchProcess):  # or nobody has asked yet how it ended
        assert psutil.Process(found["hangs"].rows[1].value).status() == psutil.STATUS_ZOMBIE

    # A line when each begins, one when it ends.
    said = capsys.readouterr().out.splitlines()
    assert "npu-check: 1 of 6, what hangs: at most 1 s" in said
    assert "npu-check: what fails failed after 0 s: --device npu: there is none." in said

    # The table and the JSON.
    frame.write("npu-check", outcomes, made_parts, 12.3, ["a", "command"])
    sent = json.loads((made_parts / "npu_check.json").read_text())
    assert not sent["is_well"] and [one["ended"] for one in sent["parts"]][0] == LATE
    assert sent["parts"][3]["rows"][1] == dict(
        what="a promise", value=3, unit="", wanted="", holds=False
    )
    assert sent["command"] == "a command" and sent["date"].endswith(" UTC")
    page = (made_parts / "npu_check.md").read_text().splitlines()
    assert page[0].startswith("`a command`, 20") and "| a promise | 3 |  (DOES NOT HOLD) |" in page
    assert "| what hangs took too long | stopped after 1 s | |" in page
    lines = (made_parts / "npu_check.txt").read_text().splitlines()
    assert any(line.split() == ["a", "promise", "3", "DOES", "NOT", "HOLD"] for line in lines)


def test_all_parts_together_have_their_time(made_parts):
    parts = [named("hangs"), named("runs")]
    started = time.monotonic()
    first, second = frame.run_parts("npu-check", parts, made_parts, [], total_s=1.5)
    assert first.ended == LATE and second.ended == LEFT_OUT and time.monotonic() - started < 10
    assert second.reason == "the 1.5 s of all parts were over"


@pytest.mark.parametrize("device, total_s", check.TOTAL_S.items())
def test_the_limits_of_all_parts_fit_into_the_time_of_the_check(device, total_s):
    assert (total_s <= 600 or device == "cpu") and len(
        {part.name for part in check.PARTS[device]}
    ) >= 5
    assert max(part.limit_s for part in check.PARTS[device]) <= 0.6 * total_s


# What parts measure, by answers that are known.


def said_by(call, *arguments):
    rows = []
    given = SimpleNamespace(
        device="cpu", tiny=True, say=lambda *row, holds=None: rows.append((*row, holds))
    )
    call(given, *arguments)
    return rows


class Coarse(Runtime):
    """Says fp32 and computes in bf16."""

    def autocast(self):
        return torch.autocast("cpu", dtype=torch.bfloat16)


def test_a_step_that_says_fp32_and_is_not_does_not_hold():
    case = Case("global", 32, 64, ngf=2, feat_num=3).small()
    of_cpu = step.first_step(case.trainer(pick("cpu", "fp32")), case)
    for runtime, holds in (
        (pick("cpu", "fp32"), True),
        (Coarse(torch.device("cpu"), "fp32"), False),
    ):
        rows = said_by(step.compare, "it", runtime, case, of_cpu)
        assert [row[0] for row in rows] == ["it: losses"] + [
            f"it: gradients of {name}" for name in "GDE"
        ]
        assert all(row[-1] for row in rows) is holds, rows


def test_operators_and_fetches_of_known_lines():
    x = torch.ones(3, requires_grad=True)
    with counted("cpu") as count:
        y = (x * 2).view(3, 1)  # a view is no work
        y.sum().backward()  # expanded from one number, times 2: one more product
        y.detach().amax().item()
    assert count.fetches == {"aten::_local_scalar_dense": 1}
    assert count.operators["aten::mul"] == 2 and count.operators["aten::amax"] == 1
    assert "aten::view" not in count.operators


# All of it on the stand-ins.


@pytest.fixture
def stand_ins(tmp_path):
    """The environment of a machine with an A2 card, atc and ais_bench."""
    atc = put_atc(tmp_path / "bin")
    values = environment(AIS_STAND_IN_SOC="Ascend910B3", HOME=str(tmp_path))
    values["PYTHONPATH"] += f"{os.pathsep}{STAND_INS}"
    return values | {"PATH": f"{atc.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_make_npu_check_runs_from_end_to_end(tmp_path, stand_ins):
    flags = f"FLAGS=--tiny --out {tmp_path / 'out'}"
    done = subprocess.run(
        ["make", "npu-check", f"PYTHON={sys.executable}", flags],
        cwd=ROOT,
        env=stand_ins,
        capture_output=True,
        text=True,
        timeout=900,
    )
    sent = json.loads((tmp_path / "out" / "npu_check.json").read_text())
    found = {one["name"]: one for one in sent["parts"]}
    assert [one["ended"] for one in found.values()] == [RAN] * 6, done.stdout
    assert done.returncode == 0 and sent["is_well"], done.stdout

    def values(part):
        return {row["what"]: row["value"] for row in found[part]["rows"]}

    # The stand-in computes on the CPU: fp32 is equal, HF32 is not.
    report, steps, counts = values("report"), values("step"), values("counts")
    assert "Ascend910B3" in report["device"] and report["bf16"] == "True"
    assert steps["global, features, fp32: losses"] == 0
    assert steps["global, features, hf32: gradients of G"] > 1e-3
    assert counts["global, labels, fp16: operators a step"] > 100
    assert counts["global, labels, fp16, torch_npu.profiler: kernels a step"] > 100
    assert sum("img/s" in row["unit"] for row in found["speed"]["rows"]) == 4 * 4
    for form in ("om_precise", "om_native"):
        assert values(form)["om against PyTorch, largest error"] < 1e-4
        assert values(form)["ais_bench, device_images_per_second"] > 0


def test_what_is_done_is_written_before_the_next_part(made_parts, monkeypatch):
    """An owner may pull the plug: what ended is on the disk."""
    parts = [named("runs"), named("breaks")]
    monkeypatch.setitem(check.PARTS, "cpu", parts)
    run_parts, seen = frame.run_parts, []

    def watched(*arguments):
        for outcome in run_parts(*arguments):
            yield outcome
            sent = json.loads((made_parts / "cpu_check.json").read_text())
            seen.append([one["name"] for one in sent["parts"]])

    monkeypatch.setattr(frame, "run_parts", watched)
    assert check.main(["--device", "cpu", "--out", str(made_parts)]) == 1
    assert seen == [["runs"], ["runs", "breaks"]]


def test_every_part_has_its_code():
    for parts in check.PARTS.values():
        for part in parts:
            kind, _, name = part.name.partition("_")
            module = f"tests.benchmarks.card_check.{MODULES.get(kind, kind)}"
            assert importlib.util.find_spec(module), part.name
            assert MODULES.get(kind, kind) != "speed" or not name or name in CASES


@pytest.mark.slow
def test_what_make_gpu_check_runs_is_tried_on_the_cpu(tmp_path):
    """All but the part `step`, which has nothing to compare there, and is tried above."""
    parts = [part.name for part in check.PARTS["cpu"] if part.name != "step"]
    kinds = ("compiled", "both")  # which take minutes
    parts = [one for one in parts if not one.startswith(kinds) or one.endswith("1024p")]
    code = check.main(["--device", "cpu", "--tiny", "--out", str(tmp_path), "--only", *parts])
    sent = json.loads((tmp_path / "cpu_check.json").read_text())
    assert [one["ended"] for one in sent["parts"]] == [RAN] * len(parts) and code == 0, sent
    rows = {row["what"]: row["value"] for one in sent["parts"] for row in one["rows"]}
    features = "training, 512p features with VGG, ngf 2, 32x64"
    labels = features.replace("features", "labels")
    for case in (features, "training, unet_256, ngf 2, 256x256"):
        for way in ("plain fp32", "plain bf16", "fp32", "bf16"):
            assert rows[f"{case}, {way}"] > 0
            assert 0 < rows[f"{case}, {way}: counted floor by the time"] < 100
        assert rows[f"{case}, bf16: times as fast as plain fp32"] > 0
    assert rows["generator, 1024p, ngf 2, 32x64, bf16 compiled: times as fast as bf16"] > 0
    for case in (labels, "training, unet_256, ngf 2, 256x256"):
        assert rows[f"{case}, bf16 graph: losses"] == 0  # where this is tried, both are eager
        assert rows[f"{case}, bf16 graph: times as fast as bf16"] > 0
    assert rows[f"{features}, fp32, fed by two processes"] > 0
    assert "generator, 1024p, ngf 2, 32x64, ONNX Runtime CPU fp16: largest error" in rows


@pytest.mark.slow
def test_without_a_card_each_part_says_why(tmp_path):
    words = ["--device", "npu", "--tiny", "--only", "report", "step", "--out", str(tmp_path)]
    assert check.main(words) == 1
    sent = json.loads((tmp_path / "npu_check.json").read_text())
    for one in sent["parts"]:
        assert one["ended"] == FAILED and "torch_npu is not installed" in one["reason"]
    assert {"machine", "torch"} <= {row["what"] for row in sent["parts"][0]["rows"]}
