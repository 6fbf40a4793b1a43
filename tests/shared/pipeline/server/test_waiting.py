"""A run of a server is followed to its end, and looked at, read and stopped afterwards."""

import re
import signal
import subprocess
import threading
import time

import pytest

import pipeline
from shared.pipeline.server import waiting
from shared.pipeline.server.answers import Run
from shared.pipeline.server.steps import steps_of
from tests.asking import refusal_of_command
from tests.calling import command, environment

GET = "RunService_GetRun"


@pytest.fixture
def run(kfp_server):
    """Id of a run that is there, of an empty graph."""
    kfp_server.spec_of = lambda _: {"root": {"dag": {"tasks": {}}}}
    experiment = kfp_server.ExperimentService_CreateExperiment({}, {"display_name": "demo"})
    body = {"display_name": "demo-1", "experiment_id": experiment["experiment_id"]}
    return kfp_server.RunService_CreateRun({}, body | {"pipeline_spec": {}})["run_id"]


@pytest.fixture
def ask(kfp_server, capsys):
    """Says a verb about the server; returns exit code, output and errors."""

    def ask(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            pipeline.main([*words, "--host", kfp_server.host])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return ask


@pytest.fixture
def wait(ask):
    flags = ("--wait", "--poll-s", "0.05", "--deadline-min", "0.3")
    return lambda *more: ask("status", "demo-1", *flags, *more)


@pytest.fixture
def once_followed(kfp_server):
    """Does something when the run is looked at to be followed, which is after it was found."""

    def plan(action) -> None:
        real, looks = kfp_server.RunService_GetRun, iter(range(99))

        def get(*arguments):
            if next(looks) == 1:
                action()
            return real(*arguments)

        kfp_server.RunService_GetRun = get

    return plan


# To its end.


def test_each_change_of_a_step_is_a_line(kfp_server, run, wait):
    kfp_server.course = [
        ("RUNNING", {"prepare": "RUNNING"}),
        ("RUNNING", {"prepare": "RUNNING"}),
        ("RUNNING", {"prepare": "SUCCEEDED", "train_global": "SKIPPED", "export": "RUNNING"}),
        ("SUCCEEDED", {"prepare": "SUCCEEDED", "train_global": "SKIPPED", "export": "SUCCEEDED"}),
    ]
    code, out, err = wait()
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "/#/runs/details/" not in line]
    assert sorted(lines[1:4]) == [
        "export: running",
        "prepare: succeeded after 2 min",
        "train_global: taken from the cache after 2 min",
    ]
    assert lines[0] == "prepare: running" and lines[4] == "export: succeeded after 2 min"
    assert lines[5].startswith("run demo-1 succeeded") and len(lines) == 6


@pytest.mark.parametrize(
    "state, code", [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 4), ("SKIPPED", 5)]
)
def test_each_end_has_its_exit_code(state, code, kfp_server, run, wait):
    kfp_server.course = [("RUNNING", {}), ("PAUSED", {}), (state, {})]
    found, out, err = wait()
    said = out if state == "SUCCEEDED" else err
    assert found == code and f"run demo-1 {state.lower()}" in said.splitlines()[-1]


def test_submit_waits_too(kfp_server, ask, capsys):
    kfp_server.spec_of = lambda _: {"root": {"dag": {"tasks": {}}}}
    kfp_server.course = [("RUNNING", {}), ("FAILED", {"export": "FAILED"})]
    kfp_server.complaints = {"export": "exit code 2"}
    flags = ["--raw-data", "s3://b/r", "--images", "registry.example/p:1-cpu"]
    code, out, err = ask("submit", *flags, "--wait", "--poll-s", "0.05", "--run-name", "mine")
    assert code == 1 and "submitted mine to" in out and "export: failed" in out
    assert "run mine failed" in err and "in step export: exit code 2; `" in err


@pytest.mark.parametrize("ending", ["", "F0101 main.go:60] failed to execute component\n"])
def test_the_reason_of_a_failure_is_the_servers_or_the_steps_own(ending, kfp_server, run, wait):
    steps = {"prepare": "SUCCEEDED", "train_global": "FAILED", "export": "CANCELED"}
    kfp_server.course = [("FAILED", steps)]
    kfp_server.logs["train-global-pod"] = f"epoch 1\ntrain failed: the loss is nan.\n{ending}"
    code, _, err = wait()
    assert code == 1 and "in step train_global: train failed: the loss is nan.; `" in err
    assert f"logs {run} --host={kfp_server.host} --step=train_global` shows more" in err
    kfp_server.complaints = {"train_global": "OOMKilled (exit code 137)"}
    kfp_server.runs[run]["state"] = "RUNNING"
    assert "in step train_global: OOMKilled (exit code 137); `" in wait()[2]


def test_a_driver_that_failed_is_its_step():
    nodes = [
        {"task_id": "w", "display_name": "demo-x", "child_tasks": [{"pod_name": "r"}]},
        {"task_id": "r", "display_name": "root-driver", "state": "SUCCEEDED"},
        {"task_id": "d", "display_name": "train-global-driver", "state": "FAILED"},
        {"task_id": "t", "display_name": "train-global", "state": "RUNTIME_STATE_UNSPECIFIED"},
        {"task_id": "p", "display_name": "prepare", "state": "RUNNING", "child_tasks": None}
        | {"child_tasks": [{"pod_name": "e"}]},
        {"task_id": "e", "display_name": "executor", "child_tasks": [{"pod_name": "e"}]}
        | {"child_tasks": [{"pod_name": "e0"}, {"pod_name": "e1"}]},
        {"task_id": "e0", "display_name": "executor(0)", "state": "FAILED"},
        {"task_id": "e1", "display_name": "executor(1)", "state": "RUNNING"},
    ]
    found = Run.model_validate({"run_id": "x", "run_details": {"task_details": nodes}})
    steps = {step.name: (step.state, step.pods) for step in steps_of(found)}
    assert steps == {"train_global": ("FAILED", ("d",)), "prepare": ("RUNNING", ("e0", "e1"))}


# Through what happens on the way.


def test_a_server_that_is_away_is_waited_for_and_said_once(kfp_server, run, wait, once_followed):
    kfp_server.course = [("RUNNING", {}), ("RUNNING", {}), ("SUCCEEDED", {})]
    faults = ["503", "503", "cut off", "refuses", "HTML", "404", "401", "hangs"]
    once_followed(lambda: kfp_server.passing.update({GET: faults}))
    code, out, _ = wait()
    assert code == 0 and "run demo-1 succeeded" in out
    assert out.count("does not work at the moment (HTTP 503)") == 1
    assert out.count("answers again, after") == 1
    assert not kfp_server.passing[GET]


def test_a_server_that_stays_away_is_given_up_and_the_run_goes_on(
    kfp_server, run, wait, once_followed, monkeypatch
):
    monkeypatch.setattr(waiting, "AWAY", 1)
    began = time.monotonic()
    kfp_server.course = [("RUNNING", {})]
    once_followed(lambda: kfp_server.faults.update({GET: (503, "busy")}))
    code, _, err = wait()
    assert code == 2 and time.monotonic() - began < 10
    assert "(HTTP 503: busy): try again later; the run goes on; `" in err and "terminate" in err
    assert kfp_server.runs[run]["state"] == "RUNNING"


def test_a_token_that_expires_is_read_anew(kfp_server, run, wait, once_followed, tmp_path):
    file = tmp_path / "token"
    file.write_text("first")
    kfp_server.authorization = "Bearer first"
    kfp_server.course = [("RUNNING", {})]

    def expire():
        kfp_server.authorization = "Bearer second"
        time.sleep(0.3)
        file.write_text("")  # as it is being written
        time.sleep(0.2)
        kfp_server.course = [("SUCCEEDED", {})]
        file.write_text("second")

    once_followed(threading.Thread(target=expire).start)
    code, out, _ = wait("--token-file", str(file))
    assert code == 0 and f"(HTTP 401) to --token-file {file}: it is wrong" in out
    assert "answers again" in out


def test_a_run_that_somebody_deletes_ends_the_wait(kfp_server, run, wait, once_followed):
    kfp_server.course = [("RUNNING", {})]
    once_followed(kfp_server.runs.clear)
    code, _, err = wait()
    assert code == 2 and err == "run demo-1 is no longer there: somebody has deleted it\n"


@pytest.mark.parametrize("is_away", [False, True])
def test_after_the_deadline_the_run_goes_on(is_away, kfp_server, run, wait, once_followed):
    kfp_server.course = [("RUNNING", {})]
    if is_away:
        once_followed(lambda: kfp_server.hanging.add(GET))
    began = time.monotonic()
    code, _, err = wait("--deadline-min", "0.015")
    assert code == 124 and 0.8 < time.monotonic() - began < 20
    assert err.startswith("--deadline-min 0.015 has passed: the run goes on; `")
    assert f"terminate {run} --host={kfp_server.host}` stops it; `" in err
    assert kfp_server.runs[run]["state"] == "RUNNING"


@pytest.mark.parametrize(
    "sign, code", [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_wait_and_says_how_to_end_the_run(sign, code, kfp_server, run, tmp_path):
    kfp_server.course = [("RUNNING", {"prepare": "RUNNING"})]
    words = command("status", "demo-1", "--wait", "--host", kfp_server.host)
    started = dict(cwd=tmp_path, env=environment(), text=True)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen(words, **started, **pipes) as waiter:
        while "prepare: running" not in waiter.stdout.readline():
            assert waiter.poll() is None
        waiter.send_signal(sign)
        _, err = waiter.communicate(timeout=30)
    assert waiter.returncode == code and len(err.splitlines()) == 1, err
    assert "the run goes on" in err and f"terminate {run} --host={kfp_server.host}` stops it" in err
    assert kfp_server.runs[run]["state"] == "RUNNING"


# The verbs.


def test_status_shows_the_newest_runs_and_one(kfp_server, run, ask):
    code, out, _ = ask("status")
    assert code == 0 and re.search(rf"demo-1 +pending .*{run}", out)
    code, out, _ = ask("status", "demo-1")
    assert len(out.splitlines()) == 2, "there is no step yet"
    kfp_server.course = [("FAILED", {"prepare": "SUCCEEDED", "export": "FAILED"})]
    kfp_server.complaints = {"export": "\x1b[31mno room\x1b[0m\nmore"}
    for name in ("demo-1", run):
        code, out, _ = ask("status", name)
        assert code == 0 and "in step export: no room; `" in out
        assert re.search(r"prepare +succeeded +2 min\nexport +failed +2 min\n", out), out
    assert "has no run other: `" in ask("status", "other")[2]


def test_the_server_may_stand_in_the_environment(kfp_server, run, monkeypatch, capsys):
    assert "--host is missing" in refusal_of_command(capsys, pipeline.main, "status", "demo-1")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.host)
    pipeline.main(["status", "demo-1"])
    assert "demo-1 running" in capsys.readouterr().out


def test_logs_are_shown_by_step_without_colours_and_secrets(kfp_server, run, ask, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "topsecret")
    kfp_server.course = [("RUNNING", {"prepare": "SUCCEEDED", "train_global": "RUNNING"})]
    kfp_server.logs = {"prepare-pod": "one\n\x1b[31mtwo topsecret", "train-global-pod": "three\n"}
    code, out, err = ask("logs", "demo-1")
    assert (code, err) == (0, "")
    assert out == "--- prepare\none\ntwo ***\n--- train_global\nthree\n"
    assert ask("logs", "demo-1", "--step", "train_global")[1] == "three\n"
    assert (
        "--step export has not begun: the steps that have: prepare"
        in ask(*("logs", "demo-1", "--step", "export"))[2]
    )


@pytest.mark.parametrize("log", [None, "<!doctype html><html>the UI"])
def test_where_the_server_has_no_log_kubectl_is_said(log, kfp_server, run, ask):
    kfp_server.course = [("RUNNING", {"prepare": "RUNNING"})]
    if log:
        kfp_server.logs["prepare-pod"] = log
    code, out, err = ask("logs", "demo-1", "--step", "prepare", "--namespace", "team")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert "`kubectl logs --namespace team prepare-pod --container main` shows it" in err


def test_a_run_is_terminated_once_and_ends_as_canceled(kfp_server, run, ask, wait):
    kfp_server.course = [("RUNNING", {})]
    kfp_server.lost["RunService_TerminateRun"] = ["cut off"]
    code, out, _ = ask("terminate", "demo-1")
    assert code == 0 and "demo-1 is being terminated; `" in out
    assert kfp_server.runs[run]["state"] == "CANCELING"
    code, _, err = wait()
    assert code == 4 and "run demo-1 canceled" in err
    code, out, _ = ask("terminate", "demo-1")
    assert code == 0 and out == "demo-1 is over already: canceled\n"


def test_of_runs_of_one_name_the_newest_is_meant(kfp_server, run, ask):
    older = dict(kfp_server.runs[run], run_id="older", created_at="2020-01-01T00:00:00Z")
    kfp_server.runs = {"older": older} | kfp_server.runs
    code, out, _ = ask("terminate", "demo-1")
    assert code == 0 and f"2 runs are called demo-1: this is the newest, {run}" in out
    assert kfp_server.runs["older"]["state"] == "PENDING"
