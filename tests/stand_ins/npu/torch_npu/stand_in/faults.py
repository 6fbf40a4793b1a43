"""A device that fails at work, as torch_npu then says it (its NPUException.h, NPUErrorCodes.h and
HCCLUtils.hpp): see NPU_STAND_IN_FAULT."""

import os
from collections import Counter

import torch

TEXTS = {
    "100000": "Parameter verification failed.",
    "107019": "Task execution timed out.",
    "507015": "The aicore execution is abnormal.",
    "507899": "An internal error occurs in the Driver module.",
}
MEMORY = "memory"  # in place of a code


class Fault:
    """What fails from when on, in this process."""

    def __init__(self, words: str):
        self.name, count, self.code, rank = (
            *words.split(),
            *("", "0", "", "")[len(words.split()) :],
        )
        self.count = int(count) if rank in ("", os.environ.get("RANK", "")) else 0
        self.met: Counter[str] = Counter()

    def is_met_by(self, name: str) -> bool:
        """Whether an operator or a collective of this name, which is asked for now, fails."""
        self.met[name] += 1
        is_lasting = self.code != MEMORY and not self.name.startswith("hccl.")
        return (
            bool(self.count)
            and self.met[self.name] >= self.count
            and (is_lasting or name == self.name)
        )


fault = Fault(os.environ.get("NPU_STAND_IN_FAULT", ""))


def begin(words: str) -> None:
    """Let the device, which is well again, meet another fault, as NPU_STAND_IN_FAULT has it."""
    global fault
    fault = Fault(words)


def meet(name: str) -> None:
    """Raises the error of the fault where it is met."""
    if not fault.is_met_by(name):
        return
    if fault.code == MEMORY:
        raise torch.OutOfMemoryError(
            "NPU out of memory. Tried to allocate 20.00 MiB (NPU 0; 64.00 GiB total capacity)"
        )
    where = "build/CMakeFiles/torch_npu.dir/compiler_depend.ts:248"
    process = f"[ERROR] 2026-11-30-12:00:00 (PID:{os.getpid()}, Device:0, RankID:-1)"
    if name.startswith("hccl."):
        raise RuntimeError(
            f"{name}:{where} HCCL function error: Hccl{name[5:].title()}, error code is "
            f"{fault.code} \n{process} ERR02200 DIST call hccl api failed.\n"
            "EI0006: Getting socket times out."
        )
    raise RuntimeError(
        f"synchronizeUsingStream:{where} NPU function error: aclrtSynchronizeStream, error code is "
        f"{fault.code}\n{process} ERR00100 PTA call acl api failed\n"
        f"[Error]: {TEXTS[fault.code]} \n        Rectify the fault based on the error information "
        "in the ascend log.\nEZ9999: Inner Error!\n"
    )
