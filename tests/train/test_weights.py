"""What a training says of the weights that it leaves: always what is there, also after a kill."""

import hashlib
import os

import pytest
import torch

import components.train.checks as train_checks
from components.cluster.checks import preflight as foresee_clusters
from components.cluster.config import ClusterConfig
from components.export.checks import preflight as foresee_export
from components.export.config import ExportConfig
from components.train.saved.folder import ModelFolder
from shared.contracts.forecast import PreparedData
from shared.contracts.model import ModelCard
from shared.networks.checkpoint import load_generator
from tests import tiny
from tests.places import NOWHERE
from tests.tiny import one_thread  # noqa: F401 - a fixture
from tests.training import config, trainer_for

A = tiny.architecture()


@pytest.fixture
def opened(tmp_path):
    """A function that opens the model folder as the same command again does, of other weights."""
    known = {"weights": {}, "config": config().model_dump()}
    card = tiny.model(tmp_path / "other", A).model_copy(update=known)

    def open_folder(seed: int = 1, **options) -> ModelFolder:
        folder = ModelFolder(
            tmp_path / "model", trainer_for(A, config(), seed=seed), card, "L1", **options
        )
        if folder.state.is_file():
            folder.load(folder.state)
        return folder

    return open_folder


def save(folder: ModelFolder, epoch: int, l1: float | None = None) -> None:
    """A checkpoint of weights of its own; with an L1 it was validated."""
    with torch.no_grad():
        for weight in folder.trainer.networks.G.parameters():
            weight.add_(1e-3)
    folder.trainer.epoch = epoch
    folder.metrics = {} if l1 is None else {"val/L1": l1}
    folder.best.update(folder.metrics, epoch)
    folder.save()


def named(folder: ModelFolder) -> dict[str, int]:
    """Epochs of the weights that the card names, all of whose files are there as it says."""
    card = ModelCard.read(folder.path)
    for saved in card.weights.values():
        for file, sha in saved.files.items():
            assert hashlib.sha256((folder.path / file).read_bytes()).hexdigest() == sha, file
    return {name: saved.epoch for name, saved in card.weights.items()}


def test_the_best_and_the_kept_survive_a_training_that_goes_on(opened):
    folder = opened(keep_checkpoints=2)
    for epoch, l1 in ((1, 0.5), (2, 0.3), (3, 0.4)):
        save(folder, epoch, l1)
    assert named(folder) == {"latest": 3, "best": 2, "2": 2, "3": 3}
    best = (folder.path / "best_net_G.pth").read_bytes()
    assert ModelCard.read(folder.path).weights["best"].metrics == {"val/L1": 0.3}

    folder = opened(seed=2, keep_checkpoints=2)
    save(folder, 4, 0.6)
    assert named(folder) == {"latest": 4, "best": 2, "3": 3, "4": 4}
    assert (folder.path / "best_net_G.pth").read_bytes() == best
    assert not list(folder.path.glob("2_net_*"))
    folder = opened()
    save(folder, 5)
    assert named(folder) == {"latest": 5, "best": 2, "3": 3, "4": 4}
    assert load_generator(folder.path, weights="best")[0].epoch == 2


def test_without_its_weights_nothing_is_the_best(opened, capsys):
    folder = opened()
    save(folder, 1, 0.1)
    save(folder, 2, 0.5)
    (folder.path / "best_net_G.pth").unlink()
    folder = opened()
    said = "the best weights, of epoch 1, are gone: the best is chosen among the epochs to come\n"
    assert capsys.readouterr().out == said
    save(folder, 3, 0.4)
    assert named(folder) == {"latest": 3, "best": 3}


def test_a_folder_of_an_earlier_version_keeps_its_best(opened):
    folder = opened()
    save(folder, 1, 0.1)
    save(folder, 2, 0.5)
    card = ModelCard.read(folder.path).model_copy(update={"weights": {}})
    card.write(folder.path)
    folder = opened()
    save(folder, 3, 0.4)
    assert named(folder) == {"latest": 3, "best": 1}


def test_files_of_a_training_before_are_not_taken_for_its_own(opened):
    """The folder holds a best and a kept epoch, but no state: another training begins."""
    folder = opened(keep_checkpoints=1)
    save(folder, 9, 0.1)
    folder.state.unlink()
    folder = opened(keep_checkpoints=1)
    save(folder, 1)
    assert named(folder) == {"latest": 1, "1": 1}


def test_a_card_never_names_what_is_not_there(opened, monkeypatch):
    """Killed before each of the renamings of a checkpoint, and then continued."""
    folder = opened(keep_checkpoints=1)
    save(folder, 1, 0.5)
    save(folder, 2, 0.6)
    replace, count = os.replace, 0
    for kill_at in range(9):  # the states, G and D, each three times, the card
        folder, count = opened(keep_checkpoints=1), 0
        epoch = folder.trainer.epoch + 1

        def killed(source, target, kill_at=kill_at):
            nonlocal count
            if count == kill_at:
                raise KeyboardInterrupt
            count += 1
            replace(source, target)

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save(folder, epoch, 0.4 / epoch)
        monkeypatch.setattr(os, "replace", replace)
        card = ModelCard.read(folder.path)
        for saved in card.weights.values():
            assert all((folder.path / file).is_file() for file in saved.files)

        folder = opened(keep_checkpoints=1)
        if kill_at < 2:
            assert folder.trainer.epoch == epoch - 1
            save(folder, epoch, 0.4 / epoch)
        else:  # as `run` does
            assert folder.trainer.epoch == epoch and not folder.has_this_epoch()
            folder.save()
        assert named(folder) == {"latest": epoch, "best": epoch, str(epoch): epoch}


# Before the first step.


def test_weights_that_no_training_will_leave_are_refused_before_it(tmp_path):
    manifest = tiny.dataset(tmp_path)  # one test pair with a photo

    def refusals(weights: str, without_photos: bool = False, **options) -> list[str]:
        data = manifest.model_copy(update={"test": manifest.test[1:]} if without_photos else {})
        prepared = PreparedData(data, has_cache=False)
        train = config(epochs=10, epochs_decay=0, **options)
        model = train_checks.preflight(prepared, None, None, NOWHERE, train).gives
        export = ExportConfig(weights=weights)
        found = foresee_export(prepared, model, None, tmp_path, export).refusals
        if found:
            assert found[0].startswith(f"--weights {weights}: --model of train_global holds ")
        return found

    assert refusals("latest") == refusals("best") == []
    assert refusals("best", validate_every_epochs=0) == [
        "--weights best: --model of train_global holds latest (epoch 10): choose among these, or "
        "train with --validate-every-epochs, and without --clusters."
    ]
    assert refusals("best", without_photos=True)
    assert refusals("best", best_by="fid", fid_network="f.onnx")  # which takes two pictures

    # Of ten epochs, each or every third saved; one that becomes the best is saved too.
    assert refusals("9") and refusals("9", keep_checkpoints=1)
    assert not refusals("9", keep_checkpoints=2)
    assert not refusals("9", keep_checkpoints=2, save_every_epochs=3)
    assert refusals("8", keep_checkpoints=2, save_every_epochs=3)
    assert refusals("9", keep_checkpoints=2, save_every_epochs=9, validate_every_epochs=4) == []
    assert refusals("6", keep_checkpoints=3, save_every_epochs=3, validate_every_epochs=4)


def test_stage_two_with_features_has_no_best(tmp_path):
    """There are features of the training pairs only; its styles are to be of the latest epoch."""
    prepared = PreparedData(tiny.dataset(tmp_path), has_cache=False)
    one = train_checks.preflight(
        prepared, None, None, NOWHERE, config(instance_features=True)
    ).gives
    table = foresee_clusters(prepared, one, ClusterConfig()).gives
    options = config(netG="local", ngf=2, instance_features=True)
    two = train_checks.preflight(prepared, one, table, NOWHERE, options)
    assert (list(one.weights), list(two.gives.weights)) == (["latest", "best"], ["latest"])
    assert not two.refusals
    of_best = foresee_clusters(prepared, one, ClusterConfig(weights="best")).gives
    assert train_checks.preflight(prepared, one, of_best, NOWHERE, options).refusals == [
        "--clusters was made from the weights best of --init-from, of which stage local takes the "
        "latest: cluster again with --weights latest."
    ]
