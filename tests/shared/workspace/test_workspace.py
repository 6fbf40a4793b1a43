"""Data that stay on a workspace: what artifacts hold then, what a pod leaves to the next one, and
what is said where something is missing."""

import errno
import inspect
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from kfp import dsl

import pipeline
from components.cluster.component import cluster
from components.prepare.component import fingerprint, prepare
from components.prepare.config import PrepareConfig
from components.prepare.writing import dataset as writing
from components.train.__main__ import main as train_main
from components.train.component import train
from components.train.saved.folder import ModelFolder
from shared.command import StepConfig, execute
from shared.contracts.dataset import DatasetManifest
from shared.contracts.location import Location
from shared.contracts.model import ModelCard
from shared.files.owned import LOCK, only_writer
from shared.files.writing import NoRoom, take_over
from shared.networks.weight_file import load_tensors
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.graph import write_yaml
from shared.pipeline.recipes import read_recipe
from shared.pipeline.reuse import step_key
from shared.workspace import outputs, turns
from shared.workspace.inputs import located, version_of
from shared.workspace.outputs import Stays
from shared.workspace.place import PREPARED, RUN_ID
from shared.workspace.turns import Turn
from tests import tiny
from tests.asking import as_flags, one_sentence, refusal, refusal_of_command
from tests.places import ROOT
from tests.prepare.files import noise, save
from tests.shared.workspace.pods import Pods, places_in, size_of
from tests.train.killing import SPY

TRAIN = tiny.TRAIN | dict(size="32x64", epochs=2, epochs_decay=0, save_every_steps=1, device="cpu")
PREPARE = dict(size="32x64", num_labels=0, instances="none")
TRAIN |= dict(use_instances=False)
VERSIONS = dict(given={}, code_version="", files_version="")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Raw data of ten pairs in pix2pix's layout."""
    folder = tmp_path_factory.mktemp("raw")
    for split, count in (("train", 8), ("test", 2)):
        for index in range(count):
            for side in "AB":
                place = folder / f"{split}{side}" / f"{index}.png"
                save(place, noise(index, 32, 64, 3))
    return folder


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    (place := tmp_path / "workspace").mkdir()
    monkeypatch.setenv(RUN_ID, "run-1")
    return place


def run_face(face, folder: Path, config: dict, workspace: Path | str, **inputs) -> Path:
    """Call a KFP face in this process, with a new artifact folder; returns that."""
    folder.mkdir(exist_ok=True)
    name = {prepare: "dataset", train: "model", cluster: "clusters"}[face]
    outputs = {name: dsl.Artifact(uri=str(folder / name)), "metrics": dsl.Metrics()}
    given = {
        key: dsl.Artifact(uri=str(value)) if isinstance(value, Path) else value
        for key, value in inputs.items()
    }
    face.python_func(config=config, workspace=str(workspace), **VERSIONS, **outputs, **given)
    return folder / name


def prepared(folder: Path, raw: Path, workspace: Path | str) -> Path:
    return run_face(prepare, folder, PREPARE, workspace, raw_data=str(raw))


# What stays, and what goes on.


@pytest.fixture(scope="module")
def alone(raw, tmp_path_factory) -> dict[str, Path]:
    """The data set and the model that are made without a workspace."""
    folder = tmp_path_factory.mktemp("alone")
    dataset = prepared(folder, raw, "")
    return dict(dataset=dataset, model=run_face(train, folder, TRAIN, "", dataset=dataset))


def test_the_data_set_stays_and_the_model_goes_on(raw, alone, workspace, tmp_path):
    """The same data and weights as without a workspace; what is read there is not written to."""
    artifact = prepared(tmp_path / "a", raw, workspace)
    place = workspace / "run-1" / "prepare" / "1" / "dataset"
    assert places_in(artifact) == {DatasetManifest.FILE, Location.FILE}
    assert places_in(place) == places_in(alone["dataset"]) > {"cache/train.bin", "train_A/0.png"}
    manifests = [DatasetManifest.read(one) for one in (alone["dataset"], artifact, place)]
    assert len({one.digest for one in manifests}) == 1
    assert size_of(artifact) < 5000 < 100_000 < size_of(alone["dataset"])

    before = {file: (place / file).stat().st_ctime_ns for file in places_in(place)}
    model = run_face(train, tmp_path / "b", TRAIN, workspace, dataset=artifact)
    assert same_training(model, alone["model"])
    assert {file: (place / file).stat().st_ctime_ns for file in places_in(place)} == before
    of_state = {"state/training.pt", "state/training.before.pt"}
    assert places_in(alone["model"]) - places_in(model) == of_state
    trained = workspace / "run-1" / "train_global" / "1" / "model"
    assert of_state < places_in(trained) == places_in(alone["model"])


def same_training(model: Path, other: Path) -> bool:
    cards = [ModelCard.read(one) for one in (model, other)]
    return cards[0].digest == cards[1].digest and cards[0].metrics == cards[1].metrics


class Lost(BaseException):
    """The end of a pod, which leaves it no time for anything."""


def test_a_new_pod_trains_on(alone, workspace, tmp_path, monkeypatch, capsys):
    save_state, saved, dataset = ModelFolder.save_state, [], alone["dataset"]

    def save_thrice(self):
        save_state(self)
        saved.append(1)
        if len(saved) == 3:
            raise Lost

    with monkeypatch.context() as patch:
        patch.setattr(ModelFolder, "save_state", save_thrice)
        with pytest.raises(Lost):
            run_face(train, tmp_path / "first", TRAIN, workspace, dataset=dataset)
    assert not (tmp_path / "first" / "model").exists()
    model = run_face(train, tmp_path / "second", TRAIN, workspace, dataset=dataset)
    said = capsys.readouterr().out
    assert "goes on with what pod " in said and "continues after pair 3 of 8 in epoch 1" in said
    assert same_training(model, alone["model"])
    turns = workspace / "run-1" / "train_global"
    assert sorted(os.listdir(turns)) == ["2", "2.claim"]  # nothing is left of the first


def test_a_new_pod_prepares_on(raw, alone, workspace, tmp_path, monkeypatch):
    """What the first one has written is kept, and its open files are not written to."""
    add, added = writing.Journal.add, []

    def add_six(self, one, record):
        if len(added) == 6:
            raise Lost
        note(self, one, record)

    def note(self, one, record):
        added.append((one.split, one.pair.name))
        add(self, one, record)

    monkeypatch.setattr(writing.Journal, "add", add_six)
    with pytest.raises(Lost):
        prepared(tmp_path / "first", raw, workspace)
    left = workspace / "run-1" / "prepare" / "1" / ".dataset.partial"
    files = [left / "journal.jsonl", *(left / "cache").glob("*.bin")]
    assert len(files) == 3

    # A pod that is lost at once, and one that is not.
    turn = Turn.begin(left.parents[1], PrepareConfig.STAYS.grows)
    copies = [turn.folder / file.relative_to(left.parent) for file in files]
    assert not any(os.path.samefile(*pair) for pair in zip(files, copies, strict=True))
    image = "train_A/0.png"
    assert os.path.samefile(left / image, turn.folder / ".dataset.partial" / image)
    monkeypatch.setattr(writing.Journal, "add", note)
    artifact = prepared(tmp_path / "second", raw, workspace)
    manifests = [DatasetManifest.read(one) for one in (artifact, alone["dataset"])]
    assert manifests[0].digest == manifests[1].digest
    assert len(added) == len(set(added)) == 10


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["open .training.pt.partial 3", "os.rename latest_net_D.pth 1"])
def test_a_pod_that_is_killed(kill, alone, workspace, tmp_path):
    """As Kubernetes starts them, by kfp's executor: -9, then a new pod."""
    pods, dataset = Pods(tmp_path / "pods", str(workspace)), alone["dataset"]
    spy = {"PYTHONPATH": f"{SPY}:{ROOT}", "SPY_LOG": str(tmp_path / "log")}
    spy["SPY_KILL"] = f"SIGKILL {kill}"
    first = pods.run_one("train", TRAIN, spy, dataset=dataset)
    assert first.code == -signal.SIGKILL and not first.artifact.exists(), first.said
    second = pods.run_one("train", TRAIN, dataset=dataset)
    assert second.code == 0 and "continues after" in second.said, second.said
    assert same_training(second.artifact, alone["model"])


@pytest.mark.slow
def test_a_pod_of_a_node_that_is_back(alone, workspace, tmp_path):
    """It stands still while another does its step to the end, and holds all its locks."""
    pods, dataset = Pods(tmp_path / "pods", str(workspace)), alone["dataset"]
    first, artifact = pods.start("train", TRAIN | {"epochs": 10_000}, dataset=dataset)
    state = workspace / "run-1" / "train_global" / "1" / "model" / "state" / "training.pt"
    try:
        for _ in range(600):
            if state.is_file():
                break
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGSTOP)
        done = load_tensors(state)["epoch"]
        second = pods.run_one("train", TRAIN | {"epochs": done + 2}, dataset=dataset)
        assert second.code == 0 and "goes on with what pod " in second.said, second.said
        card = ModelCard.read(second.artifact)
        os.killpg(first.pid, signal.SIGCONT)
        said, _ = first.communicate(timeout=60)
    finally:
        first.kill()
    assert first.returncode == 128 + signal.SIGTERM and "Traceback" not in said, said
    assert "does this step by now, since this pod was taken for lost" in said
    assert not artifact.exists() and card.epoch == done + 2
    trained = workspace / "run-1" / "train_global" / "2" / "model"
    assert ModelCard.read(trained).digest == card.digest


# Two at once.


class ToyConfig(StepConfig):
    STEP: ClassVar[str] = "toy"
    OUTPUT: ClassVar[str] = "out"
    STAYS: ClassVar[Stays | None] = Stays(("big*",), "card.json", grows=("out/log",))


def toy(out: Path, *, config: ToyConfig) -> dict[str, float]:
    (out / "big").write_text("0" * 10_000)
    (out / "card.json").write_text("{}")
    return {}


def run_toy(folder: Path, workspace: Path | str, run=toy) -> Path:
    execute(run, ToyConfig, {}, workspace=str(workspace), out=str(folder / "out"))
    return folder / "out"


def test_the_latest_pod_counts_and_an_earlier_one_ends(workspace, tmp_path, monkeypatch, capsys):
    """A node that was lost and is back: its pod works while another has its step."""
    monkeypatch.setattr(turns, "LOOK_SECONDS", 0.05)
    later = []

    def waits(out: Path, *, config: ToyConfig) -> dict[str, float]:
        (out / "log").write_text("first")
        (out / "weights").write_text("first")
        with only_writer(out / "more", "--out"):
            later.append(Turn.begin(out.parents[1], ToyConfig.STAYS.grows))
            threading.Event().wait(20)
        raise AssertionError("nothing has stopped it")

    with pytest.raises(SystemExit) as end:
        run_toy(tmp_path, workspace, waits)
    said = capsys.readouterr().err
    assert end.value.code == 128 + signal.SIGTERM
    assert "does this step by now, since this pod was taken for lost" in said
    assert "Traceback" not in said and not (tmp_path / "out").exists()

    # What the later one has: the same, but for locks, and nothing that the other still writes to.
    first, second = workspace / "run-1" / "toy" / "1" / "out", later[0].folder / "out"
    assert places_in(second) == {"log", "weights"} and not (second / "more" / LOCK).exists()
    assert os.path.samefile(first / "weights", second / "weights")
    assert not os.path.samefile(first / "log", second / "log")


def test_a_pod_that_ends_too_late_hands_nothing_over(workspace, tmp_path, capsys):
    def ends(out: Path, *, config: ToyConfig) -> dict[str, float]:
        Turn.begin(out.parents[1], ())
        return toy(out, config=config)

    with pytest.raises(SystemExit) as end:
        run_toy(tmp_path, workspace, ends)
    assert end.value.code == 1 and not (tmp_path / "out").exists()
    sentence = one_sentence(capsys.readouterr().err.splitlines()[-1])
    assert sentence.startswith("toy failed: pod ") and sentence.endswith("and this one ends.")


def test_of_two_that_begin_at_once_each_has_a_folder_of_its_own(tmp_path):
    turns: list[Turn] = []
    threads = [
        threading.Thread(target=lambda: turns.append(Turn.begin(tmp_path / "step", ())))
        for _ in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(turn.number for turn in turns) == [*range(1, 9)]
    assert [turn.over() == "" for turn in sorted(turns, key=lambda t: t.number)] == [False] * 7 + [
        True
    ]


def test_what_somebody_still_writes_to_is_taken_over(tmp_path, monkeypatch):
    """A file that goes while it is looked at: it is tried again."""
    first = Turn.begin(tmp_path / "step", ())
    (first.folder / "file").write_text("x")
    monkeypatch.setattr(turns.time, "sleep", lambda seconds: None)
    calls = []

    def fails_once(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise shutil.Error([("file", "file", "gone")])
        take_over(*arguments)

    monkeypatch.setattr(turns, "take_over", fails_once)
    assert (Turn.begin(tmp_path / "step", ()).folder / "file").read_text() == "x"


def test_a_step_that_makes_nothing_hands_nothing_over(workspace, tmp_path):
    run_toy(tmp_path, workspace, lambda out, *, config: {})
    assert not (tmp_path / "out").exists()


# What is said.


def said_by_toy(workspace: Path | str, folder: Path, capsys, code: int = 2, run=toy) -> str:
    with pytest.raises(SystemExit) as end:
        run_toy(folder, workspace, run)
    assert end.value.code == code
    said = capsys.readouterr().err
    return one_sentence(said.removesuffix("\n")).partition(": ")[2]


def test_a_workspace_that_is_not_mounted_is_not_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(RUN_ID, "run-1")
    sentence = said_by_toy(tmp_path / "nowhere", tmp_path, capsys)
    assert sentence.startswith(f"the workspace {tmp_path}/nowhere is not there: ")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("run", ["", "../other", "{{$.pipeline_job_uuid}}", ".."])
def test_without_the_name_of_its_run_a_pod_writes_nothing(
    run, workspace, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(RUN_ID, run)
    assert said_by_toy(workspace, tmp_path, capsys).startswith(f"{RUN_ID} {run!r} names no run")
    assert os.listdir(workspace) == []


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "mount it to be written to."),
        (errno.ENOSPC, "make room there."),
        (errno.EACCES, "let the user or the group of the pod (fsGroup) write to it."),
    ],
)
def test_a_workspace_that_takes_nothing(number, remedy, workspace, tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise OSError(number, os.strerror(number), str(workspace))

    monkeypatch.setattr(turns, "make_folder", fails)
    sentence = said_by_toy(workspace, tmp_path, capsys)
    assert (
        sentence == f"the workspace {workspace} cannot be written ({os.strerror(number)}): {remedy}"
    )


@pytest.mark.parametrize("where", ["workspace", "artifact"])
def test_a_disk_that_is_full_at_work_or_at_the_end(where, workspace, tmp_path, monkeypatch, capsys):
    def fills(out: Path, *, config: ToyConfig) -> dict[str, float]:
        toy(out, config=config)
        if where == "artifact":
            monkeypatch.setattr(outputs, "take_over", full)
            return {}
        return full(None, out / "big")

    def full(_, place, **__):
        raise NoRoom(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))

    place = tmp_path / "out" if where == "artifact" else workspace / "run-1/toy/1/out/big"
    sentence = said_by_toy(workspace, tmp_path, capsys, 1, fills)
    assert sentence.startswith(f"--out {place} is to be written, but its disk has ")
    assert "make room there" in sentence


def spoil(workspace: Path, how: str) -> str:
    """What becomes of a data set on its workspace, and how that is said."""
    manifest = workspace / "run-1" / "toy" / "1" / "out" / "card.json"
    match how:
        case "the workspace is not mounted":
            workspace.rename(workspace.parent / "away")
            return f"the workspace {workspace} is not there: let the cluster file name"
        case "the run's folder was deleted":
            shutil.rmtree(workspace / "run-1")
            return "there is no card.json any more: the workspace is another than in run run-1"
        case "it holds another":
            manifest.write_text("{} ")
            return "the card.json there is another than run run-1 wrote: start a new run"


FAULTS = ["the workspace is not mounted", "the run's folder was deleted", "it holds another"]


@pytest.mark.parametrize("how", FAULTS)
def test_data_that_are_not_where_they_were(how, workspace, tmp_path, capsys):
    """By the step, in the words of the command line; nothing is begun."""
    artifact = run_toy(tmp_path, workspace)
    assert located(artifact, "--dataset") == workspace / "run-1" / "toy" / "1" / "out"
    assert located(workspace, "--dataset") == workspace  # a folder that says nothing is read itself
    expected = spoil(workspace, how)
    words = as_flags(dataset=artifact, model=tmp_path / "model")
    sentence = refusal_of_command(capsys, train_main, *words)
    assert sentence.startswith(f"--dataset {artifact} lies in {workspace}/run-1/toy/1/out, but ")
    assert expected in sentence and not (tmp_path / "model").exists()


def test_a_location_that_was_edited_is_refused(workspace, tmp_path):
    artifact = run_toy(tmp_path, workspace)
    file = artifact / Location.FILE
    file.write_text(file.read_text().replace("run-1", "run-2"))
    assert "was changed after it was written" in refusal(located, artifact, "--dataset")


# Caches.


def test_a_data_set_that_is_gone_is_forgotten_by_caches(workspace, tmp_path, monkeypatch):
    """The version that KFP's cache sees stays as long as all is there that was prepared. Each run
    has a folder of its own."""
    look = fingerprint.python_func
    recipe = {"prepare": PrepareConfig().model_dump(mode="json")}
    asked = dict.fromkeys([*inspect.signature(look).parameters], {})
    asked |= dict(raw_data=str(tmp_path), config=recipe, size=recipe["prepare"]["size"])
    asked["checked_by"] = {"prepare": "components.prepare.config.PrepareConfig"}

    def versions(place: str = str(workspace)) -> tuple:
        return look(**asked | {"workspace": place})[:6]

    (tmp_path / "file").touch()
    monkeypatch.setattr("components.prepare.fingerprint._local", lambda place: ["raw data"])
    first = versions()
    assert first == versions() and set(first[1:]) == {""}
    run_toy(tmp_path / "one", workspace)
    monkeypatch.setenv(RUN_ID, "run-2")
    run_toy(tmp_path / "two", workspace)
    assert sorted(os.listdir(workspace)) == [PREPARED, "run-1", "run-2"]
    assert versions() == first and len(os.listdir(workspace / PREPARED)) == 1

    # Of one run, or of all: a workspace of another run knows none.
    shutil.rmtree(workspace / "run-1")
    second = versions()
    assert second != first and second == versions()
    shutil.rmtree(workspace)
    workspace.mkdir()
    assert len({first, second, versions()}) == 3
    assert version_of(str(workspace)) == os.listdir(workspace / PREPARED)[0]
    assert versions("")[0] not in (first[0], second[0])


@pytest.mark.parametrize(
    ("workspace", "place"),
    [({"claim": "data", "path": "/disk"}, "/disk"), ({"size": "9Gi"}, "{{$.workspace_path}}")],
)
def test_every_step_on_a_cluster_knows_the_workspace_and_its_run(workspace, place, tmp_path):
    """The path is the same for all runs, since KFP's driver replaces no name of a run within a
    text, and looks for a task with all of its parameters in its cache."""
    graph = pipeline.build(
        "demo", read_recipe("demo", pipeline.CONFIGS), Cluster(workspace=workspace)
    )
    write_yaml(graph, tmp_path / "pipeline.yaml", "")
    spec, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    tasks = spec["root"]["dag"]["tasks"]
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(tasks) == len(executors) == 7
    for task in tasks.values():
        given = task["inputs"]["parameters"]["workspace"]
        assert given == {"runtimeValue": {"constant": place}}
    for executor in executors.values():
        assert executor["fieldPathAsEnv"] == [
            {"name": "KFP_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        ]


def test_the_place_of_a_workspace_is_no_part_of_what_a_step_is_made_of(tmp_path):
    tiny.dataset(tmp_path / "dataset")
    keys = {
        step_key("train", {"workspace": place, "files_version": "1"}, {"dataset": folder})
        for place in ("", "/workspace", "/kfp-workspace")
        for folder in (tmp_path / "dataset",)
    }
    assert len(keys) == 1
