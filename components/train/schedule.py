"""How long training takes and how large its steps are: the options, and the learning rate that they
give an epoch."""

import math
from typing import Literal, assert_never

from pydantic import Field

from shared.bounds import MANY
from shared.command import Options

Policy = Literal["linear_hd", "linear", "step", "cosine", "constant", "plateau"]
LearningRateScaling = Literal["none", "linear", "sqrt"]


class ScheduleOptions(Options):
    """How long, and how large a step at a time."""

    epochs: int = Field(100, ge=1, le=MANY)
    """Epochs at the full learning rate (niter)."""
    epochs_decay: int = Field(100, ge=0, le=MANY)
    """Epochs after those in which the learning rate falls linearly towards 0 (niter_decay)."""
    epochs_fix_global: int = Field(0, ge=0, le=MANY)
    """Stage local: first epochs in which only the outermost enhancer learns (niter_fix_global)."""
    learning_rate: float = Field(2e-4, gt=0, le=1e38)
    """Adam's step size for G, E and D (lr)."""
    lr_policy: Policy = "linear_hd"
    """Learning rate over the epochs. linear_hd: pix2pixHD's, flat, then linear. linear, step,
    cosine, plateau: pix2pix; cosine reaches 0 after --epochs: give --epochs-decay 0; plateau goes
    by the mean losses of G."""
    lr_decay_epochs: int = Field(50, ge=1, le=MANY)
    """Policy step: epochs after which the learning rate falls to a tenth (lr_decay_iters)."""
    lr_scaling: LearningRateScaling = "none"
    """What the learning rate is multiplied by with several devices: their number, or its root."""
    beta1: float = Field(0.5, ge=0, lt=1)
    """Adam's first momentum; the second is 0.999."""
    clip_gradient_norm: float = Field(0.0, ge=0, le=1e30)
    """Largest norm of the gradients of G with E, and of D; 0: not clipped."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay per step of a moving average of G, which is then what is saved and shown; 0: none."""

    @property
    def total_epochs(self) -> int:
        return self.epochs + self.epochs_decay


def learning_rate(
    options: ScheduleOptions, epoch: int, world_size: int = 1, plateau: float | None = None
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
    plateau: `plateau`, what the class of that name has made of it so far."""
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
            rate = plateau
        case _:
            assert_never(options.lr_policy)
    match options.lr_scaling:
        case "none":
            return rate
        case "linear":
            return rate * world_size
        case "sqrt":
            return rate * math.sqrt(world_size)
