"""The file that knows npu, cuda and cpu: pick one, its precision, autocast, loss scaler, clock,
memory, random numbers, collectives."""

import contextlib
import functools
import importlib
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch

from shared.ascend import card, chips, environment
from shared.ascend.problems import find_problem, mismatch_remark, refused_card
from shared.ascend.saturation import scaler_by_flag
from shared.device_names import (
    DeviceName,
    MemoryFormatName,
    PrecisionName,
    hiding_gpus,
    refuse_missing_cards,
)
from shared.errors import InputError
from shared.machine import threads
from shared.machine.memory import keep_freed_memory
from shared.terminal import ranks

ROUNDING = ("tf32", "hf32")  # fp32 in memory, rounded where it is multiplied


@dataclass(frozen=True)
class Runtime:
    """A device with its arithmetic: what the steps ask instead of asking torch."""

    torch_device: torch.device
    precision: str  # fp32, tf32, hf32, bf16 or fp16

    @property
    def name(self) -> str:
        return self.torch_device.type

    @property
    def pins_memory(self) -> bool:
        """Whether batches in page-locked host memory reach the device faster."""
        return self.name != "cpu"

    @property
    def has_fused_adam(self) -> bool:
        """Whether torch has Adam in one kernel here. torch_npu 2.13 takes all weights through the
        CPU for it, on chips before Ascend950 (op-plugin, FusedAdamKernelNpuOpApi.cpp)."""
        return self.name != "npu"

    @property
    def has_bf16(self) -> bool:
        return self.name != "npu" or chips.is_910b_or_later()

    @property
    def collectives(self) -> str:
        """The library by which processes on such devices exchange tensors."""
        return {"cuda": "nccl", "npu": "hccl", "cpu": "gloo"}[self.name]

    def take_device(self, number: int) -> None:
        """Let this process compute on device `number` of the machine. Raises InputError where there
        are fewer."""
        self.check_count(number + 1)
        if self.name == "cuda":
            torch.cuda.set_device(number)
        elif self.name == "npu":
            with refused_card(f"--device npu, card {number}"):
                torch.npu.set_device(number)

    @property
    def count(self) -> int:
        """Number of such devices of this machine."""
        return 1 if self.name == "cpu" else _accelerator(self.name).device_count()

    def check_count(self, devices: int) -> None:
        """Raises InputError where the machine has fewer devices; processes on a CPU share it."""
        if self.name == "cpu":
            return
        count = self.count
        if devices > count:
            raise InputError(
                f"--devices asks for {devices} or more, but torch sees {count} {self.name} "
                "devices on this machine: ask for as many as there are."
            )

    @property
    def compiles(self) -> bool:
        """Whether torch.compile has a compiler for this device."""
        return self.name in ("cuda", "cpu")

    @property
    def captures_steps(self) -> bool:
        """Whether kernels can be captured here, and launched by the device itself."""
        return self.name == "cuda"

    def memory_format(self, wanted: MemoryFormatName, gains: bool) -> torch.memory_format:
        """The memory format of weights and feature maps. Raises InputError for nhwc on an NPU.

        gains: whether the networks gain by nhwc on this device; auto takes it for no others."""
        if self.name == "npu" and wanted == "nhwc":
            raise InputError(
                "--memory-format nhwc means nothing to an NPU, which has memory formats of its "
                "own: leave it out, or say nchw."
            )
        # Tensor cores compute in NHWC: networks that stay in it gain 5 to 35 % (PERFORMANCE.md 4b).
        # What knows NCHW alone costs more than that: with torch's instance_norm, which converts to
        # it (pytorch#72341), a step took 34 % longer on an A100 (pytorch#59168).
        computes_in_nhwc = self.name == "cpu" or (self.name == "cuda" and self.precision != "fp32")
        nhwc = wanted == "nhwc" or (wanted == "auto" and computes_in_nhwc and gains)
        return torch.channels_last if nhwc else torch.contiguous_format

    def autocast(self):
        """A context in which convolutions run in the chosen precision; networks and losses outside
        stay fp32. Their backward passes belong after it, before that of another runtime."""
        # Of the process: the benchmark has runtimes of several precisions.
        _round_fp32(self.name, self.precision in ROUNDING)
        is_on = self.dtype is not torch.float32
        return torch.autocast(self.name, dtype=self.dtype if is_on else None, enabled=is_on)

    @property
    def dtype(self) -> torch.dtype:
        """What convolutions compute in under `autocast`."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision, torch.float32)

    @property
    def scales_losses(self) -> bool:
        """Whether losses are to be scaled: fp16 alone loses small gradients, the other precisions
        have the range of fp32."""
        return self.precision == "fp16"

    def scaler(
        self, initial: float, growth_factor: float, growth_interval: int, backoff_factor: float
    ) -> torch.amp.GradScaler:
        """A scaler that skips updates by gradients that are not finite; its scale is 1 where losses
        need none."""
        constants = dict(
            init_scale=initial if self.scales_losses else 1.0,
            growth_factor=growth_factor,
            growth_interval=growth_interval,
            backoff_factor=backoff_factor,
        )
        if self.name == "npu" and not chips.keeps_infinities():
            return scaler_by_flag(**constants)
        return torch.amp.GradScaler(self.name, **constants)

    def streams(self) -> ModuleType | None:
        """torch's module of what runs beside each other on the device; None for a CPU."""
        return None if self.name == "cpu" else _accelerator(self.name)

    def synchronize(self) -> None:
        """Wait for the device, so that a clock read next is true."""
        if self.name != "cpu":
            _accelerator(self.name).synchronize()

    def peak_memory_mb(self) -> float:
        """The most memory held so far, in 2^20 bytes: on the device, or by the process on a CPU."""
        if self.name == "cpu":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return _accelerator(self.name).max_memory_allocated() / 2**20

    def free_memory_bytes(self) -> int:
        """The memory that is free on the device, or on the machine for a CPU."""
        if self.name == "cpu":
            return psutil.virtual_memory().available
        return _accelerator(self.name).mem_get_info()[0]

    def free_unused_memory(self) -> None:
        """Give back to the device what PyTorch keeps of it for later: other programs lack it."""
        if self.name != "cpu":
            _accelerator(self.name).empty_cache()

    def profiler(self) -> ModuleType:
        """What records the operators of a process: torch's module, or torch_npu's of the same
        face."""
        return (
            importlib.import_module("torch_npu").profiler if self.name == "npu" else torch.profiler
        )

    def random_state(self) -> dict[str, torch.Tensor]:
        """The states of the generators that dropout draws from, on the CPU and on the device."""
        states = {"cpu": torch.get_rng_state()}
        if self.name != "cpu":
            states[self.name] = _accelerator(self.name).get_rng_state()
        return states

    def set_random_state(self, states: dict[str, torch.Tensor]) -> None:
        """Go on drawing from where `random_state` was taken on the same kind of device."""
        torch.set_rng_state(states["cpu"])
        if self.name != "cpu":
            _accelerator(self.name).set_rng_state(states[self.name])

    @property
    def hardware(self) -> str:
        """Name of the card or of the processor."""
        return _cpu_name() if self.name == "cpu" else _accelerator(self.name).get_device_name(0)

    def describe(self) -> str:
        """The device, how much of it, its arithmetic, torch's version, and what an owner has set up
        otherwise, for people."""
        name, version = f"{self.name} ({self.hardware})", f"torch {torch.__version__}"
        match self.name:
            case "cpu":
                threads_used = threads.described(torch.get_num_threads())
                found = [name, threads_used, self.precision, version]
            case "npu":
                found = [name, self.precision, version, *environment.kept()]
            case _:
                found = [name, self.precision, version]
        return ", ".join(found)


def in_own_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """A context in which padding keeps the precision of what it pads. A CPU's autocast would pad in
    fp32: a third of the bytes of a ResNet's step in bf16 were copies to it and back."""
    return torch.autocast("cpu", enabled=False) if device.type == "cpu" else nullcontext()


def pads_to_nchw(device: torch.device) -> bool:
    """Whether torch's reflection padding makes NCHW maps of NHWC ones there."""
    return device.type == "cuda"


@contextlib.contextmanager
def in_fp32(device: str) -> Iterator[None]:
    """A context in which convolutions and products of matrices run in fp32, whatever the autocast,
    TF32 and HF32 around it."""
    before = [getattr(*switch) for switch in _rounding_switches(device)]
    _round_fp32(device, False)
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for switch, value in zip(_rounding_switches(device), before, strict=True):
            setattr(*switch, value)


def pick(
    device: DeviceName = "auto", precision: PrecisionName = "auto", trains: bool = False
) -> Runtime:
    """The device asked for, or the best one here (npu, cuda, cpu). Raises InputError when it is not
    available.

    trains: auto may then be bf16 on a CPU too."""
    keep_freed_memory()

    # Which.
    match device:
        case "auto":
            name = _best()
        case "npu":
            if problem := find_problem():
                raise InputError(f"--device npu: {problem.sentence}")
            name = "npu"
        case "cuda":
            if not has_gpu():
                raise InputError(
                    f"--device cuda: torch sees no NVIDIA GPU here{hiding_gpus()}; install a CUDA "
                    "build of torch and the driver, or use --device cpu."
                )
            name = "cuda"
        case "cpu":
            name = "cpu"

    # Set up, with its arithmetic; torch_npu meets the card now.
    with refused_card(f"--device {device}") if name == "npu" else contextlib.nullcontext():
        if name == "npu":
            card.set_up()
        runtime = Runtime(torch.device(name), _pick_precision(name, precision, trains))
        if name != device or name != "cpu":  # which computes beside a card too
            refuse_missing_cards(name, lambda: runtime.count)
        _round_fp32(name, runtime.precision in ROUNDING)
        if name == "cuda":
            torch.backends.cudnn.benchmark = True
        if name == "npu" and runtime.precision == "fp32":
            card.keep_fp32()
    if name == "npu" and (remark := mismatch_remark()):
        _say_once(f"--device {device}: {remark}")
    return runtime


def has_gpu() -> bool:
    """Whether torch sees an NVIDIA GPU."""
    return torch.cuda.is_available()


def _best() -> str:
    """The best device here. Raises InputError for an NPU that cannot be used where nothing but the
    CPU is left: whoever installed torch_npu did not mean that."""
    problem = find_problem()
    if problem is None:
        return "npu"
    name = "cuda" if has_gpu() else "cpu"
    if name == "cpu" and problem.is_meant:
        raise InputError(f"--device auto: {problem.sentence}")
    if problem.is_said:
        _say_once(f"--device auto takes {name}: {problem.sentence}")
    return name


@functools.cache
def _say_once(line: str) -> None:
    if ranks.is_main():
        print(line, file=sys.stderr, flush=True)


def _round_fp32(name: str, rounds: bool) -> None:
    """Whether this process rounds fp32, to TF32 or HF32, where it multiplies on such a device."""
    for switch in _rounding_switches(name):
        if getattr(*switch) != rounds:
            setattr(*switch, rounds)


def _rounding_switches(name: str) -> list[tuple[Any, str]]:
    """Objects and attributes that say it, of convolutions and of products of matrices."""
    match name:
        case "cuda":
            of_torch = torch.backends
            return [(of_torch.cudnn, "allow_tf32"), (of_torch.cuda.matmul, "allow_tf32")]
        case "npu":  # each from some version on
            kinds = filter(partial(hasattr, torch.npu), ("conv", "matmul"))
            return [(getattr(torch.npu, kind), "allow_hf32") for kind in kinds]
    return []


def multiplies_bf16() -> bool:
    """Whether the CPU has instructions for it, AVX512-BF16 or AMX; without them it is slower than
    fp32."""
    found = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has it not
    return found.get("avx512_bf16", False) or found.get("amx_bf16", False)


def _pick_precision(name: str, precision: str, trains: bool) -> str:
    """The precision asked for; auto is fp32 on a CPU, or bf16 to train where it has that; bf16 on a
    GPU that has it (else fp16), fp16 on an NPU, which every chip has. Raises InputError for one
    that the device lacks."""
    match name, precision:
        case "cpu", "auto":
            return "bf16" if trains and multiplies_bf16() else "fp32"
        case "cuda", "auto":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        case "npu", "auto":
            return "fp16"
        case (("cpu" | "npu"), "tf32"):
            remedy = "fp32" if name == "cpu" else "hf32 or fp32"
            raise InputError(
                f"--precision tf32 is an NVIDIA GPU mode, but the device is {name}: use {remedy}."
            )
        case (("cpu" | "cuda"), "hf32"):
            remedy = "fp32" if name == "cpu" else "tf32 or fp32"
            raise InputError(
                f"--precision hf32 is an Ascend NPU mode, but the device is {name}: use {remedy}."
            )
        case "cpu", "fp16":
            raise InputError(
                "--precision fp16 needs a GPU or NPU, but the device is cpu: use bf16 or fp32."
            )
        case "cuda", "tf32" if not torch.cuda.is_tf32_supported():
            gpu = torch.cuda.get_device_name(0)
            raise InputError(
                f"--precision tf32: this {gpu} has no TF32, and would compute in fp32 without an "
                "error: use fp32 or fp16."
            )
        case "npu", _:
            chips.refuse_lacking(precision)
    return precision


def _cpu_name() -> str:
    """The processor's model where Linux tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerator(name: str):
    return torch.cuda if name == "cuda" else torch.npu
