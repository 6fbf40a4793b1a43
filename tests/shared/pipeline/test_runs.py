"""The folder of a run, and what run.json says."""

import json
from pathlib import Path

import pytest

from shared.pipeline import runs as home
from shared.pipeline.runs import RunRecord, begin, find, runs_in
from tests.asking import refusal

CONFIG = {"prepare": {"size": "64x128"}, "train_global": {"epochs": 2}}


def start(runs: Path, recipe: str = "demo", raw_data: str = "/data"):
    return begin(recipe, CONFIG, raw_data, {"team": "vision"}, {"git.commit": "abc"}, runs)


def test_a_run_has_a_folder_of_its_own_name_and_says_what_was_asked(tmp_path):
    run = start(tmp_path / "new" / "runs")
    assert run.folder == tmp_path / "new" / "runs" / run.name
    written = json.loads((run.folder / "run.json").read_text())
    assert written["name"] == run.name and written["config"] == CONFIG
    assert written["state"] == "running" and written["format"] == 1
    assert {step: state["state"] for step, state in written["steps"].items()} == {
        "prepare": "waiting",
        "train_global": "waiting",
    }


def test_runs_of_one_second_have_different_names_by_recipe_and_utc_stamp(tmp_path, monkeypatch):
    names = [start(tmp_path).name for _ in range(3)]
    assert len(set(names)) == 3
    for name in names:
        recipe, date, clock = name.split("-")[:3]
        assert recipe == "demo" and len(date) == 8 and len(clock) == 6
    assert len({name[:20] for name in names}) >= 1  # MLflow's list shows about so many letters
    assert {run.name for run in runs_in(tmp_path)} == set(names)


def test_every_change_is_on_the_disk(tmp_path):
    run = start(tmp_path)
    run.note_step("prepare", state="finished", key="k", seconds=1.5)
    again = RunRecord.read(run.folder)
    assert again.steps["prepare"].is_done and again.steps["prepare"].key == "k"
    assert not again.steps["train_global"].is_done
    run.end("failed", "step train_global failed: no memory")
    again = RunRecord.read(run.folder)
    assert (again.state, again.reason) == ("failed", "step train_global failed: no memory")
    assert again.ended


def test_the_latest_run_is_the_newest_that_is_not_finished(tmp_path, monkeypatch):
    runs = []
    for hour in range(3):
        monkeypatch.setattr(home, "now", lambda hour=hour: f"2026-11-29 0{hour}:00:00")
        runs.append(start(tmp_path))
    runs[2].end("finished")
    assert find(tmp_path, "latest", "--continue").name == runs[1].name
    for run in runs[:2]:
        run.end("finished")
    assert find(tmp_path, "latest", "--continue").name == runs[2].name
    assert find(tmp_path, runs[0].name, "--continue").name == runs[0].name
    assert find(tmp_path, str(runs[0].folder), "--continue").name == runs[0].name


def test_what_is_no_run_is_refused_with_those_there_are(tmp_path):
    assert "holds no run" in refusal(find, tmp_path, "latest", "--continue")
    name = start(tmp_path).name
    (tmp_path / "other").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text('{"name": "to')
    assert [run.name for run in runs_in(tmp_path)] == [name]
    sentence = refusal(find, tmp_path, "demo-2000", "--continue")
    assert sentence.startswith("--continue demo-2000 is no run") and name in sentence


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_a_place_that_cannot_hold_runs_is_refused(tmp_path, kind):
    (tmp_path / "runs").write_text("")
    place = tmp_path / "runs" / ("" if kind == "file" else "deeper")
    assert refusal(start, place).startswith(f"--runs {place}")


def test_raw_data_of_a_continued_run_are_its_own(tmp_path):
    run = start(tmp_path, raw_data=str(tmp_path))
    assert run.raw_data(None) == run.raw_data(str(tmp_path)) == str(tmp_path)
    sentence = refusal(run.raw_data, "/elsewhere")
    assert "--raw-data /elsewhere is not that of run" in sentence and str(tmp_path) in sentence
