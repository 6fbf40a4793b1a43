"""A folder appears whole or not at all; what a journal vouches for is kept for the next call."""

import pytest

from components.prepare.writing.folders import written_whole
from tests.asking import refusal


def write(folder, files, journal="", fails=False):
    """What the hidden folder held at first; then it gets `files`, a dict of texts by name."""
    with written_whole(folder, "--out", journal) as partial:
        found = {path.name: path.read_text() for path in partial.iterdir()}
        for name, text in files.items():
            (partial / name).write_text(text)
        if fails:
            raise RuntimeError
    return found


@pytest.fixture
def out(tmp_path):
    return tmp_path / "deep" / "out"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_the_block_ends(out):
    with written_whole(out, "--out") as partial:
        (partial / "a").write_text("a")
        assert not out.exists()
    assert names(out) == ["a"] and names(out.parent) == ["out"]


def test_nothing_is_left_of_a_block_that_fails(out):
    with pytest.raises(RuntimeError):
        write(out, {"a": "half", "journal": ""}, journal="journal", fails=True)
    assert names(out.parent) == []


def test_what_a_journal_vouches_for_is_kept_and_given_again(out, capsys):
    with pytest.raises(RuntimeError):
        write(out, {"a": "done", "journal": "a\n"}, journal="journal", fails=True)
    assert names(out.parent) == [".out.partial"] and "kept in" in capsys.readouterr().out
    assert write(out, {"b": "done"}, journal="journal") == {"a": "done", "journal": "a\n"}
    assert names(out) == ["a", "b", "journal"] and names(out.parent) == ["out"]


def test_what_a_killed_run_left_without_a_journal_is_thrown_away(out):
    rest = out.with_name(".out.partial")
    (rest / "folder").mkdir(parents=True)
    (rest / "folder" / "half").write_text("half")
    assert write(out, {"a": "a"}) == {}
    assert names(out) == ["a"]


def test_what_another_run_finished_meanwhile_is_kept(out):
    out.mkdir(parents=True)
    (out / "mine").write_text("mine")
    sentence = refusal(write, out, {"b": "b"})
    assert sentence == f"--out {out} was filled meanwhile: give a new folder."
    assert names(out) == ["mine"] and names(out.parent) == ["out"]
