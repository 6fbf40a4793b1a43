"""How many threads compute on the CPU, and how they wait for each other."""

import math
import os
import re

from shared.machine import cgroups

COUNT = "OMP_NUM_THREADS"
# By which a user has told OpenMP how its threads wait.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# A third of a millisecond (GNU's OpenMP, of most builds of torch), and one (LLVM's).
WAITS = {"GOMP_SPINCOUNT": "5000", "KMP_BLOCKTIME": "1"}
BUSY_PERCENT = 50  # of the time, from which other work is said


def set_defaults() -> None:
    """Set what the environment does not, to be called before torch or scikit-learn loads OpenMP.

    A thread that waits for another spins, by GNU's default for 300,000 turns: on a busy machine
    it so takes the time that the other needs, and torch falls to a fifth. How it waits changes no
    result. The count of threads may change the last digits of sums: it follows what this process
    is allowed, never what else runs."""
    if not any(name in os.environ for name in WAITING):
        os.environ.update(WAITS)
    if (count := usable_cpus()) < _cpus_of_affinity():  # which OpenMP finds by itself
        os.environ.setdefault(COUNT, str(count))


def usable_cpus() -> int:
    """How many CPUs this process may use: those that it is bound to (taskset, cpusets), and no
    more than its control groups give it time of, as the limits of containers and pods do."""
    return max(1, min([_cpus_of_affinity(), *_quotas()]))


def _cpus_of_affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> list[int]:
    """The CPUs that each of our control groups has time of, rounded up."""
    found = []
    for folder, version in cgroups.folders("cpu"):
        if version == 1:
            files = (folder / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            words = [cgroups.read(file).strip() for file in files]
        else:
            words = cgroups.read(folder / "cpu.max").split()
        if len(words) == 2 and all(map(str.isdecimal, words)):  # without a limit: -1, or max
            found.append(math.ceil(int(words[0]) / int(words[1])))
    return found


def described(count: int) -> str:
    """The number of threads, and why there are fewer than the machine has CPUs."""
    cpus = os.cpu_count() or 1
    if count >= cpus:
        return f"{count} thread{'s' * (count > 1)}"
    if count == usable_cpus():
        return f"{count} of {cpus} threads, as this process may use no more"
    return f"{count} of {cpus} threads" + f" ({COUNT})" * (os.environ.get(COUNT) == str(count))


def busy_remark() -> str:
    """A sentence on other work on this machine, "" where there is little."""
    pressure = cgroups.read(cgroups.ROOT / "proc/pressure/cpu")
    if found := re.search(r"^some avg10=([\d.]+)", pressure, re.MULTILINE):
        if (percent := float(found[1])) < BUSY_PERCENT:
            return ""
        how = f"work waited for a CPU in {percent:.0f} % of the last ten seconds"
    else:
        load, cpus = os.getloadavg()[0], os.cpu_count() or 1
        if load < 2 * cpus:
            return ""
        how = f"its load is {load:.1f} on {cpus} CPUs"
    return f"The machine is busy: {how}; everything takes longer."
