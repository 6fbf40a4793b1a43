"""Every name of torch_npu, and of torch.npu, which is torch_npu.npu, that the product uses is in
the real package: collected from the product's sources, looked up in those of the wheel.

TORCH_NPU_WHEEL names the unzipped wheel, such as of `pip download --no-deps torch_npu==2.13.0`."""

import ast
import os
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.shared.ascend.wheel_of_torch_npu import PACKAGE, Wheel

WHEEL = os.environ.get("TORCH_NPU_WHEEL", "")
needs_wheel = pytest.mark.skipif(
    not WHEEL, reason="TORCH_NPU_WHEEL does not name an unzipped wheel of torch_npu"
)


def uses(source: str) -> set[str]:
    """The names that a file uses, such as torch_npu.npu.amp.GradScaler, in whatever way."""
    tree = ast.parse(source)
    known = {"torch.npu": f"{PACKAGE}.npu", PACKAGE: PACKAGE}  # and what else stands for them
    found = set()

    # What is imported, and what is called something else.
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for one in names:
                    if one.name.split(".")[0] == PACKAGE:
                        found.add(one.name)
                        known |= {one.asname: one.name} if one.asname else {}
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] == PACKAGE or module == "torch.npu":
                    module = known.get(module, module)
                    found |= {f"{module}.{one.name}" for one in names}
                    known |= {one.asname or one.name: f"{module}.{one.name}" for one in names}
            case ast.Return(value=ast.IfExp(body=a, orelse=b)) if "torch.npu" in map(
                ast.unparse, (a, b)
            ):
                function = next(
                    one
                    for one in ast.walk(tree)
                    if isinstance(one, ast.FunctionDef) and node in one.body
                )
                known[f"{function.name}()"] = f"{PACKAGE}.npu"  # device.py's _accelerator

    def dotted(node: ast.expr) -> str:
        match node:
            case ast.Call(func=ast.Name(id=name)) if f"{name}()" in known:
                return known[f"{name}()"]
            case ast.Attribute(value=value, attr=attr):
                plain = ast.unparse(node)
                return known.get(plain) or (f"{of}.{attr}" if (of := dotted(value)) else "")
            case ast.Name(id=name):
                return known.get(name, "")
        return ""

    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if dotted(value):
                known[name] = dotted(value)
    for statement in (node for node in ast.walk(tree) if isinstance(node, ast.stmt)):
        for node in ast.walk(statement):
            match node:
                case ast.Attribute() if name := dotted(node):
                    found.add(name)
                case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[of, ast.Constant()]):
                    found |= {f"{name}.{node.args[1].value}"} if (name := dotted(of)) else set()
                case ast.Call(func=ast.Name(id="partial"), args=[_, of]) if name := dotted(of):
                    texts = [
                        one.value for one in ast.walk(statement) if isinstance(one, ast.Constant)
                    ]
                    if isinstance(statement, ast.Assign):
                        found |= {f"{name}.{text}" for text in texts}
                case ast.ClassDef(bases=bases, body=body):
                    functions = [one for one in body if isinstance(one, ast.FunctionDef)]
                    found |= {
                        f"{name}.{one.name}"
                        for base in bases
                        if (name := dotted(base))
                        for one in functions
                    }
    return found


def uses_of_the_product() -> dict[str, set[str]]:
    """The names, each with the files that use it."""
    files = [*ROOT.glob("components/**/*.py"), *ROOT.glob("shared/**/*.py"), ROOT / "pipeline.py"]
    found: dict[str, set[str]] = {}
    for file in files:
        for name in uses(file.read_text()):
            found.setdefault(name, set()).add(str(file.relative_to(ROOT)))
    return found


SNIPPET = """
import torch
import torch_npu.profiler as prof
from torch_npu.npu.utils import is_support_inf_nan as keeps

def accelerator(name):
    return torch.cuda if name == "cuda" else torch.npu

npu = torch.npu
npu.synchronize()
accelerator("npu").empty_cache()
with prof.profile():
    torch.npu.config.allow_internal_format = keeps()
getattr(torch_npu, "npu_clear_float_status")
kinds = filter(partial(hasattr, torch.npu), ("conv", "matmul"))

class Scaler(torch.npu.amp.GradScaler):
    def update(self): ...

torch.npus.no_name(); torch.cuda.synchronize(); my.torch_npu.other
"""


def test_uses_are_found_in_whatever_way():
    names = uses(SNIPPET)
    assert names >= {
        "torch_npu.profiler.profile",
        "torch_npu.npu.utils.is_support_inf_nan",
        "torch_npu.npu.synchronize",
        "torch_npu.npu.empty_cache",
        "torch_npu.npu.config.allow_internal_format",
        "torch_npu.npu_clear_float_status",
        "torch_npu.npu.conv",
        "torch_npu.npu.matmul",
        "torch_npu.npu.amp.GradScaler.update",
    }
    assert not [name for name in names if "no_name" in name or "other" in name]
    ours = uses_of_the_product()
    assert {"torch_npu.npu.is_available", "torch_npu.npu.get_device_name"} <= ours.keys()
    assert "shared/device.py" in ours["torch_npu.npu.max_memory_allocated"]


@needs_wheel
def test_the_real_package_has_every_name_that_the_product_uses():
    wheel, ours = Wheel(Path(WHEEL)), uses_of_the_product()
    assert len(ours) > 15
    assert {name: files for name, files in ours.items() if not wheel.has(name)} == {}


@needs_wheel
@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        *((name, True) for name in sorted(uses(SNIPPET))),
        ("torch_npu.npu.random.manual_seed_all", True),
        ("torch_npu.npu.get_rng_state", True),  # by `from .random import *`
        ("torch_npu.optim.NpuFusedAdam", True),
        ("torch_npu.optim.NpuFusedAdam.step", True),
        ("torch_npu.npu.amp.GradScaler.unscale_", True),
        ("torch_npu.npu.amp.GradScaler.unscaled", False),
        ("torch_npu.optim.NpuFusedAdamX", False),
        ("torch_npu.npu.is_avaliable", False),
        ("torch_npu.npu.config.allow_internal_formats", False),
        ("torch_npu.npu_get_float_stati", False),
        ("torch_npu.profile.profile", False),
        ("torch_npu.npu.synchronize.now", False),
    ],
)
def test_the_wheel_is_read_as_python_would(name, is_there):
    assert Wheel(Path(WHEEL)).has(name) == is_there
