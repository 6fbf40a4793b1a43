"""The device, its driver and what is installed around it. Works as far as what is there works."""

import importlib.metadata
import os
import platform
import shutil
import subprocess

from shared.ascend import versions
from shared.secrets import without_secrets

SECONDS = 20  # for a vendor's program to answer
PACKAGES = "torch torch-npu numpy onnx onnxruntime onnxruntime-gpu tensorrt aclruntime ais-bench"
VARIABLES = ("ASCEND", "ACL_", "TORCH", "PYTORCH", "HCCL", "TASK_QUEUE", "INF_NAN", "CPU_AFFINITY")
VARIABLES += ("COMBINED", "CUDA", "NVIDIA", "NCCL", "OMP_", "LD_LIBRARY_PATH", "RANK_TABLE")
PROGRAMS = {"npu": ["npu-smi", "info"], "cuda": ["nvidia-smi"]}


def run(given) -> None:
    # What needs no torch.
    given.say("machine", f"{platform.platform()}, {os.cpu_count()} cores")
    given.say("Python", platform.python_version())
    for name in PACKAGES.split():
        given.say(name, version_of(name))
    if given.device == "npu":
        given.say("driver", versions.driver_version() or "not known")
        given.say("CANN", versions.cann_version() or "not known: is set_env.sh sourced?")
        given.say("atc", shutil.which("atc") or "not on PATH")
    for name in sorted(os.environ):
        if name.startswith(VARIABLES):
            given.say(name, without_secrets(os.environ[name])[:300])
    if program := PROGRAMS.get(given.device):
        for line in output_of(program):
            given.say(program[0], line)

    # What torch says; without a device this part ends with the reason.
    from shared.device import pick

    runtime = pick(given.device)  # which every chip has
    given.say("device", runtime.describe())
    given.say("devices", runtime.count)
    given.say("free memory", runtime.free_memory_bytes() / 2**20, "MiB")
    if given.device == "npu":
        of_npu(given)


def of_npu(given) -> None:
    """What decides how the card computes."""
    import torch

    given.say("properties", str(torch.npu.get_device_properties(0)))
    given.say("bf16", str(torch.npu.is_bf16_supported()))
    given.say("keeps infinities", str(torch.npu.utils.is_support_inf_nan()))
    promised = {
        f"HF32 of {kind} is off": not getattr(torch.npu, kind).allow_hf32
        for kind in ("conv", "matmul")
        if hasattr(torch.npu, kind)  # from some version on
    }
    promised["jit_compile is off"] = torch.npu.is_jit_compile_false()
    for what, holds in promised.items():
        given.say(what, str(holds), "", "True", bool(holds))


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def output_of(program: list[str]) -> list[str]:
    try:
        done = subprocess.run(program, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [str(error)]
    return [line.rstrip() for line in (done.stdout or done.stderr).splitlines() if line.strip()][
        :60
    ]
