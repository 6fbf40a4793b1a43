"""A learning rate that goes by how training goes."""

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau


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
