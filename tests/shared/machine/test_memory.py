"""Freed feature maps are used again instead of being taken from the system anew."""

import ctypes
import os
import subprocess
import sys

import pytest

from shared.machine.memory import SWITCH
from tests.places import ROOT

# Page faults of ten tensors of so many MiB, one after the other, each MiB of 256 pages of 4 KiB.
COUNTED = """
import resource, sys, torch
from shared.device import pick
pick("cpu")
def fill():
    torch.ones(int(sys.argv[1]), 512, 512)
for _ in range(5):  # until it has found room between what else is allocated
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ON_GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def faults(mib: int, **environment: str) -> int:
    inherited = {
        name: value for name, value in os.environ.items() if "MALLOC" not in name and name != SWITCH
    }
    ended = subprocess.run(
        [sys.executable, "-c", COUNTED, str(mib)],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return int(ended.stdout)


@pytest.mark.skipif(not ON_GLIBC, reason="another C library than GNU's")
def test_freed_memory_is_used_again():
    of_the_library = faults(48, KEEP_FREED_MEMORY="0")
    assert of_the_library > 10 * 48 * 256 * 0.9
    assert faults(48) < of_the_library / 10
    # Of larger ones only where that is asked for.
    assert faults(96) > of_the_library
    assert faults(96, KEEP_FREED_MEMORY="1") < of_the_library / 10
    # glibc takes thresholds from the environment too: they are left as they are.
    assert faults(48, MALLOC_MMAP_THRESHOLD_="131072") > of_the_library / 2
