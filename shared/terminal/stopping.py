"""How we are stopped: Ctrl-C, SIGTERM and SIGHUP each end the program with one line, that says what
is kept and how to go on, and with exit code 128 + the signal.

The line comes at once, and then an exception, with which all that is open is closed. A second
Ctrl-C does not wait for that. Until `listen` is imported, `shared/__init__.py` ends a program.
"""

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from shared.terminal import ranks

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Environment of a process whose end is said by the one that started it.
IS_SAID = "PIPELINE_STOP_IS_SAID"
SAME_SECONDS = 0.25  # `timeout` and others send a signal twice: that is one
LOST_SECONDS = 0.05  # until an exception that somebody swallowed comes again


class Stopped(SystemExit):
    """A signal has stopped us: its exit code is 128 + the signal."""


@dataclass
class State:
    """How far this process is, and what its last line says."""

    pid: int = 0  # of the process that listens; forked ones inherit the handlers
    name: str = ""  # who is stopped
    kept: str = "nothing was begun yet"
    go_on: str = "say the same command again"
    is_lost: bool = False  # whether the exception came where nobody could catch it
    code: int | None = None  # of the exit, once all is closed
    stopped: float | None = None  # time.monotonic() of the signal that stopped it


_state = State()


def listen(name: str) -> None:
    """Be stopped by signals as this module says, but for those that are ignored, as nohup does.

    name: who is stopped, for the line."""
    _state.pid, _state.name = os.getpid(), name
    for stop in STOPS:
        if signal.getsignal(stop) is not signal.SIG_IGN:
            signal.signal(stop, _stop)
    sys.unraisablehook = _not_lost
    atexit.unregister(_let_go)
    atexit.register(_let_go)


@contextlib.contextmanager
def program(name: str) -> Iterator[None]:
    """Listen to the end of the interpreter, which signals make short once the block has ended."""
    listen(name)
    atexit.register(_leave)  # the first is called last
    code = 1
    try:
        yield
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        _state.code = code


@contextlib.contextmanager
def at_work(name: str) -> Iterator[None]:
    """Inside, something is begun that can be gone on with.

    name: who is stopped, for the line."""
    before = vars(_state).copy()
    _state.name, _state.stopped = name, None
    _state.kept = "what is finished is kept"
    try:
        yield
    finally:
        if _state.stopped is None:
            vars(_state).update(before)


@contextlib.contextmanager
def listening(name: str) -> Iterator[None]:
    """Listen inside the block, in a program that is not ours."""
    handlers = {stop: signal.getsignal(stop) for stop in STOPS}
    listen(name)
    try:
        with at_work(name):
            yield
    finally:
        for stop, handler in handlers.items():
            signal.signal(stop, handler)


def keeps(what: str, go_on: str | None = None) -> None:
    """From now on the line says this: what is kept, and what to do to go on."""
    _state.kept, _state.go_on = what, go_on or _state.go_on


def is_stopping() -> bool:
    """Whether a signal has stopped us: the line is said, and what is open is being closed."""
    return _state.stopped is not None


def stop(signum: int) -> NoReturn:
    """What the first signal does; to be called for one that a library has caught."""
    _say(signum)
    raise Stopped(128 + signum)


def _stop(signum: int, _frame: Any) -> None:
    # A fork of ours ends with its parent.
    if os.getpid() != _state.pid:
        return

    # When all is closed; when the exception must come again; a second Ctrl-C, or another signal.
    if _state.code is not None:
        os._exit(_state.code)
    if _state.is_lost:
        _state.is_lost = False
        raise Stopped(128 + signum)
    if _state.stopped is not None:
        if signum == signal.SIGINT and time.monotonic() - _state.stopped > SAME_SECONDS:
            os._exit(128 + signum)
        return

    stop(signum)


def _leave() -> None:
    """The last second, in which Python takes itself apart: where a signal has stopped us it is not
    waited for; else Ctrl-C comes too late, all is done."""
    if _state.stopped is None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(_state.code)


def _let_go() -> None:
    """At the end, what is in memory is left to the system: to look through the half million objects
    of torch and MLflow for unused ones takes 1.5 s. Nothing is lost: whatever libraries do at the
    end they do, threads were waited for, and what nobody closed is written to its file here."""
    written = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)  # a text before its bytes
    found = [one for one in gc.get_objects() if type(one) in written]
    for stream in sorted(found, key=lambda one: written.index(type(one))):
        with contextlib.suppress(OSError, ValueError):  # a broken pipe; one that is closed
            stream.flush()
    gc.freeze()


def _say(signum: int) -> None:
    """The line. It goes past sys.stderr, which may be in the middle of a line."""
    _state.stopped = time.monotonic()
    if IS_SAID in os.environ or not ranks.is_first_of_node():
        return
    how = "" if signum == signal.SIGINT else f" by {signal.Signals(signum).name}"
    line = f"{_state.name} stopped{how}: {_state.kept}; {_state.go_on}\n"
    with contextlib.suppress(OSError):
        # On a terminal over ^C and a progress bar.
        os.write(2, (b"\r\x1b[K" if os.isatty(2) else b"") + line.encode())


def _not_lost(unraisable: Any) -> None:
    """Python calls it for an exception that nobody can catch, as in a destructor: ours comes again
    a little later."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    _state.is_lost = True
    signum = unraisable.exc_value.code - 128
    again = threading.Timer(LOST_SECONDS, os.kill, [os.getpid(), signum])
    again.daemon = True
    again.start()
