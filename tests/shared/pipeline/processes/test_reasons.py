"""Why a step has ended."""

import psutil
import pytest

from shared.machine import cgroups
from shared.pipeline.processes import reasons
from shared.pipeline.processes.reasons import reason_of
from tests.shared.pipeline.processes.family import run


@pytest.mark.parametrize(
    "program, status, reason",
    [
        ("sys.exit(3)", 3, ""),
        ("os.kill(os.getpid(), 9)", -9, "killed from outside (SIGKILL), by a person or a service"),
        ("os.kill(os.getpid(), 11)", -11, "crashed in native code (SIGSEGV)"),
        ("os.kill(os.getpid(), 7)", -7, "bus error (SIGBUS): most likely shared memory is full"),
        ("os.kill(os.getpid(), 15)", -15, "stopped from outside (SIGTERM)."),
        ("sys.exit(143)", 143, "stopped from outside (SIGTERM)."),
        ("raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))", 1, "the disk is full"),
    ],
)
def test_the_last_line_says_what_ended_a_step(program, status, reason):
    ended, shown = run(f"import errno, os, sys; print('last words'); {program}")
    assert ended == status
    assert reason in shown[-1] if reason else shown == ["last words"]


def test_the_memory_of_a_killed_step_is_said():
    _, shown = run("import os; held = bytearray(1 << 30); os.kill(os.getpid(), 9)")
    total = psutil.virtual_memory().total / 2**30
    assert f"its largest process had 1.0 of {total:.1f} GiB" in shown[-1]


KILLED = "train failed: a worker process was killed, most likely by the system for want of memory"
FULL = "train failed: shared memory, /dev/shm, is full, through which worker processes hand over"


@pytest.mark.parametrize(
    "status, line, oom_kills, reason",
    [
        (-9, "", 1, "killed by the system, for want of memory: "),
        (137, "", 2, "killed by the system, for want of memory: "),  # by a shell's count
        (-9, "", None, "killed by the system, most likely for want of memory: "),
        (1, KILLED, 1, "killed by the system, for want of memory: "),
        (1, FULL, 0, "killed by a bus error (SIGBUS): "),
        (1, "ERROR: Unexpected bus error encountered in worker. This might be caused by "
            "insufficient shared memory (shm).", 0, "killed by a bus error (SIGBUS): "),
        (1, "sqlite3.OperationalError: database or disk is full", 0, "the disk is full: "),
        (1, "ValueError: not our affair", 1, ""),
        (255, "", 0, ""),
    ],
)  # fmt: skip
def test_reasons(status, line, oom_kills, reason):
    said = reason_of(status, ["before", line], 3 << 30, oom_kills)
    assert said.startswith(reason) and bool(said) == bool(reason)


def test_memory_is_that_of_the_container(monkeypatch):
    files = {
        "/proc/self/cgroup": "4:cpu,memory:/docker/abc\n1:cpu:/\n0::/pods/a\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{5 << 20}\n",
        "/sys/fs/cgroup/pods/a/memory.max": "max\n",
        "/sys/fs/cgroup/pods/memory.max": f"{3 << 20}\n",
    }
    monkeypatch.setattr(cgroups, "read", lambda path: files.get(str(path), ""))
    assert reasons.memory_bytes() == 3 << 20
    files.clear()
    assert reasons.memory_bytes() == psutil.virtual_memory().total
