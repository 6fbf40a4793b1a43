"""Steps that leave the delivery of their journals to the pipeline's process; kill -9 of both."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shared import tracking
from shared.tracking import courier
from shared.tracking.journal import journals_in, left_to_pipeline, of_dead_process
from shared.tracking.replay import Delivered, is_delivered, replay

ROOT = Path(__file__).parents[3]
POINTS = 40
HEAD = "import os, subprocess, sys, time\nimport numpy as np\nfrom shared import tracking\n"
# Tells a point and, every tenth time, a picture, and says so; ends when its stdin does.
STEP = f"""
with tracking.step_run("train", {{}}, asks="asks" in sys.argv):
    for number in range(1, {POINTS} + 1):
        tracking.log_metrics({{"loss/G": number}}, number)
        if number % 10 == 0:
            tracking.log_picture("samples", np.full((3, 4, 4), number, np.uint8), number)
        print(number, flush=True)
        time.sleep(float(sys.argv[1]))
    print("mlflow" in sys.modules, flush=True)
    sys.stdin.read()
"""
FULL_DISK = f"""
from shared.tracking.journal import Journal
def write(self, line, whole=Journal._write):
    if b'"step": {POINTS // 2 + 1},' in line:
        raise OSError(28, "No space left on device")
    whole(self, line)
Journal._write = write
"""
PIPELINE = f"""
from pathlib import Path
from shared.tracking import courier
courier.EVERY_S = 0.05
with tracking.pipeline_run("demo", "night", {{}}, {{}}, Path(sys.argv[1]), of_steps=True):
    step = [sys.executable, "-c", {HEAD + STEP!r}, "0.02"]
    with subprocess.Popen(step, stdin=subprocess.PIPE) as step:
        print("step", step.pid, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def runs(empty_database, tmp_path, monkeypatch) -> Path:
    """The folder of runs with a store that holds nothing yet."""
    names = [
        f"MLFLOW_{end}" for end in ("TRACKING_URI", "RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME")
    ]
    for name in (*names, "PIPELINE_JOURNAL", "PIPELINE_RUN", "PIPELINE_DELIVERS"):
        monkeypatch.setenv(name, "")  # so that what the pipeline's run sets is taken back
        monkeypatch.delenv(name)
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    monkeypatch.setattr(courier, "EVERY_S", 0.1)
    return tmp_path


def started(script: str, *arguments: str) -> subprocess.Popen:
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    command = [sys.executable, "-c", HEAD + script, *arguments]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)


def until(process: subprocess.Popen, line: str) -> str:
    """The line of a process that begins so."""
    return next(one for one in process.stdout if one.startswith(line))


def of_pipeline(runs: Path):
    return tracking.pipeline_run("demo", "night", {}, {}, runs, of_steps=True)


class Found:
    """What MLflow has of the night."""

    def __init__(self, runs: Path):
        client = MlflowClient(tracking.store_uri(runs))
        experiment = client.get_experiment_by_name("demo")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        self.names = sorted(run.info.run_name for run in found)
        steps = [run for run in found if run.info.run_name == "train"]
        self.status = [run.info.status for run in steps]
        self.points, self.pictures = [], []
        for run in steps:
            history = client.get_metric_history(run.info.run_id, "loss/G")
            self.points += sorted(point.step for point in history)
            pictures = client.list_artifacts(run.info.run_id, "images")
            self.pictures += sorted(
                int(one.path.split("+step+")[1].split("+")[0])
                for one in pictures
                if one.path.endswith(".png")
            )


def test_what_a_step_says_is_seen_while_it_works_though_it_loads_no_mlflow(runs):
    with of_pipeline(runs), started(STEP, "0") as step:
        assert until(step, "False")
        (file,) = (one for one in journals_in(runs / "night/journal") if one.name[0] == "t")
        with of_dead_process(file) as is_dead:
            assert not is_dead, "no replay delivers it too"
        end, everything = time.monotonic() + 60, list(range(1, POINTS + 1))
        while (found := Found(runs)).points != everything or found.pictures != [10, 20, 30, 40]:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert found.status == ["RUNNING"]
        step.stdin.close()
    found = Found(runs)
    assert (found.names, found.status) == (["night", "train"], ["FINISHED"])
    assert is_delivered(runs / "night/journal")
    assert not list((runs / "night/journal/files").iterdir())


def test_a_step_that_asks_mlflow_delivers_itself(runs):
    with of_pipeline(runs), started(STEP, "0", "asks") as step:
        assert until(step, "True")
        (file,) = (one for one in journals_in(runs / "night/journal") if one.name[0] == "t")
        with left_to_pipeline(file) as is_ours:
            assert not is_ours
        step.stdin.close()
        step.wait()
        assert Found(runs).points == list(range(1, POINTS + 1))


def test_what_finds_no_place_on_the_disk_is_delivered_by_the_step(runs):
    with of_pipeline(runs), started(FULL_DISK + STEP, "0") as step:
        assert until(step, "False")
        step.stdin.close()
    found = Found(runs)
    assert found.points == list(range(1, POINTS + 1)) and found.status == ["FINISHED"]


def test_what_a_pipeline_left_is_delivered_by_the_one_that_goes_on(runs):
    """While it runs, and not only at its end."""
    with started(PIPELINE, str(runs)) as night:
        pid = until(night, "step").split()[1]
        until(night, str(POINTS // 2))
        night.kill()
        os.kill(int(pid), 9)
    with of_pipeline(runs):
        tracking.flush()
        assert set(range(1, POINTS // 2 + 1)) <= set(Found(runs).points)
    assert Found(runs).status == ["KILLED"]


MOMENTS = [3, 17, 30]


@pytest.mark.parametrize("killed", ["step", "pipeline", "both"])
@pytest.mark.parametrize("moment", [pytest.param(one, marks=pytest.mark.slow) for one in MOMENTS])
def test_a_kill_loses_no_point_and_doubles_none(moment, killed, runs):
    check_kill(moment, killed, runs)


def test_a_kill_of_both_loses_no_point_and_doubles_none(runs):
    check_kill(25, "both", runs)


def check_kill(moment: int, killed: str, runs: Path) -> None:
    """Kill at about this point; then MLflow has what was said, once each."""
    with started(PIPELINE, str(runs)) as night:
        pid = int(until(night, "step").split()[1])
        until(night, str(moment))
        if killed != "pipeline":
            os.kill(pid, 9)
        if killed != "step":
            night.kill()
        rest = night.stdout if killed != "step" else []
        said = [moment, *(int(one) for one in rest if one.strip().isdigit())]
        time.sleep(0.3)  # of a pipeline that lives on: a few deliveries
        night.kill()
    journal = runs / "night/journal"
    assert replay(journal, tracking.store_uri(runs)).left == 0
    found = Found(runs)
    assert found.names == ["night", "train"]
    assert found.points == list(range(1, len(found.points) + 1)), "none lost, none doubled"
    assert len(found.points) in (last := max(said), last + 1), "killed between its lines"
    assert found.pictures == [number for number in found.points if number % 10 == 0]
    assert found.status == ["FINISHED" if killed == "pipeline" else "KILLED"]
    assert replay(journal, tracking.store_uri(runs)) == Delivered() and is_delivered(journal)
