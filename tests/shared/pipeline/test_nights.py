"""Nights: compared, one at a time, stopped."""

import signal
import subprocess
import time

import psutil
import pytest
from mlflow.tracking import MlflowClient

from shared.pipeline.nights import compare_nights
from tests.calling import SMALL, call, command, environment


def test_the_second_night_is_compared_with_the_first(nights):
    _, (first, second) = nights
    assert second.returncode == 0, second.stderr[-2000:]
    assert "before: none" in first.stdout
    assert "before: demo-" in second.stdout
    figure = "fps/onnxruntime_fp32/batch_1"
    row = next(line for line in second.stdout.splitlines() if line.startswith(figure))
    _, tonight, before, change = row.split()
    wanted = float(change.rstrip("%")) / 100
    assert float(tonight) / float(before) - 1 == pytest.approx(wanted, abs=2e-3)


def test_compare_nights_shows_old_new_and_change():
    table = compare_nights([("b", {"fps": 12.0, "new": 1.0}), ("a", {"fps": 10.0})])
    assert "tonight: b, before: a" in table
    assert [line.split() for line in table.splitlines()[-2:]] == [
        ["fps", "12", "10", "+20.0%"],
        ["new", "1", "-"],
    ]
    assert compare_nights([("b", {})]).split()[-3:] == ["tonight", "before", "change"]
    assert "no finished nightly run" in compare_nights([])


@pytest.fixture
def start_nightly(scenes, tmp_path):
    """Starts an endless training as a nightly run; whatever is left of it at the end is killed."""
    started = []

    def start(*arguments) -> subprocess.Popen:
        endless = ["train_global.epochs=100000", *SMALL[:2]]
        options = ("nightly", "--raw-data", scenes, *arguments, "--set", *endless)
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process = subprocess.Popen(command(*options), cwd=tmp_path, env=environment(), **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(40)


def wait_for(line_start: str, process: subprocess.Popen) -> list[psutil.Process]:
    """All processes of a nightly run, once it has printed a line."""
    for line in process.stdout:
        if line.startswith(line_start):
            head = psutil.Process(process.pid)
            return [head, *head.children(recursive=True)]
    raise AssertionError(process.stderr.read())


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_stopping_a_night_leaves_no_process_and_a_second_start_touches_nothing(
    start_nightly, scenes, tmp_path
):
    process = start_nightly()
    family = wait_for("epoch 1/", process)
    assert len(family) >= 3

    before = sorted(path.name for path in (tmp_path / "runs").glob("demo-*"))
    second = call("nightly", "--raw-data", scenes, cwd=tmp_path)
    assert second.returncode == 75 and "another run holds" in second.stderr
    assert sorted(path.name for path in (tmp_path / "runs").glob("demo-*")) == before

    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 143
    deadline = time.monotonic() + 10
    while any(map(is_alive, family)):
        assert time.monotonic() < deadline, "a process was left"
        time.sleep(0.1)

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    runs = client.search_runs([experiment.experiment_id])
    statuses = {run.info.run_name: run.info.status for run in runs}
    assert statuses.pop("prepare") == "FINISHED"
    assert set(statuses.values()) == {"FAILED"} and len(statuses) == 2


def test_a_night_that_takes_too_long_is_stopped(start_nightly):
    process = start_nightly("--timeout-min", 0.5)
    family = wait_for("[prepare]", process)  # in time also where the machine is busy
    assert process.wait(90) == 124
    assert "stopped after --timeout-min 0.5" in process.stderr.read()
    assert not any(map(is_alive, family[1:]))
