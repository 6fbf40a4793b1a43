"""Freed feature maps are used again instead of being taken from the system anew."""

import ctypes
import os
import subprocess
import sys

import pytest

from tests.places import ROOT

# Page faults of ten tensors of 64 MiB, one after the other, each of 16,384 pages of 4 KiB.
COUNTED = """
import resource, torch
from shared.device import pick
pick("cpu")
def fill():
    torch.ones(16, 1024, 1024)
for _ in range(5):  # until it has found room between what else is allocated
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
ON_GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def faults(**environment: str) -> int:
    inherited = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    ended = subprocess.run(
        [sys.executable, "-c", COUNTED],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return int(ended.stdout)


@pytest.mark.skipif(not ON_GLIBC, reason="another C library than GNU's")
def test_freed_memory_is_used_again_where_that_is_asked_for():
    of_the_library = faults()
    assert faults(KEEP_FREED_MEMORY="1") < of_the_library / 10
    # glibc takes thresholds from the environment too: they are left as they are.
    assert faults(KEEP_FREED_MEMORY="1", MALLOC_MMAP_THRESHOLD_="131072") > of_the_library / 2
