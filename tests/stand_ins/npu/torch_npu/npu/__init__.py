"""torch.npu: the functions that this project uses or its tests look at, as torch_npu has them."""

import time
from types import SimpleNamespace

import torch
from torch import Tensor

from torch_npu.npu import amp as amp
from torch_npu.npu import utils as utils
from torch_npu.npu.utils import is_bf16_supported as is_bf16_supported
from torch_npu.stand_in import cubes, tensors
from torch_npu.stand_in.chips import CHIP, COUNT
from torch_npu.stand_in.random import GENERATOR
from torch_npu.stand_in.stats import STATS
from torch_npu.stand_in.streams import Stream as Stream
from torch_npu.stand_in.streams import current_stream as current_stream
from torch_npu.stand_in.streams import stream as stream

conv, matmul = cubes.CONV, cubes.MATMUL
_current = 0


class _Config:
    """torch.npu.config; its options can be written alone."""

    def __setattr__(self, name: str, value: bool) -> None:
        if name == "allow_internal_format":
            STATS.options[name] = bool(value)


config = _Config()


class _OfFloat32(type):
    def __instancecheck__(cls, value: object) -> bool:
        return tensors.is_on_device(value) and value.dtype == torch.float32


class FloatTensor(metaclass=_OfFloat32):
    """What isinstance says of a float32 tensor of the device."""


# The device.


def is_available() -> bool:
    return COUNT > 0


def is_initialized() -> bool:
    return True


def _is_in_bad_fork() -> bool:
    return False


def device_count() -> int:
    return COUNT


def current_device() -> int:
    return _current


def set_device(device) -> None:
    global _current
    number = device if isinstance(device, int) else torch.device(device).index or 0
    if not 0 <= number < COUNT:
        raise RuntimeError(f"set_device: device {number} of {COUNT}: 107001 invalid device ID")
    _current = number
    STATS.calls[f"set_device({number})"] += 1


def synchronize(device=None) -> None:
    STATS.calls["synchronize"] += 1


def get_device_name(device_name=None) -> str:
    return CHIP.soc_name


def get_device_properties(device_name=None) -> SimpleNamespace:
    return SimpleNamespace(
        name=CHIP.soc_name,
        total_memory=CHIP.memory_bytes,
        cube_core_num=CHIP.cubes,
        vector_core_num=CHIP.vectors,
        L2_cache_size=192 * 2**20,
        uuid="",
    )


def get_device_capability(device=None) -> None:
    """The real one has none either, unless a variable says one."""


# Memory.


def mem_get_info(device=None) -> tuple[int, int]:
    return CHIP.memory_bytes - tensors.allocated_bytes(), CHIP.memory_bytes


def memory_allocated(device=None) -> int:
    return tensors.allocated_bytes()


def max_memory_allocated(device=None) -> int:
    return tensors.peak_bytes()


def memory_reserved(device=None) -> int:
    return tensors.peak_bytes()


def reset_peak_memory_stats(device=None) -> None:
    tensors.reset_peak()


def empty_cache() -> None:
    STATS.calls["empty_cache"] += 1


# Random numbers.


def manual_seed(seed: int) -> None:
    GENERATOR.manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    GENERATOR.manual_seed(int(seed))


def get_rng_state(device="npu") -> Tensor:
    return GENERATOR.get_state()


def set_rng_state(new_state: Tensor, device="npu") -> None:
    GENERATOR.set_state(new_state)


# How it computes.


def set_compile_mode(jit_compile=False) -> None:
    STATS.options["jit_compile"] = bool(jit_compile)


def is_jit_compile_false() -> bool:
    return not STATS.options.get("jit_compile", CHIP.is_old)


def set_option(option: dict[str, str]) -> None:
    STATS.options |= option


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.float16, torch.bfloat16] if CHIP.has_bf16 else [torch.float16]


class Event:
    """A moment on the device, which works as soon as it is asked."""

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        self.enable_timing = enable_timing

    def record(self, stream=None) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        STATS.calls["synchronize"] += 1

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event) -> float:
        """Milliseconds."""
        assert self.enable_timing and end_event.enable_timing
        return (end_event.seconds - self.seconds) * 1000
