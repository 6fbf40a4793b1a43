"""The journal without a server: its files, names, and what it keeps to itself."""

import json
import os
import re
import shutil
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

from shared import tracking
from shared.tracking import courier, store
from shared.tracking.journal import (
    Journal,
    Position,
    RunNote,
    append_to,
    curve_ends,
    journals_in,
    read_entries,
)
from shared.tracking.names import LONGEST_FILE, legal_file, legal_folder, legal_key
from shared.tracking.replay import close_dead, count_left
from shared.tracking.sending import _call
from shared.tracking.system import Sampler, cpu_and_memory, of_nvidia_smi

ODD = st.text(st.characters(codec="utf-8"), max_size=300) | st.sampled_from(
    ["straße (1).png", "a//b", "../x", ".", "/", "a b/c#d%e?f.png", "", "x" * 300 + ".png"]
)


@settings(max_examples=60)
@given(ODD)
@example("loss/G_GAN")
@example("..0")
@example("/...//..x")
@example("é." * 100 + "é-")
def test_any_text_becomes_a_key_that_mlflow_takes(text):
    key = legal_key(text)
    _validate_metric_name(key)
    _validate_tag_name(key)
    assert 0 < len(key) <= 250 and legal_key(key) == key


@settings(max_examples=60)
@given(ODD, ODD)
def test_any_text_becomes_a_file_name_and_different_ones_differ(one, other):
    name = legal_file(one)
    assert re.fullmatch(r"[A-Za-z0-9_\-. ]+", name) and name not in (".", "..")
    assert len(name) <= LONGEST_FILE
    assert (name == legal_file(other)) == (one == other) or legal_file(other) == other
    assert all(part not in ("", ".", "..") for part in legal_folder(f"a/{one}/b").split("/"))


def test_names_stay_as_they_are_where_they_can():
    assert legal_key("loss/G_GAN") == "loss/G_GAN" and legal_file("net_G.pth") == "net_G.pth"
    assert legal_file("straße#1.png").startswith("stra_e_1-")
    assert legal_file("straße#1.png").endswith(".png")
    assert legal_file("a+b") != legal_file("a_b") != legal_file("a*b")


# Files.


OUT = [dict(run="../x", kind="end"), dict(run="train", kind="file", name="../x", path="/x")]
OUT += [dict(run="train", kind="picture", key="../x", path="files/x")]
OUT += [
    dict(run="train", kind="file", name="x", path=path, is_copy=is_copy)
    for path, is_copy in (("../x", False), ("files/../../x", True), ("/etc/x", True), (5, True))
]


@pytest.mark.parametrize("entry", OUT)
def test_a_line_that_leads_out_of_the_journal_is_none(tmp_path, entry):
    lines = [entry, dict(run="train", kind="file", name="x", path="files/x", is_copy=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [found for _, _, found in read_entries(tmp_path / "a.jsonl", 0)] == [None, lines[1]]


@pytest.mark.parametrize("opened_by", ["../kept.jsonl", "/tmp/kept.jsonl", "a\0.jsonl"])
def test_a_run_that_says_it_was_opened_elsewhere_writes_nothing_there(opened_by, tmp_path):
    (tmp_path / "journal").mkdir()
    (tmp_path / "kept.jsonl").write_text("kept")
    note = dict(name="train", uid="1", started=1, opened_by=opened_by)
    (tmp_path / "journal" / "train.run.json").write_text(json.dumps(note))
    assert close_dead(tmp_path / "journal") == []
    assert (tmp_path / "kept.jsonl").read_text() == "kept"


def test_a_run_whose_parent_leads_out_of_the_journal_is_none(tmp_path):
    RunNote(name="train", uid="1", started=1, parent="pipeline").write(tmp_path / "a.run.json")
    assert RunNote.read(tmp_path / "a.run.json").parent == "pipeline"
    note = json.loads((tmp_path / "a.run.json").read_text()) | {"parent": "../x"}
    (tmp_path / "a.run.json").write_text(json.dumps(note))
    assert RunNote.read(tmp_path / "a.run.json") is None


@pytest.mark.parametrize("function", ["rmtree", "connected"])
def test_a_journal_calls_only_what_is_meant_for_it(function):
    entry = dict(module="shared.registry.registration", function=function, arguments={})
    with pytest.raises(ValueError, match="for journals"):
        _call(None, "run", entry)


def test_a_torn_line_costs_itself_only(tmp_path):
    journal = Journal(tmp_path, "train")
    journal.append("train", "metrics", values={"a": float("nan")})
    journal.close()
    with open(journal.file, "ab") as entries:
        entries.write(b'{"run": "train", "ki')
    append_to(journal.file, {"run": "train", "kind": "end"})
    kinds = [entry and entry["kind"] for _, _, entry in read_entries(journal.file, 0)]
    assert kinds == ["metrics", None, "end"]


def test_a_curve_ends_at_its_last_step_and_no_figures_end_none(tmp_path):
    journal = Journal(tmp_path, "train")
    for step, values in ((3, {"a": 1.0}), (7, {"b": 1.0}), (9, {})):
        journal.append("train", "metrics", values=values, step=step)
    journal.close()
    assert curve_ends(tmp_path, "train") == {"a": 3, "b": 7}


def test_a_full_disk_costs_one_warning_and_no_entry(tmp_path, monkeypatch, capsys):
    journal, write = Journal(tmp_path, "train"), os.write
    monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:7]))
    for i in range(3):
        journal.append("train", "metrics", values={"a": i})
    monkeypatch.setattr(os, "write", write)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "cannot be written (7 of" in warning
    assert [entry["values"]["a"] for entry in journal.take_unwritten()] == [0, 1, 2]
    journal.append("train", "metrics", values={"a": 3})
    kinds = [entry and entry["values"]["a"] for _, _, entry in read_entries(journal.file, 0)]
    assert kinds == [None, 3]


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A server that is not there, with a password."""
    for name in ("PIPELINE_JOURNAL", "PIPELINE_RUN", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://zaphod:pa55word@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(courier, "PATIENCE_S", 1.0)


def test_passwords_reach_neither_screen_nor_journal(nowhere, tmp_path, capsys):
    secret = {"raw_data": "https://u:pa55word@host/x?X-Amz-Signature=5ecret"}
    with pytest.raises(ValueError), tracking.step_run("train", secret, tmp_path / "out"):
        tracking.set_tags(secret)
        print(tracking.ui_command(tmp_path))
        raise ValueError("no access to s3://zaphod:pa55word@bucket")
    shown = "".join(capsys.readouterr())
    shown += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "127.0.0.1:9" in shown and "u:" not in shown.replace("mlflow: u:", "")
    for word in ("zaphod", "pa55", "5ecret"):
        assert word not in shown


def test_curves_that_went_further_than_what_was_saved_go_on_where_they_end(nowhere, tmp_path):
    def log(*steps):
        for step in steps:
            tracking.log_metrics({"loss/G": 1.0} | ({} if step % 4 else {"epoch": 1.0}), step)
            if step % 4 == 0:
                tracking.log_picture("samples", np.zeros((3, 2, 2), np.uint8), step)
        tracking.log_figures({"speed": 1.0})

    with pytest.raises(ZeroDivisionError), tracking.step_run("train", {}, tmp_path / "out"):
        log(1, 2, 3, 4, 5)
        raise ZeroDivisionError
    with tracking.step_run("train", {}, tmp_path / "out"):
        tracking.continue_curves()
        log(3, 4, 5, 6, 7, 8)
    with tracking.step_run("train", {}, tmp_path / "out"):  # another run: that one has finished
        tracking.continue_curves()
        log(7, 8)

    # Names of files of one second tell no order.
    files = journals_in(tmp_path / "out.journal")
    entries = [entry for file in files for _, _, entry in read_entries(file, 0)]
    found = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: entry["time"]):
        if entry["kind"] in ("metrics", "picture"):
            for key in entry.get("values") or [entry["key"]]:
                found[entry["run"], key].append(entry["step"])
    assert found["train", "loss/G"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert found["train", "epoch"] == found["train", "samples"] == [4, 8]
    assert found["train", "speed"] == [0, 0]
    assert found["train-2", "loss/G"] == [7, 8]


def test_a_folder_that_cannot_be_written_costs_one_warning(nowhere, tmp_path, capsys):
    (tmp_path / "out.journal").write_text("in the way")
    with tracking.step_run("train", {}, tmp_path / "out"):
        tracking.log_metrics({"a": 1.0}, step=1)
        tracking.log_picture("p", np.zeros((3, 2, 2), np.uint8), step=1)
    said = capsys.readouterr().err
    assert said.count("cannot be written") == 1 and "log_picture" in said


def test_a_read_only_store_keeps_everything_in_the_journal(
    nowhere, empty_database, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "mlflow.db"
    shutil.copy(empty_database, file)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{file}?mode=ro&uri=true")
    monkeypatch.setattr(courier, "LOCAL_PATIENCE_S", 5.0)
    with tracking.step_run("train", {"epochs": 2}, tmp_path / "out"):
        tracking.log_metrics({"a": 1.0}, step=1)
    assert "readonly" in capsys.readouterr().err
    assert count_left(tmp_path / "out.journal").left == 5  # start, tags, params, metrics, end


def test_a_local_store_that_was_moved_puts_no_file_where_it_was(
    nowhere, empty_database, tmp_path, monkeypatch, capsys
):
    before, now = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    shutil.copy(empty_database, before / "mlflow.db")
    (tmp_path / "table.txt").write_text("a file")
    for folder in (before, now):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        with tracking.step_run("train", {}, folder / "out"):
            tracking.log_files(tmp_path / "table.txt")
            tracking.log_metrics({"a": 1.0}, step=1)
            run_id = tracking.run_id()
        if folder == before:
            assert capsys.readouterr().err == ""
            files = sorted((before / "mlartifacts").rglob("*"))
            shutil.copytree(before, now)
    assert "was moved or copied" in capsys.readouterr().err
    assert sorted((before / "mlartifacts").rglob("*")) == files
    assert count_left(now / "out.journal").left == 1  # the file; all else is there
    assert tracking.client().get_run(run_id).data.metrics == {"a": 1.0}


def test_files_of_a_local_store_stand_beside_its_database(tmp_path, monkeypatch):
    assert (
        store.artifacts_of(f"sqlite:///{tmp_path}/mlflow.db") == (tmp_path / "mlartifacts").as_uri()
    )
    monkeypatch.chdir(tmp_path)
    assert store.database("sqlite:///runs/a b.db") == tmp_path / "runs" / "a b.db"
    assert store.database("sqlite://") is None and store.database("postgresql://h/mlflow") is None


def test_a_living_process_is_not_closed(nowhere, tmp_path):
    with tracking.step_run("train", {}, tmp_path / "out"):
        assert close_dead(tmp_path / "out.journal") == []


def test_positions_of_another_version_are_read(tmp_path):
    (tmp_path / "x.json").write_text('{"figures": 5, "unknown": 1}')
    assert Position.read(tmp_path / "x.json") == Position(figures=5)
    (tmp_path / "x.json").write_text("[")
    assert Position.read(tmp_path / "x.json") is None


# How busy the machine is.


def test_figures_of_nvidia_smi():
    figures = of_nvidia_smi("0, 37, 1024, 4096, 70.5\n1, 0, 2, 4096, [N/A]\n")
    assert figures["gpu_0_utilization_percentage"] == 37
    assert figures["gpu_0_memory_usage_percentage"] == 25
    assert figures["gpu_0_power_usage_watts"] == 70.5
    assert "gpu_1_power_usage_watts" not in figures and "gpu_1_memory_usage_megabytes" in figures


def test_the_machine_is_sampled_while_a_run_is_open(monkeypatch):
    import threading

    monkeypatch.setattr("shared.tracking.system.EVERY_S", 0.01)
    logged, there = [], threading.Event()

    def log(figures):
        logged.append(figures)
        there.set()

    sampler = Sampler(log)
    assert there.wait(20)
    sampler.stop()
    memory = logged[0]["system/system_memory_usage_percentage"]
    assert 0 < memory < 100 and set(logged[0]) >= {f"system/{name}" for name in cpu_and_memory()}


def test_a_machine_that_is_sampled_for_long_leaves_fewer_points(monkeypatch):
    """Every second one from the 257th on, also where an earlier process had the first 255."""
    import itertools
    import threading

    numbers, logged, enough = itertools.count(256), [], threading.Event()
    monkeypatch.setattr("shared.tracking.system.EVERY_S", 0.001)
    monkeypatch.setattr("shared.tracking.system.cpu_and_memory", lambda: {"number": next(numbers)})
    monkeypatch.setattr("shared.tracking.system.measures_of_cards", dict)

    def log(figures):
        logged.append(figures["system/number"])
        if len(logged) == 4:
            enough.set()

    sampler = Sampler(log, points=255)
    assert enough.wait(20)
    sampler.stop()
    assert logged[:4] == [256, 258, 260, 262]
