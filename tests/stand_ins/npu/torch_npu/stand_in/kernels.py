"""Kernels: every operator that reaches the device runs on the CPU's tensors, is counted and checked
as the device would."""

import time
from functools import partial
from types import ModuleType

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from torch_npu.stand_in import cubes, faults, operators, overflow, random, streams
from torch_npu.stand_in.chips import CHIP
from torch_npu.stand_in.overflow import saturate
from torch_npu.stand_in.stats import STATS
from torch_npu.stand_in.tensors import KEY, behind, is_on_device, on_device

# These stay torch's own compositions: they reach _copy_from and empty.
COMPOSITE = {
    *("aten::detach", "aten::alias", "aten::lift_fresh", "aten::copy_", "aten::_to_copy"),
    *("aten::_copy_from", "aten::empty_like"),
}
# The host waits for their results.
FETCHES = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::nonzero"}
# These take indices of the CPU too.
TAKES_INDICES = {"aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}
UNSCALE = "aten::_amp_foreach_non_finite_check_and_unscale_"
FILLS = {"aten::fill_.Scalar", "aten::full", "aten::scalar_tensor"}  # infinities stay what they are

libraries: list[Library] = []  # what they registered goes when they go


def register(module: ModuleType) -> None:
    """Make PrivateUse1 the device `npu`, of which `module` is torch.npu."""
    _setup_privateuseone_for_python_backend("npu", backend_module=module)
    aten, others = Library("aten", "IMPL"), Library("_", "IMPL")
    libraries.extend((aten, others))
    others.fallback(run, KEY)
    aten.impl("empty.memory_format", _empty, KEY)
    aten.impl("empty_strided", _empty_strided, KEY)
    aten.impl("_copy_from", _copy_from, KEY)

    # torch's compositions outrank a fallback: they would make tensors with nothing behind them.
    for name in torch._C._dispatch_get_all_op_names():
        if name.startswith("aten::") and name not in COMPOSITE and _is_composed(name):
            operator = _operator(name)
            takes_tensors = operator and any(
                "Tensor" in str(argument.type) for argument in operator._schema.arguments
            )
            if takes_tensors:
                aten.impl(name.removeprefix("aten::"), partial(run, operator), KEY)


def _is_composed(name: str) -> bool:
    has = partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)
    if has("CompositeImplicitAutograd"):
        return False
    return has("CompositeExplicitAutograd") or has("CompositeExplicitAutogradNonFunctional")


def _operator(name: str):
    """torch.ops.aten's operator of a name such as aten::add.Tensor; None where Python has none."""
    packet, _, overload = name.removeprefix("aten::").partition(".")
    packet = getattr(torch.ops.aten, packet, None)
    return packet and getattr(packet, overload or "default", None)


def run(operator, *args, **kwargs):
    """One kernel."""
    name = operator.name()
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    _refuse_mixed(name, given)
    operators.check(operator, given)
    _count(operator, name, args[0] if args else None, given)
    faults.meet(name)

    # The kernel on the CPU's tensors, with what the chip sees of them.
    written = _written(operator, args, kwargs)
    kwargs = {
        key: torch.device("cpu") if isinstance(value, torch.device) else tree_map(behind, value)
        for key, value in kwargs.items()
    }
    args = cubes.operands(name, [tree_map(behind, arg) for arg in args])
    with random.of_device(operator):
        if name == UNSCALE and not CHIP.keeps_infinities:
            result = overflow.unscale(*args)
        else:
            result = _computed(operator, name, args, kwargs)

    # What was written stays the tensor that it was; the rest is new on the device.
    if not operator.is_view and name not in FILLS:
        tree_map(lambda one: saturate(one) if isinstance(one, Tensor) else one, result)

    def on_npu(one: object) -> object:
        if not isinstance(one, Tensor):
            return one
        if id(one) in written:
            return written[id(one)]
        # autograd would write to what it takes for numbers of their own: it sees no strides
        is_expanded = name == "aten::expand" and one.numel() > args[0].numel()
        return on_device(one.contiguous() if is_expanded else one)

    return tree_map(on_npu, result)


def _refuse_mixed(name: str, given: list[Tensor]) -> None:
    """Numbers may come from the CPU, tensors may not."""
    for tensor in given:
        if tensor.dim() and not is_on_device(tensor) and name not in TAKES_INDICES:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"npu:0 and {tensor.device}! ({name})"
            )


def _count(operator, name: str, first: object, given: list[Tensor]) -> None:
    # Over a list an old chip runs one kernel a tensor: torch_npu takes torch's loop there, and
    # everywhere for what it has no kernel for.
    lists = str(operator._schema.arguments[0].type) == "List[Tensor]" and "_foreach" in name
    lists = lists and (CHIP.is_old or not operators.is_registered(name))
    (STATS.views if operator.is_view else STATS.kernels)[name] += len(first) if lists else 1
    STATS.dtypes[name] |= {str(tensor.dtype).removeprefix("torch.") for tensor in given}
    if name in FETCHES:
        STATS.fetched()
    if STATS.trace is not None:
        now = time.perf_counter() * 1e6
        STATS.trace.append(dict(name=name, ph="X", cat="kernel", ts=now, dur=1, pid=0, tid=0))


def _written(operator, args: tuple, kwargs: dict) -> dict[int, Tensor]:
    """The tensors of the device that an operator writes to, by what is behind them."""
    written = {}
    for index, argument in enumerate(operator._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[index] if index < len(args) else kwargs.get(argument.name)
            for tensor in value if isinstance(value, list | tuple) else [value]:
                if is_on_device(tensor):
                    written[id(behind(tensor))] = tensor
    return written


def _computed(operator, name: str, args: list, kwargs: dict):
    try:
        return operator(*args, **kwargs)
    except RuntimeError as error:
        # A tensor of the device says that it is contiguous, also where the one behind it is not.
        if name in ("aten::view", "aten::_unsafe_view") and "not compatible" in str(error):
            return args[0].reshape(args[1])
        raise


def _empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return on_device(torch.empty(size, dtype=dtype))


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    return on_device(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    faults.meet("aten::_copy_from")
    if is_on_device(source) and not is_on_device(target):
        STATS.fetched()
    else:
        direction = f"{source.device.type}->{target.device.type}"
        STATS.copies[direction] += 1
        streams.note(direction)
    behind(target).copy_(behind(source))
    return target
