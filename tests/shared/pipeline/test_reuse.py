"""What is taken over from an earlier run, and what is not."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil

import pytest
from kfp.local.status import Status

import pipeline
from shared import registry
from shared.contracts.folder import SEAL
from shared.contracts.measured import BenchmarkReport, Verdict
from shared.files.writing import take_over, write_atomically
from shared.pipeline.engines import embedded, steps
from shared.pipeline.reuse import (
    digest_of,
    find_same,
    listing_of,
    step_key,
    verdict_holds,
)
from shared.pipeline.runs import RunRecord, begin, runs_in
from tests import tiny
from tests.asking import refusal_of_command
from tests.calling import SMALL, call
from tests.places import ROOT


@pytest.fixture
def dataset(tmp_path):
    tiny.dataset(tmp_path / "dataset")
    return tmp_path / "dataset"


def test_a_digest_is_of_what_a_folder_holds_and_not_of_where_it_lies(dataset, tmp_path):
    moved = shutil.copytree(dataset, tmp_path / "elsewhere")
    described = json.loads((moved / "manifest.json").read_text())
    del described[SEAL]
    described |= {"source": "/somewhere/else", "source_digest": "of other times"}
    (moved / "manifest.json").write_text(json.dumps(described))
    assert digest_of(moved) == digest_of(dataset)
    described["digest"] = "of other pictures"
    (moved / "manifest.json").write_text(json.dumps(described))
    assert digest_of(moved) != digest_of(dataset)


def test_a_models_digest_is_of_all_its_weights_and_not_of_their_figures(tmp_path):
    card = tiny.model(tmp_path, tiny.architecture())
    before, latest = digest_of(tmp_path), card.weights["latest"]

    def digest_with(**weights) -> str:
        card.model_copy(update={"weights": weights}).write(tmp_path)
        return digest_of(tmp_path)

    measured = latest.model_copy(update={"metrics": {"val/L1": 0.5}})
    best = latest.model_copy(update={"digest": "of other weights"})
    assert digest_with(latest=measured) == before != digest_with(latest=latest, best=best)


def test_a_key_changes_with_component_config_code_and_inputs_but_not_with_the_place(dataset):
    parameters = {"config": {"epochs": 2}, "code_version": "a"}
    parameters |= {"raw_data": "/here", "files_version": "v"}
    inputs = {"dataset": dataset}
    key = step_key("train", parameters, inputs)
    assert key == step_key("train", parameters | {"raw_data": "/there"}, inputs)
    others = [
        step_key("cluster", parameters, inputs),
        step_key("train", parameters | {"config": {"epochs": 3}}, inputs),
        step_key("train", parameters | {"code_version": "b"}, inputs),
        step_key("train", parameters, {}),
        step_key("train", parameters, {"other": dataset}),
        step_key("train", parameters | {"files_version": "w"}, inputs),
        step_key("train", {"raw_data": "/here"}, inputs),
        step_key("train", {"raw_data": "/here"}, inputs),
    ]
    assert len({key, *others}) == 9


def test_output_is_taken_over_whole_and_either_may_change_or_go(tmp_path):
    source, target = tmp_path / "a" / "step", tmp_path / "b" / "step"
    (source / "model").mkdir(parents=True)
    (source / "model" / "weights").write_bytes(b"old")
    (source / "model" / "link").symlink_to("weights")
    target.mkdir(parents=True)
    (target / "of an attempt").write_text("")
    take_over(source, target)
    assert listing_of(target) == listing_of(source)
    assert (target / "model" / "link").is_symlink()
    assert os.path.samefile(source / "model" / "weights", target / "model" / "weights"), "no room"

    write_atomically(target / "model" / "weights", b"new")
    assert (source / "model" / "weights").read_bytes() == b"old"
    shutil.rmtree(source)
    assert (target / "model" / "weights").read_bytes() == b"new"


def test_output_that_lost_a_file_is_not_taken_over(tmp_path):
    run = begin("demo", {"prepare": {}}, "/data", {}, {}, tmp_path)
    made = run.folder / "prepare"
    made.mkdir()
    (made / "one").write_text("1")
    assert find_same(tmp_path, "k", "prepare") is None
    run.note_step("prepare", state="finished", key="k", files=listing_of(made))
    assert find_same(tmp_path, "k", "prepare").name == run.name
    assert find_same(tmp_path, "other", "prepare") is None
    (made / "one").unlink()
    assert find_same(tmp_path, "k", "prepare") is None


def test_output_whose_files_are_others_is_not_taken_over(tmp_path, capsys):
    """Though names and sizes are the same."""
    run = begin("demo", {"train_global": {}}, "/data", {}, {}, tmp_path)
    made = run.folder / "train-global"
    tiny.model(made / "model", tiny.architecture())
    run.note_step("train_global", state="finished", key="k", files=listing_of(made))
    assert find_same(tmp_path, "k", "train_global").name == run.name
    weights = made / "model" / "latest_net_G.pth"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert find_same(tmp_path, "k", "train_global") is None
    assert capsys.readouterr().out.startswith(
        f"train_global of {run.name} is not taken over: --model {made}/model: latest_net_G.pth is "
        "not the file that was written with model.json: "
    )


@pytest.mark.parametrize(
    "champion, holds",
    [("compared", True), ("itself", True), ("newer", False), (None, False), ("away", True)],
)
def test_a_verdict_holds_against_the_same_champion_alone(tmp_path, monkeypatch, champion, holds):
    config = {"benchmark": {"registered_model": "demo"}}
    run = begin("demo", config, "/data", {}, {}, tmp_path)
    verdict = Verdict(outcome="equal", reasons=[], champion="compared")
    tiny.report(model_digest="itself", verdict=verdict).write(run.report)

    @contextlib.contextmanager
    def connected():
        if champion == "away":
            raise registry.RegistryError("no answer.")
        yield None

    found = registry.Version("demo", 1, {"model_digest": champion}, ("champion",))
    monkeypatch.setattr(registry, "connected", connected)
    monkeypatch.setattr(registry, "versions", lambda *_: [found] if champion else [])
    assert verdict_holds(run) == holds


@pytest.fixture(scope="module")
def first(tmp_path_factory, whole_night):
    """The folder of a finished run; a path with blanks and a quote."""
    return shutil.copytree(whole_night[0], tmp_path_factory.mktemp("runs") / "it's a place")


def states(folder) -> dict[str, str]:
    """Of the steps of the newest run."""
    newest = runs_in(folder / "runs")[0].record
    return {step: state.state for step, state in newest.steps.items()}


def test_the_same_again_works_on_nothing_and_says_so(first, scenes):
    before = runs_in(first / "runs")[0]
    result = call("submit", "--raw-data", scenes, "--set", *SMALL, cwd=first)
    assert result.returncode == 0, result.stderr
    assert set(states(first).values()) == {"reused"} and "epoch 1/" not in result.stdout
    for step in before.record.steps:
        assert f"{step}: taken over from {before.name}" in result.stdout
    after = runs_in(first / "runs")[0]
    assert after.name != before.name and (after.folder / "benchmark/report/report.html").is_file()
    assert after.record.steps["export"].reused_from == before.name


def test_a_changed_number_of_benchmark_runs_benchmark_alone(first, scenes):
    changed = [*SMALL, "benchmark.batch_sizes=[1]", "benchmark.gate_seconds=0"]
    result = call("submit", "--raw-data", scenes, "--set", *changed, cwd=first)
    assert result.returncode == 0, result.stderr
    found = states(first)
    assert found.pop("benchmark") == "finished" and set(found.values()) == {"reused"}
    verdict = BenchmarkReport.read(runs_in(first / "runs")[0].report).verdict
    assert verdict.champion, "the first run's, by the registry"


def test_a_finished_run_is_continued_by_saying_so(first, monkeypatch, capsys):
    name = runs_in(first / "runs")[0].name
    monkeypatch.chdir(first)
    for which in ([], ["latest"], [name]):
        pipeline.main(["submit", "--continue", *which])
        said = capsys.readouterr().out
        assert f"run {name} is finished already" in said and "report.html" in said


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nope"], "--continue nope is no run in runs: the newest are demo-"),
        (["latest", "--set", "train_global.epochs=3"], "--set cannot change a run"),
        (["latest", "--recipe", "facades"], "--recipe cannot change a run"),
        (["latest", "--host", "http://127.0.0.1:9"], "--continue goes on with a run of this"),
    ],
)
def test_what_cannot_be_continued_is_refused(first, arguments, sentence, monkeypatch, capsys):
    monkeypatch.chdir(first)
    said = refusal_of_command(capsys, pipeline.main, "submit", "--continue", *arguments)
    assert sentence in said


def test_an_interrupted_run_goes_on_in_the_step_that_failed(first, scenes):
    """Its raw data are damaged until they are mended; what comes after is taken over."""
    raw = shutil.copytree(scenes, first / "raw")
    label = next(raw.glob("gtFine/train/*/*_labelIds.png"))
    good = label.read_bytes()
    label.write_bytes(good[:100])
    failed = call("submit", "--raw-data", raw, "--set", *SMALL, cwd=first)
    assert failed.returncode == 2 and ": train_global" not in failed.stdout
    assert "step prepare failed: prepare refused: " in failed.stderr
    run = runs_in(first / "runs")[0]
    (again,) = re.findall(r"^continue with: (.*)$", failed.stderr, re.MULTILINE)
    assert shlex.split(again)[1:] == [
        str(ROOT / "pipeline.py"),
        *f"submit --continue {run.name}".split(),
    ]
    assert run.record.state == "failed"
    assert run.record.reason.startswith("step prepare failed: prepare refused: ")
    assert run.record.steps["prepare"].state == "failed"

    label.write_bytes(good)
    result = call("submit", "--continue", run.name, cwd=first)
    assert result.returncode == 0, result.stderr
    assert RunRecord.read(run.folder).state == "finished"
    assert states(first)["prepare"] == "finished" and states(first)["train_local"] == "reused"
    log = run.log.read_text()
    assert "prepare refused" in log and "taken over" in log, "one log of both attempts"


def test_a_failing_step_is_named_with_its_reason(first, scenes):
    blown_up = ["train_global.learning_rate=1e30", "train_global.epochs=3"]
    result = call("submit", "--raw-data", scenes, "--set", *SMALL, *blown_up, cwd=first)
    assert result.returncode == 1
    reason = "train failed: losses are no longer finite in epoch "
    assert f"step train_global failed: {reason}" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert ": cluster" not in result.stdout and states(first)["prepare"] == "reused"


def test_a_step_is_kept_under_the_code_that_it_ran(tmp_path, monkeypatch):
    """Not under that of the run's beginning: a training takes hours, in which people edit."""
    run = begin("demo", {"export": {}}, "/raw", {}, {}, tmp_path / "runs")
    said = {"inputs": {"parameterValues": {"config": {}, "code_version": "of the beginning"}}}
    said["outputs"] = {"outputFile": str(run.folder / "export" / "executor_output.json")}
    words = ["--executor_input", json.dumps(said), "--function_to_execute", "export"]
    screen = steps.Screen(io.StringIO(), io.StringIO())
    engine = steps.Engine(run, screen, "off", embedded.Embedded())
    monkeypatch.setattr(steps.StepTask, "_work", lambda _: Status.SUCCESS)

    def key_with(code: str) -> str:
        monkeypatch.setattr(embedded, "code_version", lambda _: code)
        run.note_step("export", state="waiting")
        steps.StepTask(engine, "", ["sh", "-ec", "script", "source", *words], {}).run()
        return run.record.steps["export"].key

    assert key_with("a") == key_with("a") != key_with("b")
