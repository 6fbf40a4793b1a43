"""Two generations of a training's state: whatever a loss of power has left of the last, and of the
files beside it, the same command goes on from what is whole, says so, and ends with the same
weights."""

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.train.run import run
from components.train.saved.state import read_stopped, state_before, state_file
from shared.contracts.model import ModelCard
from shared.networks.weight_file import is_not_as_saved, load_tensors
from tests import tiny
from tests.asking import refusal
from tests.tiny import one_thread  # noqa: F401 - a fixture
from tests.training import config

EPOCHS = 3


def train(dataset: Path, model: Path, epochs: int = EPOCHS):
    run(dataset, model, config=config(epochs=epochs, epochs_decay=0, validate_every_epochs=1))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=2, input_nc=3)
    return folder


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory) -> dict[int, Path]:
    """The model folder after so many epochs."""
    folders = {}
    for epochs in (2, EPOCHS):
        folders[epochs] = tmp_path_factory.mktemp("trained") / "model"
        if epochs > 2:
            shutil.copytree(folders[2], folders[epochs])
        train(dataset, folders[epochs], epochs)
    return folders


def zeros_within(file: Path) -> None:
    """A page in the middle of the tensors that never came to the disk."""
    size = file.stat().st_size
    with open(file, "r+b") as content:
        content.seek(size // 2)
        content.write(bytes(4096))


def zeros_at_the_end(file: Path) -> None:
    size = file.stat().st_size
    os.truncate(file, size - 4096)
    os.truncate(file, size)


SPOILED = {
    "empty": lambda file: os.truncate(file, 0),
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "zeros at the end": zeros_at_the_end,
    "zeros within": zeros_within,
    "missing": Path.unlink,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_state_is_named_and_the_one_before_is_found(spoil, trained, tmp_path):
    shutil.copytree(trained[2], tmp_path / "model")
    spoil(state_file(tmp_path / "model"))
    stopped = read_stopped(tmp_path / "model")
    assert stopped.file == state_before(tmp_path / "model") and stopped.place.epoch == 2
    assert f"{state_file(tmp_path / 'model')} is " in stopped.spoiled


def test_what_is_beside_the_tensors_is_compared_before_they_are(trained, tmp_path):
    """Else a flipped size would be refused as another option than that of the stopped training."""
    model = tmp_path / "model"
    shutil.copytree(trained[2], model)
    content = state_file(model).read_bytes()
    place = content.index(b"images_seen")
    state_file(model).write_bytes(content[:place] + b"I" + content[place + 1 :])
    assert read_stopped(model, tensors=False).file == state_before(model)
    shutil.copytree(trained[2], model, dirs_exist_ok=True)
    zeros_within(state_file(model))
    assert read_stopped(model, tensors=False).file == state_file(model)
    assert is_not_as_saved(state_file(model))


@pytest.mark.parametrize("how", ["zeros within", "missing"])
def test_a_spoiled_state_costs_an_epoch_that_is_trained_again(
    how, trained, dataset, tmp_path, capsys
):
    """The one before is of epoch 1, as are then the files that go with it; at the end the state
    before is a whole one again."""
    model = tmp_path / "model"
    shutil.copytree(trained[2], model)
    SPOILED[how](state_file(model))
    train(dataset, model)
    said = capsys.readouterr().out
    assert re.search(
        rf"^--model {model}: {state_file(model)} is .*; what was trained in the \d+ s since the "
        r"state before, training.before.pt, is trained again\n.*continues after epoch 1 of 3",
        said,
        re.DOTALL | re.MULTILINE,
    ), said
    assert_same(model, trained[EPOCHS])
    for file, epoch in ((state_file(model), 3), (state_before(model), 2)):
        assert load_tensors(file)["epoch"] == epoch


def assert_same(model: Path, other: Path) -> None:
    """Assert that the card is that of `other`, and that its files are what it says."""
    card, wanted = ModelCard.read(model), ModelCard.read(other)
    assert card == wanted
    for saved in card.weights.values():
        for file in saved.files:
            assert (model / file).read_bytes() == (other / file).read_bytes()


def test_a_spoiled_state_never_becomes_the_one_before(trained, dataset, tmp_path):
    """Power is lost a second time, while the first checkpoint is written after it went on."""
    model = tmp_path / "model"
    shutil.copytree(trained[2], model)
    os.truncate(state_file(model), 0)
    train(dataset, model, epochs=2)
    os.truncate(state_file(model), 0)
    assert read_stopped(model).place.epoch == 2


def test_two_spoiled_states_are_refused(trained, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(trained[2], model)
    zeros_within(state_file(model))
    os.truncate(state_before(model), 100)
    assert refusal(read_stopped, model) == (
        f"--model {model}: {state_file(model)} is damaged, it does not hold what was written, or "
        f"give an empty folder, with --start-from {model} to begin at its weights."
    )


@pytest.mark.parametrize(
    ("file", "how"),
    [("latest_net_G.pth", "zeros within"), ("best_net_D.pth", "cut"), ("model.json", "empty")],
)
def test_what_is_spoiled_beside_the_state_of_a_whole_training_is_written_again(
    file, how, trained, dataset, tmp_path
):
    model = tmp_path / "model"
    shutil.copytree(trained[EPOCHS], model)
    SPOILED[how](model / file)
    train(dataset, model)
    latest = ModelCard.read(model).weights["latest"]
    assert latest == ModelCard.read(trained[EPOCHS]).weights["latest"]
    for saved in ModelCard.read(model).weights.values():
        for one in saved.files:
            assert (model / one).read_bytes() == (trained[EPOCHS] / one).read_bytes()


def test_the_state_before_takes_no_copy(trained, dataset, tmp_path):
    """It is the file of the last checkpoint under another name."""
    model = tmp_path / "model"
    shutil.copytree(trained[2], model)
    last = state_file(model).stat().st_ino
    train(dataset, model)
    assert state_before(model).stat().st_ino == last


def test_disks_without_hard_links_keep_two_generations(trained, dataset, tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError

    model = tmp_path / "model"
    shutil.copytree(trained[2], model)
    monkeypatch.setattr(os, "link", link)
    train(dataset, model)
    assert [load_tensors(one(model))["epoch"] for one in (state_before, state_file)] == [2, 3]


def test_what_the_disk_cannot_hold_is_refused_before_it_trains(
    trained, dataset, tmp_path, monkeypatch
):
    """These networks hold less than 1 MB in all files; what is there needs no room again."""
    files = [file for file in trained[EPOCHS].rglob("*.pt*") if file.is_file()]
    whole = sum(file.stat().st_size for file in files)
    free = SimpleNamespace(free=whole // 2)
    monkeypatch.setattr("shutil.disk_usage", lambda place: free)
    assert re.fullmatch(
        rf"--model {tmp_path}/new: checkpoints of these networks take about \S+ GB but {tmp_path} "
        r"has \S+ GB free: make room, or name a folder on another disk.",
        refusal(train, dataset, tmp_path / "new"),
    )
    shutil.copytree(trained[EPOCHS], tmp_path / "old")
    train(dataset, tmp_path / "old")
