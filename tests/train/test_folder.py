"""What a training writes to its model folder, and what it refuses to write or to go on from."""

import pytest
import torch

from components.train.saved.folder import ModelFolder
from components.train.saved.state import read_stopped
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


def first_moments(state, name, *shape):
    moments = dict(step=torch.tensor(1.0), exp_avg=torch.zeros(shape), exp_avg_sq=torch.zeros(1))
    state[name]["state"] = {0: moments}


FOREIGN = {
    "G.model.1.weight is (4, 3, 7, 7), not (4, 36, 7, 7)": lambda state: state["G"].update(
        {"model.1.weight": torch.zeros(4, 3, 7, 7)}
    ),
    "G.model.1.bias is of torch.int64, not torch.float32": lambda state: state["G"].update(
        {"model.1.bias": torch.zeros(4, dtype=torch.int64)}
    ),
    "G is no dict": lambda state: state.update(G=[1.0]),
    "D lacks scale0_layer0.0.bias": lambda state: state["D"].pop("scale0_layer0.0.bias"),
    "ema has an unknown x": lambda state: state["ema"].update(x=torch.zeros(1)),
    "optimizer_D.0.exp_avg is (2,), not (4, 39, 4, 4)": lambda state: first_moments(
        state, "optimizer_D", 2
    ),
    "optimizer_G is no state of an optimiser": lambda state: state.update(optimizer_G={"lr": 1}),
    "pool.random is (1,), not (5056,)": lambda state: state["pool"].update(
        random=torch.zeros(1, dtype=torch.uint8)
    ),
    "scaler_G lacks skipped": lambda state: state["scaler_G"].pop("skipped"),
    "sums is no dict": lambda state: state.pop("sums"),
    "pairs is no number": lambda state: state.pop("pairs"),
    "random is empty": lambda state: state.update(random=[]),
    "best.metric is no text": lambda state: state["best"].update(metric=3),
}


@pytest.mark.parametrize("found", FOREIGN)
def test_a_state_of_another_training_is_refused_by_what_does_not_fit(found, folder):
    """Each is what torch reads without a word, and what the networks, or the first step, trip
    over."""
    state = load_tensors(folder.state)
    FOREIGN[found](state)
    save_tensors(folder.state, state)
    assert refusal(folder.load, folder.state) == (
        f"--model {folder.path}: training.pt is not of this training, as {found}: put its own "
        "back, or give an empty folder."
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"architecture": {"layers": 3}}, "architecture.num_labels"),
        ({"architecture": None}, "architecture"),
        ({"epoch": -1}, "epoch"),
        ({"pairs": "some"}, "pairs"),
        ({"metrics": [1.0]}, "metrics"),
        ({"facts": 5}, "facts"),
        ({"plateau": {"best": "none"}}, "plateau.best"),
    ],
)
def test_a_state_of_another_program_is_refused_before_networks_are_built(change, field, folder):
    save_tensors(folder.state, load_tensors(folder.state) | change)
    said = refusal(read_stopped, folder.path)
    start = f"--model {folder.path}: training.pt is no state of this step ({field}: "
    assert said.startswith(start) and said.endswith(
        f"): give an empty folder, with --start-from {folder.path} to begin at its weights."
    )
