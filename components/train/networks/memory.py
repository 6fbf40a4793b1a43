"""What changes the memory and the speed of networks, but no value that they compute: the memory
format, recomputed activations, compilation."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from components.train.networks.build import Networks
from shared.contracts.model import RESNETS, UNETS, Architecture
from shared.device import Runtime
from shared.errors import InputError
from shared.networks.layers import ResnetBlock

CONVOLUTION = nn.Conv2d | nn.ConvTranspose2d
BEGINS_A_STAGE = nn.ReflectionPad2d | ResnetBlock


def stays_nhwc(architecture: Architecture, runtime: Runtime) -> bool:
    """Whether feature maps keep the format NHWC and gain by it: InstanceNorm gives NCHW, on a GPU
    reflection padding too.

    U-Nets gain nothing from it on a CPU at batch 1, ResNets a fifth."""
    kept_by = RESNETS if runtime.pads_in_nhwc else UNETS
    return architecture.norm == "batch" and architecture.netG in kept_by


def compile_networks(networks: Networks, runtime: Runtime) -> None:
    """torch.compile G and E in place: keys of checkpoints stay. Raises InputError where that cannot
    work.

    Not D: a compiled graph computes the gradients of its weights and of its input in each of the
    two backward passes that our step makes through it, of which the step takes one each."""
    check_compiles(runtime)
    for network in (networks.G, networks.E):
        if network is not None:
            network.compile()


def check_compiles(runtime: Runtime) -> None:
    """Raises InputError where torch.compile cannot work."""
    if not runtime.compiles:
        raise InputError(
            f"--compile is for GPUs and CPUs, but the device is {runtime.name}: leave it out."
        )
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise InputError(
            "--compile needs a C++ compiler, but PATH has no g++ or clang++: install one, or "
            "leave it out."
        )


def checkpoint_activations(network: nn.Module) -> None:
    """Keep only the inputs of a generator's or encoder's stages for the backward pass, which
    computes the rest again.

    A stage is a residual block, or a convolution with its padding, norm and activation. Values,
    gradients, BatchNorm's statistics and the keys of checkpoints stay as they are. For networks
    made by `hourglass`: a U-Net has no stages. torch's `apply_activation_checkpointing` wraps
    modules, of which only the residual blocks are stages: of 30 MiB of pix2pixHD's generator 24
    stayed with it, and 9 stay so."""
    hourglasses = [module for module in network.children() if isinstance(module, nn.Sequential)]
    assert any(isinstance(module, BEGINS_A_STAGE) for part in hourglasses for module in part)
    for hourglass in hourglasses:
        hourglass.forward = partial(_in_stages, _stages(hourglass))


def _stages(hourglass: nn.Sequential) -> list[list[nn.Module]]:
    stages, padded = [], False
    for module in hourglass:
        unpadded = isinstance(module, CONVOLUTION) and not padded
        if unpadded or isinstance(module, BEGINS_A_STAGE):
            stages.append([])
        stages[-1].append(module)
        padded = isinstance(module, nn.ReflectionPad2d)
    return stages


def _in_stages(stages: list[list[nn.Module]], x: Tensor) -> Tensor:
    for stage in stages:
        # A compiled graph updates statistics once, whatever it computes again, and no contexts can
        # be compiled.
        contexts = {}
        if not torch.compiler.is_compiling():
            contexts["context_fn"] = partial(_contexts, stage)
        x = checkpoint(_apply, stage, x, use_reentrant=False, **contexts)
    return x


def _apply(stage: list[nn.Module], x: Tensor) -> Tensor:
    for module in stage:
        x = module(x)
    return x


def _contexts(stage: list[nn.Module]) -> tuple:
    """The contexts of the forward pass, and of its repetition."""
    return nullcontext(), _statistics_untouched(stage)


@contextmanager
def _statistics_untouched(stage: list[nn.Module]) -> Iterator[None]:
    """BatchNorm has counted this batch already."""
    parts = (part for module in stage for part in module.modules())
    norms = [part for part in parts if isinstance(part, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
