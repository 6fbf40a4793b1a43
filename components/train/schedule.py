"""The learning rate of an epoch. A function of epoch and config alone, but for `Plateau`: resuming
needs no state."""

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, assert_never

Policy = Literal["linear_hd", "linear", "step", "cosine", "constant", "plateau"]
LearningRateScaling = Literal["none", "linear", "sqrt"]


def learning_rate(
    policy: Policy, base: float, epoch: int, epochs: int, epochs_decay: int, decay_every: int
) -> float:
    """Learning rate of epoch 1 .. epochs + epochs_decay; `base` is that of the first.

    linear_hd: pix2pixHD's; full to epoch `epochs` + 1, then linearly to base / epochs_decay in the
        last.
    linear:    pix2pix'; full to epoch `epochs`, then linearly to base / (epochs_decay + 1) in the
        last.
    step:      a tenth of it after every `decay_every` epochs.
    cosine:    half a wave over `epochs`, to 0 in epoch `epochs` + 1; in further epochs it rises
    again, as in pix2pix."""
    match policy:
        case "linear_hd":  # the reference lowers the rate at the end of each epoch above niter
            late = max(0, epoch - 1 - epochs)
            return base * (1 - late / epochs_decay) if late else base
        case "linear":
            return base * (1 - max(0, epoch - epochs) / (epochs_decay + 1))
        case "step":
            return base * 0.1 ** ((epoch - 1) // decay_every)
        case "cosine":
            return base * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        case "constant" | "plateau":  # Plateau lowers it by what it sees
            return base
        case _:
            assert_never(policy)


@dataclass
class Plateau:
    """A fifth of the learning rate once a metric, the lower the better, has not improved for 6
    epochs.

    torch's ReduceLROnPlateau with the values of pix2pix.
    """

    FACTOR: ClassVar[float] = 0.2
    THRESHOLD: ClassVar[float] = 0.01  # share of the best value by which a better one is lower
    PATIENCE: ClassVar[int] = 5  # epochs without improvement that are put up with
    SMALLEST_CHANGE: ClassVar[float] = 1e-8

    learning_rate: float  # of the next epoch
    best: float = math.inf
    bad_epochs: int = 0  # in a row

    def step(self, metric: float) -> None:
        """To be called at the end of each epoch; nan is no improvement."""
        if metric < self.best * (1 - self.THRESHOLD):
            self.best, self.bad_epochs = metric, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.PATIENCE:
            self.bad_epochs = 0
            lower = self.learning_rate * self.FACTOR
            if self.learning_rate - lower > self.SMALLEST_CHANGE:
                self.learning_rate = lower

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)
