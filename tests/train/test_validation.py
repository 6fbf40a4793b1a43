"""Validation of a generator whose errors are known, the best epoch, the bar on a real terminal, the
final table."""

import contextlib
import math
import os
import pty
import termios

import numpy as np
import pytest
import torch
from torch import nn

from components.train.config import TrainConfig, ValidationOptions
from components.train.figures import EpochFigures, final_table
from components.train.networks.build import Networks
from components.train.progress import Progress, Rates, bar_text
from components.train.run import architecture_for, build, run
from components.train.step import Trainer
from components.train.validation import Best, Validation
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.data.reader import PairReader
from shared.device import pick
from shared.errors import InputError
from shared.files.writing import written_together
from shared.networks.checkpoint import save_tensors, save_weights
from shared.networks.chosen import weights_path
from shared.networks.weight_file import load_state, load_tensors
from shared.quality import frechet_distance
from shared.scorers.networks import MeasuringNetworks
from shared.scorers.options import MeasuringOptions
from shared.terminal.progress import duration
from tests import reference, tiny
from tests.measuring import mean_colour, mean_difference
from tests.training import config


class Brighter(nn.Module):
    """The input picture and a constant; keeps what it was called with."""

    def __init__(self, offset: float = 0.0):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))
        self.calls = []

    def forward(self, condition):
        self.calls.append((condition.shape, self.training, torch.is_grad_enabled()))
        return condition + self.offset


def trainer_of(dataset, G=None, **changes) -> Trainer:
    options = config(**changes)
    architecture = architecture_for(options, True, DatasetManifest.read(dataset), None)
    networks = build(architecture, options, options.seed)
    if G is not None:
        networks = Networks(G, networks.D, None, None)
    return Trainer(networks, architecture, options, pick("cpu"))


def held_out(dataset) -> PairReader:
    return PairReader(dataset, DatasetManifest.read(dataset), "test")


def validation_of(trainer, reader, size=None, max_pairs=5, networks=None) -> Validation:
    return Validation(trainer, reader, size, ValidationOptions(validate_pairs=max_pairs), networks)


def validate(*arguments, **options) -> dict[str, float]:
    return validation_of(*arguments, **options).measure()


def grey(level: int, offset: int = 0, size: tuple[int, int] = (32, 32)) -> dict[str, np.ndarray]:
    """A pair whose photo is brighter than its input by `offset`."""
    return {
        kind: np.full((3, *size), value, np.uint8)
        for kind, value in (("input", level), ("photo", level + offset))
    }


def write_test_pairs(folder, *contents) -> None:
    tiny.write(
        folder,
        {
            "train": {"train": grey(50)},
            "test": {f"test_{i}": content for i, content in enumerate(contents)},
        },
        num_labels=0,
        input_nc=3,
    )


def test_a_generator_that_returns_the_photo_is_perfect(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (3, 32, 48), dtype=np.uint8)
    write_test_pairs(tmp_path, {"input": random, "photo": random}, grey(7, size=(24, 40)))
    trainer = trainer_of(tmp_path, Brighter())
    figures = validate(trainer, held_out(tmp_path), None, max_pairs=5)
    assert figures == {"val/L1": 0, "val/psnr_db": 100, "val/ssim": 1}
    shapes = [tuple(shape) for shape, _, _ in trainer.networks.G.calls]
    assert shapes == [(1, 3, 32, 48), (1, 3, 24, 40)], "each at its own size"
    assert all(not training and not grad for _, training, grad in trainer.networks.G.calls)


def test_figures_of_a_constant_offset(tmp_path):
    write_test_pairs(tmp_path, grey(100))
    trainer = trainer_of(tmp_path, Brighter(10 / 127.5))
    figures = validate(trainer, held_out(tmp_path), (16, 16), max_pairs=1)
    assert figures["val/L1"] == pytest.approx(10 / 255, rel=1e-5)
    assert figures["val/psnr_db"] == pytest.approx(20 * math.log10(255 / 10))
    c1 = (0.01 * 255) ** 2
    assert figures["val/ssim"] == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1))
    types = {type(value) for value in figures.values()}
    assert types == {float}, "as JSON and a checkpoint hold them"


def test_pairs_are_spread_over_those_with_a_photo(tmp_path):
    without = {"input": grey(100)["input"]}
    write_test_pairs(tmp_path, grey(100), without, grey(100, 10), grey(100, 20), grey(100, 30))
    reader, trainer = held_out(tmp_path), trainer_of(tmp_path, Brighter())
    for max_pairs, offsets in ((9, [0, 10, 20, 30]), (3, [0, 10, 20]), (2, [0, 20]), (1, [0])):
        found = validate(trainer, reader, None, max_pairs)["val/L1"]
        assert found == pytest.approx(np.mean(offsets) / 255, rel=1e-5)
    assert validation_of(trainer, reader, max_pairs=9).describe() == "validation on 4 test pairs"
    assert validation_of(trainer, reader, max_pairs=1).describe() == "validation on 1 test pair"


def test_without_photos_nothing_is_measured(tmp_path):
    write_test_pairs(tmp_path, {"input": grey(1)["input"]})
    validation = validation_of(trainer_of(tmp_path, Brighter()), held_out(tmp_path))
    assert validation.measure() == {}
    assert validation.describe() == "no validation: no test pair has a photo"


def test_nan_is_said_and_not_measured(tmp_path, capsys):
    write_test_pairs(tmp_path, grey(1))
    assert validate(trainer_of(tmp_path, Brighter(math.nan)), held_out(tmp_path), None, 4) == {}
    assert capsys.readouterr().out == "validation: the pictures hold nan, nothing is measured\n"


def test_the_encoder_reads_the_features_off_the_photo(tmp_path):
    """And both networks go back to the mode they were in, with no gradients."""
    tiny.dataset(tmp_path)
    trainer, reader = trainer_of(tmp_path, instance_features=True), held_out(tmp_path)
    G, E = trainer.networks.G.train(), trainer.networks.E.eval()
    figures = validate(trainer, reader, (32, 64), 5)
    assert G.training and not E.training
    assert all(parameter.grad is None for parameter in (*G.parameters(), *E.parameters()))
    assert validation_of(trainer, reader, max_pairs=5).describe() == (
        "validation on 1 test pair, whose features E reads off the photos"
    )

    sample = reader.read(0)
    photo = torch.from_numpy(sample.photo / 127.5 - 1).float().unsqueeze(0)
    maps = (torch.from_numpy(x[None].copy()) for x in (sample.inputs, sample.instances))
    condition = reference.one_hot_and_edges(*maps, 35)
    with torch.no_grad():
        features = E(photo)
        for number in np.unique(sample.instances):
            inside = torch.from_numpy(sample.instances == number)
            features[0, :, inside] = features[0, :, inside].mean(dim=1, keepdim=True)
        fake = G(torch.cat([condition, features], dim=1))
    picture = ((fake + 1) * 127.5).round().clamp(0, 255)
    distance = (picture - (photo + 1) * 127.5).abs().mean().item() / 255  # of pictures in [0, 1]
    assert figures["val/L1"] == pytest.approx(distance, rel=1e-4)


def test_features_of_the_cluster_step_do_not_reach_test_pairs(tmp_path):
    tiny.dataset(tmp_path)
    trainer = trainer_of(tmp_path, instance_features=True)
    trainer.networks.E = None
    assert validate(trainer, held_out(tmp_path), None, 5) == {}
    sentence = "no validation: the cluster step has features of the training pairs only"
    assert validation_of(trainer, held_out(tmp_path), max_pairs=5).describe() == sentence


def test_validation_leaves_training_as_it_was(tmp_path):
    """Neither dropout's random numbers nor batch norm's statistics move; of G the moving average is
    measured."""
    tiny.dataset(tmp_path, input_nc=3)
    networks = dict(netG="resnet_6blocks", netD="n_layers", norm="batch", dropout=True)
    trainer = trainer_of(tmp_path, **networks, lambda_feature_matching=0.0, ema_decay=0.5)
    random = torch.get_rng_state()
    before = {key: value.clone() for key, value in trainer.networks.G.state_dict().items()}
    figures = validate(trainer, held_out(tmp_path), None, 5)
    assert figures == validate(trainer, held_out(tmp_path), None, 5)
    assert torch.equal(random, torch.get_rng_state())
    after = trainer.networks.G.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    with torch.no_grad():
        for weight in trainer.networks.G.parameters():
            weight.zero_()
    assert figures == validate(trainer, held_out(tmp_path), None, 5)


# Networks that measure, given as files.


def test_lpips_is_a_mean_and_fid_is_of_all_pairs(tmp_path):
    """By networks of which one is the L1 of pictures in [-1, 1], the other the mean colour."""
    offsets = (10, 20, 60)
    write_test_pairs(tmp_path, *(grey(100, offset) for offset in offsets))
    files = MeasuringOptions(
        lpips_network=mean_difference(tmp_path / "l.onnx"),
        fid_network=mean_colour(tmp_path / "f.onnx"),
    )
    networks = MeasuringNetworks.load((32, 32), "cpu", files)
    trainer, reader = trainer_of(tmp_path, Brighter()), held_out(tmp_path)
    figures = validate(trainer, reader, None, 9, networks)
    assert list(figures) == ["val/psnr_db", "val/ssim", "val/L1", "val/lpips", "val/fid"]
    for lpips in (2 * figures["val/L1"], 60 / 255):
        assert figures["val/lpips"] == pytest.approx(lpips, rel=1e-5)
    real = np.array([[100 + offset] * 3 for offset in offsets]) / 255
    fid = frechet_distance(np.full((3, 3), 100 / 255), real)
    assert figures["val/fid"] == pytest.approx(fid, rel=1e-5)
    assert all(type(value) is float for value in figures.values())

    # Nothing is left of the time before; of one pair there is no FID.
    assert figures == validate(trainer, reader, None, 9, networks)
    assert "val/fid" not in validate(trainer, reader, None, 1, networks)
    assert validation_of(trainer, reader, None, 9, networks).describe().splitlines() == [
        "validation on 3 test pairs",
        "FID of 3 pictures is biased: compare it only at the same number; more than 3 are needed "
        "for a covariance of full rank.",
    ]


def test_training_measures_with_the_files_that_are_given(tmp_path, capsys):
    tiny.dataset(tmp_path / "dataset", test=3)
    lpips, fid = mean_difference(tmp_path / "l.onnx"), mean_colour(tmp_path / "f.onnx")
    options = config(epochs_decay=0, best_by="lpips", lpips_network=lpips, fid_network=fid)
    run(tmp_path / "dataset", tmp_path / "model", config=options)
    metrics = ModelCard.read(tmp_path / "model").metrics
    assert metrics["val/lpips"] == pytest.approx(2 * metrics["val/L1"], abs=1 / 255)
    assert metrics["val/fid"] > 0
    assert (tmp_path / "model" / "best_net_G.pth").is_file()
    lines = capsys.readouterr().out.splitlines()
    biased = "FID of 2 pictures is biased: compare it only at the same number; more than 3 are"
    assert f"{biased} needed" in "".join(lines)
    assert f"best lpips {metrics['val/lpips']:.4f} after epoch 1" in lines


def test_files_are_tried_before_training(tmp_path):
    tiny.dataset(tmp_path / "dataset")
    file = mean_difference(tmp_path / "l.onnx", (1, 3, 64, 64), (1, 3, 64, 64))
    options = config(lpips_network=file)
    with pytest.raises(InputError, match="takes pictures of 64x64 but these are 32x64"):
        run(tmp_path / "dataset", tmp_path / "model", config=options)
    assert not (tmp_path / "model").exists()


def test_the_best_epoch_by_a_network_needs_the_network():
    for name, usual in (("lpips", "alex"), ("fid", "inception")):
        with pytest.raises(InputError) as refusal:
            TrainConfig.check({"best_by": name})
        assert str(refusal.value) == (
            f"--best-by {name} needs a network: say --{name}-network={usual}, or choose another "
            "metric."
        )
        assert TrainConfig.check({"best_by": name, f"{name}_network": "file.onnx"}).best_by == name


# The best epoch.


def test_best_is_the_highest_psnr_or_the_lowest_distance():
    values = [3.0, 2.0, math.nan, 3.0, 4.0]
    wins_of = {"val/psnr_db": [1, 5], "val/ssim": [1, 5]}
    wins_of |= {name: [1, 2] for name in ("val/L1", "val/lpips", "val/fid")}
    for metric, wins in wins_of.items():
        best = Best(metric)
        epochs = enumerate(values, 1)
        found = [epoch for epoch, v in epochs if best.update({metric: v, "G_GAN": 9.0}, epoch)]
        assert (found, best.epoch) == (wins, wins[-1])


def test_nan_and_epochs_without_validation_never_win():
    best = Best("val/ssim")
    assert not best.update({"val/ssim": math.nan}, 1)
    assert not best.update({"val/L1": 0.1}, 2)
    assert best.epoch == 0
    assert best.update({"val/ssim": -0.5}, 3)


def test_best_survives_a_checkpoint_but_not_another_metric(tmp_path):
    best = Best("val/psnr_db")
    best.update({"val/psnr_db": 21.5}, 7)
    torch.save(best.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again, other = Best("val/psnr_db"), Best("val/L1")
    again.load_state_dict(state)
    other.load_state_dict(state)
    assert (again.value, again.epoch, other.epoch) == (21.5, 7, 0)
    assert not again.update({"val/psnr_db": 21.5}, 8) and again.update({"val/psnr_db": 21.6}, 9)
    assert other.update({"val/L1": 0.5}, 8)


def test_best_weights_have_the_names_of_the_latest(tmp_path):
    """And appear with what else is written, or not at all."""
    networks = {name: nn.Linear(2, 1) for name in "GD"}
    with contextlib.suppress(KeyError), written_together() as write:
        save_weights(tmp_path, networks, write, ("latest", "best"))
        raise KeyError
    assert not list(tmp_path.glob("*.pth"))
    with written_together() as write:
        save_weights(tmp_path, networks, write, ("latest", "best"))
    for name in "GD":
        best = load_state(tmp_path / f"best_net_{name}.pth")
        assert best.keys() == {"weight", "bias"}
        latest = load_state(weights_path(tmp_path, name))
        assert all(torch.equal(best[key], value) for key, value in latest.items())


def test_the_best_L1_of_an_older_state_goes_on_as_half_of_it(tmp_path):
    """Before, L1 was of pictures in [-1, 1]. Nothing is learned, so that the second epoch is as
    good as the first, and of two equal ones the earlier is the best."""
    tiny.dataset(tmp_path / "dataset")
    options = dict(epochs_decay=0, best_by="L1", validate_every_epochs=1, learning_rate=1e-30)
    run(tmp_path / "dataset", tmp_path / "model", config=config(**options))
    path = tmp_path / "model" / "state" / "training.pt"
    state = load_tensors(path)
    del state["L1_range"]
    old = state["best"]["value"]
    state["best"]["value"] = state["metrics"]["val/L1"] = 2 * old
    save_tensors(path, state)
    run(tmp_path / "dataset", tmp_path / "model", config=config(**options, epochs=2))
    state = load_tensors(path)
    assert state["best"] == {"metric": "val/L1", "value": old, "epoch": 1}
    assert ModelCard.read(tmp_path / "model").metrics["val/L1"] == old
    assert 0 < old < 1


# What people see.


def test_final_table():
    validation = {"val/L1": 0.125, "val/psnr_db": 20.5}
    figures = EpochFigures({"G_GAN": 1.25, "D_real": 0.5}, 0.3, validation)
    best = Best("val/psnr_db")
    only = EpochFigures({"G_GAN": 1.25})
    assert final_table(only, 1, best) == "mean losses of epoch 1\n  G_GAN      1.2500"
    best.update({"val/psnr_db": 21.0}, 3)
    assert final_table(figures, 4, best).splitlines() == [
        "mean losses of epoch 4",
        "  G_GAN        1.2500",
        "  D_real       0.5000",
        "validation after epoch 4",
        "  L1           0.1250",
        "  psnr_db     20.5000",
        "best psnr_db 21.0000 after epoch 3",
    ]


def test_durations():
    seconds = {0: "0 s", 59.4: "59 s", 60: "1 min", 3569: "59 min"}
    seconds |= {3599: "1 h 00 min", 7500: "2 h 05 min", 100 * 3600: "4 d 04 h"}
    assert [duration(value) for value in seconds] == list(seconds.values())


def test_text_beside_the_bar():
    text = bar_text({"G_GAN": 0.51234, "D_real": 0.25}, 2e-4, Rates(15.25, 0.031, 7500))
    assert text == "2 h 05 min left  15.2 images/s  data 3%  lr 0.0002  G_GAN 0.512  D_real 0.250"


def run_epochs(progress: Progress) -> None:
    """Two epochs of four steps, measured at every second; of the first, two steps were done
    before."""
    images_seen = 0
    for epoch, start in ((1, 2), (2, 0)):
        batches = progress.epoch(epoch, iter(range(4 - start)), start, images_seen)
        for step, _ in enumerate(batches, start + 1):
            images_seen += 2
            if step % 2 == 0:
                progress.show({"G_GAN": 0.5}, 2e-4, progress.measure(images_seen))


@pytest.fixture
def terminal():
    """(a terminal to write to, a function that closes it and reads what it has shown)"""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 160))
    stream = open(theirs, "w")

    def read() -> str:
        stream.close()
        shown = b""
        with contextlib.suppress(OSError):  # the end of what a closed terminal has shown
            while part := os.read(ours, 1 << 16):
                shown += part
        return shown.decode()

    yield stream, read
    os.close(ours)


def test_a_terminal_shows_a_bar_with_losses_and_what_is_left(terminal):
    stream, read = terminal
    run_epochs(Progress(total_epochs=2, steps_per_epoch=4, stream=stream))
    shown = read()
    parts = "epoch 1/2 |", "epoch 2/2 |", "| 2/4", " 0 s left", "images/s  data "
    for part in (*parts, "%  lr 0.0002  G_GAN 0.500"):
        assert part in shown
    assert shown.endswith("  \r"), "the bar is gone when the epoch's line is printed"


def test_elsewhere_and_when_quiet_there_is_no_bar(terminal, tmp_path):
    stream, read = terminal
    run_epochs(Progress(2, 4, quiet=True, stream=stream))
    assert read() == ""
    with open(tmp_path / "log", "w") as log:
        run_epochs(Progress(2, 4, stream=log))
    assert (tmp_path / "log").read_text() == ""


def test_rates(monkeypatch):
    """On a clock that only waiting and working move: 1 s for a batch, 3 s for a step."""
    now = [100.0]
    monkeypatch.setattr("components.train.progress.perf_counter", lambda: now[0])

    def batches(count):
        for number in range(count):
            now[0] += 1
            yield number

    progress, images, measured = Progress(total_epochs=3, steps_per_epoch=4, quiet=True), 10, []
    for epoch, start in ((2, 1), (3, 0)):
        for _ in progress.epoch(epoch, batches(4 - start), start, images):
            now[0] += 3
            images += 2
            measured.append(progress.measure(images))
        now[0] += 6  # a sample picture, a checkpoint
    assert {(rates.images_per_second, rates.data_wait_share) for rates in measured} == {(0.5, 0.25)}
    # 7 steps of 4 s; from the fourth on 6 s have passed beside them.
    passed = [4, 8, 12, 22, 26, 30, 34]
    assert [rates.seconds_left for rates in measured] == [
        pytest.approx(seconds / done * (7 - done)) for done, seconds in enumerate(passed, 1)
    ]
