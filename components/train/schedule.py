"""The learning rate of an epoch."""

import math
from typing import assert_never

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from components.train.config import ScheduleOptions


class Plateau(ReduceLROnPlateau):
    """A fifth of the learning rate once a metric, the lower the better, has not improved for 6
    epochs, as in pix2pix.

    `step(metric)` is to be called at the end of each epoch; nan is no improvement."""

    def __init__(self, learning_rate: float):
        # torch's class keeps the rate in an optimiser: this one has nothing else to do.
        holder = torch.optim.SGD([torch.zeros(1)], lr=learning_rate)
        super().__init__(holder, factor=0.2, threshold=0.01, patience=5)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next epoch."""
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict[str, float | int]:
        """What changes, under the names that checkpoints have for it."""
        return {
            "learning_rate": self.learning_rate,
            "best": self.best,
            "bad_epochs": self.num_bad_epochs,
        }

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        self.optimizer.param_groups[0]["lr"] = state["learning_rate"]
        self.best, self.num_bad_epochs = state["best"], state["bad_epochs"]


def learning_rate(
    options: ScheduleOptions, epoch: int, world_size: int = 1, plateau: Plateau | None = None
) -> float:
    """Learning rate of epoch 1 .. options.total_epochs on `world_size` devices together.

    A function of its arguments alone, so that resuming needs no state, but for the policy plateau:

    linear_hd: pix2pixHD's; full to epoch `epochs` + 1, then linearly to a part of one in
        `epochs_decay` in the last.
    linear: pix2pix'; full to epoch `epochs`, then linearly to a part of one in `epochs_decay` + 1
        in the last.
    step: a tenth of it after every `lr_decay_epochs` epochs.
    cosine: half a wave over `epochs`, to 0 in epoch `epochs` + 1; in further epochs it rises again,
        as in pix2pix.
    plateau: what `plateau` has made of it."""
    full = options.learning_rate
    match options.lr_policy:
        case "linear_hd":  # the reference lowers the rate at the end of each epoch above niter
            late = max(0, epoch - 1 - options.epochs)
            rate = full * (1 - late / options.epochs_decay) if late else full
        case "linear":
            rate = full * (1 - max(0, epoch - options.epochs) / (options.epochs_decay + 1))
        case "step":
            rate = full * 0.1 ** ((epoch - 1) // options.lr_decay_epochs)
        case "cosine":
            rate = full * (1 + math.cos(math.pi * (epoch - 1) / options.epochs)) / 2
        case "constant":
            rate = full
        case "plateau":
            rate = plateau.learning_rate
        case _:
            assert_never(options.lr_policy)
    match options.lr_scaling:
        case "none":
            return rate
        case "linear":
            return rate * world_size
        case "sqrt":
            return rate * math.sqrt(world_size)
