"""What pods say that come after one that was refused: KFP repeats whatever fails."""

import os

import pytest

from shared.errors import InputError, WorkFailed
from shared.workspace.attempts import NOTE, POD, refused_once
from shared.workspace.place import RUN_ID
from tests.asking import refusal
from tests.shared.workspace.pods import Pods

WRONG = "--raw-data /nowhere: is not there."


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (place := tmp_path / "workspace").mkdir()
    monkeypatch.setenv(RUN_ID, "run-1")
    monkeypatch.setenv(POD, "demo-1-retry(0)")
    return place


def work(workspace, step="prepare", error=None) -> list[str]:
    """An attempt of a step that ends so; what it has done."""
    done = []
    with refused_once(str(workspace), step):
        done.append("begun")
        if error:
            raise error
    return done


def test_what_was_refused_is_not_tried_again(workspace, monkeypatch, capsys):
    assert refusal(work, workspace, error=InputError(WRONG)) == WRONG
    monkeypatch.setenv(POD, "demo-1-retry(1)")
    for _ in range(2):
        assert refusal(work, workspace) == WRONG
    assert "as in the attempt of pod demo-1-retry(0): nothing was tried" in capsys.readouterr().out

    # Another step, another run, and none: nothing is known of them.
    assert work(workspace, step="cluster") == ["begun"]
    for run in ("run-2", ""):
        monkeypatch.setenv(RUN_ID, run)
        assert work(workspace) == ["begun"]


def test_a_failed_run_that_is_done_again_works_anew(workspace, monkeypatch):
    """By its first attempt, which has the same name; what that leaves is a note, or none."""
    refusal(work, workspace, error=InputError(WRONG))
    with pytest.raises(WorkFailed):
        work(workspace, error=WorkFailed("The disk is full."))
    monkeypatch.setenv(POD, "demo-1-retry(1)")
    assert work(workspace) == ["begun"]


@pytest.mark.parametrize("error", [WorkFailed("no room"), OSError("gone"), SystemExit(143)])
def test_what_failed_otherwise_is_tried_again(error, workspace, monkeypatch):
    with pytest.raises(type(error)):
        work(workspace, error=error)
    monkeypatch.setenv(POD, "demo-1-retry(1)")
    assert work(workspace) == ["begun"]


def test_without_a_workspace_it_is_refused_as_ever(tmp_path, monkeypatch):
    monkeypatch.setenv(RUN_ID, "run-1")
    for place in ("", tmp_path / "lost"):
        for _ in range(2):
            assert refusal(work, place, error=InputError(WRONG)) == WRONG
    assert os.listdir(tmp_path) == []


def test_a_workspace_that_takes_no_note_hides_no_refusal(workspace, monkeypatch):
    (workspace / "run-1").write_text("no folder")
    assert refusal(work, workspace, error=InputError(WRONG)) == WRONG


def test_a_pod_that_is_retried_says_the_same_and_writes_nothing(workspace, tmp_path):
    """As KFP starts it. The first has read the images; the second never looks."""
    pods = Pods(tmp_path / "pods", str(workspace))
    (raw := tmp_path / "raw").mkdir()
    ended = [
        pods.run_one("prepare", {}, {POD: f"demo-1({attempt})"}, raw_data=str(raw))
        for attempt in range(2)
    ]
    sentences = [one.said.strip().splitlines()[-1] for one in ended]
    assert [one.code for one in ended] == [2, 2] and sentences[0] == sentences[1]
    assert sentences[0].startswith("prepare refused: --raw-data ")
    assert "nothing was tried" in ended[1].said and "nothing was tried" not in ended[0].said
    note = workspace / "run-1" / "prepare" / NOTE
    assert note.read_text().startswith("demo-1(0)\n--raw-data ")
