"""The registry of models in a real store: which version is the champion, through the verbs; that
the version is what was exported; that nothing is registered twice or lost."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest

import components.export.run
from components.export.config import ExportConfig
from components.train.run import run as train
from shared import registry, tracking
from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport, Quality, Verdict
from shared.contracts.model import ModelCard, SavedWeights
from shared.errors import InputError
from shared.networks.chosen import files_as_written
from shared.pipeline.promotion import best, promote, rollback, start_from
from shared.registry import registration
from shared.registry.trained import log_model, trained_model
from shared.tracking.replay import replay
from tests import tiny, training
from tests.asking import refusal
from tests.calling import call

EXAMPLE = {
    "labels": np.arange(32 * 64, dtype=np.uint8).reshape(1, 32, 64) % 35,
    "instances": np.arange(32 * 64, dtype=np.int32).reshape(1, 32, 64) // 64,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A real export of a tiny generator."""
    root = tmp_path_factory.mktemp("exported")
    tiny.dataset(root / "dataset")
    tiny.model(root / "model", tiny.architecture())
    config = ExportConfig(parity_samples=1)
    components.export.run.run(root / "model", root / "exported", root / "dataset", config=config)
    return root / "exported"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of the runs, and of their store."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def environment(runs, monkeypatch):
    """What a run puts into the environment goes again."""
    for name in os.environ.keys() | {tracking.JOURNAL, tracking.PIPELINE, tracking.EXPERIMENT}:
        if name.startswith(("MLFLOW", "PIPELINE")):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.store_uri(runs))


@pytest.fixture
def night(exported, runs, tmp_path):
    """A function that registers one night's export with a verdict, in the MLflow run of its
    benchmark, and returns its version."""

    def register(recipe, digest, outcome, champion="", run=""):
        # The folders of two steps.
        folder = tmp_path / digest
        shutil.copytree(exported, folder / "exported", dirs_exist_ok=True)
        card = ExportCard.read(exported).model_copy(update={"model_digest": digest})
        card.write(folder / "exported")
        verdict = Verdict(outcome=outcome, reasons=[f"It is {outcome}."], champion=champion)
        write_report(folder / "report", digest, verdict)

        # The run.
        name = run or f"{recipe}-{digest}"
        with tracking.pipeline_run(recipe, name, {}, {}, runs), tracking.step_run("benchmark", {}):
            folders = (folder / "exported", folder / "report")
            return registration.register(recipe, *folders, EXAMPLE)

    return register


def write_report(folder: Path, digest: str, verdict: Verdict) -> None:
    row = dict(runtime="onnxruntime", device="cpu", precision="fp32", batch_size=1)
    speed = [row | {"images_per_second": 10}]
    quality = Quality(pairs=2, psnr_db=20.5)
    report = BenchmarkReport(
        speed=speed,
        parity=[],
        quality=quality,
        train_quality=Quality(pairs=0),
        verdict=verdict,
        height=32,
        width=64,
        model_digest=digest,
        weights="best (epoch 4)",
        dataset_digest="data",
        environment={},
        method="",
    )
    report.write(folder)
    (folder / "report.html").write_text("<p>figures</p>")


def versions(recipe) -> list[registry.Version]:
    return registry.versions(mlflow.MlflowClient(), recipe)


def aliases(recipe) -> dict[str, int]:
    """Alias -> number, as MLflow itself says."""
    found = mlflow.MlflowClient().get_registered_model(recipe).aliases
    return {alias: int(number) for alias, number in found.items()}


# Which version is the champion.


def test_five_nights_and_the_way_back(night, runs, capsys):
    """good, equal, refused, refused, better; then by hand."""
    assert registry.champion_folder("five") is None, "there is none yet"
    night("five", "good", "first")
    assert aliases("five") == {"champion": 1}
    night("five", "same", "equal", "good")
    assert aliases("five") == {"champion": 1, "challenger": 2}
    night("five", "slow", "worse", "good")
    night("five", "else", "not comparable", "good")
    assert aliases("five") == {"champion": 1, "challenger": 2}
    tags = mlflow.MlflowClient().get_model_version("five", "3").tags
    assert tags["refused"] == "It is worse." and tags["model_digest"] == "slow"
    night("five", "best", "better", "good")
    assert aliases("five") == {"champion": 5}, "an older equal one challenges nobody any more"

    promote("five", 2, runs)
    assert aliases("five") == {"champion": 2}
    rollback("five", runs)
    assert aliases("five") == {"champion": 5}
    rollback("five", runs)
    assert aliases("five") == {"champion": 1}
    assert refusal(rollback, "five", runs) == (
        "five has no champion to go back to: version 1 of five (run five-good) is the first one."
    )

    capsys.readouterr()
    best("five", runs)
    shown = capsys.readouterr().out
    assert 'mlflow.onnx.load_model("models:/five@champion")' in shown
    assert "version 1 of five (run five-good)" in shown.splitlines()[0]
    assert "fps/onnxruntime_fp32/batch_1" in shown and "20.5" in shown
    rows = [line.split() for line in shown.splitlines()[-5:]]
    assert [row[0] for row in rows] == ["5", "4", "3", "2", "1"]
    assert "champion" in rows[-1] and "It is worse." in shown


def test_promote_takes_the_challenger_unless_told_which(night, runs):
    night("two", "a", "first")
    assert "two has no challenger" in refusal(promote, "two", 0, runs)
    night("two", "b", "equal", "a")
    promote("two", runs=runs)
    assert aliases("two") == {"champion": 2}
    assert "is the champion of two already" in refusal(promote, "two", 2, runs)
    assert "--version 7 is no version of two: it has 1, 2." == refusal(promote, "two", 7, runs)


def test_rollback_goes_to_the_champion_before_not_to_the_number_before(night, runs):
    """Also where a person gave the alias in the UI, and where a version is gone."""
    for digest in "abcd":
        night("back", digest, "first" if digest == "a" else "worse", "a")
    client = mlflow.MlflowClient()
    promote("back", 4, runs)
    client.set_registered_model_alias("back", "champion", "2")
    promote("back", 3, runs)  # 1, 4, 2, 3
    client.delete_model_version("back", "4")
    rollback("back", runs)
    assert aliases("back") == {"champion": 2}
    rollback("back", runs)
    assert aliases("back") == {"champion": 1}


def test_better_than_a_champion_that_is_none_any_more_is_the_challenger(night, runs):
    night("race", "a", "first")
    night("race", "b", "better", "a")
    night("race", "c", "better", "a")
    night("race", "d", "first")
    assert aliases("race") == {"champion": 2, "challenger": 4}


def test_the_same_registration_twice_is_one_version(night, runs):
    assert night("once", "a", "first").number == 1
    night("once", "b", "equal", "a")
    promote("once", 2, runs)
    assert night("once", "a", "first").number == 1
    assert len(versions("once")) == 2
    assert aliases("once") == {"champion": 2}, "what a person decided since stays"
    assert night("once", "a", "equal", "b", run="another night").number == 3


# What a version is.


def test_a_version_is_the_exported_file(night, exported):
    night("files", "a", "first")
    loaded = mlflow.onnx.load_model("models:/files@champion")
    served = mlflow.pyfunc.load_model("models:/files@champion")
    file = exported / ExportCard.read(exported).file
    (expected,) = onnxruntime.InferenceSession(str(file)).run(None, EXAMPLE)
    session = onnxruntime.InferenceSession(loaded.SerializeToString())
    assert np.array_equal(session.run(None, EXAMPLE)[0], expected)
    (picture,) = served.predict(EXAMPLE).values()
    assert np.array_equal(picture, expected)

    inputs = {one.name: (one.type, one.shape) for one in served.metadata.signature.inputs}
    assert inputs["labels"] == (np.dtype("uint8"), (-1, 32, 64))
    example = served.metadata.load_input_example("models:/files@champion")
    assert {name: np.asarray(array).tolist() for name, array in example.items()} == {
        name: array.tolist() for name, array in EXAMPLE.items()
    }

    version = mlflow.MlflowClient().get_model_version_by_alias("files", "champion")
    assert json.loads(version.tags["figures"])["fps/onnxruntime_fp32/batch_1"] == 10
    assert version.tags["run"] == "files-a" and version.tags["dataset_digest"] == "data"
    assert "| test/psnr_db | 20.5 |" in version.description

    folder = registry.champion_folder("files")
    assert ExportCard.read(folder).model_digest == "a"
    assert BenchmarkReport.read(folder).model_digest == "a"
    assert (folder / "report.html").is_file()


# From a version back to its trainings.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A data set and the folder of the models, which `train` below makes."""
    root = tmp_path_factory.mktemp("trained")
    tiny.dataset(root / "dataset")
    return root


GLOBAL = dict(seed=1)
LOCAL = dict(netG="local", ngf=2, num_D=3, seed=2)


@pytest.fixture
def two_stages(trained, night, runs):
    """A version of a model of two stages, both trained in MLflow runs."""
    with tracking.pipeline_run("stages", "stages-1", {}, {}, runs):
        for name, options, parent in (("one", GLOBAL, None), ("two", LOCAL, trained / "one")):
            config = training.config(**options)
            with tracking.step_run(config.step_name, {}):
                train(trained / "dataset", trained / name, parent, config=config)
    return night("stages", ModelCard.read(trained / "two").digest, "first", run="stages-1")


def test_a_recipe_starts_from_the_trainings_of_its_champion(two_stages, trained, runs, capsys):
    """The alias becomes a number, and the step finds the weights of its stage by it."""
    steps = {"train_global": GLOBAL, "train_local": LOCAL}
    recipe = {step: training.config(**options).model_dump() for step, options in steps.items()}
    changed = start_from("champion", "stages", recipe, runs)
    assert {step: values["start_from"] for step, values in changed.items()} == {
        "train_global": "models:/stages/1",
        "train_local": "models:/stages/1",
    }
    for step, folder in (("train_global", "one"), ("train_local", "two")):
        assert recipe[step] | {"start_from": "models:/stages/1"} == changed[step]
        with trained_model("models:/stages/1", step) as found:
            for name in ("latest_net_G.pth", "latest_net_D.pth"):
                assert (found / name).read_bytes() == (trained / folder / name).read_bytes()
            cards = [ModelCard.read(place) for place in (found, trained / folder)]
            here, there = (card.model_dump(exclude={"weights"}) for card in cards)
            assert here == there and list(cards[0].weights) == ["latest"]

    # What does not go.
    def refused(start="1", step="train_local", **options):
        other = recipe | {step: recipe[step] | options}
        return refusal(start_from, start, "stages", other, runs)

    assert refused(ngf=4) == (
        "--from 1 has train_local.ngf 2, but 4 is asked for: give the same networks, or train from "
        "scratch."
    )
    assert "--from 7 is no version of stages: it has 1." == refused("7")
    assert "--from good is no version of stages" in refused("good")
    assert "were both given" in refused(start_from="elsewhere")
    capsys.readouterr()
    assert start_from("champion", "new", recipe, runs) == recipe
    assert "new has none yet, so it trains from scratch" in capsys.readouterr().out
    with pytest.raises(InputError, match="has no such version"), trained_model("models:/new/1", ""):
        pass


def test_a_version_of_the_best_weights_starts_from_these(night, runs, tmp_path, capsys):
    """MLflow holds the latest and the best, each file once; an epoch that it was not given is
    said."""
    model, files = tmp_path / "model", {}
    model.mkdir()
    for name, content in (("latest", b"9"), ("best", b"4"), ("7", b"7")):
        for network, of in (("G", content), ("D", b"the same")):
            file = model / f"{name}_net_{network}.pth"
            file.write_bytes(of)
            files.setdefault(name, {})[file.name] = hashlib.sha256(of).hexdigest()
    epochs = {"latest": 9, "best": 4, "7": 7}
    weights = {
        name: SavedWeights(epoch=n, images_seen=n, digest=f"of {n}", files=files[name], metrics={})
        for name, n in epochs.items()
    }
    card = tiny.model(tmp_path / "other", tiny.architecture()).model_copy(
        update={"weights": weights}
    )
    card.of("latest").write(model)
    with tracking.pipeline_run("chosen", "chosen-1", {}, {}, runs):
        with tracking.step_run("train_global", {}):
            log_model(model)
            run_id = tracking.run_id()
    there = mlflow.MlflowClient().list_artifacts(run_id, "checkpoints")
    names = ["best_net_G.pth", "latest_net_D.pth", "latest_net_G.pth", "model.json"]
    assert sorted(Path(artifact.path).name for artifact in there) == names

    for number, (digest, content) in enumerate((("of 9", b"9"), ("of 4", b"4")), 1):
        version = night("chosen", digest, "equal")
        assert version.number == number
        with trained_model(version.uri, "train_global") as found:
            card = ModelCard.read(found)
            assert (card.digest, card.epoch) == (digest, int(content))
            with files_as_written(found, card, "GD") as files:
                assert files["G"].read_bytes() == content
            assert files["D"].read_bytes() == b"the same"
    night("chosen", "of 7", "equal")
    with pytest.raises(InputError) as refused, trained_model("models:/chosen/3", "train_global"):
        pass
    assert str(refused.value) == (
        "version 3 of chosen (run chosen-of 7) was exported from epoch 7, of which MLflow holds no "
        "weights, as of the latest and the best: give the folder of its training instead."
    )

    capsys.readouterr()
    best("chosen", runs)
    assert "best (epoch 4)" in capsys.readouterr().out


# A registry that is away.


def test_what_the_registry_did_not_take_waits_in_the_journal(night, runs, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(registry.RegistryError, match="MLflow's registry does not answer"):
        registry.champion_folder("later")
    assert night("later", "a", "first") is None
    journal = runs / "later-a" / "journal"
    waiting = journal / registration.PENDING
    assert f"the version of later waits in {waiting}" in capsys.readouterr().err

    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.store_uri(runs))
    assert replay(journal, tracking.store_uri(runs)).left == 0
    assert aliases("later") == {"champion": 1} and not waiting.exists()
    version = mlflow.MlflowClient().get_model_version("later", "1")
    assert mlflow.MlflowClient().get_run(version.run_id).info.run_name == "benchmark"


def test_without_mlflow_there_is_no_version(night, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    verdict = Verdict(outcome="first", reasons=[])
    write_report(tmp_path / "report", "a", verdict)
    with tracking.step_run("benchmark", {}):
        assert registration.register("none", exported, tmp_path / "report", EXAMPLE) is None
    assert "none gets no version" in capsys.readouterr().out


def test_the_verbs_say_what_is_missing(tmp_path):
    nowhere = call("best", "--runs", tmp_path, cwd=tmp_path)
    assert nowhere.returncode == 2 and "holds no mlflow.db" in nowhere.stderr
    assert not list(tmp_path.iterdir())


def test_a_recipe_without_versions_is_refused(runs):
    assert "none has no version in MLflow's registry yet" in refusal(best, "none", runs)


@pytest.mark.parametrize("text", ["", "oops", "[1]", '{"fps": "many"}'])
def test_a_tag_that_somebody_edited_is_one_sentence(text):
    version = registry.Version("demo", 3, {"figures": text})
    with pytest.raises(registry.RegistryError, match="tag figures of version 3 of demo in MLflow"):
        _ = version.figures
    assert registry.Version("demo", 3, {}).figures == {}
