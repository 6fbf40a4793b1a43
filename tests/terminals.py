"""A person at a terminal: what is shown there, and the keys."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Self

CTRL_C = b"\x03"


class Terminal:
    """A command in the foreground of a terminal of its own.

    Attributes:
        shown: All that came to the terminal.
    """

    def __init__(self, command: list, cwd: Path, environment: dict[str, str], columns: int = 80):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

        def take_the_terminal() -> None:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests run under nohup

        streams = dict(stdin=theirs, stdout=theirs, stderr=theirs)
        self.process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=environment | {"TERM": "xterm"},
            start_new_session=True,
            preexec_fn=take_the_terminal,
            **streams,
        )
        os.close(theirs)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.ours)

    def press(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Return when the text was shown."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read() or self.process.poll() is None, self.shown

    def wait(self, seconds: float = 120) -> int:
        """The exit code at the end."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def _read(self) -> bool:
        if not select.select([self.ours], [], [], 0.05)[0]:
            return False
        try:
            part = os.read(self.ours, 1 << 16)
        except OSError:  # nobody is left who could write
            return False
        self.shown += part.decode(errors="replace")
        return bool(part)

    def lines(self) -> list[str]:
        """What stands on the screen in the end: later text over earlier one."""
        found = []
        for line in self.shown.split("\n"):
            seen = ""
            for part in re.split(r"(\r|\x1b\[K)", line):
                if part == "\r":
                    at = 0
                elif part == "\x1b[K":
                    seen = seen[:at]
                else:
                    at = 0 if not seen else at
                    seen, at = seen[:at] + part + seen[at + len(part) :], at + len(part)
            found.append(seen.rstrip())
        return found
