"""Steps of several processes, and pipelines of one such step."""

import contextlib
import os
import sys
import textwrap
import time
from pathlib import Path

import psutil

from shared.pipeline.processes import run_step

# A step of three generations, of which the youngest two will not go for SIGTERM, and the last has
# left its group and its parent. Each writes its pid to a file of its own.
FAMILY = """
import os, signal, subprocess, sys, time
from pathlib import Path

STUBBORN = '''
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "lost" and os.fork():
    os._exit(0)
Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(600)
'''

def pid_in(file):
    while not Path(file).exists() or not Path(file).read_text():
        time.sleep(0.01)

subprocess.Popen([sys.executable, "-c", STUBBORN, "child"])
subprocess.Popen([sys.executable, "-c", STUBBORN, "lost"], start_new_session=True).wait()
pid_in("child"), pid_in("lost")
Path("step").write_text(str(os.getpid()))
print("all there", flush=True)
"""
ENDLESS = FAMILY + "time.sleep(600)\n"

# A pipeline of one step that takes it through `run_step`, and tells that it was left by an
# exception, as an open MLflow run would see it.
PIPELINE = """
import os, sys
from pathlib import Path
from shared.terminal import stopping
from shared.pipeline import processes
from shared.pipeline.processes.locks import hold
stopping.listen("pipeline")
try:
    with stopping.at_work("pipeline"), hold(Path("lock")):
        processes.run_step([sys.executable, "-c", sys.argv[1]], dict(os.environ), print)
finally:
    print("closed")
"""


def run(program: str) -> tuple[int, list[str]]:
    """Run a step that is Python; its exit status, and what it showed."""
    shown = []
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return run_step(command, dict(os.environ), shown.append), shown


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def family() -> list[int]:
    return [int(Path(name).read_text()) for name in ("step", "child", "lost")]


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
