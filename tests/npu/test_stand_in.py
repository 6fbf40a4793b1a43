"""The stand-in of an NPU keeps the contract of the real one, so far as it has one."""

import ast
import os
from pathlib import Path

import pytest

from tests.on_npu import script_on_npu
from tests.places import STAND_INS

PACKAGE = STAND_INS / "npu" / "torch_npu"

ALGEBRA = """
import torch
from torch_npu.stand_in.cubes import rounded
from torch_npu.stand_in.stats import STATS

def error_of(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)

cpu, npu = torch.ones(2), torch.ones(2, device="npu")
assert "found at least two devices, npu:0 and cpu" in error_of(lambda: npu + cpu)
assert (npu + torch.tensor(1.0)).tolist() == [2, 2]  # numbers may come from the host
assert "only dense CPU tensors can be pinned" in error_of(npu.pin_memory)
assert cpu.pin_memory().tolist() == [1, 1]

# HF32: 1 + 2^-11 is kept, 1 + 2^-12 and 1 + 2^-12 * 3 lie between and go to the even neighbour.
bit = 2.0 ** -11
values = torch.tensor([1 + bit, 1 + bit / 2, 1 + bit * 1.5, -3.0, 1e-30, float("inf")])
kept = rounded(values)
assert kept[:4].tolist() == [1 + bit, 1, 1 + 2 * bit, -3.0], kept
assert abs(kept[4] / values[4] - 1) <= bit / 2 and kept[5].isinf()

# One convolution of one number, whose weight needs 12 bits.
x, weight = torch.ones(1, 1, 1, 1, device="npu"), torch.full((1, 1, 1, 1), 1 + bit / 2)
weight = weight.to("npu")
conv = lambda: torch.nn.functional.conv2d(x, weight).item()
assert torch.npu.conv.allow_hf32 and not torch.npu.matmul.allow_hf32
assert conv() == 1
torch.npu.conv.allow_hf32 = False
assert conv() == 1 + bit / 2
assert STATS.hf32 == {"aten::convolution": 1} and STATS.kernels["aten::convolution"] == 2
assert STATS.options == {"conv.allow_hf32": False}

# Each direction of a copy is counted, and what the host waits for.
STATS.copies.clear()
there = torch.ones(3).to("npu")
back = there.cpu()
there.clone()
there.copy_(there + 1)
there.sum().item()
assert STATS.copies == {"cpu->npu": 1, "npu->cpu": 2, "npu->npu": 1}, STATS.copies
"""


def test_it_computes_counts_and_refuses_as_a_device():
    done = script_on_npu(ALGEBRA)
    assert done.returncode == 0, done.stderr
    assert done.hf32 == {"aten::convolution": 1}  # what it says at exit is what it said inside


# The real package.

WHEEL = os.environ.get("TORCH_NPU_WHEEL", "")
needs_wheel = pytest.mark.skipif(
    not WHEEL, reason="TORCH_NPU_WHEEL does not name an unzipped wheel of torch_npu"
)


def parameters(node: ast.FunctionDef) -> list[str]:
    return [one.arg for one in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]


def defined(folder: Path) -> dict[str, ast.stmt]:
    """The functions and classes of the files of a folder, by name."""
    trees = [ast.parse(path.read_text()) for path in sorted(folder.glob("*.py"))]
    nodes = [node for tree in trees for node in tree.body]
    return {one.name: one for one in nodes if isinstance(one, ast.FunctionDef | ast.ClassDef)}


@needs_wheel
@pytest.mark.parametrize("folder", ["npu", "npu/amp", "profiler"])
def test_its_names_and_parameters_are_those_of_the_real_package(folder):
    real = defined(Path(WHEEL) / "torch_npu" / folder)
    for name, node in defined(PACKAGE / folder).items():
        if name.startswith("_") and name != "_is_in_bad_fork":
            continue
        assert name in real or name in ALIASES, f"torch_npu has no {name}"
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == parameters(real[name]), name


# Made by calls: torch.npu.FloatTensor by `_dummy_type` or torch._C.
ALIASES = {"FloatTensor"}
