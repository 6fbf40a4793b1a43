"""A training of tiny networks: its config and its trainer."""

import torch

from components.train.config import TrainConfig
from components.train.devices.world import ALONE, World
from components.train.networks.build import Networks
from components.train.networks.discriminators import build_discriminator
from components.train.networks.init import init_weights
from components.train.step import Trainer
from shared.contracts.model import Architecture
from shared.device import pick
from shared.networks.build import build_encoder, build_generator
from tests import tiny


def config(**changes) -> TrainConfig:
    """Two epochs on the CPU, the second with a falling learning rate; there in fp32, on every
    machine."""
    given = tiny.TRAIN | dict(epochs=1, epochs_decay=1, device="cpu") | changes
    return TrainConfig.check(dict(precision="fp32" if given["device"] == "cpu" else "auto") | given)


def trainer_for(
    architecture: Architecture,
    options: TrainConfig,
    world: World = ALONE,
    seed: int = 3,
    precision: str = "fp32",
) -> Trainer:
    """A trainer whose random weights are those of the seed."""
    networks = networks_for(architecture, seed)
    return Trainer(networks, architecture, options, pick("cpu", precision), world)


def networks_for(architecture: Architecture, seed: int = 3) -> Networks:
    """On the CPU."""
    torch.manual_seed(seed)
    return Networks(
        G=build_generator(architecture).apply(init_weights),
        D=build_discriminator(architecture).apply(init_weights),
        E=build_encoder(architecture).apply(init_weights) if architecture.feat_num else None,
        vgg=None,
    )


def different(ones: dict, others: dict) -> list[str]:
    """The names of tensors in it that are not equal to the bit, and of numbers that differ."""
    assert ones.keys() == others.keys()
    found = []
    for name, one in ones.items():
        if isinstance(one, dict):
            found += [f"{name}.{key}" for key in different(one, others[name])]
        elif isinstance(one, torch.Tensor):
            found += [name] * (not torch.equal(one, others[name]))
        elif isinstance(one, int | float):
            found += [name] * (one != others[name])
    return found
