"""Metrics in = metrics out, counted, whatever a server does: against a real one."""

import json
import os
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from shared import tracking
from shared.tracking.journal import MadeNote, RunNote
from shared.tracking.replay import Delivered, is_delivered, replay
from tests.calling import environment as clean_environment
from tests.loopback import FAULTS
from tests.places import ROOT

STEPS = 40
ENTRIES = STEPS + 11  # start, tags, params, 3 pictures, file, figures, data set and its tag, end
PICTURE = np.zeros((3, 8, 300), np.uint8)


@pytest.fixture
def experiment(monkeypatch) -> str:
    """A new one for each test."""
    name = f"nights-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", name)
    return name


def log_curves(first: int = 0, last: int = STEPS, pause_s: float = 0) -> None:
    for i in range(first, last):
        tracking.log_metrics({"loss/G": 1 / (i + 1), "loss/D": float(i)}, step=10 * i)
        time.sleep(pause_s)


def log_everything(file, pause_s: float = 0) -> None:
    log_curves(pause_s=pause_s)
    for i in range(3):
        tracking.log_picture("input real", PICTURE, step=i)
    tracking.log_files(file, "checkpoints")
    tracking.log_figures({"fps": 7.5})
    tracking.log_dataset("scenes", file.parent, "abc123", "training")


def run_of(client, experiment: str):
    """The only run of an experiment."""
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def curves_of(client, run) -> dict[str, list[tuple[int, float]]]:
    return {
        key: [
            (point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)
        ]
        for key in ("loss/G", "loss/D")
    }


def assert_everything(client, run, status="FINISHED") -> None:
    """What `log_everything` has logged is there, once."""
    assert curves_of(client, run) == {
        "loss/G": [(10 * i, 1 / (i + 1)) for i in range(STEPS)],
        "loss/D": [(10 * i, float(i)) for i in range(STEPS)],
    }
    assert run.info.status == status and run.data.metrics["fps"] == 7.5
    assert run.data.params == {"epochs": "2"}
    assert run.data.tags["step"] == "train" and run.data.tags["dataset.digest"] == "abc123"
    pictures = [item.path for item in client.list_artifacts(run.info.run_id, "images")]
    assert len(pictures) == 6 and sum(path.endswith(".png") for path in pictures) == 3
    (file,) = client.list_artifacts(run.info.run_id, "checkpoints")
    assert (file.path, file.file_size) == ("checkpoints/net.pth", 5)
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.digest == "abc123" and used.tags[0].value == "training"


@pytest.fixture
def net(tmp_path):
    file = tmp_path / "model" / "net.pth"
    file.parent.mkdir()
    file.write_bytes(b"abcde")
    return file


SLOW = pytest.mark.slow
HERE = ("refuses", "hangs", "nothing", "another object", "says 100 for ever", "400", "500")


@pytest.mark.parametrize(
    "fault", [one if one in HERE else pytest.param(one, marks=SLOW) for one in FAULTS]
)
def test_what_a_server_misses_is_delivered_later(
    fault, way, client, experiment, net, tmp_path, capsys
):
    way.fault = fault
    started = time.monotonic()
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        log_everything(net)
    assert time.monotonic() - started < 5  # of a busy machine; alone it is one second
    net.unlink()  # a later step may replace it: the journal has it

    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) in (1, 2)  # that it does not answer, and at the end what is left
    assert warnings[-1].startswith(f"warning: MLflow: {ENTRIES} entries of train wait in ")
    journal = tmp_path / "out.journal"
    down = replay(journal, way.uri)
    assert down.delivered == 0 and down.left == ENTRIES and not is_delivered(journal)

    way.fault = None
    assert replay(journal, way.uri) == Delivered(delivered=ENTRIES)
    assert_everything(client, run_of(client, experiment))
    assert replay(journal, way.uri) == Delivered() and is_delivered(journal)
    assert list((journal / "files").iterdir()) == []


def test_a_run_whose_making_was_not_answered_is_found_not_made_twice(
    way, client, experiment, net, tmp_path
):
    way.fault = "loses replies"
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        log_everything(net)
    way.fault = None
    assert replay(tmp_path / "out.journal", way.uri).left == 0
    assert_everything(client, run_of(client, experiment))


def test_a_server_that_dies_and_comes_back_during_the_training(
    way, client, experiment, net, tmp_path, capsys
):
    way.dies_after = 12
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        tracking.run_id()
        log_everything(net, pause_s=0.02)
        while "does not take everything" not in (said := capsys.readouterr().err):
            time.sleep(0.05)
        assert said.count("warning") == 1
        way.dies_after = None
    assert_everything(client, run_of(client, experiment))
    assert "answers again" in capsys.readouterr().err
    assert is_delivered(tmp_path / "out.journal")


def test_delivered_twice_is_there_once(way, client, experiment, net, tmp_path):
    """As after a kill between the reply of a server and our note of it."""
    kept = net.parent / "kept"
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        log_everything(net)
        os.makedirs(kept)
        for file in (tmp_path / "out.journal" / "files").iterdir():
            os.link(file, kept / file.name)
    journal = tmp_path / "out.journal"
    for position in journal.glob("*.delivered.json"):
        position.unlink()
    for file in kept.iterdir():
        file.rename(journal / "files" / file.name)
    assert replay(journal, way.uri) == Delivered(delivered=ENTRIES)
    assert_everything(client, run_of(client, experiment))


def test_a_run_that_mlflow_has_lost_is_made_anew(way, client, experiment, net, tmp_path, capsys):
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        log_curves()
    journal = tmp_path / "out.journal"
    before = run_of(client, experiment)
    client.delete_experiment(before.info.experiment_id)
    note = RunNote.read(RunNote.file(journal, "train"))
    note.experiment, note.uid = f"{experiment}-again", "another"
    note.write(RunNote.file(journal, "train"))
    MadeNote("0" * 32, "0").write(MadeNote.file(journal, "train"))
    with open(next(journal.glob("*.jsonl")), "a") as entries:
        late = {"run": "train", "kind": "metrics", "time": 5, "step": 1, "values": {"late": 1.0}}
        entries.write(json.dumps(late) + "\n")
    assert replay(journal, way.uri).left == 0
    run = run_of(client, f"{experiment}-again")
    assert len(curves_of(client, run)["loss/G"]) == STEPS and run.data.metrics["late"] == 1.0
    assert "made anew" in capsys.readouterr().err


def test_mlflow_is_told_no_secrets(way, client, experiment, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "k3y+of+the+store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", way.uri.replace("//", "//zaphod:track1ng@"))
    url = {"raw_data": "https://zaphod:pa55word@h/x.zip?X-Amz-Signature=5ignature"}
    with pytest.raises(ValueError), tracking.step_run("train", url, tmp_path / "out"):
        tracking.set_tags(url | {"key": "azN5K29mK3RoZStzdG9yZQ== is k3y%2Bof%2Bthe%2Bstore"})
        raise ValueError("k3y+of+the+store was refused, and track1ng")
    run = run_of(client, experiment)
    assert run.data.params["raw_data"] == "https://***@h/x.zip?X-Amz-Signature=***"
    assert run.data.tags["failure"] == "*** was refused, and ***"
    told = b"".join(way.told)
    for secret in (b"k3y", b"azN5", b"pa55word", b"track1ng", b"5ignature", b"zaphod"):
        assert secret not in told


# Each kind fails alone.


def test_what_is_refused_takes_nothing_else_along(way, client, experiment, tmp_path, capsys):
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        tracking.log_dataset("scenes", tmp_path, "d" * 50, "training")  # MLflow takes 36 letters
        tracking.log_metrics({"good": 1.0, "bad": "text"}, step=1)
        tracking.log_metrics({"good": 2.0}, step=2)
        tracking.set_tags({"müll#1": "x", "": "nameless", "good": "y"})
        tracking.log_params({"epochs": 3, "learning rate": 1e-3})
    run = run_of(client, experiment)
    points = client.get_metric_history(run.info.run_id, "good")
    assert [point.value for point in points] == [1.0, 2.0]
    assert run.data.params == {"epochs": "2", "learning rate": "0.001"}
    assert run.data.tags["good"] == "y" and "x" in run.data.tags.values()
    assert run.info.status == "FINISHED"
    warned = capsys.readouterr().err
    assert "metric bad is left out" in warned and "param epochs is left out" in warned
    assert "dataset" in warned and warned.count("warning: ") == 3


# The tree.


def test_a_deleted_experiment_is_restored_with_one_sentence(
    way, client, experiment, tmp_path, capsys
):
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        log_curves(last=20)
        run_id = tracking.run_id()
        client.delete_experiment(client.get_run(run_id).info.experiment_id)
        log_curves(first=20)
    assert len(curves_of(client, run := run_of(client, experiment))["loss/G"]) == STEPS
    assert run.info.status == "FINISHED"
    (warning,) = capsys.readouterr().err.splitlines()
    assert f"the experiment {experiment} was deleted: it is restored" in warning

    client.delete_experiment(run.info.experiment_id)
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "another"):
        pass
    assert len(client.search_runs([run.info.experiment_id])) == 2


def test_a_deleted_run_stays_deleted(way, client, experiment, tmp_path, capsys):
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        client.delete_run(tracking.run_id())
        log_curves()
    assert "was deleted in MLflow" in capsys.readouterr().err
    place = client.get_experiment_by_name(experiment).experiment_id
    assert client.search_runs([place]) == [] and is_delivered(tmp_path / "out.journal")


PIPELINE = """
import subprocess, sys
from pathlib import Path
from shared import tracking
with tracking.pipeline_run("{experiment}", "night-1", {{}}, {{}}, Path("runs")):
    subprocess.run([sys.executable, "-c", '''
from shared import tracking
with tracking.step_run("train", {{"epochs": 2}}):
    tracking.log_headline({{"fps": 7.5}})
'''], check=True)
"""


def test_children_find_their_parent_when_the_server_comes_late(way, client, experiment, tmp_path):
    way.fault = "refuses"
    code = PIPELINE.format(experiment=experiment)
    uri = {"MLFLOW_TRACKING_URI": way.uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    variables = clean_environment() | {"PYTHONPATH": str(ROOT)} | uri
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "`python pipeline.py sync --run night-1` delivers them later" in done.stderr

    way.fault = None
    place = client.create_experiment(experiment)
    assert replay(tmp_path / "runs" / "night-1" / "journal", way.uri).left == 0
    runs = {run.info.run_name: run for run in client.search_runs([place])}
    assert set(runs) == {"night-1", "train"}
    parent = runs["train"].data.tags["mlflow.parentRunId"]
    assert parent == runs["night-1"].info.run_id
    assert runs["night-1"].data.metrics == {"fps": 7.5}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


KILLED = """
import os, pathlib, signal
from shared import tracking
with tracking.step_run("train", {"epochs": 2}, pathlib.Path("out")):
    for i in range(20):
        tracking.log_metrics({"loss/G": 1 / (i + 1), "loss/D": float(i)}, step=10 * i)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_step_is_closed_and_goes_on_in_its_run(
    way, client, experiment, tmp_path, monkeypatch, capsys
):
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=variables)
    assert killed.returncode == -9
    journal = tmp_path / "out.journal"
    with open(next(journal.glob("*.jsonl")), "ab") as entries:
        entries.write(b'{"run": "train", "kind": "met')  # torn by a power loss

    assert replay(journal, way.uri).left == 0
    run = run_of(client, experiment)
    assert run.info.status == "KILLED" and "killed" in run.data.tags["failure"]
    assert len(curves_of(client, run)["loss/G"]) == 20

    with tracking.step_run("train", {"epochs": 3}, tmp_path / "out"):
        assert tracking.run_id() == run.info.run_id
        while client.get_run(run.info.run_id).info.status != "RUNNING":
            time.sleep(0.1)
        log_curves(first=20)
    run = run_of(client, experiment)
    assert run.info.status == "FINISHED" and run.data.params == {"epochs": "2"}
    assert [step for step, _ in curves_of(client, run)["loss/G"]] == [10 * i for i in range(STEPS)]
    assert "param epochs is left out" in capsys.readouterr().err
    assert replay(journal, way.uri) == Delivered() and run_of(client, experiment).info.status == (
        "FINISHED"
    )

    # Once it has finished, the same command makes a new run.
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        assert tracking.run_id() != run.info.run_id


def test_variables_of_kfps_plugin_are_honoured(way, client, experiment, tmp_path, monkeypatch):
    place = client.create_experiment(f"{experiment}-by-id")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", place)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "never made")
    parent = client.create_run(place, run_name="by the server")
    monkeypatch.setenv("PIPELINE_PARENT_RUN_ID", parent.info.run_id)
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        tracking.log_headline({"fps": 7.5})
        child = tracking.run_id()
    assert client.get_run(child).info.experiment_id == place
    assert client.get_run(child).data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert client.get_run(parent.info.run_id).data.metrics == {"fps": 7.5}
    assert client.get_run(parent.info.run_id).info.status == "RUNNING"

    # A run that the launcher of KFP has made, and closes.
    given = client.create_run(place, run_name="by the launcher").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "another"):
        log_curves()
        assert tracking.run_id() == given
    run = client.get_run(given)
    assert run.info.status == "RUNNING" and len(curves_of(client, run)["loss/D"]) == STEPS
    assert client.get_experiment_by_name("never made") is None


def test_links_open_the_view_of_trainings(way, client, experiment, tmp_path):
    with tracking.step_run("train", {}, tmp_path / "out"):
        run_id, links = tracking.run_id(), tracking.links()
    place = client.get_experiment_by_name(experiment).experiment_id
    table = f"{way.uri}/#/experiments/{place}/runs"
    assert links.experiment == f"{table}?workflowType=machine_learning"
    assert links.run == f"{table}/{run_id}?workflowType=machine_learning"
