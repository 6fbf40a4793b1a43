"""Starting a process for each device of this machine, of a training here or on several nodes.

torch's elastic launcher would do it, but it waits for other nodes inside torch, where no signal is
heard, and knows nothing of why they end."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from components.train.devices.lookout import Lookout
from components.train.devices.meeting import (
    Ended,
    Meeting,
    RefusedElsewhere,
    use_interface_to,
)
from components.train.devices.world import MEETING_IS_OPEN, STARTED_BY_TORCHRUN, World
from shared.errors import InputError, WorkFailed
from shared.terminal import stopping

Said = list[tuple[int, str, Any]]  # rank, what it is, its text or value, as they come
LOOK_S = 0.1  # a process that its own workers outlive is seen to have ended only by asking
CAUSE_S = 5.0  # for the rank that was first to fail to say why, where another was quicker


def launch(meeting: Meeting, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call `function(*arguments)` in a new process for each rank of this node; what the first
    returns.

    The function is one of a module, and it and the arguments can be pickled. One process that fails
    ends all. Raises InputError or WorkFailed where one of them did, else RuntimeError with the
    traceback of the first that failed."""
    world = meeting.world
    if world.nodes > 1:
        use_interface_to(world.address)
    context = multiprocessing.get_context("spawn")
    ranks: dict[int, multiprocessing.Process] = {}
    notes: dict[int, Connection] = {}
    said: Said = []
    try:
        with _no_ctrl_c_for_ranks():
            for local_rank in range(world.local_size):
                rank = world.rank + local_rank
                notes[rank], note = context.Pipe(duplex=False)
                work = (note, function, arguments)
                process = context.Process(target=_be_a_rank, args=work, name=f"rank {rank}")
                with _environment(_as_torchrun(meeting, rank, local_rank)):
                    process.start()
                note.close()
                ranks[rank] = process
        return _first_value(ranks, notes, said)
    finally:
        _end(ranks.values())


def _as_torchrun(meeting: Meeting, rank: int, local_rank: int) -> dict[str, str]:
    """What torchrun would set, and what makes torch and the rank quiet."""
    world = meeting.world
    numbers = dict(RANK=rank, WORLD_SIZE=world.size, LOCAL_RANK=local_rank)
    numbers |= dict(LOCAL_WORLD_SIZE=world.local_size)
    numbers |= dict(MASTER_ADDR=meeting.address, MASTER_PORT=meeting.port)
    numbers |= {STARTED_BY_TORCHRUN: "launch", MEETING_IS_OPEN: True, stopping.IS_SAID: 1}
    quiet = {"TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR")}
    return {name: str(value) for name, value in numbers.items()} | quiet


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Inside, new processes have these."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def _no_ctrl_c_for_ranks() -> Iterator[None]:
    """Processes that are started inside do not see Ctrl-C before `_be_a_rank`: while Python loads
    torch for them they would say where they were.

    They inherit which signals this thread blocks; another one then takes those of this process."""
    # It would unblock the signal when a process needs it; that it tidies up after ranks that were
    # ended is of no interest.
    with _environment({"PYTHONWARNINGS": "ignore"}):
        resource_tracker.ensure_running()
    over = threading.Event()
    threading.Thread(target=over.wait, daemon=True).start()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        over.set()


# What the ranks say.


def _first_value(
    ranks: dict[int, multiprocessing.Process],
    notes: dict[int, Connection],
    said: Said,
) -> Any:
    """What the first rank returns, once all have ended well."""
    running, until = set(ranks), None
    while running:
        watched = [notes[rank] for rank in running] + [ranks[rank].sentinel for rank in running]
        wait(watched, LOOK_S)
        for rank in sorted(running):
            has_ended = ranks[rank].exitcode is not None  # asked first: its note is complete then
            with contextlib.suppress(EOFError):
                while notes[rank].poll():
                    said.append((rank, *notes[rank].recv()))
            if has_ended:
                running.discard(rank)
        if any(process.exitcode for process in ranks.values()):
            until = until or time.monotonic() + CAUSE_S
            cause = _cause(ranks, said)
            is_known = not isinstance(cause, Ended | RefusedElsewhere) or len(said) == len(ranks)
            if is_known or time.monotonic() > until:
                raise cause
    if until:
        raise _cause(ranks, said)
    first = min(ranks)
    return next(value for rank, kind, value in said if (rank, kind) == (first, "value"))


def _cause(ranks: dict[int, multiprocessing.Process], said: Said) -> Exception:
    """The refusal or error that came first: the other ranks then lost their connection to that
    one."""
    kinds = {"refusal": InputError, "failure": WorkFailed}
    kinds |= {"refusal elsewhere": RefusedElsewhere, "end elsewhere": Ended}
    for rank, kind, text in said:
        if kind in ("refusal", "failure"):
            return kinds[kind](text)
        if kind == "traceback":
            return RuntimeError(f"rank {rank} failed, and all were ended:\n{text}")
    for rank, process in ranks.items():
        if process.exitcode and rank not in {other for other, _, _ in said}:
            how = f"ended with exit code {process.exitcode}"
            if process.exitcode < 0:
                how = f"was killed by {signal.Signals(-process.exitcode).name}"
            return WorkFailed(
                f"rank {rank} {how} without a message, and all were ended; look for it in the "
                "system's log."
            )
    return next(kinds[kind](text) for _, kind, text in said if kind in kinds)


def _end(processes: Iterable[multiprocessing.Process]) -> None:
    for end in (multiprocessing.Process.terminate, multiprocessing.Process.kill):
        for process in processes:
            end(process)
        until = time.monotonic() + CAUSE_S
        for process in processes:
            process.join(max(0, until - time.monotonic()))


# In a new process.


def _be_a_rank(note: Connection, function: Callable[..., Any], arguments: tuple) -> None:
    """Call the function; say what came of it to `launch`."""
    # Ctrl-C ends it, and so does the end of the process that launched it, which says the line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()

    world = World.from_environment()
    torch.set_num_threads(max(1, torch.get_num_threads() // world.local_size))

    def end_here(end: Exception) -> None:
        note.send((_kind(end), str(end)))
        os._exit(1)

    Lookout.end = staticmethod(end_here)
    try:
        note.send(("value", function(*arguments)))
    except Exception as error:
        kind = _kind(error)
        note.send((kind, traceback.format_exc() if kind == "traceback" else str(error)))
        raise SystemExit(1) from None


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _kind(end: Exception) -> str:
    match end:
        case RefusedElsewhere():
            return "refusal elsewhere"
        case Ended():
            return "end elsewhere"
        case InputError():
            return "refusal"
        case WorkFailed():
            return "failure"
    return "traceback"
