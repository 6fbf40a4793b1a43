"""Trainings killed with -9 at chosen places, which go on with a command line that differs: each
pair of each epoch is trained once, and what is said to go on exactly ends with the same weights."""

import shutil
import signal
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.train.__main__ import main
from components.train.data.batches import PairDataset
from shared.contracts.model import ModelCard
from shared.tracking.journal import journals_in, read_entries
from tests import tiny
from tests.train.killing import SAMPLES, Ended, flags, stands_at, train

PAIRS, EPOCHS = 6, 2
COMMON = dict(epochs=EPOCHS, epochs_decay=0, validate_every_epochs=1, save_every_steps=1)
NOTHING_LEARNS = dict(learning_rate=1e-30)  # losses of a pair are then the same whenever it comes

# Where a training is killed, see `spy`; the photos that it opens first are those of the samples.
WITHIN_AN_EPOCH = "open .training.pt.partial 3"
SAVING_AN_EPOCH = "os.rename latest_net_D.pth 1"  # state and G are in their places, D is not
VALIDATING = "open test_0.png 6"  # input, instances, photo: the last of the second epoch
END_OF_AN_EPOCH = "open .epoch_0001.png.partial 1"  # its steps are done, the last is not saved


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
    "the same command, before anything is saved": Row(
        "open .training.pt.partial 1", (0, 0), exact=True, says="train global"
    ),
    "the same command, while it saves for the first time": Row(
        SAVING_AN_EPOCH, (1, 0), dict(save_every_steps=0), exact=True, says="continues after epoch"
    ),
    "the same command, within an epoch": Row(WITHIN_AN_EPOCH, (0, 2), exact=True),
    "the same command, killed while it saves": Row(
        SAVING_AN_EPOCH, (1, 0), exact=True, says="continues after epoch 1"
    ),
    "the same command, killed in a validation": Row(VALIDATING, (1, 5), exact=True),
    "workers, cache": Row(
        WITHIN_AN_EPOCH, (0, 2), after=dict(workers=2, cache="memory"), exact=True
    ),
    "save_every_steps": Row(WITHIN_AN_EPOCH, (0, 2), after=dict(save_every_steps=4), exact=True),
    "batch_size raised": Row(WITHIN_AN_EPOCH, (0, 2), after=dict(batch_size=3)),
    "batch_size lowered": Row(WITHIN_AN_EPOCH, (0, 4), dict(batch_size=2), dict(batch_size=1)),
    "one device, then two": Row(WITHIN_AN_EPOCH, (0, 2), after=dict(devices=2)),
    "two devices, then two of torchrun": Row(
        WITHIN_AN_EPOCH, (0, 4), dict(devices=2), dict(torchrun=2, devices=1), exact=True
    ),
    "two devices, then one, with all that remembers": Row(
        WITHIN_AN_EPOCH,
        (0, 4),
        dict(devices=2, ema_decay=0.5, lr_policy="plateau"),
        dict(devices=1, batch_size=4),
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
    ended = train(dataset, model, f"SIGKILL {kill}", **COMMON | options)
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
    devices = {"devices": 2} if row.exact and "devices" in row.before else {}
    card, other = ModelCard.read(model), whole(**lr, **devices)
    assert card.images_seen == other.images_seen == EPOCHS * PAIRS
    if row.exact:
        assert card.digest == other.digest and card.metrics == other.metrics
    else:
        losses = [name for name in other.metrics if name[:2] in ("G_", "D_")]
        assert len(losses) == 4
        for name in losses:
            assert card.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4), name


def test_a_killed_training_goes_on_with_other_batches(dataset, tmp_path, monkeypatch, capsys):
    """The one that is not slow: in this process it goes on."""
    model, options = tmp_path / "model", COMMON | dict(epochs=1, validate_every_epochs=0)
    first = killed(dataset, model, WITHIN_AN_EPOCH, **options)
    read, get = [], PairDataset.__getitem__
    monkeypatch.setattr(
        PairDataset, "__getitem__", lambda self, i: (read.append(i), get(self, i))[1]
    )
    main(flags(dataset, model, **options | dict(batch_size=3)))
    said = capsys.readouterr().out
    assert "continues after pair 2 of 6 in epoch 1 of 1\n" in said
    second = Ended(0, said, [f"train_B/train_{i}.png" for i in read[SAMPLES:]])
    assert_each_pair_once(first, (0, 2), second, epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_killed_training_goes_on(row, dataset, whole, tmp_path):
    goes_on(row, dataset, tmp_path / "model", whole)


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_training_says_how_to_go_on_and_does(stop, code, dataset, whole, tmp_path):
    """Ctrl-C and `kill` save nothing more, and cost what kill -9 costs."""
    model = tmp_path / "model"
    first = train(dataset, model, f"{stop} {WITHIN_AN_EPOCH}", **COMMON)
    assert first.code == code
    how = "stopped" if stop == "SIGINT" else "stopped by SIGTERM"
    assert f"train {how}: what is finished is kept; say the same command again\n" in first.said
    assert stands_at(model) == (0, 2)
    second = train(dataset, model, **COMMON)
    assert_each_pair_once(first, (0, 2), second, EPOCHS)
    assert ModelCard.read(model).digest == whole().digest


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_curves_of_a_killed_training_never_go_back(dataset, tmp_path, batch_size):
    """It was killed two steps after its last save, which were logged already."""
    options = COMMON | dict(log_every_steps=1, save_every_steps=4)
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    model = tmp_path / "model"
    assert train(dataset, model, f"SIGKILL {END_OF_AN_EPOCH}", store, **options).code < 0
    assert stands_at(model) == (0, 4)
    options["batch_size"] = batch_size
    assert train(dataset, model, variables=store, **options).code == 0

    found, tags = defaultdict(list), {}
    for file in journals_in(tmp_path / "model.journal"):
        for _, _, entry in read_entries(file, 0):
            tags |= entry["values"] if entry["kind"] == "tags" else {}
            if entry["kind"] in ("metrics", "picture"):
                for key in entry.get("values") or [entry["key"]]:
                    found[entry["run"], key].append(entry["step"])
    wanted = [*range(1, 13)] if batch_size == 1 else [1, 2, 3, 4, 5, 6, 10, 12]
    assert found["train_global", "loss/G_GAN"] == wanted
    if batch_size == 4:
        assert "continues with --batch-size 4 (was 1): " in tags["continued"]
    assert found["train_global", "epoch_loss/G_GAN"] == [6, 12]
    assert found["train_global", "input_synthesised_real"] == [0, 6, 12]


@pytest.fixture(scope="module")
def stopped(dataset, tmp_path_factory) -> dict[str, Path]:
    """Models whose training was killed within an epoch, and ended with one."""
    folder = tmp_path_factory.mktemp("stopped")
    killed(dataset, folder / "within", WITHIN_AN_EPOCH)
    assert train(dataset, folder / "between", **COMMON | dict(epochs=1)).code == 0
    return {name: folder / name for name in ("within", "between")}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["within", "between"])
def test_data_that_were_moved_are_the_same(place, stopped, dataset, whole, tmp_path):
    shutil.copytree(stopped[place], tmp_path / "moved")
    shutil.copytree(dataset, tmp_path / "data")
    ended = train(tmp_path / "data", tmp_path / "moved", **COMMON)
    assert ended.code == 0 and "continues after" in ended.said, ended.said
    assert ModelCard.read(tmp_path / "moved").digest == whole().digest


@pytest.mark.slow
@pytest.mark.parametrize("place", ["within", "between"])
@pytest.mark.parametrize(
    "other", [dict(train=PAIRS + 1), dict(test=3), dict(height=40)], ids=["grown", "test", "size"]
)
def test_other_data_are_refused_and_the_folder_stays(place, other, stopped, tmp_path):
    tiny.dataset(tmp_path / "data", **dict(train=PAIRS, input_nc=3) | other)
    files = {path: path.read_bytes() for path in stopped[place].rglob("*") if path.is_file()}
    ended = train(tmp_path / "data", stopped[place], **COMMON)
    assert ended.code == 2
    assert "train refused: " in ended.said and "--dataset of other content" in ended.said, (
        ended.said
    )
    assert "Traceback" not in ended.said
    assert files == {p: p.read_bytes() for p in stopped[place].rglob("*") if p.is_file()}
