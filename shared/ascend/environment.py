"""Variables that CANN and torch_npu read: what they are here unless an owner has set them.

Each has its reason in docs/ascend.md."""

import os
from collections.abc import Mapping
from pathlib import Path

from shared.errors import InputError

VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
OPERATORS = "ACL_OP_COMPILER_CACHE_DIR"
ALLOCATOR, ALSO_ALLOCATOR = "PYTORCH_NPU_ALLOC_CONF", "PYTORCH_ALLOC_CONF"  # one or the other
AFFINITY, EXECUTION, EVENT = "CPU_AFFINITY_CONF", "HCCL_EXEC_TIMEOUT", "HCCL_EVENT_TIMEOUT"
STEP_S = 68  # a 910 rounds HCCL_EXEC_TIMEOUT down to a multiple of it
VALUES = {
    "TASK_QUEUE_ENABLE": "1",
    "ACL_OP_COMPILER_CACHE_MODE": "enable",
    "HCCL_CONNECT_TIMEOUT": "600",
    EXECUTION: str(54 * STEP_S),  # the hour that a collective may take, see devices/joined.py
    ALLOCATOR: "expandable_segments:True",
}
# What torch.npu is told, for which the vendor has no variable.
JIT_COMPILE, INTERNAL_FORMAT = "PIPELINE_NPU_JIT_COMPILE", "PIPELINE_NPU_INTERNAL_FORMAT"
SWITCHES = {"0": False, "1": True}


def defaults(given: Mapping[str, str]) -> dict[str, str]:
    """What is to be set of all that is not given.

    given: the variables of a process, as of a rank."""
    values = VALUES | {OPERATORS: str(operators_below(_caches(given)))}
    if "ASCEND_CACHE_PATH" in given:  # CANN's own name for the folder above
        del values[OPERATORS]
    if ALSO_ALLOCATOR in given:
        del values[ALLOCATOR]

    # The vendor asks for an EVENT that is longer than EXEC; 0 is for ever.
    if EVENT in given:
        del values[EXECUTION]
    else:
        execution = given.get(EXECUTION, VALUES[EXECUTION])
        is_bounded = execution.isdecimal() and int(execution)
        values[EVENT] = str(int(execution) + STEP_S) if is_bounded else "0"

    # A rank keeps to the cores that are its card's; the seeds bound each to 24 by taskset.
    if given.get("LOCAL_WORLD_SIZE", "1") != "1":
        values[AFFINITY] = "1"
    return {name: value for name, value in values.items() if name not in given}


def set_defaults() -> None:
    """To be called before torch_npu is loaded, which reads most of them then."""
    os.environ.update(defaults(os.environ))


def _caches(given: Mapping[str, str]) -> str:
    return given.get("XDG_CACHE_HOME", "~/.cache")


def operators_below(cache: str) -> Path:
    """The folder of compiled operators in one of caches."""
    return Path(cache).expanduser() / "pix2pix-pipeline" / "npu-operators"


def keep_operators_on(workspace: str) -> None:
    """Keep them where all pods find them, unless an owner has said where: a pod's own disk goes
    with it."""
    if OPERATORS not in os.environ and "ASCEND_CACHE_PATH" not in os.environ:
        os.environ[OPERATORS] = str(operators_below(workspace))


def kept() -> list[str]:
    """The variables that an owner has set to something else, as NAME=VALUE."""
    own = defaults({"XDG_CACHE_HOME": _caches(os.environ), "LOCAL_WORLD_SIZE": "2"})
    others = (ALSO_ALLOCATOR, "ASCEND_CACHE_PATH", "ASCEND_LAUNCH_BLOCKING", VISIBLE)
    found = {name: os.environ.get(name) for name in (*own, *others, JIT_COMPILE, INTERNAL_FORMAT)}
    return [
        f"{name}={value}" for name, value in found.items() if value not in (None, own.get(name))
    ]


def refuse_two_allocators() -> None:
    """Raises InputError where both names are set, at which torch_npu ends the process."""
    if ALLOCATOR in os.environ and ALSO_ALLOCATOR in os.environ:
        raise InputError(
            f"--device npu: {ALLOCATOR} and {ALSO_ALLOCATOR} are both set, and torch_npu takes "
            "one: unset one of them."
        )


def is_on(name: str) -> bool:
    """A switch of ours. Raises InputError where it is neither 0 nor 1."""
    value = os.environ.get(name, "0")
    if value not in SWITCHES:
        raise InputError(f"{name} is {value!r}, which should be 0 or 1: set it so, or unset it.")
    return SWITCHES[value]
