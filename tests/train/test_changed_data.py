"""Data that change under a running training, and workers that are killed: one sentence, that says
what is kept."""

import os
import signal

import pytest
from torch.utils.data import get_worker_info

from components.train.__main__ import main as train
from components.train.data.batches import EpochLoader
from components.train.run import run
from components.train.saved.folder import ModelFolder
from shared.data.images import read_picture, write_picture
from shared.data.reader import PairReader
from shared.errors import InputError, WorkFailed
from tests import tiny
from tests.train.killing import flags
from tests.training import config

PHOTO = "train_img/train_1.png"
LAST = "the last checkpoint in {} is kept, and the same command again goes on from it."


def mirrored(path):
    write_picture(path, read_picture(path)[:, :, ::-1])


def removed(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (mirrored, "has other content"),
        (removed, "is missing"),
        (emptied, "cannot be read as an image (it is empty)"),
    ],
)
def test_an_image_that_changes_ends_a_training_with_its_name(
    tmp_path, monkeypatch, change, found, workers
):
    data, model = tmp_path / "data", tmp_path / "model"
    tiny.dataset(data)
    save = ModelFolder.save

    def save_and_change(folder, goes_on):
        save(folder)
        change(data / PHOTO)

    monkeypatch.setattr(ModelFolder, "save", save_and_change)
    options = dict(validate_every_epochs=0, sample_every_epochs=9, workers=workers)
    with pytest.raises(WorkFailed) as failure:
        run(data, model, config=config(**options))
    said = str(failure.value)
    assert said.startswith("the data set was changed since this step began to read it: ")
    assert f"{data / PHOTO} {found}" in said and said.endswith(LAST.format(model))

    # It goes on, once the data are what they were.
    monkeypatch.setattr(ModelFolder, "save", save)
    tiny.dataset(data)
    assert run(data, model, config=config(**options))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_worker_that_is_killed_is_a_sentence(tmp_path, monkeypatch, capfd, number):
    tiny.dataset(tmp_path / "data")
    read = PairReader.read

    def die(reader, *arguments, **options):
        if get_worker_info():
            os.kill(os.getpid(), number)
        return read(reader, *arguments, **options)

    monkeypatch.setattr(PairReader, "read", die)
    words = flags(tmp_path / "data", tmp_path / "model", epochs=1, epochs_decay=0, workers=1)
    with pytest.raises(SystemExit, match="^1$"):
        train([*words, "--device=cpu"])
    lines = capfd.readouterr().err.replace("\0", "").splitlines()
    lines = [line for line in lines if "ERROR: Unexpected bus error" not in line]  # torch's own
    assert len(lines) == 1 and lines[0].startswith("train failed: ") and "--workers" in lines[0]


def test_a_worker_hands_on_every_kind_of_refusal(tmp_path, monkeypatch):
    tiny.dataset(tmp_path)

    def refuse(*_arguments, **_options):
        raise InputError("a file: it says so: give another.")

    monkeypatch.setattr(PairReader, "read", refuse)
    loader = EpochLoader(tiny.pairs(tmp_path), batch_size=2, workers=1, pin_memory=False)
    with pytest.raises(InputError, match=r"^a file: it says so: give another\.$"):
        next(loader.epoch(1))
