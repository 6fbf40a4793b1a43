"""Trainings killed with -9 at chosen places, which go on with a command line that differs: each
pair of each epoch is trained once, and what is said to go on exactly ends with the same weights."""

import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.contracts.model import ModelCard
from tests import tiny
from tests.train.killing import Ended, stands_at, train

PAIRS, EPOCHS = 6, 2
COMMON = dict(epochs=EPOCHS, epochs_decay=0, validate_every_epochs=1, save_every_steps=1)
NOTHING_LEARNS = dict(learning_rate=1e-30)  # losses of a pair are then the same whenever it comes

# Where a training is killed, see `spy`; the photos that it opens first are those of the samples.
WITHIN_AN_EPOCH = "open .training.pt.partial 3"
SAVING_AN_EPOCH = "os.rename latest_net_D.pth 1"  # G's are in their place, D's and the state not
VALIDATING = "open test_0.png 6"  # input, instances, photo: the last of the second epoch
BETWEEN_EPOCHS = "open epoch_0002.png.partial 1"


@dataclass
class Row:
    """What is given to the killed training, and what to the one that goes on."""

    kill: str
    stands: tuple[int, int]  # where it was killed: epochs, pairs
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)
    exact: bool = False  # ends with the weights of a training that was not killed
    says: str = "continues after pair"


ROWS = {
    "the same command, within an epoch": Row(WITHIN_AN_EPOCH, (0, 2), exact=True),
    "the same command, killed while it saves": Row(SAVING_AN_EPOCH, (0, 5), exact=True),
    "the same command, killed in a validation": Row(VALIDATING, (1, 5), exact=True),
    "workers, cache": Row(
        WITHIN_AN_EPOCH, (0, 2), after=dict(workers=2, cache="memory"), exact=True
    ),
    "save_every_steps": Row(WITHIN_AN_EPOCH, (0, 2), after=dict(save_every_steps=4), exact=True),
    "batch_size raised": Row(WITHIN_AN_EPOCH, (0, 2), after=dict(batch_size=3)),
    "batch_size lowered": Row(WITHIN_AN_EPOCH, (0, 4), dict(batch_size=2), dict(batch_size=1)),
    "one device, then two": Row(WITHIN_AN_EPOCH, (0, 2), after=dict(devices=2)),
    "two devices, then one": Row(
        WITHIN_AN_EPOCH, (0, 4), dict(devices=2), dict(devices=1, batch_size=4)
    ),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    tiny.dataset(folder, train=PAIRS, input_nc=3)
    return folder


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """The card of a training that was not killed, by whether anything was learned."""
    cards = {}

    def card(**options) -> ModelCard:
        if (key := str(options)) not in cards:
            model = tmp_path_factory.mktemp("whole") / "model"
            assert train(dataset, model, **COMMON, **options).code == 0
            cards[key] = ModelCard.read(model)
        return cards[key]

    return card


def killed(dataset: Path, model: Path, kill: str, **options) -> Ended:
    ended = train(dataset, model, kill, **COMMON | options)
    assert ended.code == -signal.SIGKILL, ended.said
    return ended


def assert_each_pair_once(first: Ended, place: tuple[int, int], second: Ended, epochs: int):
    """Of what the first one read counts what it has saved: the epochs and pairs of `place`."""
    epoch, pairs = place
    trained = first.read[: epoch * PAIRS + pairs] + second.read
    wanted = sorted(f"train_B/train_{i}.png" for i in range(PAIRS))
    found = [sorted(trained[i : i + PAIRS]) for i in range(0, len(trained), PAIRS)]
    assert found == [wanted] * epochs


def goes_on(row: Row, dataset: Path, model: Path, whole) -> None:
    lr = {} if row.exact else NOTHING_LEARNS
    first = killed(dataset, model, row.kill, **row.before | lr)
    assert stands_at(model) == row.stands
    second = train(dataset, model, **COMMON | lr | row.before | row.after)
    assert second.code == 0, second.said
    assert row.says in second.said
    if "workers" not in row.after:  # which are processes of their own, and hold what they read
        assert_each_pair_once(first, row.stands, second, EPOCHS)
    card, other = ModelCard.read(model), whole(**lr)
    assert card.images_seen == other.images_seen == EPOCHS * PAIRS
    if row.exact:
        assert card.digest == other.digest and card.metrics == other.metrics
    else:
        losses = [name for name in other.metrics if name[:2] in ("G_", "D_")]
        assert len(losses) == 4
        for name in losses:
            assert card.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4), name


def test_a_killed_training_goes_on_with_other_batches(dataset, tmp_path):
    """The one that is not slow."""
    options = NOTHING_LEARNS | dict(epochs=1, validate_every_epochs=0)
    first = killed(dataset, tmp_path / "model", WITHIN_AN_EPOCH, **options)
    second = train(dataset, tmp_path / "model", **COMMON | options | dict(batch_size=3))
    assert second.code == 0 and "continues after pair 2 of 6 in epoch 1 of 1\n" in second.said
    assert_each_pair_once(first, (0, 2), second, epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_killed_training_goes_on(row, dataset, whole, tmp_path):
    goes_on(row, dataset, tmp_path / "model", whole)
