"""The stand-in of an NPU keeps the contract of the real one, so far as it has one."""

import ast
import csv
import os
import re
from pathlib import Path

import pytest
import yaml

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


OLD_CHIP = """
import torch
import torch_npu
from torch_npu.stand_in.stats import STATS

# What overflows saturates, NaN is 0, and a flag says that there was one; found_inf comes from it.
big = torch.full((2,), 300.0, device="npu").half()
assert (big * big).tolist() == [65504, 65504] and (big * float("nan")).tolist() == [0, 0]
assert torch_npu.npu_get_float_status(torch.ones(8, device="npu"))[0] == 1
gradient, found_inf = torch.full((2,), 4.0, device="npu"), torch.zeros(1, device="npu")
unscale = torch._amp_foreach_non_finite_check_and_unscale_
unscale([gradient], found_inf, torch.full((1,), 0.5, device="npu"))
assert gradient.tolist() == [4, 4] and found_inf.item() == 1  # it stays scaled, the flag is cleared
unscale([gradient], found_inf.zero_(), torch.full((1,), 0.5, device="npu"))
assert gradient.tolist() == [2, 2] and found_inf.item() == 0

# The cubes have no float32, whatever is said of HF32: 1 + 2^-11 is 1 in float16.
torch.npu.conv.allow_hf32 = False
x, weight = torch.ones(1, 1, 1, 1, device="npu"), torch.full((1, 1, 1, 1), 1 + 2.0**-11)
assert torch.nn.functional.conv2d(x, weight.to("npu")).item() == 1
means = torch.nn.functional.avg_pool2d(torch.full((1, 1, 2, 2), 1 + 2.0**-11).to("npu"), 2)
assert means.item() == 1
assert STATS.fp16_cubes == {"aten::convolution": 1, "aten::avg_pool2d": 1}

# One kernel a tensor of a list.
torch._foreach_mul_([gradient, found_inf, big], 2.0)
assert STATS.kernels["aten::_foreach_mul_.Scalar"] == 3
assert not torch.npu.is_bf16_supported() and not torch.npu.utils.is_support_inf_nan()
"""


@pytest.mark.parametrize("chip", [pytest.param("910", marks=pytest.mark.slow), "310P"])
def test_an_old_chip_saturates_and_has_no_float32_in_its_cubes(chip):
    done = script_on_npu(OLD_CHIP, chip=chip)
    assert done.returncode == 0, done.stderr


REFUSED = """
import sys, torch

x = torch.ones(1, 3, 8, 8, device="npu")
torch.nn.functional.pad(x.to(torch.bfloat16), (1, 1, 1, 1), mode="reflect")
torch.special.bessel_j0(x)
"""


def test_an_operator_that_the_chip_has_not_is_refused_by_name():
    """In its dtype, or at all; the helper fails the test with the sentence."""
    source = "(ops-math/conversion/mirror_pad: aclnnReflectionPad2d)"
    for chip, sentence in {
        "910": f"aten::reflection_pad2d takes no bfloat16 on Ascend910A {source}",
        "910B": "aten::special_bessel_j0 is not registered in torch_npu 2.13.0",
    }.items():
        with pytest.raises(AssertionError, match=re.escape(sentence)):
            script_on_npu(REFUSED, chip=chip)


# The real package.

WHEEL = os.environ.get("TORCH_NPU_WHEEL", "")
needs_wheel = pytest.mark.skipif(
    not WHEEL, reason="TORCH_NPU_WHEEL does not name an unzipped wheel of torch_npu"
)
MADE_BY_CALLS = {"FloatTensor", "SimpleNamespace"}  # torch.npu's types of tensors


def parameters(node: ast.FunctionDef) -> list[str]:
    return [one.arg for one in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]


def names_of(folder: Path) -> dict[str, ast.stmt | None]:
    """What the files of a folder define, with its node, or import or assign, without one."""
    found: dict[str, ast.stmt | None] = {}
    for node in [node for path in folder.glob("*.py") for node in ast.parse(path.read_text()).body]:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found[node.name] = node
            case ast.ImportFrom():
                for alias in node.names:
                    found.setdefault(alias.asname or alias.name, None)
            case ast.Assign(targets=[ast.Name(id=name)]):
                found.setdefault(name, None)
    return found


def methods_of(node: ast.ClassDef, others: dict[str, ast.stmt | None]) -> dict[str, list[str]]:
    """A class's public methods and their parameters, also of bases in the same folder."""
    found = {}
    for base in node.bases:
        if isinstance(other := others.get(ast.unparse(base)), ast.ClassDef) and other is not node:
            found |= methods_of(other, others)
    own = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    return found | {one.name: parameters(one) for one in own}


@needs_wheel
@pytest.mark.parametrize("folder", ["npu", "npu/amp", "optim", "profiler", "utils"])
def test_its_names_and_parameters_are_those_of_the_real_package(folder):
    real, ours = names_of(Path(WHEEL) / "torch_npu" / folder), names_of(PACKAGE / folder)
    for name, node in ours.items():
        if node is None or name.startswith("_") and name != "_is_in_bad_fork":
            continue
        assert name in real or name in MADE_BY_CALLS, f"torch_npu has no {name}"
        if isinstance(node, ast.FunctionDef):
            assert parameters(node) == parameters(real[name]), name
        elif isinstance(other := real.get(name), ast.ClassDef):
            known = methods_of(other, real)
            for method, arguments in methods_of(node, ours).items():
                if not method.startswith("_") or method == "__init__":
                    # Without __init__ it is C++ that takes them.
                    assert arguments == known.get(method, arguments), f"{name}.{method}"
                    assert method in known or method == "__init__", f"{name} has no {method}"


@needs_wheel
def test_the_list_of_registered_operators_is_that_of_the_wheel():
    """And what has dtypes is registered."""
    found: dict[str, set[str]] = {}
    for name in ("npu_native_functions", "npu_native_functions_by_codegen"):
        file = Path(WHEEL) / "torch_npu" / "csrc" / "aten" / f"{name}.yaml"
        content = yaml.safe_load(file.read_text())
        for entry in (content.get("supported") or []) + (content.get("symint") or []):
            operator = (entry["func"] if isinstance(entry, dict) else entry).partition("(")[0]
            packet, _, overload = operator.partition(".")
            found.setdefault(packet, set()).add(overload or "-")
    lines = (PACKAGE / "stand_in" / "registered.txt").read_text().splitlines()
    assert {line.split()[0]: set(line.split()[1:]) for line in lines} == found
    with (PACKAGE / "stand_in" / "dtypes.csv").open() as table:
        operators = [row["operator"] for row in csv.DictReader(table)]
    assert len(set(operators)) == len(operators) and set(operators) <= found.keys()


TWINS = """
import torch, torch_npu

w = torch.nn.Parameter(torch.ones(3, device="npu"))
optimizer = torch_npu.optim.NpuFusedAdam([w], lr=0.1, betas=(0.5, 0.999))
scaler = torch.npu.amp.GradScaler(init_scale=2.0**14, growth_interval=2)
for size in (1.0, 1.0, 1e4, float("inf"), 1.0, 1.0):
    optimizer.zero_grad()
    loss = (w.half() * torch.full((), size, device="npu").half()).sum()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    print(w.tolist(), scaler.get_scale(), scaler.state_dict())
print(optimizer.state_dict()["state"][0]["exp_avg_sq"].tolist(), optimizer.defaults)
"""


@needs_wheel
@pytest.mark.parametrize("chip", ["910B", "310P"])
def test_its_scaler_and_fused_adam_do_what_the_real_ones_do(chip):
    ours, real = (script_on_npu(TWINS, chip=chip, TORCH_NPU_WHEEL=wheel) for wheel in ("", WHEEL))
    assert real.returncode == 0, real.stderr
    assert "Skipping step" in real.stdout and "increasing loss scale" in real.stdout
    assert ours.stdout == real.stdout
    assert ours.copies["npu->cpu"] == real.copies["npu->cpu"]
