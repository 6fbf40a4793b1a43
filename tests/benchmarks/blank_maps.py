"""`python -m tests.benchmarks.blank_maps`: how far runtimes are from exact numbers on maps with
little or nothing on them, before InstanceNorm knew constants from patterns, and now.

Exact numbers are those of today's network in float64, which on a blank map are what algebra says.
Random weights, pictures in [-1, 1]: 2 is black for white."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from components.export.config import OnnxOptions
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.norm import mean, with_graph_norm
from components.export.proof_maps import generated_maps
from components.train.networks.init import initialise
from shared.command import command_line
from shared.contracts.exported import Graph
from shared.contracts.model import Architecture
from shared.deployed.form import Feeds, Form
from shared.deployed.parity import in_float64, signed
from shared.deployed.replace_layers import replace_layers
from shared.deployed.runners import OnnxRunner, Runner, TorchRunner
from shared.deployed.synthesiser import Synthesiser
from shared.device import pick
from shared.networks.build import build_generator
from shared.networks.layers import InstanceNorm
from tests import tiny

NETWORKS = {
    "global, labels": dict(n_downsample_global=4, n_blocks_global=9),
    "resnet_9blocks, pictures": dict(
        netG="resnet_9blocks", num_labels=0, input_nc=3, use_instances=False
    ),
}


class OneMean(nn.Module):
    """The norm that files had before."""

    def __init__(self, norm: nn.InstanceNorm2d):
        super().__init__()
        self.eps = norm.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - mean(x)
        return centred / torch.sqrt(mean(centred * centred) + self.eps)


def with_torchs_norm(synthesiser: Synthesiser) -> Synthesiser:
    """A copy with torch's InstanceNorm."""
    return replace_layers(
        synthesiser, InstanceNorm, lambda norm: nn.InstanceNorm2d(norm.num_features)
    )


def maps_of(form: Form) -> dict[str, Feeds]:
    """From nothing to a street."""
    (street,) = generated_maps(form.reads, 1, form.size)
    street = form.feed(street)
    blank = {name: np.full_like(array, 7) for name, array in street.items()}
    spot = {name: array.copy() for name, array in blank.items()}
    for array in spot.values():
        array[..., 20:28, 30:38] = 8
    named = {"one label or colour": blank}
    if form.reads.num_labels:
        named["all ignored"] = blank | {"labels": np.full_like(blank["labels"], 255)}
    return named | {"an 8x8 spot of the next": spot, "a street": street}


def runners_of(synthesiser: Synthesiser, example: Feeds, work: Path) -> dict[str, list[Runner]]:
    """The same weights in every runtime, before and now."""
    both, runners = (with_torchs_norm(synthesiser), synthesiser), {}
    for precision in ("fp32", "bf16"):
        runners[f"torch {precision}"] = [TorchRunner(one, pick("cpu", precision)) for one in both]
    for precision in ("fp32", "fp16"):
        options, pair = OnnxOptions(precision=precision), []
        before = replace_layers(synthesiser, InstanceNorm, OneMean)
        for number, deployed in enumerate((before, with_graph_norm(synthesiser, options))):
            file = work / f"{precision}_{number}.onnx"
            to_onnx(deployed, example, file, options, {})
            pair.append(OnnxRunner(file, precision))
        runners[f"ONNX {precision}"] = pair
    return runners


def differences(a: Architecture, size: tuple[int, int], work: Path) -> dict[str, dict]:
    """By map and runtime: the largest difference from exact numbers, before and now."""
    torch.manual_seed(0)
    generator = build_generator(a)
    initialise(generator, "normal", 0.02, zero_bias=False)
    form = Form(a, Graph(), size=size)
    synthesiser, maps = form.synthesiser(generator), maps_of(form)
    runners = runners_of(synthesiser, maps["a street"], work)
    exact = in_float64(TorchRunner(synthesiser, pick("cpu", "fp32")))
    found = {}
    for name, feed in maps.items():
        wanted = signed(exact(feed))
        found[name] = {
            runtime: [float(np.abs(signed(runner(feed)) - wanted).max()) for runner in pair]
            for runtime, pair in runners.items()
        }
    return found


def blank_maps(ngf: int = 16, height: int = 128, width: int = 256) -> None:
    """Compare runtimes with exact numbers on maps with little or nothing on them, before and now.

    Args:
        ngf: Channels of G's first layer.
        height: Of the maps in pixels.
        width: Of the maps in pixels.

    Example:
        python -m tests.benchmarks.blank_maps --ngf 8
    """
    results = {}
    for name, changes in NETWORKS.items():
        with tempfile.TemporaryDirectory() as work:
            a = tiny.architecture(ngf=ngf, **changes)
            results[name] = differences(a, (height, width), Path(work))
        print(f"{name}, ngf {ngf}, {height}x{width}: largest difference, before -> now")
        for of_map, by_runtime in results[name].items():
            cells = [f"{one} {old:.0e} -> {new:.0e}" for one, (old, new) in by_runtime.items()]
            print(f"  {of_map:24} " + "   ".join(cells), flush=True)
    print(json.dumps(results))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.blank_maps", blank_maps, {}, argv)


if __name__ == "__main__":
    main()
