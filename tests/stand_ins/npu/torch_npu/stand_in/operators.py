"""What an operator takes on the chip: it fails by others, and where torch_npu has no such operator.

registered.txt: the operators that torch_npu 2.13.0 has kernels for, with their overloads (`-` is
that without a name); its npu_native_functions*.yaml.

dtypes.csv: what their tensors may be on A2 and A3, by the tables of CANN's operators of August 2026
(docs/aclnn*.md of hicann/ops-nn e5c3fa93 and hicann/ops-math c4193324). A 910 and a 310P have no
bfloat16, by the same tables nothing of `old_lack`, and nothing of what has their names in `not_on`:
neither CANN's manual nor the lists of kernels of CANN 8.1 (aic-*-ops-info.json) have it there, and
torch_npu no other way to compute it. Of pooling for the maximum the tables say nothing there; the
lists have float16 alone. Operators that are registered and have no line are counted as unlisted."""

import csv
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from torch_npu.stand_in.chips import CHIP, NAME
from torch_npu.stand_in.stats import STATS

HERE = Path(__file__).parent
REGISTERED = {
    name: set(overloads)
    for name, *overloads in map(str.split, (HERE / "registered.txt").read_text().splitlines())
}
SHORT = {"f": "float", "bf": "bfloat", "i": "int", "u": "uint"}


def _long(name: str) -> torch.dtype:
    """The dtype of a short name such as bf16."""
    letters = name.rstrip("0123456789")
    return getattr(torch, SHORT.get(letters, letters) + name[len(letters) :])


def _taken(row: dict[str, str]) -> set[torch.dtype]:
    """By this chip."""
    if NAME in row["not_on"].split():
        return set()
    lacking = {"bf16", *row["old_lack"].split()} if CHIP.is_old else set()
    return set(map(_long, set(row["dtypes"].split()) - lacking))


with (HERE / "dtypes.csv").open() as _table:
    DTYPES = {row["operator"]: (_taken(row), row["source"]) for row in csv.DictReader(_table)}


def check(operator, given: list[Tensor]) -> None:
    """Raises RuntimeError where the chip or torch_npu would."""
    if operator.is_view:
        return
    name = operator.name()
    packet = name.removeprefix("aten::").partition(".")[0]
    if not is_registered(name):
        if not _is_composition(name):
            _refuse(f"{name} is not registered in torch_npu 2.13.0")
        return  # what it is made of is not seen here
    if packet not in DTYPES:
        STATS.unlisted[name] += 1
        return
    taken, source = DTYPES[packet]
    for dtype in {tensor.dtype for tensor in given if not tensor.is_complex()}:
        if dtype not in taken:
            short = str(dtype).removeprefix("torch.")
            _refuse(f"{name} takes no {short} on {CHIP.soc_name} ({source})")


def is_registered(name: str) -> bool:
    """Whether torch_npu has a kernel of its own for an operator such as aten::add.Tensor."""
    packet, _, overload = name.removeprefix("aten::").partition(".")
    return (overload or "-") in REGISTERED.get(packet, ())


def _is_composition(name: str) -> bool:
    """Whether torch makes it of other operators, for devices that have none of their own: of any,
    or of the one that writes to what it is given."""
    has = partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)
    if has("CompositeExplicitAutogradNonFunctional"):
        packet = name.removeprefix("aten::").partition(".")[0].removesuffix("_")
        return any("out" in overload for overload in REGISTERED.get(packet, ()))
    return has("CompositeExplicitAutograd")


def _refuse(sentence: str) -> None:
    STATS.refused[sentence] += 1
    raise RuntimeError(sentence)
