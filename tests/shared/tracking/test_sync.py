"""`pipeline.py sync`: what MLflow missed, by run."""

import uuid

import pytest

from shared import tracking
from shared.errors import InputError
from shared.pipeline.after_night.sync import sync


@pytest.fixture
def runs(way, tmp_path, monkeypatch):
    """The folder of two runs, of which MLflow was told nothing: of four and five entries."""
    way.fault = "refuses"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"sync-{uuid.uuid4().hex[:8]}")
    for name in ("night-1", "night-2"):
        monkeypatch.setenv("PIPELINE_JOURNAL", str(tmp_path / name / "journal"))
        with tracking.step_run("train", {"epochs": 2}):
            if name == "night-2":
                tracking.log_figures({"fps": 7.5})
    return tmp_path


def test_each_run_says_what_is_left_and_why(way, client, runs, monkeypatch, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        sync("all", runs)
    assert left.value.code == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("night-1: 0 entries delivered, 4 left: API request to http")
    assert second.startswith("night-2: 0 entries delivered, 5 left: API request to http")

    # Back again, and found where the runs were to be logged.
    way.fault = None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    sync("all", runs)
    assert capsys.readouterr().out.splitlines() == [
        "night-1: 4 entries delivered, 0 left",
        "night-2: 5 entries delivered, 0 left",
        "MLflow has everything of 2 runs",
    ]
    sync(str(runs / "night-1" / "journal"), runs)
    assert capsys.readouterr().out == "night-1: MLflow has everything\n"


def test_a_password_that_was_not_kept_is_asked_for(way, runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", way.uri.replace("//", "//zaphod:pa55word@"))
    monkeypatch.setenv("PIPELINE_JOURNAL", str(runs / "night-3" / "journal"))
    with tracking.step_run("train", {}):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(InputError, match=r"whose password was not kept: set MLFLOW_TRACKING_URI\."):
        sync(str(runs / "night-3" / "journal"), runs)


def test_an_unknown_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="--run night-9: --runs .* holds no run"):
        sync("night-9", tmp_path)
