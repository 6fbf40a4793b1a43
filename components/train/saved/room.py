"""What the checkpoints of a training take on its disk, said before it trains."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from components.train.config import TrainConfig
from shared.errors import InputError

WEIGHT_BYTES = 4  # files hold float32


class CheckpointBytes(NamedTuple):
    """By estimate."""

    stay: int  # in the model folder
    passing: int  # while a checkpoint is written, beside those before
    published: int  # the weights that MLflow gets


def count_parameters(networks: Iterable[nn.Module]) -> int:
    return sum(weight.numel() for network in networks for weight in network.parameters())


def checkpoint_bytes(parameters: int, config: TrainConfig) -> CheckpointBytes:
    """What checkpoints take of networks of so many parameters together: the state holds the weights
    with two moments of Adam, and the folder two of it."""
    weights = WEIGHT_BYTES * parameters
    state = (3 + bool(config.ema_decay)) * weights
    names = 1 + bool(config.validate_every_epochs)  # latest, best
    stay = 2 * state + (names + config.keep_checkpoints) * weights
    return CheckpointBytes(stay, state + weights, names * weights)


def check_room(model: Path, networks: Iterable[nn.Module], config: TrainConfig) -> None:
    """Raises InputError where the disk has no room for the checkpoints, beside those that the
    folder holds already."""
    takes = checkpoint_bytes(count_parameters(networks), config)
    total = takes.stay + takes.passing
    held = [*model.glob("*.pth"), *model.glob("state/*.pt")]
    there = sum(file.stat().st_size for file in held)
    place = next(one for one in (model.absolute(), *model.absolute().parents) if one.exists())
    if total - there > (free := shutil.disk_usage(place).free):
        raise InputError(
            f"--model {model}: checkpoints of these networks take about {total / 1e9:.2g} GB but "
            f"{place} has {free / 1e9:.2g} GB free: make room, or name a folder on another disk."
        )
