"""Locks of several processes, and those of killed ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shared.errors import InputError
from shared.files import owned
from shared.files.owned import Held
from shared.pipeline.processes import run_step
from shared.pipeline.processes.locks import hold
from tests.shared.pipeline.processes.family import family, is_alive, wait_until

HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from shared.pipeline.processes.locks import hold
with hold(Path("lock")):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder():
    """Another process that holds a lock until its input ends."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", HOLDER], **pipes) as process:
        process.stdout.readline()
        yield process
        process.kill()


def refused_by(path: Path) -> str:
    """Who holds a lock, as whoever wants it is told."""
    with pytest.raises(Held) as held:
        with hold(path):
            pass
    return str(held.value)


def test_a_lock_is_held_once_and_says_by_whom(holder):
    said = refused_by(Path("lock"))
    assert re.match(
        rf"lock is held by process {holder.pid} of .*, since 20.* UTC: wait for it to end\.$", said
    )
    holder.stdin.close()
    holder.wait()
    for _ in range(2):
        with hold(Path("lock")):
            assert f"process {os.getpid()} of " in refused_by(Path("lock"))


def test_a_killed_holder_does_not_bar_the_next(holder):
    holder.kill()
    holder.wait()
    with hold(Path("lock")):
        pass


def test_a_step_holds_the_locks_of_all_above_it():
    step = """
from pathlib import Path
from shared.files.owned import Held
from shared.pipeline.processes.locks import hold
for name in ("a", "b"):
    try:
        with hold(Path(name)):
            print("nobody")
    except Held as held:
        print(held)
"""
    pipeline = f"""
import os, sys
from pathlib import Path
from shared.pipeline.processes import run_step
from shared.pipeline.processes.locks import hold
with hold(Path("b")):
    sys.exit(run_step([sys.executable, "-c", {step!r}], dict(os.environ), print))
"""
    shown = []
    with hold(Path("a")):
        status = run_step([sys.executable, "-c", pipeline], dict(os.environ), shown.append)
    assert status == 0, shown
    assert f"held by process {os.getpid()} of " in shown[0] and "held by process " in shown[1]
    with hold(Path("a")), hold(Path("b")):
        pass


def test_the_next_waits_for_what_a_killed_holder_has_left(pipeline, capfd, monkeypatch):
    """And no longer than it must: a guard that hangs too is no reason to wait for ever."""
    (guard,) = psutil.Process(pipeline.pid).children()
    guard.suspend()
    pipeline.kill()
    pipeline.wait()
    monkeypatch.setattr(owned, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(Held):
        with hold(Path("lock")):
            pass
    assert f"waiting for the end of what process {pipeline.pid}" in capfd.readouterr().err
    guard.resume()
    wait_until(lambda: not any(map(is_alive, family())))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_lock_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="lock cannot be written: Permission denied"):
        with hold(Path("lock")):
            pass


def test_a_lock_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        with hold(tmp_path):
            pass
