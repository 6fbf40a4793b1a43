"""`python -m tests.benchmarks.train_step`: our training step beside the references', in turn in one
run, once their losses have been found equal."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.networks.build import Networks
from components.train.networks.vgg import VGG19Features
from components.train.step import Trainer
from shared.command import command_line
from shared.contracts.model import Architecture
from shared.device import pick
from shared.errors import WorkFailed
from tests import tiny
from tests.benchmarks.plain_step import PlainPix2Pix, PlainStep
from tests.benchmarks.street import street
from tests.benchmarks.theirs import JunyanzStep, NvidiaStep
from tests.benchmarks.turns import Turns, interleaved
from tests.training import networks_for

PIX2PIXHD = dict(n_downsample_global=4, n_blocks_global=9, n_blocks_local=3, num_D=2, ngf=16)
PIX2PIXHD |= dict(ndf=16, n_layers_D=3, nef=16, n_downsample_E=4)
PIX2PIX = dict(num_labels=0, input_nc=3, use_instances=False, norm="batch", dropout=True, num_D=1)
PIX2PIX |= dict(netD="n_layers", n_layers_D=3, ngf=64, ndf=64)
LEARNS_PIX2PIX = dict(gan_mode="vanilla", lambda_L1=100.0, lambda_feature_matching=0.0)

# How far a loss of the first step may be from theirs, of its size.
LIMITS = {"fp32": 1e-4, "bf16": 3e-2}


@dataclass(frozen=True)
class Case:
    """A training to compare: networks, losses, one batch."""

    networks: dict[str, object] = field(default_factory=dict)  # beside those of its family
    learns: dict[str, object] = field(default_factory=dict)  # options of losses and schedule
    height: int = 128
    width: int = 256
    batch_size: int = 1
    vgg: bool = False
    is_pix2pix: bool = False

    @property
    def architecture(self) -> Architecture:
        return tiny.architecture(**(PIX2PIX if self.is_pix2pix else PIX2PIXHD) | self.networks)

    @property
    def config(self) -> TrainConfig:
        own = LEARNS_PIX2PIX if self.is_pix2pix else dict(lambda_vgg=10.0 * self.vgg)
        return TrainConfig(**own | self.learns, device="cpu")


SQUARE = dict(height=256, width=256, is_pix2pix=True)
CASES = {
    "labels": Case(),
    "VGG": Case(vgg=True),
    "features": Case(dict(feat_num=3)),
    "local": Case(dict(netG="local", num_D=3)),
    "local-fixed": Case(dict(netG="local", num_D=3), dict(epochs_fix_global=1)),
    "ndf64": Case(dict(ndf=64)),
    "ndf64-VGG-256x512": Case(dict(ngf=32, ndf=64), height=256, width=512, vgg=True),
    "unet": Case(dict(netG="unet_256"), **SQUARE),
    "resnet": Case(dict(netG="resnet_9blocks", ngf=32), **SQUARE),
    "resnet-4": Case(dict(netG="resnet_9blocks", ngf=32), batch_size=4, **SQUARE),
}

CaseName = Literal[*CASES]


@dataclass(frozen=True)
class Outcome:
    """A case: what it was compared with, how far losses were apart, and the clock."""

    beside: str
    largest_difference: dict[str, float]  # by precision, of the losses of the first step
    turns: dict[str, Turns]


def compare_steps(
    case: Case, rounds: int, nvidia: Path | None = None, junyanz: Path | None = None
) -> Outcome:
    """Our step in fp32 and bf16 beside theirs, from the same weights on the same batch.

    nvidia, junyanz: folders of their programs; None: a plain step as they write it. Raises
    WorkFailed where a loss of the first step is another."""
    # The same everywhere.
    a, config, batch = case.architecture, case.config, batch_of(case)
    networks = networks_for(a)
    networks.vgg = VGG19Features() if case.vgg else None
    program = junyanz if case.is_pix2pix else nvidia
    if program:
        kind = JunyanzStep if case.is_pix2pix else NvidiaStep
        theirs = kind(program, networks, a, config, batch)
        step_theirs = theirs.step
    else:
        theirs = (PlainPix2Pix if case.is_pix2pix else PlainStep)(networks, config)
        step_theirs = partial(theirs.step, batch)
    ours = {name: our_trainer(networks, a, config, name) for name in LIMITS}

    # The losses, without dropout: the elements that it draws go by the memory format.
    generators = [trainer.networks.G for trainer in ours.values()]
    generators.append(theirs.model.netG if program else theirs.G)
    with_dropout(0.0, *generators)
    wanted, differences = step_theirs(), {}
    for name, trainer in ours.items():
        differences[name] = largest_difference(trainer.step(batch), wanted)
        if not differences[name] <= LIMITS[name]:
            raise WorkFailed(
                f"losses in {name} are {differences[name]:.3g} of their size from theirs, more "
                f"than {LIMITS[name]:g}: nothing is timed."
            )
    with_dropout(0.5, *generators)

    # The clock.
    calls: dict[str, Callable[[], object]] = {"theirs": step_theirs}
    calls |= {name: partial(trainer.step, batch) for name, trainer in ours.items()}
    beside = program.resolve().name if program else "a plain step"
    return Outcome(beside, differences, interleaved(calls, rounds))


def our_trainer(
    networks: Networks, a: Architecture, config: TrainConfig, precision: str
) -> Trainer:
    """In the first epoch, as a training begins."""
    trainer = Trainer(copy.deepcopy(networks), a, config, pick("cpu", precision))
    trainer.start_epoch(1)
    return trainer


def with_dropout(share: float, *networks: nn.Module) -> None:
    """Let networks that have dropout drop such a share."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = share


def largest_difference(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """Of the losses, each by its size."""
    assert found.keys() == wanted.keys(), (found.keys(), wanted.keys())
    return max(((found[name] - loss).abs() / loss.abs()).item() for name, loss in wanted.items())


def batch_of(case: Case) -> Batch:
    """Images of a street; of pix2pix both pictures are its photos."""
    rng = np.random.default_rng(0)
    drawn = [street(rng, case.height, case.width) for _ in range(case.batch_size)]
    photos = torch.from_numpy(np.stack([maps.photo for maps in drawn]))
    if case.is_pix2pix:
        return Batch(photos.flip(1), photos, None, regions=None, num_regions=0, features=None)
    inputs, dense = (
        torch.from_numpy(np.stack([getattr(maps, name) for maps in drawn]))
        for name in ("inputs", "dense_ids")
    )
    regions = max(len(maps.ids) for maps in drawn)
    return Batch(inputs, photos, dense, regions=dense, num_regions=regions, features=None)


def train_step(
    cases: tuple[CaseName, ...] = tuple(CASES),
    rounds: int = 7,
    nvidia: Path | None = None,
    junyanz: Path | None = None,
) -> None:
    """Compare our training step with the references', in turn in one run.

    First the losses are compared, then the clock; ratios hold, seconds are of this machine. One
    thread each, OMP_NUM_THREADS=1, is compared best.

    Args:
        cases: Which trainings.
        rounds: Rounds in which the steps take turns.
        nvidia: Folder of NVIDIA/pix2pixHD; None: a plain step as it writes it.
        junyanz: Folder of junyanz/pytorch-CycleGAN-and-pix2pix; None: the same.

    Example:
        python -m tests.benchmarks.train_step --cases labels features --rounds 3
    """
    print(
        f"times as fast as theirs: median (range) of {rounds} rounds in turn; "
        f"{pick('cpu').describe()}, {torch.get_num_threads()} threads"
    )
    found = {}
    for name in cases:
        found[name] = compare_steps(CASES[name], rounds, nvidia, junyanz)
        print(f"{name:18}{in_words(found[name])}", flush=True)
    print(json.dumps(found, default=asdict))


def in_words(outcome: Outcome) -> str:
    """A line for people."""
    theirs, *ours = outcome.turns.values()
    words = [f"{outcome.beside} {theirs.seconds:.3f} s"]
    for (name, apart), one in zip(outcome.largest_difference.items(), ours, strict=True):
        ratio = f"{one.speedup:.2f} ({one.lowest:.2f} to {one.highest:.2f})"
        words.append(f"{name} {ratio}, losses within {apart:.1e}")
    return "; ".join(words)


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.train_step", train_step, {}, argv)


if __name__ == "__main__":
    main()
