"""--profile: which steps it records, what it prints and writes, and that it changes nothing."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from components.train.__main__ import main
from components.train.devices import profiling
from shared.tracking import JOURNAL
from shared.tracking.store import URI
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.on_npu import on_npu


def options(folder: Path, **changes) -> list[str]:
    """Of a training of three steps in each of two epochs."""
    values = tiny.TRAIN | dict(dataset=folder / "dataset", model=folder / "model", device="cpu")
    values |= dict(epochs=2, epochs_decay=0, validate_every_epochs=0)
    return as_flags(**values | changes)


@pytest.fixture
def folder(tmp_path) -> Path:
    tiny.dataset(tmp_path / "dataset", train=3)
    return tmp_path


def events_of(trace: Path) -> list[dict]:
    with gzip.open(trace) as file:
        return json.load(file)["traceEvents"]


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    return torch.load(model / "latest_net_G.pth", weights_only=True)


def rows_of(out: str) -> list[list[str]]:
    """The cells of the table of operators: name, calls, ms, share."""
    lines = out.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("operator "))
    end = next(n for n, line in enumerate(lines) if line.startswith("profile: "))
    return [line.rsplit(maxsplit=3) for line in lines[start + 1 : end]]


def test_two_steps_after_three_are_recorded_and_change_no_bit(folder, monkeypatch, capfd):
    monkeypatch.delenv(URI, raising=False)
    main(options(folder, model=folder / "plain"))
    capfd.readouterr()
    monkeypatch.setenv(JOURNAL, str(folder / "journal"))
    main(options(folder, profile=2))
    out, err = capfd.readouterr()
    plain, profiled = weights_of(folder / "plain"), weights_of(folder / "model")
    assert all(torch.equal(plain[name], profiled[name]) for name in plain)
    assert not err

    # The trace: two steps of two updates each, and no more.
    trace = folder / "model.profile/trace.json.gz"
    events = [event for event in events_of(trace) if event.get("cat") == "user_annotation"]
    steps = {event["name"] for event in events if event["name"].startswith("ProfilerStep")}
    assert steps == {"ProfilerStep#3", "ProfilerStep#4"}
    assert sum(event["name"] == "Optimizer.step#Adam.step" for event in events) == 2 * 2

    # The table, and where it is: beside the model, and in MLflow.
    rows = rows_of(out)
    assert len(rows) == 10
    assert [float(ms) for _, _, ms, _ in rows] == sorted((float(ms) for *_, ms, _ in rows))[::-1]
    assert "aten::convolution_backward" in {name for name, *_ in rows}
    assert out.endswith(f"profile: a trace of 2 steps is in {trace.parent}\n")
    notes = [
        json.loads(line) for file in (folder / "journal").glob("*.jsonl") for line in open(file)
    ]
    logged = [note for note in notes if note.get("name") == "trace.json.gz"]
    assert [note["folder"] for note in logged] == ["profile"]


def test_a_training_of_few_steps_has_no_trace_and_a_large_trace_stays_here(
    folder, monkeypatch, capsys
):
    main(options(folder, profile=2, epochs=1))
    assert capsys.readouterr().out.endswith(
        "profile: no trace was written: it begins after 3 steps, and they were fewer\n"
    )
    monkeypatch.setattr(profiling, "MOST_LOGGED_BYTES", 10)
    other = folder / "other"
    main(options(folder, profile=9, model=other))
    *_, size, place = capsys.readouterr().out.splitlines()
    assert size == "profile: trace.json.gz has 0 MB and is not sent to MLflow"
    assert place == f"profile: a trace of 3 steps is in {other}.profile"


@pytest.mark.slow
def test_a_performance_run_is_recorded_and_ends_with_its_line(folder, capsys):
    main(options(folder, profile=3, performance_run=1))
    (
        *_,
        place,
    ) = [line for line in capsys.readouterr().out.splitlines() if "profile:" in line]
    assert place == f"profile: a trace of 3 steps is in {folder / 'model.profile'}"
    assert not (folder / "model").exists()


def test_a_place_that_cannot_be_written_is_refused(folder, capsys):
    (folder / "model.profile").write_text("")
    said = refusal_of_command(capsys, main, *options(folder, profile=1))
    assert said.startswith("--model ") and "model.profile" in said


@pytest.mark.slow
def test_of_two_processes_the_first_is_recorded(folder, capfd):
    main(options(folder, profile=1, devices=2, epochs=5))
    assert "profile: a trace of 1 steps is in" in capfd.readouterr().out
    assert [path.name for path in (folder / "model.profile").iterdir()] == ["trace.json.gz"]


@pytest.mark.slow
def test_an_npu_has_the_folder_of_its_vendor(folder):
    done = on_npu("train", *options(folder, profile=2, device="npu", precision="fp32"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"profile: a trace of 2 steps is in {folder / 'model.profile'}\n")
    (trace,) = (folder / "model.profile").glob("rank0_*_ascend_pt/*/trace_view.json")
    recorded = json.loads(trace.read_text())
    convolutions = sum(one["name"] == "aten::convolution_backward" for one in recorded)
    assert 0 < convolutions < done.kernels["aten::convolution_backward"]
    rows = {name: int(calls) for name, calls, _, _ in rows_of(done.stdout)}
    assert len(rows) == 10 and rows["convolution_backward"] == convolutions
