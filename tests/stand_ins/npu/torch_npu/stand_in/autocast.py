"""What autocast makes of an operator's tensors, as torch_npu has it.

Source: torch_npu/csrc/aten/AutoCastOps.cpp of Ascend/pytorch."""

from functools import partial

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_map

from torch_npu.stand_in.tensors import is_on_device

KEY = "AutocastPrivateUse1"
LOWER = "conv2d conv_transpose2d.input linear matmul mm bmm addmm convolution".split()
FLOAT = """mse_loss l1_loss smooth_l1_loss binary_cross_entropy_with_logits softmax.int log exp
    pow.Tensor_Scalar native_layer_norm native_group_norm""".split()

libraries: list[Library] = []


def register() -> None:
    """torch registers nothing for this key, not even that operators without a rule pass."""
    others, aten = Library("_", "IMPL"), Library("aten", "IMPL")
    libraries.extend((others, aten))
    others.fallback(torch.library.fallthrough_kernel, KEY)
    for names, dtype in ((LOWER, None), (FLOAT, torch.float32)):
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            aten.impl(name, partial(_cast, operator, dtype), KEY)


def _cast(operator, dtype: torch.dtype | None, *args, **kwargs):
    """dtype: None = the one that autocast was given."""
    to = dtype or torch.get_autocast_dtype("npu")

    def cast(value):
        is_one = isinstance(value, Tensor) and value.is_floating_point() and is_on_device(value)
        return value.to(to) if is_one else value

    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, KEY))
    with torch._C._ExcludeDispatchKeyGuard(keys):
        args, kwargs = tree_map(cast, (args, kwargs))
        return operator(*args, **kwargs)
