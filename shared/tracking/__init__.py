"""MLflow: the run of a step and of a whole pipeline, and what they log. It never stops a step.

Every call is first a line of a journal in the run's folder (journal.py), which a thread delivers
(courier.py, delivery.py); what a slow, hanging or absent MLflow did not take is delivered later
(replay.py).

Environment, by which steps find their place:
    MLFLOW_TRACKING_URI     the store; without it, and without a journal, nothing is logged
    PIPELINE_STORE          the same store as others reach it, where that is another address
    MLFLOW_EXPERIMENT_NAME, MLFLOW_EXPERIMENT_ID
                            of a run that has no parent; the id goes first
    MLFLOW_RUN_ID           go on with that run, which somebody else closes: KFP's MLflow plugin
    PIPELINE_PARENT_RUN_ID  MLflow's id of the parent, where it has no journal here
    PIPELINE_JOURNAL, PIPELINE_RUN
                            folder of the journal and name of the pipeline's run
    PIPELINE_DELIVERS       the pipeline's process delivers the journal of a step, which then needs
                            no MLflow
"""

import contextlib
import functools
import getpass
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.errors import runs_flag
from shared.secrets import without_secrets
from shared.servers import patience_s, within
from shared.terminal import ranks
from shared.tracking import store
from shared.tracking.courier import Courier
from shared.tracking.delivery import MOST, Delivery
from shared.tracking.journal import FILES, Journal, RunNote, curve_ends, now_ms, warn
from shared.tracking.names import legal_file, legal_folder, legal_key
from shared.tracking.replay import count_left, replay, replay_earlier
from shared.tracking.system import EVERY_S, Sampler
from shared.tracking.tree import Tree

EXPERIMENT, EXPERIMENT_ID = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"
RUN_ID, PARENT = "MLFLOW_RUN_ID", "PIPELINE_PARENT_RUN_ID"
JOURNAL, PIPELINE = "PIPELINE_JOURNAL", "PIPELINE_RUN"
DELIVERS = "PIPELINE_DELIVERS"

PIPELINE_TITLE = "pipeline"  # name of a pipeline's run in its journal
STEPS_ALONE = "single steps"  # experiment of a step outside of a pipeline
GIT_S = 10.0  # on a file system that does not answer, git neither
MOST_COPIED_BYTES = 16_000_000  # of a file that cannot be linked


@dataclass(frozen=True)
class RunHandle:
    """An open run, for another process that goes on with it."""

    journal: Path
    run: str  # its name there


@dataclass
class OpenRun:
    """The run that this process logs to."""

    run: str  # its name in the journal
    note: RunNote
    journal: Journal
    courier: Courier | None  # None = no store, the journal alone, or another process delivers it
    is_delivered: bool = False  # at its end
    # Last steps of curves and pictures that an earlier process has logged further than this one is.
    ends: dict[str, int] = field(default_factory=dict)

    def goes_on(self, key: str, step: int) -> bool:
        """Whether a curve or a series of pictures has nothing at this step, nor behind it."""
        return key not in self.ends or step > self.ends[key]


@dataclass(frozen=True)
class Links:
    """Pages of the UI."""

    run: str
    experiment: str  # its runs as a table


_open: OpenRun | None = None


# Runs.


@contextlib.contextmanager
def step_run(
    step: str, params: dict, output: Path | None = None, asks: bool = False
) -> Iterator[None]:
    """Open the run of a step; it ends with the status of the block.

    Args:
        step: Name of the run.
        output: Folder that the step writes. Outside of a pipeline the journal stands beside it,
            as `<output>.journal`.
        asks: Whether the step asks MLflow for its own run, by `run_id`; then it delivers itself.
    """
    # In a distributed training rank 0 speaks for all.
    if not ranks.is_main():
        os.environ.pop(store.URI, None)
        os.environ.pop(JOURNAL, None)

    # Inside a pipeline its journal; alone one of its own, if there is somebody to tell.
    if folder := os.environ.get(JOURNAL):
        journal = Path(folder)
    elif store.URI in os.environ:
        journal = (
            (output or Path("runs") / step)
            .absolute()
            .with_name(f"{(output or Path(step)).name}.journal")
        )
    else:
        yield
        return

    # Its parent, and its experiment where it has none.
    parent = os.environ.get(PIPELINE) and PIPELINE_TITLE
    note = RunNote(
        name=step,
        uid=secrets.token_hex(16),
        started=now_ms(),
        experiment=os.environ.get(EXPERIMENT, STEPS_ALONE),
        experiment_id=os.environ.get(EXPERIMENT_ID),
        parent=parent,
        parent_id=None if parent else os.environ.get(PARENT),
        given_id=os.environ.get(RUN_ID),
    )
    how = dict(again=bool(parent), leave=DELIVERS in os.environ and not asks)
    with _run(journal, step, note, {"step": step}, params, **how):
        sampler = _sampler()
        try:
            yield
        finally:
            sampler.stop()


@contextlib.contextmanager
def pipeline_run(
    experiment: str, name: str, params: dict, tags: dict, runs: Path, of_steps: bool = False
) -> Iterator[None]:
    """Open the parent run of a pipeline run; steps started inside become its children, through the
    environment. The same name again goes on with that run.

    Args:
        experiment: Name of the experiment: the recipe.
        name: Name of the run, and of its folder in `runs`, which takes the journal.
        params: Numbers of all steps, by STEP.FIELD.
        runs: Folder of the runs, and of the store `mlflow.db` where there is no
            MLFLOW_TRACKING_URI.
        of_steps: Deliver here what the steps say, so that none of them needs MLflow: they run on
            this machine, whose locks they see.
    """
    # The way to the run for the steps.
    os.environ.setdefault(store.URI, store_uri(runs))
    journal = runs.resolve() / name / "journal"
    os.environ |= {EXPERIMENT: experiment, JOURNAL: str(journal), PIPELINE: name}
    os.environ.pop(PARENT, None)
    os.environ.pop(DELIVERS, None)
    if of_steps:
        os.environ[DELIVERS] = "true"
    note = RunNote(
        name=name,
        uid=secrets.token_hex(16),
        started=now_ms(),
        experiment=experiment,
        experiment_id=os.environ.pop(EXPERIMENT_ID, None),
        given_id=os.environ.pop(RUN_ID, None),
    )

    # The run, and meanwhile what was left of earlier ones.
    uri = os.environ[store.URI]
    opened = None
    try:
        how = dict(again=True, of_steps=of_steps)
        with _run(journal, PIPELINE_TITLE, note, tags, params, **how) as opened:
            earlier = (runs.resolve(), uri, journal)
            threading.Thread(target=replay_earlier, args=earlier, daemon=True).start()
            yield
    finally:
        # What its steps could not deliver, unless that is hopeless or there is no time.
        if opened and opened.note.status != "KILLED":
            done = replay(journal, uri) if opened.is_delivered else count_left(journal)
            if done.left:
                reasons = "; ".join(done.reasons) or "no answer"
                warn(
                    f"it has not taken {done.left} entries of {name} ({reasons}): "
                    f"`python pipeline.py sync --run {name}{runs_flag(runs)}` delivers them later."
                )


@contextlib.contextmanager
def continued(handle: RunHandle | None) -> Iterator[None]:
    """Go on with a run that another process has open, and will close after this one."""
    global _open
    if handle is None:
        yield
        return
    note = RunNote.read(RunNote.file(handle.journal, handle.run))
    journal = Journal(handle.journal, handle.run, DELIVERS in os.environ)
    _open = OpenRun(handle.run, note, journal, _courier(journal))
    try:
        yield
    finally:
        _close(_open)
        _open = None


@contextlib.contextmanager
def _run(
    folder: Path,
    title: str,
    note: RunNote,
    tags: dict,
    params: dict,
    again: bool,
    leave: bool = False,
    of_steps: bool = False,
) -> Iterator[OpenRun]:
    """Open a run that ends with the status of the block.

    Args:
        title: Its name in the journal, where no other run has it.
        note: What it is made from, if it is a new one.
        again: Go on with an earlier run of the title also where that has finished.
        leave: Leave the delivery to the pipeline's process.
        of_steps: Be that process.
    """
    global _open
    # The earlier run of the journal that is gone on with, or a new one.
    journal = Journal(folder, title, leave)
    run, earlier = _name_in(folder, title, note.given_id, again)
    note = earlier or note
    note.tags |= _source_tags()
    note.uri = without_secrets(os.environ.get(store.KNOWN_AS) or os.environ.get(store.URI, ""))
    note.opened_by, note.status = journal.file.name, "RUNNING"
    note.write(RunNote.file(folder, run))

    # Its first entries, and who delivers them.
    _open = opened = OpenRun(run, note, journal, None)
    journal.append(run, "start")
    set_tags(tags | code_version())
    log_params(params)
    opened.courier = _courier(journal, of_steps)
    if opened.courier:
        opened.courier.tree.note(run, note)

    # The block, and its end.
    try:
        yield opened
    except BaseException as error:
        note.status = _status(error)
        if note.status != "FINISHED":
            set_tags({"failure": store.one_line(error)})
        raise
    else:
        note.status = "FINISHED"
    finally:
        journal.append(run, "end", status=note.status)
        note.write(RunNote.file(folder, run))
        _close(opened)
        _open = None


def _status(error: BaseException) -> str:
    """How MLflow calls the end by an exception."""
    code = error.code if isinstance(error, SystemExit) else 1
    if code in (None, 0):
        return "FINISHED"
    return "KILLED" if isinstance(code, int) and code > 128 else "FAILED"


def _name_in(
    folder: Path, title: str, given_id: str | None, again: bool
) -> tuple[str, RunNote | None]:
    """The name in a journal of the run to open, and what is known of it if it is gone on with."""
    number, run, earlier = 1, title, RunNote.read(RunNote.file(folder, title))
    while earlier:
        same = earlier.given_id == given_id
        if same and (again or given_id or earlier.status != "FINISHED"):
            break
        number += 1
        run = f"{title}-{number}"
        earlier = RunNote.read(RunNote.file(folder, run))
    return run, earlier


def _courier(journal: Journal, of_steps: bool = False) -> Courier | None:
    """MLflow is loaded here, in the main thread, before anything else is loaded beside it."""
    uri = os.environ.get(store.URI)
    if not uri or journal.is_left:
        return None
    try:
        store.load_mlflow()
    except Exception as error:
        warn(f"it cannot be loaded ({error}): {journal.folder} keeps what it would be told.")
        return None
    return Courier(journal, uri, of_steps)


def _close(opened: OpenRun) -> None:
    """Wait, not for long, until MLflow has the entries."""
    if opened.courier:
        opened.is_delivered = opened.courier.flush()
        if not opened.is_delivered and not os.environ.get(PIPELINE):
            warn(
                f"{opened.courier.left()} entries of {opened.note.name} wait in "
                f"{opened.journal.folder} ({opened.courier.problem or 'no answer'}): "
                f"`python pipeline.py sync --run {opened.journal.folder}` delivers them."
            )
        opened.courier.stop()
    elif opened.journal.is_left:
        _deliver_unwritten(opened.journal)
    opened.journal.close()


def _deliver_unwritten(journal: Journal) -> None:
    """Deliver what found no place on the disk, which the pipeline's process therefore cannot."""
    if unwritten := journal.take_unwritten():
        store.load_mlflow()
        delivery = Delivery(journal.file, Tree(journal.folder, os.environ[store.URI]))
        send = functools.partial(delivery.deliver_unwritten, unwritten)
        with contextlib.suppress(TimeoutError):
            within(patience_s(), send, lambda: delivery.progress)


def _source_tags() -> dict[str, str]:
    """What MLflow's list shows as user and source."""
    tags = {"mlflow.source.name": " ".join(sys.argv[:1]), "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(OSError, KeyError):  # a user without a name, in a container
        tags["mlflow.user"] = getpass.getuser()
    if commit := code_version().get("git.commit"):
        tags["mlflow.source.git.commit"] = commit
    return tags


def _sampler() -> Sampler:
    """Of how busy the machine is, over the seconds since the run was first begun."""
    opened = _open

    def log(figures: dict[str, float]) -> None:
        step = (now_ms() - opened.note.started) // 1000
        opened.journal.append(opened.run, "metrics", step=step, values=figures)

    return Sampler(log, int((now_ms() - opened.note.started) / 1000 / EVERY_S))


# The open run, for others.


def handle() -> RunHandle | None:
    """The run that is open in this process, for `continued` in another."""
    return RunHandle(_open.journal.folder, _open.run) if _open else None


def run_id() -> str | None:
    """MLflow's id of the run that is open in this process, once it is made there; None without a
    run, or while MLflow does not answer."""
    if _open is None or _open.courier is None:
        return None
    known = _open.courier.tree.known_id(_open.run)
    if known is None:
        _open.courier.flush()
        known = _open.courier.tree.known_id(_open.run)
    return known.run_id if known else None


def links() -> Links | None:
    """Where the UI shows the open run; None where `run_id` is."""
    if run_id() is None:
        return None
    known = _open.courier.tree.known_id(_open.run)
    uri = os.environ.get(store.KNOWN_AS) or os.environ[store.URI]
    return Links(
        run=store.link(uri, known.experiment_id, known.run_id),
        experiment=store.link(uri, known.experiment_id),
    )


def flush() -> None:
    """Wait, not for long, until MLflow has what was said so far."""
    if _open and _open.courier:
        _open.courier.flush()


def client():
    """An MlflowClient for the store of this process.

    Raises Unreachable or Refused for a store that cannot be opened, and while MLflow is silent, so
    that nobody waits for it again."""
    if _open and _open.courier and _open.courier.is_silent:
        raise store.Unreachable("no answer")
    return store.open_client(os.environ[store.URI])


# What a step logs.


def _forgiving(function):
    """Make a function do nothing outside a run, and its error one warning on stderr."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs) -> None:
        if _open is not None:
            try:
                function(*args, **kwargs)
            except Exception as error:
                warn(f"{function.__name__}: {store.one_line(error)}")

    return wrapper


@_forgiving
def continue_curves() -> None:
    """From now on leave out of `log_metrics` and `log_picture` what this run has already: its
    earlier process came further than what it saved."""
    _open.ends = curve_ends(_open.journal.folder, _open.run)


@_forgiving
def log_metrics(metrics: dict[str, float], step: int) -> None:
    """Log a point of every curve at `step`, in images seen."""
    new = {key: one for key, one in metrics.items() if _open.goes_on(legal_key(key), step)}
    _append_metrics(_open.run, new, step)


@_forgiving
def log_figures(figures: dict[str, float]) -> None:
    """Log the final figures of a step."""
    _append_metrics(_open.run, figures, 0)


@_forgiving
def log_headline(figures: dict[str, float], tags: Mapping[str, str] | None = None) -> None:
    """Log figures and tags also on the parent run, where the list of runs shows them."""
    for run in filter(None, (_open.run, _parent())):
        _append_metrics(run, figures, 0)
        _append_texts(run, "tags", tags or {})


@_forgiving
def log_params(params: dict) -> None:
    """Log what a run was given; a run keeps the first value of each."""
    _append_texts(_open.run, "params", params)


@_forgiving
def set_tags(tags: dict) -> None:
    """Log what a run is; a later value goes over an earlier one."""
    _append_texts(_open.run, "tags", tags)


@_forgiving
def log_picture(name: str, picture: np.ndarray, step: int) -> None:
    """Log a picture (1 or 3, H, W) uint8; those of one name form a series over `step` in the UI."""
    from shared.data.images import write_picture  # it needs codecs that a pipeline's machine lacks

    if not _open.goes_on(legal_file(name), step):
        return
    path = _place(f"{legal_file(name)}.png")
    write_picture(path, picture)
    _append("picture", path=_from(path), is_copy=True, key=legal_file(name), step=int(step))


@_forgiving
def log_files(path: Path, folder: str | None = None, on_parent: bool = False) -> None:
    """Log a file, or a folder with all it holds but hidden files, as of whoever writes to it;
    `on_parent` on the pipeline's run, where there is one, instead of the step's: what people look
    for first."""
    run = (_parent() if on_parent else None) or _open.run
    files = [path]
    if path.is_dir():
        parts = {one: one.relative_to(path).parts for one in sorted(path.rglob("*"))}
        hidden = {one for one in parts if any(part.startswith(".") for part in parts[one])}
        files = [one for one in parts if one.is_file() and one not in hidden]
    for file in files:
        below = file.parent.relative_to(path).as_posix() if path.is_dir() else "."
        parts = [part for part in (folder, below) if part and part != "."]
        kept, is_copy = _keep(file)
        _open.journal.append(
            run,
            "file",
            path=kept,
            is_copy=is_copy,
            name=legal_file(file.name),
            folder=legal_folder("/".join(parts)) or None,
        )


@_forgiving
def log_dataset(name: str, folder: Path, digest: str, context: str) -> None:
    """Log which data a run has read; `context` is what for, such as training."""
    source = str(folder.absolute())
    _append("dataset", name=name, digest=digest, context=context, source=source)
    set_tags({"dataset": name, "dataset.digest": digest})


@_forgiving
def call_later(module: str, function: str, **arguments) -> None:
    """Call `function(client, run_id, **arguments)` of a module of ours when MLflow takes calls for
    the open run: now, or at a replay. It may be called twice. Arguments are what JSON holds."""
    _append("call", module=module, function=function, arguments=arguments)


def _append(kind: str, **content) -> None:
    _open.journal.append(_open.run, kind, **content)


def _append_metrics(run: str, metrics: dict[str, float], step: int) -> None:
    """A value that is no number is left out with a warning."""
    values = {}
    for key, value in metrics.items():
        try:
            values[legal_key(key)] = float(value)
        except (TypeError, ValueError) as error:
            warn(f"metric {key} is left out: {store.one_line(error)}")
    if values:
        _open.journal.append(run, "metrics", step=int(step), values=values)


def _append_texts(run: str, kind: str, texts: Mapping) -> None:
    values = [(legal_key(str(key)), without_secrets(str(text))) for key, text in texts.items()]
    for start in range(0, len(values), MOST[kind]):
        _open.journal.append(run, kind, values=dict(values[start : start + MOST[kind]]))


def _parent() -> str | None:
    """The name in the journal of the parent of the open run."""
    note = _open.note
    if note.parent or not note.parent_id:
        return note.parent
    run = f"parent-{note.parent_id}"
    folder = _open.journal.folder
    if not RunNote.file(folder, run).exists():
        foreign = RunNote(name=run, uid="", started=0, given_id=note.parent_id, status="FINISHED")
        foreign.write(RunNote.file(folder, run))
        if _open.courier:
            _open.courier.tree.note(run, foreign)
    return run


def _place(name: str) -> Path:
    """A new file in the journal."""
    return _open.journal.folder / FILES / f"{secrets.token_hex(4)}-{name}"


def _from(path: Path) -> str:
    """A path as the journal holds it: of its own files a relative one, so that it can be moved."""
    folder = _open.journal.folder
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())


def _keep(file: Path) -> tuple[str, bool]:
    """(path, whether it is a copy) of a file as it is now, though it may be replaced or removed:
    linked into the journal, or where that cannot be, a small one copied."""
    place = _place(legal_file(file.name))
    try:
        os.link(file.resolve(), place)
    except OSError:
        if file.stat().st_size > MOST_COPIED_BYTES:
            return str(file.absolute()), False
        try:
            shutil.copyfile(file, place)
        except OSError:  # no place: as long as it is there, it can be sent
            return str(file.absolute()), False
    return _from(place), True


@functools.cache
def code_version() -> dict[str, str]:
    """The tags of the code that runs: its commit, from CODE_VERSION in images, where there is no
    git; and whether tracked files differ from that."""
    if commit := os.environ.get("CODE_VERSION"):
        return {"git.commit": commit}
    tags = {"git.commit": _git("rev-parse", "HEAD")}
    if tags["git.commit"] and _git("status", "--porcelain", "--untracked-files=no"):
        tags["git.dirty"] = "true"
    return {name: value for name, value in tags.items() if value}


def _git(*arguments: str) -> str:
    """What git says of our checkout; "" without one."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        limited = dict(capture_output=True, text=True, timeout=GIT_S)
        return subprocess.run(command, **limited).stdout.strip()
    return ""


# What the pipeline reads, and tells people.


def store_uri(runs: Path) -> str:
    """MLflow's store where no MLFLOW_TRACKING_URI is set: one file beside the runs."""
    return store.uri_of_database(runs.resolve() / "mlflow.db")


def ui_command(runs: Path) -> str:
    """The command, or the address, that shows the runs of a folder."""
    return store.ui_command(os.environ.get(store.URI, store_uri(runs)))
