"""The processes of a pipeline: steps that end with it, however it ends, and say why they did."""

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from shared.pipeline.processes.locks import LOCKS, held_files
from shared.pipeline.processes.reasons import count_oom_kills, reason_of
from shared.terminal import stopping
from shared.terminal.inner import InnerTerminal, read_lines

GUARD = Path(__file__).with_name("guard.py")
GRACE_SECONDS = 10.0  # what a step has for its end, from SIGTERM to SIGKILL
SWEEP_SECONDS = 10.0  # what its guard needs at most for whatever the step leaves behind
LISTEN_SECONDS = 1.0  # after all have ended: for what they have written


def run_step(
    command: list[str],
    environment: dict[str, str],
    show: Callable[[str], None],
    pass_fds: Sequence[int] = (),
    terminal: InnerTerminal | None = None,
    explained: Callable[[int], bool] = lambda _status: False,
) -> int:
    """Run a step's process until it and all below it have ended.

    It ends when this function is left by an exception, and when this process dies, however it dies.

    Args:
        command: Program and arguments, for no shell.
        environment: All variables of the process.
        show: Takes each line of its stdout and stderr, and last the reason where something outside
            the step has ended it. A progress bar's carriage return ends a line too.
        pass_fds: File descriptors that it inherits, beside those of our locks.
        terminal: Takes its stdout and stderr, and draws what is no line yet; None: a pipe does.
        explained: Whether its own last line says the reason, by its exit status.

    Returns its exit status, negative where a signal ended it.
    """
    oom_kills = count_oom_kills()
    last_lines: deque[str] = deque(maxlen=20)
    environment = {"PYTHONUNBUFFERED": "1"} | environment
    pipes = dict(stdout=terminal.theirs if terminal else subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = Lines(terminal)
    try:
        with Guarded(command, environment, GRACE_SECONDS, pass_fds, **pipes) as step:
            for line in lines.of(step):
                last_lines.append(line)
                show(line)
    except SystemExit:  # we are stopped: the step's last words
        for line in lines.rest():
            show(line)
        raise
    finally:
        if terminal:
            terminal.close()

    # What ended it, where that was not the step.
    status = step.process.returncode
    if status and not explained(status):
        killed = None if oom_kills is None else count_oom_kills() - oom_kills
        if reason := reason_of(status, last_lines, lines.peak_bytes, killed):
            show(reason)
    return status


class Guarded:
    """A process below a guard that ends it, and all below it, when the block is left or we die.

    `process` is the guard, which ends after the command and with its exit status.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        grace_seconds: float,
        pass_fds: Sequence[int] = (),
        **options,
    ):
        """Start it.

        Args:
            grace_seconds: What it has for its end, from SIGTERM to SIGKILL.
            options: Further ones of Popen.
        """
        self.grace_seconds = grace_seconds
        # The guard watches a pipe whose writing end no other process has; we watch another of it.
        watched, self.alive = os.pipe()
        self.report, reporting = os.pipe()
        locks = held_files()
        guard = [sys.executable, "-P", str(GUARD), str(watched), str(reporting), str(grace_seconds)]
        try:
            self.process = subprocess.Popen(
                [*guard, *command],
                env=environment | {LOCKS: ",".join(map(str, locks)), stopping.IS_SAID: "1"},
                pass_fds=(watched, reporting, *pass_fds, *locks),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )
        finally:
            os.close(watched)
            os.close(reporting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised) -> None:
        os.close(self.alive)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.grace_seconds + SWEEP_SECONDS)
        # Nobody is left here, but where the guard was killed or hangs.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Lines:
    """The lines of a guarded process, until it and all below it have ended.

    Threads take them, so that a process that is stopped never waits for a reader, and one that
    lives on without its guard is not waited for.
    """

    def __init__(self, terminal: InnerTerminal | None):
        self.terminal = terminal
        self.lines: queue.SimpleQueue[tuple[str, bool] | None] = queue.SimpleQueue()
        self.peak_bytes = 0  # most memory of the largest of its processes
        self.watcher: threading.Thread | None = None

    def of(self, step: Guarded) -> Iterator[str]:
        """Each as it comes; what is none yet is drawn."""
        # The reader has a file of its own: it may live longer than what else is closed here.
        if self.terminal:
            stream = os.dup(self.terminal.ours)
            os.close(self.terminal.theirs)
        else:
            stream = os.dup(step.process.stdout.fileno())
            step.process.stdout.close()
        reader = threading.Thread(target=self._read, args=[stream], daemon=True)
        reader.start()
        self.watcher = threading.Thread(target=self._watch, args=[step.report, stream, reader])
        self.watcher.start()
        for text, is_whole in iter(self.lines.get, None):
            if is_whole:
                yield text
            else:
                self.terminal.follow()
                self.terminal.draw(text)

    def rest(self) -> list[str]:
        """What nobody has taken yet, after the end."""
        if self.watcher is not None:
            self.watcher.join()
        rest = [self.lines.get() for _ in range(self.lines.qsize())]
        return [one[0] for one in rest if one is not None and one[1]]

    def _read(self, stream: int) -> None:
        for one in read_lines(stream, is_terminal=self.terminal is not None):
            self.lines.put(one)

    def _watch(self, report: int, stream: int, reader: threading.Thread) -> None:
        """Wait for the guard's report, and its end."""
        with open(report) as text:
            usage = int(text.read() or 0)
        self.peak_bytes = usage * (1 if sys.platform == "darwin" else 1024)
        # On a busy machine the reader may be far behind, and what it has not read yet is kept.
        reader.join(LISTEN_SECONDS)
        while reader.is_alive() and select.select([stream], [], [], 0)[0]:
            reader.join(LISTEN_SECONDS)
        self.lines.put(None)
        if not reader.is_alive():
            os.close(stream)
