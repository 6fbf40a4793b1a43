"""Power is lost at any moment of a command: afterwards the same command goes on and makes the same
bytes, or says one sentence. See `tests.power` for the model of the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.cluster.config import ClusterConfig
from components.cluster.run import run as cluster
from components.export.config import ExportConfig
from components.export.run import run as export
from components.prepare.config import PrepareConfig
from components.prepare.demo.scenes import generate
from components.prepare.run import run as prepare
from components.prepare.writing import dataset as writer
from components.train.run import run as train
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.pipeline import runs
from tests import tiny
from tests.asking import one_sentence
from tests.power import Disk
from tests.tiny import one_thread  # noqa: F401 - a fixture
from tests.training import config


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=2)
    return folder


def goes_on(
    folder: Path, command: Callable[[], object], made: Callable[[], object], every: int = 1
) -> tuple[int, int]:
    """Run a command on a disk, and again after each crash, where it has to end with the same made,
    or one sentence; how many crashes, and how many sentences."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(folder)
        disk.record(patch)
        command()
    whole, crashes, sentences = made(), 0, 0
    for files in disk.after_crashes(every):
        crashes += 1
        try:
            command()
        except InputError as refusal:
            one_sentence(str(refusal))
            sentences += 1
            continue
        assert made() == whole, {name: len(content) for name, content in files.items()}
    assert crashes > 5
    return crashes, sentences


def of_card(model: Path) -> tuple[ModelCard, dict[str, bytes]]:
    """A card, and the files that it names."""
    card = ModelCard.read(model)
    files = {file for saved in card.weights.values() for file in saved.files}
    return card, {file: (model / file).read_bytes() for file in files}


@pytest.mark.slow
def test_a_checkpoint(dataset, tmp_path):
    """Of the second epoch: never is a training lost that had one."""
    model = tmp_path / "model"
    options = dict(epochs_decay=0, validate_every_epochs=0, sample_every_epochs=99)
    train(dataset, model, config=config(epochs=1, **options))

    def command():
        train(dataset, model, config=config(epochs=2, **options))

    _, sentences = goes_on(model, command, lambda: of_card(model), every=3)
    assert not sentences


@pytest.mark.slow
def test_a_training(dataset, tmp_path):
    """From its begin: before its first checkpoint is whole it may have to be begun again."""
    model = tmp_path / "model"
    model.mkdir()
    options = dict(epochs=2, epochs_decay=0, validate_every_epochs=1, save_every_steps=1)

    def command():
        train(dataset, model, config=config(**options))

    goes_on(model, command, lambda: of_card(model), every=3)


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    options = dict(epochs=1, epochs_decay=0, validate_every_epochs=0)
    train(dataset, folder, config=config(instance_features=True, **options))
    return folder


@pytest.mark.slow
def test_clusters(dataset, model, tmp_path):
    def command():
        cluster(dataset, model, tmp_path / "clusters", config=ClusterConfig(device="cpu"))

    def made():
        table = ClusterTable.read(tmp_path / "clusters")
        return table, (tmp_path / "clusters" / ClusterTable.FEATURES).read_bytes()

    (tmp_path / "clusters").mkdir()
    assert goes_on(tmp_path / "clusters", command, made)[1] == 0


@pytest.mark.slow
def test_an_export(dataset, tmp_path):
    tiny.model(tmp_path / "model", tiny.architecture())

    def command():
        export(tmp_path / "model", tmp_path / "exported", dataset, config=ExportConfig())

    def made():
        card = ExportCard.read(tmp_path / "exported")
        return card, (tmp_path / "exported" / card.file).read_bytes()

    (tmp_path / "exported").mkdir()
    assert goes_on(tmp_path / "exported", command, made)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_data_set(is_interrupted, tmp_path, monkeypatch):
    """Also one that goes on with what an interrupted run left, whose journal the disk has and whose
    images it lost."""
    generate(tmp_path / "raw", train=2, test=1, height=32, width=64, seed=0)
    place = tmp_path / "place"
    place.mkdir()

    def command():
        prepare(str(tmp_path / "raw"), place / "dataset", config=PrepareConfig())

    def made():
        folder = place / "dataset"
        files = {file.name: file.read_bytes() for file in folder.rglob("*.png")}
        return DatasetManifest.read(folder), files

    if is_interrupted:
        add = writer.Journal.add

        def stop(journal, one, record):
            if one.split == "test":
                raise KeyboardInterrupt
            add(journal, one, record)

        with monkeypatch.context() as patch:
            patch.setattr(writer.Journal, "add", stop)
            with pytest.raises(KeyboardInterrupt):
                command()
    assert goes_on(place, command, made, every=2)[1] == 0


def test_what_a_run_has_done(tmp_path):
    """`run.json` is one of the states that it went through, never a part of one."""
    run = runs.begin("demo", {"prepare": {}}, "/raw", {}, {}, tmp_path)
    states = [run.record]
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(tmp_path)
        disk.record(patch)
        for state in ("running", "finished"):
            run.note_step("prepare", state=state)
            states.append(run.record)
    found = []
    for _ in disk.after_crashes():
        (one,) = runs.runs_in(tmp_path)
        found.append(one.record)
    assert all(one in states for one in found) and found[-1] == states[-1]
