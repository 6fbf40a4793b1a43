"""Nights: one at a time, stopped in time, gone on with by the next, judged by the verdict."""

import os
import shutil
import signal
from pathlib import Path

import pytest

import pipeline
from shared.contracts.measured import BenchmarkReport, Verdict
from shared.pipeline.nights import REFUSED_BY_VERDICT, NightlyOptions, find_unfinished
from shared.pipeline.reuse import listing_of
from shared.pipeline.runs import Run, RunRecord, StepState, runs_in
from tests.asking import refusal_of_command
from tests.calling import SMALL, call
from tests.shared.pipeline.killing import (
    WAIT_SECONDS,
    Pipeline,
    statuses_in_mlflow,
    written_by_steps,
)

# Whole nights.


def test_a_second_night_prepares_nothing_and_trains_anew(whole_night, scenes, tmp_path):
    runs = shutil.copytree(whole_night[0] / "runs", tmp_path / "runs")
    (first,) = runs.glob("demo-*")
    night = Pipeline(tmp_path, scenes, "nightly", SMALL, earlier=first.name)
    night.start()
    night.wait_to_hear("train global: ")
    night.kill("nightly", signal.SIGKILL)
    assert f"prepare: taken over from {first.name}" in night.said()
    assert night.record()["steps"]["train_global"]["state"] == "running"


@pytest.mark.slow
def test_a_second_night_measures_itself_against_the_first(whole_night, scenes, tmp_path):
    folder = shutil.copytree(whole_night[0], tmp_path / "nights")
    second = call("nightly", "--raw-data", scenes, "--set", *SMALL, cwd=folder)
    assert second.returncode in (0, REFUSED_BY_VERDICT), second.stdout + second.stderr
    for line in ("prepare: taken over from demo-", "epoch 3/3", "onnxruntime fp32, batch 2"):
        assert line in second.stdout
    assert second.stdout.splitlines()[-1].startswith("nightly: demo-")
    verdict = BenchmarkReport.read(runs_in(folder / "runs")[0].report).verdict
    assert verdict.outcome != "first" and verdict.champion


@pytest.fixture
def half_a_night(whole_night, scenes, tmp_path) -> Pipeline:
    """A night that was killed, as kill -9 leaves it, before it trained its second stage."""
    done = next(whole_night[0].glob("runs/demo-*/run.json")).parent
    folder = tmp_path / "runs" / done.name
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("journal"))
    record = RunRecord.read(folder)
    steps = dict(record.steps)
    for step in ("train_local", "export", "benchmark"):
        steps[step] = StepState()
        shutil.rmtree(folder / step.replace("_", "-"))
    broken_off = dict(state="running", ended="", working_directory=str(tmp_path))
    record.model_copy(update=broken_off | {"steps": steps}).write(folder)
    return Pipeline(tmp_path, scenes, "nightly", SMALL)


def test_a_night_goes_on_where_the_one_before_was_killed(whole_night, half_a_night, scenes):
    # Killed again, the hard way, in its training: nothing is left that a third could meet.
    night = half_a_night
    night.start()
    night.wait_for("train_local")
    night.wait_to_hear("train local: ")
    night.kill("nightly", signal.SIGKILL)
    assert f"nightly: goes on with {night.run.name}: it was killed in train_local" in night.said()
    assert night.record()["steps"]["cluster"]["state"] == "finished"

    # A third goes on; a fourth beside it touches nothing.
    night.start()
    night.wait_for("export")
    beside = call("nightly", "--raw-data", scenes, "--set", *SMALL, cwd=night.folder)
    assert beside.returncode == 75
    assert f"nightly.lock is held by process {night.process.pid} of " in beside.stderr

    # And is stopped when all is there but the figures.
    night.wait_for("benchmark")
    night.kill("nightly", signal.SIGTERM)
    assert night.process.returncode == 143
    assert night.record()["state"] == "stopped"
    kept = "nightly stopped by SIGTERM: what is done is kept; the next night goes on with it"
    assert night.said().splitlines()[-1] == kept, "the one line of all three processes"

    # In MLflow nothing looks as if it were still running.
    statuses = statuses_in_mlflow(night.folder)
    assert (night.run.name, "KILLED") in statuses
    assert {status for _, status in statuses} <= {"FINISHED", "FAILED", "KILLED"}

    # What was written is what an uninterrupted night writes.
    whole = written_by_steps(whole_night[0] / "runs" / night.run.name)
    there = written_by_steps(night.run)
    of_benchmark = {name for name in whole.keys() | there.keys() if name.startswith("benchmark/")}
    assert {name: whole[name] for name in whole.keys() - of_benchmark} == {
        name: there[name] for name in there.keys() - of_benchmark
    }


def test_a_refused_model_has_an_exit_code_of_its_own(half_a_night, whole_night):
    """Of a night that has only to note its end."""
    night, whole = half_a_night, whole_night[0] / "runs" / half_a_night.run.name
    for step in ("train-local", "export", "benchmark"):
        shutil.copytree(whole / step, night.run / step)
    place = night.run / "benchmark" / "report"
    verdict = Verdict(outcome="worse", reasons=["It is slower."])
    BenchmarkReport.read(place).model_copy(update={"verdict": verdict}).write(place)
    record, there = RunRecord.read(night.run), RunRecord.read(whole)
    judged = there.steps["benchmark"].model_copy(
        update={"files": listing_of(night.run / "benchmark")}
    )
    steps = there.steps | {"benchmark": judged}
    record.model_copy(update={"steps": steps}).write(night.run)

    night.start()
    assert night.process.wait(WAIT_SECONDS) == 3, night.said()
    said = f"nightly: {night.run.name} refused, verdict: worse. It is slower."
    assert said in night.said()
    assert night.record()["state"] == "finished"


def test_a_night_that_takes_too_long_is_stopped(scenes, tmp_path):
    result = call("nightly", "--raw-data", scenes, "--timeout-min", 0.01, cwd=tmp_path)
    assert result.returncode == 124
    assert "nightly: stopped after --timeout-min 0.01; the next night " in result.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--timeout-min", -1], "--timeout-min -1.0: "),
        (["--timeout-min", "nan"], "--timeout-min nan: "),
        (["--runs", "file"], "--runs file cannot be made: File exists; name another folder."),
        (["--runs", "file/below"], "--runs file/below cannot be made: Not a directory"),
    ],
)
def test_a_night_that_cannot_begin_is_refused(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    said = refusal_of_command(capsys, pipeline.main, "nightly", *arguments)
    assert said.startswith(sentence)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Which night is gone on with.


CONFIG = {"prepare": {"size": [64, 128]}, "train_global": {"epochs": 2}}


def night(name: str = "night", **fields) -> Run:
    record = RunRecord(
        name=name,
        recipe="demo",
        config=CONFIG,
        raw_data="/data/scenes",
        working_directory=os.getcwd(),
        tags={"nightly": "true", "team": "vision"},
        code={},
        host="here",
        started="2026-11-29 02:00:00",
        state="stopped",
        steps={},
    )
    return Run(Path("runs") / name, record.model_copy(update=fields))


@pytest.mark.parametrize(
    "fields, goes_on",
    [
        ({}, True),
        ({"state": "running"}, True),  # as kill -9 and power loss leave it
        ({"state": "failed", "reason": "step export failed: killed by the system, most"}, True),
        ({"state": "failed", "reason": "step export failed: the disk is full: make room"}, True),
        ({"state": "failed", "reason": "step prepare failed: ValueError: 255"}, False),
        ({"state": "finished"}, False),
        ({"config": CONFIG | {"prepare": {"size": [32, 64]}}}, False),
        ({"raw_data": "/data/other"}, False),
        ({"working_directory": "/elsewhere"}, False),  # where relative paths are others
        ({"raw_data": "https://host/data.zip", "has_secrets": True}, False),
    ],
)
def test_what_is_gone_on_with(fields, goes_on):
    config = NightlyOptions(raw_data="/data/scenes")
    last = night(**fields)
    assert find_unfinished([last, night("older")], config, CONFIG) == (last if goes_on else None)


def test_another_recipe_is_none_of_this_nights_business():
    config = NightlyOptions(raw_data="/data/scenes")
    newest, mine = night("newest", recipe="facades"), night("mine")
    assert find_unfinished([newest, mine], config, CONFIG) is mine
    assert find_unfinished([newest], config, CONFIG) is None


def test_demo_scenes_are_not_the_raw_data_of_a_night_that_had_some(tmp_path):
    config = NightlyOptions(runs=tmp_path)
    assert find_unfinished([night()], config, CONFIG) is None
    drawn = night(raw_data=str(tmp_path / "demo_scenes"))
    assert find_unfinished([drawn], config, CONFIG) is drawn
