"""What a training writes to its model folder, and what it refuses to write or to go on from."""

import pytest

from components.train.saved.folder import ModelFolder
from shared.contracts.model import ModelCard
from shared.errors import WorkFailed
from shared.networks.checkpoint import save_tensors
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.asking import refusal
from tests.training import config, trainer_for


@pytest.fixture
def folder(tmp_path):
    """A folder with a checkpoint, of networks with BatchNorm and a moving average."""
    a = tiny.architecture(norm="batch")
    values = dict(epoch=0, images_seen=0, dataset_digest="", parent_digest="", digest="")
    values |= dict(height=32, width=64, one_size=True, config={}, metrics={})
    card = ModelCard(architecture=a, **values)
    trainer = trainer_for(a, config(norm="batch", ema_decay=0.9))
    folder = ModelFolder(tmp_path, trainer, card, "L1")
    folder.save()
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name, tensor",
    [
        ("D", "scale0_layer0.0.weight"),
        ("G", "model.1.bias"),
        # BatchNorm keeps what a forward pass has overflowed to, though its update is skipped.
        ("G", "model.2.running_var"),
        ("ema", "model.2.running_var"),
    ],
)
def test_networks_that_are_not_finite_replace_no_checkpoint(name, tensor, folder):
    state, before = folder.trainer.parts()[name].state_dict(), contents(folder)
    assert {path.name for path in before} >= {"latest_net_G.pth", "model.json", "training.pt"}
    good = state[tensor].clone()
    state[tensor].view(-1)[0] = float("inf")
    for save in (folder.save, folder.save_state):
        with pytest.raises(WorkFailed) as failure:
            save()
        assert str(failure.value) == (
            f"--model {folder.path} is left as it was at its last checkpoint, as 1 of "
            f"{good.numel()} values of {name}.{tensor} are not finite: give a lower "
            "--learning-rate or another --precision, and say the same command again."
        )
    assert contents(folder) == before
    state[tensor].copy_(good)
    folder.save()


def test_no_training_goes_on_from_networks_that_are_not_finite(folder):
    state = load_tensors(folder.state)
    state["G"]["model.1.weight"][0, 0, 0, 0] = float("nan")
    save_tensors(folder.state, state)
    assert refusal(folder.load, folder.state) == (
        f"{folder.state} is broken, as 1 of 7056 values of G.model.1.weight are not finite: "
        "give an empty folder."
    )
