"""How many points of its curves a long training leaves in MLflow."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from components.train import loop
from components.train.config import TrainConfig
from components.train.devices.world import World
from components.train.progress import Progress
from shared import tracking

STEPS, EPOCHS = 300, 14


class Training:
    """A trainer and a loader of steps that take no time, whose loss is 1 / images seen."""

    def __init__(self, epoch: int = 1, step: int = 0, killed_at: int | None = None):
        self.first, self.pairs, self.killed_at = epoch, step, killed_at
        self.images_seen = (epoch - 1) * STEPS + step
        self.learning_rate, self.world = 1e-3, World()
        self.schedule = SimpleNamespace(total_epochs=EPOCHS)
        cpu = torch.device("cpu")
        self.runtime = SimpleNamespace(torch_device=cpu, synchronize=lambda: None)
        self.carrier = SimpleNamespace(carry=lambda batch: batch)

    def start_epoch(self, epoch: int) -> None:
        self.begun = epoch

    def step(self, batch) -> dict[str, torch.Tensor]:
        if self.images_seen == self.killed_at:
            raise KeyboardInterrupt
        self.images_seen += 1
        return {"G_GAN": torch.tensor(1 / self.images_seen)}

    def count(self, losses, images: int) -> None:
        self.pairs += images

    def check_updates(self) -> int:
        return 1

    def steps(self, pairs: int = 0) -> int:
        return STEPS - pairs

    def epoch(self, epoch: int, pairs: int):
        yield from [Batch()] * (STEPS - pairs)

    def train(self) -> None:
        config = TrainConfig(log_every_steps=1, save_every_steps=0, save_every_minutes=0)
        progress, curves = Progress(EPOCHS, STEPS, quiet=True), loop.Curves(STEPS, 1, EPOCHS)
        for epoch in range(self.first, EPOCHS + 1):
            loop.train_epoch(self, self, None, progress, curves, epoch, loop.Clock(0), config)
            self.pairs = 0


class Batch:
    def __len__(self) -> int:
        return 1


def trained(training: Training, output: Path) -> dict[str, list[tuple[int, float]]]:
    """What MLflow has of a run, once it has ended: the points of each curve."""
    with tracking.step_run("train", {}, output):
        if training.images_seen:
            tracking.continue_curves()
        training.train()
        run_id = tracking.run_id()
    client, keys = tracking.client(), ["loss/G_GAN", "skipped_updates", "data_wait_share"]
    history = {key: client.get_metric_history(run_id, key) for key in keys}
    return {key: [(row.step, row.value) for row in rows] for key, rows in history.items()}


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.store_uri(tmp_path))
    return tmp_path / "model"


def test_a_long_training_leaves_few_rows_and_the_same_ones_where_it_was_killed(output):
    whole = trained(Training(), output.with_name("whole"))

    # Of 4200: 256, then 128 for each doubling, to 4096; every 32nd of the rest, and the last.
    steps = [step for step, _ in whole["loss/G_GAN"]]
    assert steps[:256] == list(range(1, 257)) and steps[256:258] == [258, 260]
    assert len(steps) == 256 + 4 * 128 + 3 + 1 and steps[-2:] == [4192, STEPS * EPOCHS]
    assert len(steps) < STEPS * EPOCHS / 5
    assert all(value == pytest.approx(1 / step) for step, value in whole["loss/G_GAN"])

    # Killed 40 steps behind its last save; these are trained again.
    with pytest.raises(KeyboardInterrupt):
        trained(Training(killed_at=3 * STEPS + 140), output)
    again = trained(Training(epoch=4, step=100), output)
    assert again["loss/G_GAN"] == whole["loss/G_GAN"]
    assert [len(rows) for rows in again.values()] == [len(steps)] * 3

    # Updates that were skipped: one at each step, and one that is found at the end of each epoch.
    skipped = sum(value for _, value in whole["skipped_updates"])
    assert skipped == STEPS * EPOCHS + EPOCHS - 1
