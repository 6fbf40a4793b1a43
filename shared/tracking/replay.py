"""What MLflow missed is delivered later: at the end of a pipeline, by `pipeline.py sync`, by the
next run. Runs of processes that died are closed on the way."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from shared.secrets import without_secrets
from shared.servers import patience_s, within
from shared.tracking.delivery import Delivery
from shared.tracking.journal import (
    Entry,
    Position,
    RunNote,
    append_to,
    journals_in,
    now_ms,
    of_dead_process,
)
from shared.tracking.tree import Tree

BUSY = "a process still writes or delivers it"
KILLED = "its process ended without a word: it was killed, or the machine went down"


@dataclass(frozen=True)
class Delivered:
    """What a replay did."""

    delivered: int = 0  # entries
    left: int = 0  # entries that MLflow has not taken
    reasons: tuple[str, ...] = ()  # why
    is_down: bool = False  # MLflow does not take anything

    def __add__(self, other: "Delivered") -> "Delivered":
        return Delivered(
            self.delivered + other.delivered,
            self.left + other.left,
            tuple(dict.fromkeys(self.reasons + other.reasons)),
            self.is_down or other.is_down,
        )


def replay(journal: Path, uri: str) -> Delivered:
    """Deliver what a journal holds and MLflow has not taken; that of a living process is left to
    it. Raises nothing.

    Args:
        journal: The folder of a run's journal.
        uri: MLflow's store.
    """
    close_dead(journal)
    tree, total = Tree(journal, uri), Delivered()
    for file in journals_in(journal):
        with contextlib.suppress(FileNotFoundError), of_dead_process(file) as is_dead:
            delivery = Delivery(file, tree)
            if not is_dead:
                left = delivery.left()
                total += Delivered(left=left, reasons=(BUSY,) if left else ())
            elif total.is_down:  # do not wait again
                total += Delivered(left=delivery.left())
            else:
                total += _deliver(delivery)
    return total


def _deliver(delivery: Delivery) -> Delivered:
    before = delivery.position.delivered
    if not any(delivery.pending(of_files) for of_files in (False, True)):
        return Delivered()
    try:
        done = within(patience_s(), delivery.deliver, lambda: delivery.progress)
    except TimeoutError as error:
        delivery.problem, delivery.is_down, done = str(error), True, False
    return Delivered(
        delivery.position.delivered - before,
        0 if done else delivery.left(),
        () if done else (delivery.problem,),
        is_down=delivery.is_down,
    )


def count_left(journal: Path) -> Delivered:
    """What MLflow has not taken, without asking it."""
    total = Delivered()
    for file in journals_in(journal):
        delivery = Delivery(file, Tree(journal, ""))
        total += Delivered(left=delivery.left())
    return total


def is_delivered(journal: Path) -> bool:
    """Whether MLflow has everything of a journal, and nobody who died has a run open: told by a
    look at sizes, since old runs are many."""
    for file in journals_in(journal):
        position = Position.read(Position.file(file)) or Position()
        try:
            size = file.stat().st_size
        except OSError:
            return True
        if position.postponed or min(position.figures, position.files) < size:
            return False
    return all(
        (RunNote.read(note) or RunNote("", "", 0, status="FINISHED")).status != "RUNNING"
        for note in journal.glob("*.run.json")
    )


def replay_earlier(runs: Path, uri: str, but: Path) -> None:
    """Deliver what MLflow missed of earlier runs, those of the same store, and close runs whose
    processes died.

    Args:
        runs: Folder of the runs.
        but: The journal of the run that has just begun.
    """
    for journal in sorted(runs.glob("*/journal")):
        if journal != but and not is_delivered(journal) and uri_of(journal) == without_secrets(uri):
            if replay(journal, uri).is_down:
                return


def uri_of(journal: Path) -> str:
    """The store that a journal was made for, without secrets; "" where there is none."""
    notes = [RunNote.read(note) for note in sorted(journal.glob("*.run.json"))]
    return next((note.uri for note in notes if note and note.uri), "")


def close_dead(journal: Path, reason: str = KILLED) -> list[str]:
    """Write down the end, as KILLED, of every run whose process is gone without having done so.

    Args:
        journal: The folder of a run's journal.
        reason: Why, for people: a tag of the run.

    Returns:
        The names of these runs in the journal.
    """
    closed = []
    for place in sorted(journal.glob("*.run.json")):
        note, run = RunNote.read(place), place.name.removesuffix(".run.json")
        if note is None or note.status != "RUNNING" or not note.opened_by:
            continue
        file = journal / note.opened_by
        with contextlib.suppress(OSError), of_dead_process(file) as is_dead:
            if is_dead:
                ended = int(file.stat().st_mtime * 1000)
                append_to(file, _entry(run, "tags", ended, values={"failure": reason}))
                append_to(file, _entry(run, "end", ended, status="KILLED"))
                note.status = "KILLED"
                note.write(place)
                closed.append(run)
    return closed


def _entry(run: str, kind: str, time_ms: int, **content) -> Entry:
    return {"run": run, "kind": kind, "time": min(time_ms, now_ms()), **content}
