"""An Ascend card as the steps want it."""

import contextlib
import functools
import os
from pathlib import Path

import torch

from shared.ascend import environment
from shared.ascend.chips import is_910b_or_later
from shared.errors import InputError


@functools.cache
def set_up() -> None:
    """Say to torch_npu, once, how it is to work here. Raises InputError for variables that mean
    nothing."""
    environment.set_defaults()  # where others have loaded torch_npu, for what it reads later
    environment.refuse_two_allocators()
    # With it a 910 or 310P compiles each operator for each new shape, which takes minutes.
    jit_compile = environment.is_on(environment.JIT_COMPILE)
    # Formats of their own pay where weights are brought into them, which is with jit_compile alone.
    internal_format = environment.is_on(environment.INTERNAL_FORMAT)
    if hasattr(torch.npu, "set_compile_mode"):  # as all that computes has
        torch.npu.set_compile_mode(jit_compile=jit_compile)
        torch.npu.config.allow_internal_format = internal_format
    if folder := os.environ.get(environment.OPERATORS):
        with contextlib.suppress(OSError):  # CANN goes on without
            Path(folder).mkdir(parents=True, exist_ok=True)


def keep_fp32() -> None:
    """Let fp32 stay fp32 on chips before Ascend910B, where torch_npu's default is to give fp16 to
    convolutions. Raises InputError where this chip then has none."""
    if is_910b_or_later():  # which does so unless HF32 is on
        return
    torch.npu.set_option({"ACL_PRECISION_MODE": "must_keep_origin_dtype"})
    one = torch.ones(1, 1, 1, 1, device="npu")
    try:
        torch.nn.functional.conv2d(one, one).cpu()
    except RuntimeError as error:
        torch.npu.set_option({"ACL_PRECISION_MODE": "allow_fp32_to_fp16"})
        chip, reason = torch.npu.get_device_name(0), " ".join(str(error).split())[:160]
        raise InputError(
            f"--precision fp32: this {chip} has no convolutions of fp32 ({reason}): use fp16."
        ) from None
