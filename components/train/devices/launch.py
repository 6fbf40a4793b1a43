"""Starting a process for each device of this machine, by torch's elastic launcher."""

import contextlib
import json
import logging
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from components.train.devices.world import World
from shared.errors import InputError, WorkFailed
from shared.files.writing import write_atomically
from shared.terminal import stopping

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def must_launch(devices: int) -> bool:
    """Whether --devices asks for processes that nobody has started yet."""
    return devices > 1 and World.from_environment().size == 1


def launch(devices: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(*arguments)` in as many new processes of this machine as there are devices;
    what rank 0 returns.

    The function is one of a module, and it and the arguments can be pickled. One process that fails
    ends all. Raises InputError or WorkFailed where one of them did, else RuntimeError with the
    traceback of the first that failed."""
    with tempfile.TemporaryDirectory() as folder, _without_side_effects(), _no_ctrl_c_for_ranks():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=Path(folder).name,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",  # a container's own name may not resolve
            max_restarts=0,
            # seconds; the first to fail must be seen before those that fail because of it
            monitor_interval=0.02,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            return elastic_launch(config, _be_a_rank)(Path(folder), function, arguments)[0]
        except ChildFailedError as failure:
            raise _cause(failure, Path(folder)) from None
        except SignalException as stop:
            stopping.stop(stop.sigval)


@contextlib.contextmanager
def _without_side_effects() -> Iterator[None]:
    """torch's launcher sets signal handlers and leaves them, and logs what `launch` says better."""
    handlers = {stop: signal.getsignal(stop) for stop in STOPS}
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        for stop, handler in handlers.items():
            if signal.getsignal(stop) != handler:
                signal.signal(stop, handler)


@contextlib.contextmanager
def _no_ctrl_c_for_ranks() -> Iterator[None]:
    """Processes that are started inside do not see Ctrl-C before `_be_a_rank`: while Python loads
    torch for them they would say where they were.

    They inherit which signals this thread blocks; another one then takes those of this process."""
    resource_tracker.ensure_running()  # it would unblock the signal when a process needs it
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        over.set()


def _be_a_rank(folder: Path, function: Callable[..., Any], arguments: tuple) -> Any:
    """Call the function in a new process; leave a note of what went wrong, to which `launch`
    turns."""
    # Ctrl-C ends it; the process that launched it says the line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    world = World.from_environment()
    torch.set_num_threads(max(1, torch.get_num_threads() // world.size))

    def note(**what) -> None:
        content = {"rank": world.rank, "time": time.time()} | what
        write_atomically(folder / f"rank_{world.rank}.json", json.dumps(content).encode())

    try:
        return function(*arguments)
    except InputError as refusal:
        note(refusal=str(refusal))
        raise
    except WorkFailed as failure:
        note(failure=str(failure))
        raise
    except Exception:
        note(traceback=traceback.format_exc())
        raise


def _cause(failure: ChildFailedError, folder: Path) -> Exception:
    """The refusal or error that came first: the other ranks then lost their connection to that
    one."""
    notes = [json.loads(path.read_bytes()) for path in folder.glob("rank_*.json")]
    notes.sort(key=lambda note: note["time"])
    for note in notes:
        if "refusal" in note:
            return InputError(note["refusal"])
        if "failure" in note:
            return WorkFailed(note["failure"])
    rank, first = failure.get_first_failure()
    if rank in {note["rank"] for note in notes}:
        return RuntimeError(
            f"rank {notes[0]['rank']} failed, and all were ended:\n{notes[0]['traceback']}"
        )
    how = f"ended with exit code {first.exitcode}"
    if first.exitcode < 0:
        how = f"was killed by {first.signal_name()}"
    return WorkFailed(
        f"rank {rank} {how} without a message, and all were ended; look for it in the system's log."
    )
