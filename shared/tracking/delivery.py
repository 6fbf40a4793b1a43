"""What a journal holds goes to MLflow: in batches, each call failing alone, again and again until
it is there."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from shared.secrets import without_secrets
from shared.tracking import store
from shared.tracking.journal import Entry, Position, read_entries, warn
from shared.tracking.sending import OF_FILES, Figure, send, send_figures
from shared.tracking.store import Refused, Unreachable
from shared.tracking.tree import UID, Gone, Tree

MOST = {"metrics": 900, "params": 90, "tags": 90}  # of one call; MLflow takes 1000, 100 and 100
LONGEST_LINE = 1 << 20  # bytes
MOST_IN_A_ROW = 3  # calls that fail alone: then the store is taken to be down

Placed = tuple[int, int, Entry]  # an entry, and where it begins and ends in its file


class BeginAgain(Exception):
    """MLflow has lost the run: everything goes to a new one."""


@dataclass
class Batch:
    """Entries that go in one call: figures of one run, or one entry of another kind."""

    placed: list[Placed]
    figures: dict[str, list[Figure]] = field(default_factory=dict)  # by kind of entry

    @property
    def run(self) -> str:
        return self.placed[0][2]["run"]

    def takes(self, entry: Entry) -> bool:
        """Whether the entry fits into this call."""
        kind = entry["kind"]
        if not self.figures or kind not in MOST or entry["run"] != self.run:
            return False
        there = self.figures.get(kind, [])
        again = kind != "metrics" and any(figure[1] in entry["values"] for figure in there)
        return not again and len(there) + len(entry["values"]) <= MOST[kind]

    def add_figures(self, entry: Entry) -> None:
        kind, step, time = entry["kind"], entry.get("step", 0), entry["time"]
        figures = self.figures.setdefault(kind, [])
        figures += [(kind, key, value, step, time) for key, value in entry["values"].items()]

    @property
    def title(self) -> str:
        """What a warning calls it."""
        entry = self.placed[0][2]
        if self.figures:
            return f"{self.run}: {', '.join(self.figures)}"
        name = entry.get("name") or entry.get("key") or entry.get("function") or ""
        return f"{self.run}: {entry['kind']} {name}".rstrip()


def batches(entries: Iterable[Placed]) -> Iterator[Batch]:
    """The calls that entries make, in their order."""
    batch: Batch | None = None
    for placed in entries:
        entry = placed[2]
        if batch and batch.takes(entry):
            batch.placed.append(placed)
        else:
            if batch:
                yield batch
            batch = Batch([placed])
        if entry["kind"] in MOST:
            batch.add_figures(entry)
    if batch:
        yield batch


class Delivery:
    """Takes the entries of one .jsonl to MLflow, and keeps how far it is.

    Attributes:
        problem: Why the last attempt did not deliver everything; "" where it did.
        is_down: Whether that was because the store takes nothing at all.
        sending: The file that is being sent.
    """

    def __init__(self, file: Path, tree: Tree):
        self.file, self.tree = file, tree
        self.position = Position.read(Position.file(file)) or Position()
        self.problem, self.is_down = "", False
        self.sending: Path | None = None
        self._warned: set[str] = set()
        self._looked_for: set[str] = set()  # runs, in this attempt

    # How much there is.

    @property
    def progress(self) -> tuple[int, int]:
        """What grows while MLflow answers, or takes a file."""
        sent, sending = 0, str(self.sending or "")
        if sending:
            with contextlib.suppress(psutil.Error, OSError):
                ours = [one for one in psutil.Process().open_files() if one.path == sending]
                sent = max((getattr(one, "position", 0) for one in ours), default=0)
        return self.tree.answers, sent

    def pending(self, of_files: bool) -> Iterator[Placed]:
        """What has not been delivered of the files, or of all else; what is postponed comes
        last."""
        with contextlib.suppress(OSError):
            for begin, end, entry in read_entries(self.file, self._position(of_files)):
                if entry and (entry["kind"] in OF_FILES) == of_files:
                    yield begin, end, entry
            for begin in tuple(self.position.postponed):
                for _, end, entry in itertools.islice(read_entries(self.file, begin), 1):
                    if entry and (entry["kind"] in OF_FILES) == of_files:
                        yield begin, end, entry

    def left(self) -> int:
        """Entries that MLflow has not taken."""
        return sum(1 for of_files in (False, True) for _ in self.pending(of_files))

    def catch_up(self) -> None:
        """Go on where another process is further: of one that is gone anybody may deliver."""
        found = Position.read(Position.file(self.file))
        if found and found.delivered > self.position.delivered:
            self.position = found

    # The way.

    def deliver(self) -> bool:
        """Deliver what there is; whether all of it is in MLflow now. Raises nothing."""
        self.problem, self.is_down = "", False
        self._looked_for.clear()
        try:
            for of_files in (False, True):
                whole = self._whole_lines()
                if self._deliver(self.pending(of_files)):
                    self._move_on(of_files, whole)
        except BeginAgain:
            return self.deliver()
        return not self.problem

    def deliver_unwritten(self, entries: list[Entry]) -> list[Entry]:
        """Deliver entries that are in no file; those that have to come again."""
        for number, batch in enumerate(calls := list(batches((0, 0, one) for one in entries))):
            try:
                self._send_or_leave_out(batch)
            except (Unreachable, BeginAgain) as error:
                self.problem = str(error) or "the run is made anew"
                return [entry for rest in calls[number:] for _, _, entry in rest.placed]
        return []

    def _deliver(self, entries: Iterable[Placed]) -> bool:
        """Whether it came to the end. Raises BeginAgain."""
        in_a_row = 0
        for batch in batches(entries):
            postponed = batch.placed[0][0] in self.position.postponed
            try:
                self._send_or_leave_out(batch)
                in_a_row = 0
            except Unreachable as error:
                # The whole store, or this call alone?
                self.problem = str(error)
                in_a_row += not postponed
                self.is_down = not self._answers(batch.run)
                if self.is_down or in_a_row >= MOST_IN_A_ROW:
                    return False
                if not postponed:
                    self._warn(f"{batch.title} is tried again later: {error}")
                    self.position.postponed += [begin for begin, _, _ in batch.placed]
            else:
                self._has_taken(batch)
            self._move_on(batch.placed[0][2]["kind"] in OF_FILES, batch.placed[-1][1])
        return True

    def _send_or_leave_out(self, batch: Batch) -> None:
        """Raises Unreachable or BeginAgain; what is refused costs a warning."""
        try:
            run_id = self._id_of(batch.run)
            try:
                self._send(batch, run_id)
            except Refused as refusal:
                # Because the run has gone meanwhile?
                self.tree.forget(batch.run)
                self._id_of(batch.run)
                self._narrow_down(batch, run_id, refusal)
        except Gone as gone:
            self._leave_out(str(gone))
        self.tree.count_answer()

    def _id_of(self, run: str) -> str:
        """Raises Unreachable, Gone, or BeginAgain where it is another run than before."""
        if run not in self._looked_for:
            self.tree.forget(run)
        run_id = self.tree.id_of(run)
        self._looked_for.add(run)
        before = self.position.run_ids.setdefault(run, run_id)
        if before != run_id:
            warn(f"{run} is not in {without_secrets(self.tree.uri)} any more: made anew.")
            self.position = Position(run_ids=self.position.run_ids | {run: run_id})
            raise BeginAgain
        return run_id

    def _send(self, batch: Batch, run_id: str) -> None:
        """Raises Unreachable or Refused."""
        with store.judged():
            if batch.figures:
                send_figures(self.tree.client, run_id, sum(batch.figures.values(), []))
                return
            entry = batch.placed[0][2]
            if "path" in entry:
                self.sending = (self.tree.folder / entry["path"]).resolve()
            try:
                send(self.tree, run_id, entry, self.file.name)
            finally:
                self.sending = None

    def _narrow_down(self, batch: Batch, run_id: str, refusal: Refused) -> None:
        """Send by ever smaller parts what was refused together. Raises Unreachable."""
        figures = sum(batch.figures.values(), [])
        if len(figures) < 2:
            what = f"{figures[0][0].removesuffix('s')} {figures[0][1]}" if figures else ""
            title = f"{batch.run}: {what}" if what else batch.title
            self._leave_out(f"{title} is left out: {refusal}")
            return
        for half in (figures[: len(figures) // 2], figures[len(figures) // 2 :]):
            part = Batch(batch.placed, {half[0][0]: half})
            try:
                self._send(part, run_id)
            except Refused as again:
                self._narrow_down(part, run_id, again)

    def _answers(self, run: str) -> bool:
        """Whether the store takes anything at all for a run."""
        try:
            with store.judged():
                run_id = self.tree.id_of(run)
                self.tree.client.set_tag(run_id, UID, self.tree.note(run).uid)
        except (Unreachable, Refused, Gone):
            return False
        return True

    # How far it is.

    def _has_taken(self, batch: Batch) -> None:
        begins = {begin for begin, _, _ in batch.placed}
        self.position.postponed = [
            begin for begin in self.position.postponed if begin not in begins
        ]
        self.position.delivered += len(batch.placed)
        for _, _, entry in batch.placed:
            if entry.get("is_copy"):
                with contextlib.suppress(OSError):
                    (self.tree.folder / entry["path"]).unlink()

    def _position(self, of_files: bool) -> int:
        return self.position.files if of_files else self.position.figures

    def _whole_lines(self) -> int:
        """Where the last whole line ends."""
        try:
            with open(self.file, "rb") as lines:
                size = lines.seek(0, os.SEEK_END)
                begin = lines.seek(max(0, size - LONGEST_LINE))
                return begin + lines.read().rfind(b"\n") + 1
        except OSError:
            return 0

    def _move_on(self, of_files: bool, end: int) -> None:
        if of_files:
            self.position.files = max(self.position.files, end)
        else:
            self.position.figures = max(self.position.figures, end)
        self.position.write(Position.file(self.file))

    def _leave_out(self, sentence: str) -> None:
        self.position.refused += 1
        self._warn(sentence)

    def _warn(self, sentence: str) -> None:
        """Each one once."""
        if sentence not in self._warned:
            self._warned.add(sentence)
            warn(sentence)
