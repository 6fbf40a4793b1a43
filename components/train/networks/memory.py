"""What changes the memory and the speed of networks, but no value that they compute: the memory
format, recomputed activations, compilation."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from components.train.config import TrainConfig
from shared.contracts.model import RESNETS, Architecture
from shared.device import Runtime
from shared.errors import InputError
from shared.networks.layers import ResnetBlock
from shared.terminal import ranks

CONVOLUTION = nn.Conv2d | nn.ConvTranspose2d
BEGINS_A_STAGE = nn.ReflectionPad2d | ResnetBlock


def gains_by_nhwc(architecture: Architecture, runtime: Runtime) -> bool:
    """Whether a step is faster with feature maps in NHWC: all are on a GPU, where every part keeps
    the format. On a CPU InstanceNorm does not, and U-Nets gain nothing by it at batch 1; ResNets
    with BatchNorm gain a fifth."""
    if runtime.name == "cpu":
        return architecture.norm == "batch" and architecture.netG in RESNETS
    return True


# Of what --compile auto weighs, nothing was measured yet: the half of a step of pix2pixHD at
# 512x1024 and ngf 64 that are passes over maps, 10 ms on an H200 by the bytes that were counted,
# may become half as long; its graphs are compiled in three minutes.
GAINED_SECONDS = 0.005 / (512 * 1024 * 64)  # for a pixel and a channel of ngf
COMPILATION_SECONDS = 180


def compiles(config: TrainConfig, runtime: Runtime, sizes: Collection, images: int) -> bool:
    """Whether to compile, as --compile has it; says so where that is not what one would expect.

    sizes: all (height, width) of the training pictures. images: that are still to be trained on.
    Raises InputError where it is asked for and cannot work."""
    if config.compile == "on":
        check_compiles(config, runtime)
        if runtime.name == "cpu" and ranks.is_main():
            print("--compile on: on a CPU steps in bf16 took 1.2 times as long with it", flush=True)
        return True
    # Each size has graphs of its own.
    if config.compile == "off" or runtime.name != "cuda" or len(sizes) > 1:
        return False
    ((height, width),) = sizes
    if images * height * width * config.ngf * GAINED_SECONDS < COMPILATION_SECONDS:
        return False
    try:
        check_compiles(config, runtime)
    except InputError as refusal:
        if ranks.is_main():
            print(f"--compile auto takes off: {refusal}", flush=True)
        return False
    return True


def check_compiles(config: TrainConfig, runtime: Runtime) -> None:
    """Raises InputError where torch.compile cannot work."""
    if not runtime.compiles:
        raise InputError(
            f"--compile is for GPUs and CPUs, but the device is {runtime.name}: leave it out."
        )
    if config.amp_backend == "apex":
        raise InputError(
            "--compile does not go with --amp-backend apex, which changes functions while they "
            "run: leave one out."
        )
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise InputError(
            "--compile needs a C++ compiler, but PATH has no g++ or clang++: install one, or "
            "leave it out."
        )
    if runtime.name == "cuda" and find_spec("triton") is None:
        raise InputError(
            "--compile needs Triton on a GPU, which is not installed: install triton, or leave it "
            "out."
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
