"""Python loads this first where it is on PYTHONPATH: what a process opens and renames, from outside
of the code that does it, and a signal at a chosen one.

SPY_LOG: file for lines `PID EVENT FOLDER/FILE`. SPY_KILL: `SIGNAL EVENT FILE N`: the N-th in a
process sends the signal to all of the session.
"""

import os
import signal
import sys
from pathlib import Path

OPENED, RENAMED = "open", "os.rename"


def spy(log: int, kill: str) -> None:
    stop, kind, file, number = kill.split() if kill else ("SIGKILL", "", "", "0")
    seen = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event not in (OPENED, RENAMED):
            return
        place = arguments[0] if event == OPENED else arguments[1]
        if not isinstance(place, str) or not place.endswith((".png", ".pth", ".pt", ".partial")):
            return
        path = Path(place)
        if event == OPENED and path.suffix == ".partial" and not arguments[2] & os.O_ACCMODE:
            return  # what was written is brought to the disk
        if (event, path.name) == (kind, file):
            seen += 1
            if seen == int(number):
                os.killpg(0, signal.Signals[stop])
        os.write(log, f"{os.getpid()} {event} {path.parent.name}/{path.name}\n".encode())

    sys.addaudithook(hook)


if "SPY_LOG" in os.environ:
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
    spy(os.open(os.environ["SPY_LOG"], flags), os.environ.get("SPY_KILL", ""))
