"""Where in an epoch a training stands: in pairs of its order, so that other batches and devices go
on there."""

import itertools
import math

import pytest
import torch

from components.train.data.batches import PairDataset, batches_of_rank
from components.train.devices.world import World
from components.train.run import run
from components.train.step import Trainer
from shared.contracts.dataset import DatasetManifest
from shared.contracts.labels import Label
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.checkpoint import save_tensors
from shared.networks.weight_file import load_tensors
from tests import tiny
from tests.training import config, trainer_for

WORLDS = [1, 2, 3]
BATCHES = [1, 2, 4]
PAIRS = 7

STEP = Trainer.step


class Killed(BaseException):
    """What no handler catches, as kill -9."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=PAIRS, input_nc=3)
    return folder


def steps(batch_size: int, size: int, done: int = 0) -> list[list[int]]:
    """The pairs of each step of all ranks together, in the order of the epoch."""
    ranks = [
        batches_of_rank(5, 2, PAIRS, batch_size, World(rank, size), done) for rank in range(size)
    ]
    return [
        [index for together in zip(*batches, strict=True) for index in together]
        for batches in zip(*ranks, strict=True)
    ]


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product(itertools.product(BATCHES, WORLDS), repeat=2))
)
def test_an_epoch_goes_on_at_its_next_pair_whatever_the_batches_and_devices(before, after):
    """Each pair once; only what fills up the last step comes twice, as in an epoch that nobody
    interrupted."""
    (order,) = batches_of_rank(5, 2, PAIRS, PAIRS, World())
    whole = steps(*before)
    for count in range(1, len(whole)):
        trained = sum(whole[:count], [])
        assert trained == order[: len(trained)]
        rest = sum(steps(*after, done=len(trained)), [])
        left = PAIRS - len(trained)
        assert rest[:left] == order[len(trained) :]
        assert len(rest) == math.ceil(left / after[1]) * after[1]
        if before == after:
            assert whole[:count] + steps(*after, done=len(trained)) == whole


def train_until(killed_in_step: int, monkeypatch, *folders, **options) -> None:
    """A training of which only the steps before that one are finished, and saved."""
    calls = itertools.count(1)

    def step(trainer, batch):
        if next(calls) == killed_in_step:
            raise Killed
        return STEP(trainer, batch)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(Killed):
        run(*folders, config=config(save_every_steps=1, **options))
    monkeypatch.setattr(Trainer, "step", STEP)


@pytest.mark.parametrize(("before", "after"), [(2, 3), pytest.param(3, 1, marks=pytest.mark.slow)])
def test_another_batch_size_trains_each_pair_once_and_weighs_it_once(
    dataset, tmp_path, monkeypatch, capsys, before, after
):
    """Nothing learns: the losses of a pair do not depend on when and beside which it comes, and
    their mean over the epoch is that of an epoch with batches of one."""
    options = dict(epochs=1, epochs_decay=0, learning_rate=1e-30)
    whole = run(dataset, tmp_path / "whole", config=config(**options))

    read, get = [], PairDataset.__getitem__
    folders = dataset, tmp_path / "parts"
    train_until(2, monkeypatch, *folders, batch_size=before, **options)
    capsys.readouterr()
    monkeypatch.setattr(
        PairDataset, "__getitem__", lambda self, i: (read.append(i), get(self, i))[1]
    )
    again = run(*folders, config=config(batch_size=after, **options))

    of_samples, of_tests = 4, 1
    (order,) = batches_of_rank(0, 1, PAIRS, PAIRS, World())
    assert read[of_samples:-of_tests] == order[before:]
    said = capsys.readouterr().out
    assert f"continues after pair {before} of {PAIRS} in epoch 1 of 1\n" in said
    assert ModelCard.read(tmp_path / "parts").images_seen == PAIRS
    for name in ("G_GAN", "G_GAN_Feat", "D_real", "D_fake"):
        assert again[name] == pytest.approx(whole[name], rel=1e-5), name


def test_dropout_goes_on_where_it_was_or_draws_what_follows_from_the_place(dataset, tmp_path):
    architecture = tiny.architecture(netG="resnet_6blocks", netD="n_layers", dropout=True)
    options = dict(netG="resnet_6blocks", netD="n_layers", dropout=True)
    options = config(lambda_feature_matching=0, **options)
    saved = trainer_for(architecture, options)
    saved.start_epoch(1)
    saved.pairs = 4
    state = saved.state_dict()
    drawn = torch.rand(3)

    def draws(rank: int, size: int, pairs: int = 4) -> torch.Tensor:
        """By a trainer that went on from the state."""
        trainer = trainer_for(architecture, options, World(rank, size))
        trainer.load_state_dict(state | {"pairs": pairs})
        trainer.start_epoch(1)
        return torch.rand(3)

    assert torch.equal(draws(0, 1), drawn)
    others = [draws(0, 2), draws(1, 2), draws(0, 2, pairs=6), draws(0, 4)]
    assert torch.equal(draws(0, 2), others[0])
    for one, other in itertools.combinations([drawn, *others], 2):
        assert not torch.equal(one, other)

    # Of as many ranks: each goes on with its own.
    (states,) = state["random"]
    torch.manual_seed(9)
    of_second = {"cpu": torch.get_rng_state()}
    drawn_by_second = torch.rand(3)
    state["random"] = [states, of_second]
    assert torch.equal(draws(1, 2), drawn_by_second) and torch.equal(draws(0, 2), drawn)

    # Of a GPU there are states, but none of this device.
    state["random"] = [{"cuda": states["cpu"]}]
    on_cpu = draws(0, 1)
    assert torch.equal(draws(0, 1), on_cpu) and not torch.equal(on_cpu, drawn)


def test_a_state_that_counted_batches_goes_on_to_the_same_weights(dataset, tmp_path, monkeypatch):
    """As it was written: the losses of a step counted once, whatever its batch."""
    options = dict(batch_size=2)
    run(dataset, tmp_path / "whole", config=config(**options))
    train_until(7, monkeypatch, dataset, tmp_path / "parts", **options)  # an epoch is of 4 steps
    path = tmp_path / "parts" / "state" / "training.pt"
    state = load_tensors(path)
    assert state.pop("pairs") == 4
    sums = {name: total / 2 for name, total in state["sums"].items()}
    sums["finite_steps"] = sums.pop("finite_pairs")
    del state["facts"]
    save_tensors(path, state | {"batches": 2, "sums": sums})

    # The card knows which data it was trained on.
    tiny.dataset(tmp_path / "other", train=PAIRS, test=1, input_nc=3)
    with pytest.raises(InputError, match="--dataset of other content"):
        run(tmp_path / "other", tmp_path / "parts", config=config(**options))
    run(dataset, tmp_path / "parts", config=config(**options))
    cards = [ModelCard.read(tmp_path / name) for name in ("whole", "parts")]
    assert cards[0].digest == cards[1].digest and cards[0].metrics == cards[1].metrics


def test_names_of_labels_may_change_and_stand_in_the_card(tmp_path):
    """They are no part of the data set's digest, and nothing is learned from them."""
    tiny.dataset(tmp_path / "data", train=2, height=16, width=16)
    run(tmp_path / "data", tmp_path / "model", config=config(epochs_decay=0))
    manifest = DatasetManifest.read(tmp_path / "data")
    labels = [Label(id=7, name="road", colour=(128, 64, 128))]
    manifest.model_copy(update=dict(labels=labels)).write(tmp_path / "data")
    run(tmp_path / "data", tmp_path / "model", config=config())
    card = ModelCard.read(tmp_path / "model")
    assert card.epoch == 2 and card.labels == labels and card.dataset_digest == manifest.digest
