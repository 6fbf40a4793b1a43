"""The parent of a step's process, which ends it and all below it when whoever asked for it is gone.

`processes.py` starts this file as a program of its own: what ends the steps must live on when the
pipeline is killed, and when a step hangs in a call that lets no other thread run.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of <linux/prctl.h>
NOT_STARTED = 127  # as a shell says it
SWEEP_SECONDS = 3.0  # what outlives the step's own process has to end


def main(alive: int, report: int, grace_seconds: float, command: list[str]) -> int:
    """Run a command until it ends, or the pipe `alive` does; then end whatever it left behind.

    Args:
        alive: Reading end of a pipe whose writing end only the pipeline has.
        report: Writing end of a pipe that takes the memory of its largest process, as getrusage
            says it, and closes when all is over.
        grace_seconds: What the command has for its end from SIGTERM to SIGKILL.

    Returns its exit status, negative where a signal ended it.
    """
    # A signal to the whole group is for the others in it; a handler, unlike SIG_IGN, is not
    # inherited by the command.
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: None)

    # Orphans of the command become our children instead of getting lost.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)

    # The locks of the pipeline are inherited, so that they are held until the last of us has gone.
    for pipe in (alive, report):
        os.set_inheritable(pipe, False)
    die_with_us = lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # noqa: E731
    try:
        process = subprocess.Popen(command, close_fds=False, preexec_fn=die_with_us)
    except OSError as error:
        print(f"cannot be started: {error}", file=sys.stderr)
        return NOT_STARTED

    def end_with_the_pipeline() -> None:
        os.read(alive, 1)  # returns when the last writer has closed it, however that came about
        process.terminate()
        time.sleep(grace_seconds)
        process.kill()

    threading.Thread(target=end_with_the_pipeline, daemon=True).start()
    status = process.wait()
    _sweep()
    with contextlib.suppress(BrokenPipeError):
        os.write(report, str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss).encode())
    return status


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere nothing happens, and closing the pipe still ends the command."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _sweep() -> None:
    """End what is left: data loader workers, ranks, compilers. SIGKILL as often as new ones come;
    a process that even that does not end, in a broken file system, is left to the kernel."""
    left = _others()
    for sent, seconds in (("terminate", SWEEP_SECONDS), *[("kill", 1.0)] * 3):
        for process in left:
            with contextlib.suppress(psutil.Error):
                getattr(process, sent)()
        psutil.wait_procs(left, timeout=seconds if left else 0)
        left = _others()


def _others() -> list[psutil.Process]:
    """Everything below us, and of our process group where orphans do not come to us."""
    us = psutil.Process()
    below = us.children(recursive=True)
    if sys.platform != "linux":
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getpgid(process.pid) == us.pid and process not in [us, *below]:
                    below.append(process)
    return below


def _end_like(status: int) -> None:
    """Exit with a status; by the same signal where it is that of one."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core dump is enough
        with contextlib.suppress(OSError):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    _end_like(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
