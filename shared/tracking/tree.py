"""The runs of a journal in MLflow: found or made there when the first entry of one is delivered,
below their parents, in the experiment of the parent."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.files.owned import one_at_a_time
from shared.tracking import store
from shared.tracking.journal import MadeNote, RunNote, warn

UID = "pipeline.journal"  # tag by which a run is found again
PARENT = "mlflow.parentRunId"
# MLflow's client takes an empty answer, of whoever stands before MLflow, as a success.
RUN_ID, OTHER = re.compile("[0-9a-f]{32}"), "it answers, but not as MLflow does"


class Gone(Exception):
    """A person deleted the run, or MLflow does not know it: nothing can be logged to it."""


class Counted:
    """An MlflowClient that counts what it is answered."""

    def __init__(self, client, count: Callable[[], None]):
        self._client, self._count = client, count

    def __getattr__(self, name: str):
        call = getattr(self._client, name)
        if not callable(call):
            return call

        def counted(*arguments, **options):
            answer = call(*arguments, **options)
            self._count()
            return answer

        return counted


class Tree:
    """The runs of one journal on one MLflow store.

    Attributes:
        answers: How often MLflow has answered; it grows while there is progress.
    """

    def __init__(self, folder: Path, uri: str):
        self.folder, self.uri = folder, uri
        self.answers = 0
        self._ids: dict[str, MadeNote] = {}
        self._notes: dict[str, RunNote] = {}  # also those that the disk did not take
        self._client = None

    @property
    def client(self):
        """Raises Unreachable where the store cannot be opened."""
        if self._client is None:
            try:
                self._client = Counted(store.open_client(self.uri), self.count_answer)
            except Exception as error:
                raise store.Unreachable(store.one_line(error)) from error
        return self._client

    def count_answer(self) -> None:
        self.answers += 1

    def note(self, run: str, note: RunNote | None = None) -> RunNote:
        """What a run is made from; given, it is kept for the case that the disk has no place.

        Raises Gone where nobody wrote it down."""
        if note is not None:
            self._notes[run] = note
        found = RunNote.read(RunNote.file(self.folder, run)) or self._notes.get(run)
        if found is None:
            raise Gone(f"the journal {self.folder} has lost what the run {run} is made from")
        return found

    def known_id(self, run: str) -> MadeNote | None:
        """As which run MLflow has it, by the last delivery."""
        return self._ids.get(run) or MadeNote.read(MadeNote.file(self.folder, run))

    def id_of(self, run: str) -> str:
        """The MLflow id of a run, which is made where it is not there.

        Raises Unreachable, or Gone."""
        if run not in self._ids:
            with self._alone():
                made = self._find_or_make(run)
                made.write(MadeNote.file(self.folder, run))
            self._ids[run] = made
        return self._ids[run].run_id

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside, no other delivery of this journal makes a run."""
        with contextlib.ExitStack() as alone:
            # No place, no rights: then no other process writes here either.
            with contextlib.suppress(OSError):
                alone.enter_context(one_at_a_time(self.folder / "making.lock", mode=0o600))
            yield

    def _find_or_make(self, run: str) -> MadeNote:
        # A run that somebody else made.
        note = self.note(run)
        if note.given_id:
            found = self._active(note.given_id, note)
            if found is None:
                raise store.Unreachable(f"it has no run {note.given_id} (MLFLOW_RUN_ID)")
            return found

        # One that an earlier delivery made, on this store.
        made = MadeNote.read(MadeNote.file(self.folder, run))
        if made and (found := self._active(made.run_id, note)):
            return found

        # Where it belongs; and whether it is there, the reply being lost.
        parent = self._parent_of(note)
        experiment = parent.experiment_id if parent else self._experiment(note)
        with _unreachable():
            ours = f"tags.`{UID}` = '{note.uid}'"
            for found in self.client.search_runs([experiment], ours, max_results=1):
                return MadeNote(found.info.run_id, experiment)

            # A new one.
            tags = {**note.tags, UID: note.uid}
            if parent:
                tags[PARENT] = parent.run_id
            new = self.client.create_run(experiment, note.started, tags, note.name)
        if not RUN_ID.fullmatch(new.info.run_id) or not self._active(new.info.run_id, note):
            raise store.Unreachable(OTHER)
        return MadeNote(new.info.run_id, experiment)

    def _parent_of(self, note: RunNote) -> MadeNote | None:
        """Raises Unreachable while the parent cannot be made: a child without it is never made."""
        if note.parent:
            if note.parent not in self._ids:
                made = self._find_or_make(note.parent)
                made.write(MadeNote.file(self.folder, note.parent))
                self._ids[note.parent] = made
            return self._ids[note.parent]
        if note.parent_id:
            found = self._active(note.parent_id, note)
            if found is None:
                warn(f"{note.name}: its parent {note.parent_id} is not there; it stands alone.")
            return found
        return None

    def _active(self, run_id: str, note: RunNote) -> MadeNote | None:
        """A run that can be logged to; None where the store does not know it. That of a deleted
        experiment is restored with it.

        Raises Gone where a person deleted the run itself."""
        with _unreachable():
            try:
                info = self.client.get_run(run_id).info
            except Exception as error:
                if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
            if info.run_id != run_id:
                raise store.Unreachable(OTHER)
            if info.lifecycle_stage == "active":
                return MadeNote(run_id, info.experiment_id)
            experiment = self.client.get_experiment(info.experiment_id)
            if experiment.lifecycle_stage == "active":
                raise Gone(f"{note.name} was deleted in MLflow: the rest stays in {self.folder}.")
            self._restore(experiment)
        return MadeNote(run_id, info.experiment_id)

    def _restore(self, experiment) -> None:
        self.client.restore_experiment(experiment.experiment_id)
        warn(
            f"the experiment {experiment.name} was deleted: it is restored with its runs. "
            "Rename it to keep new runs out of it."
        )

    def _experiment(self, note: RunNote) -> str:
        """The id of the experiment of a run that has no parent, which is made where it is not
        there.

        Raises Unreachable."""
        with _unreachable():
            client = self.client  # opened before the lock, which it takes itself
            # By its id, as KFP's plugin gives it.
            if note.experiment_id:
                found = client.get_experiment(note.experiment_id)
                if found.experiment_id != note.experiment_id:
                    raise store.Unreachable(OTHER)
                if found.lifecycle_stage != "active":
                    self._restore(found)
                return note.experiment_id

            # By its name; of two that make one at once, one finds it made.
            with store.locked(self.uri):
                found = client.get_experiment_by_name(note.experiment)
                if found is None:
                    place = store.artifacts_of(self.uri)
                    try:
                        client.create_experiment(note.experiment, artifact_location=place)
                    except Exception as error:
                        if getattr(error, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                            raise
                    found = client.get_experiment_by_name(note.experiment)
            if found is None or found.name != note.experiment:
                raise store.Unreachable(OTHER)
            if found.lifecycle_stage != "active":
                self._restore(found)
            return found.experiment_id

    def forget(self, run: str) -> None:
        """Look for a run again before the next call: it was deleted meanwhile."""
        self._ids.pop(run, None)

    def keeps_files_elsewhere(self, run: str) -> str | None:
        """Where a local store would put the files of a run although that is not beside its
        database, which was moved or copied; else None."""
        place = store.artifacts_of(self.uri)
        if place is None:
            return None
        with _unreachable():
            where = self.client.get_run(self.id_of(run)).info.artifact_uri
        ours = f"/{store.ARTIFACTS}/" in where  # else the place was chosen by somebody
        return where if ours and not where.startswith(f"{place}/") else None


@contextlib.contextmanager
def _unreachable() -> Iterator[None]:
    """Whatever goes wrong before a run is there may go well later: the address may be wrong."""
    try:
        yield
    except (store.Unreachable, Gone):
        raise
    except Exception as error:
        raise store.Unreachable(store.one_line(error)) from error
