"""What a night tells a command, and that the command can do no harm."""

import json
import shlex
import sys
import time

import psutil
import pytest

from shared.contracts.measured import Quality, SpeedRow, Verdict
from shared.pipeline.after_night import notify as home
from shared.pipeline.after_night.notify import message_of, notify
from shared.pipeline.nights import LOCK
from shared.pipeline.processes.locks import hold
from shared.pipeline.runs import begin
from tests import tiny
from tests.calling import call

FIELDS = set(
    "outcome exit_code recipe run verdict reasons headline report mlflow step reason".split()
)


@pytest.fixture
def night(tmp_path):
    """A run of two steps, of which the first is done."""
    config = {"prepare": {}, "train_global": {}}
    run = begin("demo", config, "/raw", {"nightly": "true"}, {}, tmp_path)
    run.note(mlflow="http://127.0.0.1/#/experiments/1")
    run.note_step("prepare", state="finished")
    return run


def measure(night, verdict: Verdict | None, psnr_db: float = 20) -> None:
    row = dict(device="cpu", precision="fp32", batch_size=1)
    speed = [SpeedRow(runtime="onnxruntime", images_per_second=30, **row)]
    quality = Quality(pairs=2, psnr_db=psnr_db)
    tiny.report(speed=speed, quality=quality, verdict=verdict).write(night.report)


def listener(tmp_path) -> str:
    """A command that keeps what it is told."""
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    return shlex.join([sys.executable, "-c", code, str(tmp_path / "told")])


def test_a_good_night_is_told_with_verdict_and_figures(night, tmp_path):
    measure(night, Verdict(outcome="better", reasons=["Faster by 4 %."]))
    notify(listener(tmp_path), "demo", 0, night)
    told = json.loads((tmp_path / "told").read_text())
    assert told == {
        "outcome": "done",
        "exit_code": 0,
        "recipe": "demo",
        "run": night.name,
        "verdict": "better",
        "reasons": ["Faster by 4 %."],
        "headline": {"fps/onnxruntime_fp32/batch_1": 30, "test/psnr_db": 20},
        "report": str(night.folder / "benchmark" / "report" / "report.html"),
        "mlflow": "http://127.0.0.1/#/experiments/1",
        "step": "",
        "reason": "",
    }


@pytest.mark.parametrize(
    "code, outcome",
    [
        (1, "failed"),
        (2, "refused"),
        (75, "busy"),
        (124, "timed out"),
        (143, "stopped"),
        (9, "stopped"),
    ],
)
def test_a_night_without_a_run_is_told_too(code, outcome, tmp_path):
    notify(listener(tmp_path), "demo", code, reason="why it is so")
    told = json.loads((tmp_path / "told").read_text())
    assert told.keys() == FIELDS
    assert (told["outcome"], told["exit_code"], told["reason"]) == (outcome, code, "why it is so")
    assert (told["run"], told["headline"], told["reasons"]) == ("", {}, [])


def test_a_failed_night_says_step_and_reason(night):
    night.note_step("train_global", state="failed", reason="FloatingPointError: losses")
    told = message_of("demo", 1, night)
    assert (told["step"], told["reason"]) == ("train_global", "FloatingPointError: losses")
    assert told["report"] == "" and told["verdict"] == ""


def test_a_refused_model_is_told_as_such(night):
    measure(night, Verdict(outcome="worse", reasons=["Slower."]), psnr_db=float("inf"))
    told = message_of("demo", 3, night)
    assert (told["outcome"], told["verdict"], told["step"]) == ("model refused", "worse", "")
    assert told["headline"].keys() == {"fps/onnxruntime_fp32/batch_1"}, "JSON has no infinity"


@pytest.mark.parametrize(
    "command, said",
    [
        ("exit 7", "ended with exit code 7"),
        ("/no/such/program", "ended with exit code 127"),
        ("true", ""),  # which reads nothing
        ("exec <&-; sleep 0.2", ""),  # nor does this
    ],
)
def test_a_command_that_fails_costs_a_warning(command, said, night, capfd):
    measure(night, Verdict(outcome="better", reasons=["x" * 200_000]))  # more than a pipe holds
    notify(command, "demo", 0, night)
    err = capfd.readouterr().err
    assert said in err and ("nightly: warning: the command of --notify" in err) == bool(said)


def test_a_command_that_hangs_is_stopped_with_all_below_it(monkeypatch, capfd):
    monkeypatch.setattr(home, "LIMIT_SECONDS", 0.5)
    start = time.monotonic()
    notify("sleep 333 & sleep 333; true", "demo", 0)
    assert time.monotonic() - start < 20
    assert "was stopped, since it ran longer than 0.5 s" in capfd.readouterr().err
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert ["sleep", "333"] not in commands


def test_a_night_tells_however_it_ends_and_keeps_its_exit_code(scenes, tmp_path):
    """As a timer starts it: refused, beside another one, too long."""
    asked = ("nightly", "--raw-data", scenes, "--notify", f"{listener(tmp_path)}; exit 9")
    (tmp_path / "runs").mkdir()
    codes = [call(*asked, "--recipe", "nope", cwd=tmp_path).returncode]
    with hold(tmp_path / "runs" / LOCK):
        codes.append(call(*asked, cwd=tmp_path).returncode)
    late = call(*asked, "--timeout-min", 0.001, cwd=tmp_path)
    codes.append(late.returncode)
    assert codes == [2, 75, 124]
    assert "the command of --notify ended with exit code 9" in late.stderr

    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [one["outcome"] for one in told] == ["refused", "busy", "timed out"]
    assert [one["exit_code"] for one in told] == codes
    assert "--recipe 'nope' is unknown" in told[0]["reason"]
    assert "nightly.lock is held by process" in told[1]["reason"]


def test_nobody_is_told_where_nobody_asked(capfd):
    notify("", "demo", 1)
    assert capfd.readouterr() == ("", "")
