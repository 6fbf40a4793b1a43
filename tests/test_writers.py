"""One writer per folder, on the command line and in KFP; what a step reads is not written over."""

import importlib
import os

import pytest

from shared.command import execute, refuse_overlap
from shared.files.owned import LOCK, only_writer
from tests.asking import as_flags, refusal
from tests.places import STEPS

READS = dict(dataset="dataset", model="model")
COMMANDS = {
    "prepare": ("--dataset", ["prepare", *as_flags(raw_data="raw", dataset="out")]),
    "train": ("--model", ["train", *as_flags(dataset="dataset", model="out")]),
    "adopt": ("--model", ["train", "adopt", *as_flags(model="out")]),
    "cluster": ("--clusters", ["cluster", *as_flags(**READS, clusters="out")]),
    "exchange read": (
        "--clusters",
        ["cluster", "exchange", "read", *as_flags(**READS, clusters="out", centres="c.npy")],
    ),
    "exchange read-maps": (
        "--clusters",
        ["cluster", "exchange", "read-maps", *as_flags(**READS, clusters="out", maps="maps")],
    ),
    "exchange maps": (
        "--out",
        ["cluster", "exchange", "maps", *as_flags(dataset="dataset", clusters="c", out="out")],
    ),
    "export": ("--exported", ["export", *as_flags(model="model", exported="out")]),
    "synthesise": (
        "--out",
        ["export", "synthesise", *as_flags(model="model", labels="labels", out="out")],
    ),
    "offline inputs": (
        "--out",
        ["export", "offline", "inputs", *as_flags(dataset="dataset", out="out")],
    ),
    "offline pictures": (
        "--out",
        ["export", "offline", "pictures", *as_flags(outputs="outputs", out="out", size="8x8")],
    ),
    "benchmark": ("--report", ["benchmark", *as_flags(**READS, exported="e", report="out")]),
    "ais_bench": (
        "--out",
        ["benchmark", "ais_bench", "inputs", *as_flags(om="a.om", inputs="inputs", out="out")],
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words: list[str], capsys) -> str:
    """What a command says that is refused."""
    step, *argv = words
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"components.{step}.__main__").main(argv)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_a_second_writer_is_refused_before_it_reads_anything(name, here, capsys):
    flag, words = COMMANDS[name]
    with only_writer(here / "out", flag, appears_whole=name == "prepare"):
        held = sorted(here.rglob("*"))
        sentence = refused(words, capsys)
        assert f"refused: {flag} out is being written by process {os.getpid()} of " in sentence
        assert sentence.count("\n") == 1 and sorted(here.rglob("*")) == held
    assert sorted(here.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_is_tried_before_anything_is_read(name, here, capsys):
    flag, words = COMMANDS[name]
    (here / "out").write_text("mine")
    sentence = refused(words, capsys)
    assert f"refused: {flag} out cannot be written (out is a file): give a place" in sentence
    assert (here / "out").read_text() == "mine" and os.listdir(here) == ["out"]


@pytest.mark.parametrize("step", STEPS)
def test_the_face_of_kfp_is_refused_too(step, here, capsys):
    module = importlib.import_module(f"components.{step}.config")
    config = getattr(module, f"{step.capitalize()}Config")
    places = dict.fromkeys(("raw_data", "dataset", "model", "exported", "clusters"), "in")
    with only_writer(here / "out", "--out", appears_whole=step == "prepare"):
        with pytest.raises(SystemExit) as end:
            run = importlib.import_module(f"components.{step}.run").run
            inputs = {name: places[name] for name in run.__annotations__.keys() & places.keys()}
            execute(run, config, {}, **inputs | {config.OUTPUT: "out"})
        assert end.value.code == 2
        assert "is being written by process" in capsys.readouterr().err


def test_ranks_beside_the_first_write_nothing_and_hold_nothing(here, monkeypatch, capsys):
    world = dict(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1", MASTER_ADDR="::1", MASTER_PORT="9")
    world["PIPELINE_PATIENCE_S"] = "0.1"
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    with only_writer(here / "out", "--model"), pytest.raises(SystemExit):
        importlib.import_module("components.train.__main__").main(COMMANDS["train"][1][1:])
    assert "nobody was met at ::1:9 in 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "folders", "found"),
    [
        ("train", dict(dataset="a", model="a"), "--model a is --dataset a"),
        ("train", dict(dataset="a", model="b", init_from="b/../b"), "--model b is --init-from"),
        ("cluster", dict(dataset="a", model="b", clusters="a/x/y"), "lies inside --dataset a"),
        ("export", dict(model="b", exported="link"), "--exported link is --model b"),
        (
            "benchmark",
            dict(dataset="a", model="b", exported="r/gallery/e", report="r"),
            "--report r is cleared of --exported r/gallery/e",
        ),
        # What does no harm.
        ("train", dict(dataset="m/a", model="m"), ""),
        ("export", dict(model="b", exported="b/exported", dataset=None), ""),
        ("prepare", dict(raw_data="https://a.b/c", dataset="c"), ""),
        ("benchmark", dict(dataset="r/a", model="r/b", exported="r/e", report="r"), ""),
    ],
)
def test_what_is_read_is_not_written_over(step, folders, found, here):
    (here / "b").mkdir()
    (here / "link").symlink_to("b")
    module = importlib.import_module(f"components.{step}.config")
    config = getattr(module, f"{step.capitalize()}Config")()
    if not found:
        refuse_overlap(config, folders)
    else:
        sentence = refusal(refuse_overlap, config, folders)
        assert found in sentence and sentence.endswith(": give a folder elsewhere.")


def test_names_of_the_lock_are_hidden():
    """So that nobody reads, logs or counts it."""
    assert LOCK.startswith(".")
