"""The folder of a run, and run.json in it: what was asked for, and how far each step is."""

import itertools
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.bounds import MANY
from shared.command import Options
from shared.contracts.folder import Folder, Record
from shared.device_names import DeviceName
from shared.errors import InputError, runnable, runs_flag
from shared.files.names import Name
from shared.flags import as_flag
from shared.pipeline.recipes import Recipe
from shared.secrets import HIDDEN, without_secrets

LOG = "log.txt"
LOCK = "run.lock"  # held while the run is worked on
JOURNAL = "journal"
LATEST = "latest"  # names the newest unfinished run


class EngineOptions(Options):
    """How steps are started on this machine."""

    engine: Literal["embedded", "docker"] = "embedded"
    """embedded = each step is a process in the environment of the pipeline; docker = each in a
    container of its own image, by Docker or Podman."""
    container_device: DeviceName = "auto"
    """Whose images, and which cards containers are given; auto = what this machine has."""
    container_network: str = "host"
    """Network of the containers; host reaches what this machine reaches, its MLflow too."""
    container_shm_gb: float = Field(default=0, ge=0, le=MANY)
    """Shared memory of a container in GiB; 0 = as much as this machine has."""
    container_memory_gb: float = Field(default=0, ge=0, le=MANY)
    """Memory of a container in GiB, above which it is killed; 0 = no limit."""

    def for_preflight(self) -> dict[str, str]:
        """The flags of `preflight` that say the same."""
        if self.engine == "embedded":
            return {"engine": self.engine}
        return {"engine": self.engine, "container_device": self.container_device}

    @model_validator(mode="after")
    def _fits_the_engine(self) -> Self:
        if self.engine == "docker" and getattr(self, "host", ""):
            raise ValueError("--engine docker is of this machine: leave it out, or --host")
        for name, field in EngineOptions.model_fields.items():
            if self.engine == "embedded" and getattr(self, name) != field.default:
                raise ValueError(
                    f"{as_flag(name)} is of containers: give --engine docker too, or leave it out"
                )
        return self


class StepState(Record):
    """How far one step of a run is."""

    state: Literal["waiting", "running", "finished", "reused", "failed"] = "waiting"
    key: str = ""  # of its config, inputs and code: see reuse.py
    files: str = ""  # digest of the names and sizes of what it wrote
    started: str = ""  # UTC
    seconds: Annotated[float, Field(ge=0, le=1e9)] = 0
    reused_from: Name | Literal[""] = ""  # name of the run whose output it took over
    reason: str = ""  # why it failed

    @property
    def is_done(self) -> bool:
        return self.state in ("finished", "reused")


class RunRecord(Folder):
    """What a run was asked to do, and how far it is."""

    FILE: ClassVar[str] = "run.json"
    FLAG: ClassVar[str] = "--continue"
    MADE_BY: ClassVar[str] = "python pipeline.py submit"

    name: Name
    recipe: Name
    config: dict[str, dict[str, Any]]  # of every step
    raw_data: str  # absolute path, or URL without its secrets
    has_secrets: bool = False  # whether the URL had some, which must then be given again
    working_directory: str  # in which relative paths of the config are meant
    tags: dict[str, str]
    code: dict[str, str]  # commit, and whether the tree had changes
    host: str  # the machine
    engine: EngineOptions = EngineOptions()
    images: dict[str, str] = {}  # of every component, for containers
    needs: dict[str, dict[str, Any]] = {}  # of steps here, by --cluster: its StepNeeds
    started: str  # UTC
    ended: str = ""
    state: Literal["running", "finished", "failed", "stopped"] = "running"
    reason: str = ""  # why it failed, or was stopped
    verdict: str = ""  # of the benchmark: see contracts/measured.py
    mlflow: str = ""  # where MLflow shows the run
    steps: dict[str, StepState]


class Run:
    """A run in work: every change of its record is on the disk at once."""

    def __init__(self, folder: Path, record: RunRecord):
        self.folder, self.record = folder, record

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def log(self) -> Path:
        return self.folder / LOG

    @property
    def report(self) -> Path:
        """The folder of its benchmark's report."""
        return self.folder / "benchmark" / "report"

    def start_by(
        self,
        options: EngineOptions,
        images: Mapping[str, str] | None = None,
        needs: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        """From now on start steps as those options say that were given, in these images, and as
        often as they need; what is not given stays. Noted when the run begins, by whoever holds its
        lock."""
        said = options.model_fields_set & EngineOptions.model_fields.keys()
        given = {name: getattr(options, name) for name in said}
        engine = EngineOptions.model_validate(self.record.engine.model_dump() | given)
        images = self.record.images if images is None else dict(images)
        needs = self.record.needs if needs is None else dict(needs)
        update = {"engine": engine, "images": images, "needs": needs}
        self.record = self.record.model_copy(update=update)

    def raw_data(self, given: str | None) -> str:
        """Where its raw data are; `given` is needed only for a URL whose secrets were not kept.
        Raises InputError where it is another place."""
        kept = self.record.raw_data
        if given is None and not self.record.has_secrets:
            return kept
        if given is None:
            raise InputError(
                f"--raw-data is missing: the secrets in {kept} were not kept, give it again."
            )
        if kept not in (given, without_secrets(given), str(Path(given).resolve())):
            raise InputError(
                f"--raw-data {without_secrets(given)} is not that of run {self.name}, which is "
                f"{kept}: leave it out, or start a new run."
            )
        return given if "://" in given else kept

    def note(self, **fields) -> None:
        """Change fields of the record."""
        self.record = self.record.model_copy(update=fields)
        self.record.write(self.folder)

    def note_step(self, step: str, **fields) -> None:
        """Change fields of one step's state."""
        state = self.record.steps.get(step, StepState()).model_copy(update=fields)
        self.note(steps=self.record.steps | {step: state})

    def end(self, state: str, reason: str = "") -> None:
        """Note that the run is over, and why."""
        self.note(state=state, reason=reason, ended=now())


def continue_command(run: Run) -> str:
    """What goes on with a run, for the person who has called us, where that person stands."""
    runs = runs_flag(run.folder.parent)
    return runnable(f"python pipeline.py submit --continue {run.name}{runs}")


def now() -> str:
    """The time, UTC, to the second."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def tags_by_name(tags: Iterable[str]) -> dict[str, str]:
    """The tags of --tag. Raises InputError for what is no KEY=VALUE."""
    if not all("=" in tag for tag in tags):
        raise InputError(
            f"--tag {' '.join(tags)!r} is not KEY=VALUE: write for example team=vision."
        )
    return dict(tag.split("=", 1) for tag in tags)


def refuse_changes(changes: Mapping[str, Any]) -> None:
    """Raises InputError for the first flag of a run that goes on which would change what it does.

    changes: by flag, empty where it was not given."""
    if given := [flag for flag, value in changes.items() if value]:
        raise InputError(
            f"{given[0]} cannot change a run that is continued: leave it out, or start a new run, "
            "which takes over what stays the same."
        )


def begin(
    recipe: str,
    config: Recipe,
    raw_data: str,
    tags: dict[str, str],
    code: dict[str, str],
    runs: Path,
) -> Run:
    """Make the folder of a new run: `<recipe>-<UTC stamp>`, with a number behind it where two begin
    in one second.

    Args:
        raw_data: Absolute path or URL.
        runs: Folder of the runs; made where it is not there.

    Raises InputError where it cannot be written.
    """
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        name = f"{recipe}-{stamp}" + (f"-{number}" if number > 1 else "")
        folder = runs.resolve() / name
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if not folder.is_dir():  # then `runs` itself is a file
                raise InputError(f"--runs {runs} is no folder: name another.") from None
        except OSError as error:
            raise InputError(f"--runs {runs} cannot be written: {error.strerror}.") from None
    record = RunRecord(
        name=name,
        recipe=recipe,
        config=config,
        raw_data=without_secrets(raw_data),
        has_secrets=HIDDEN in without_secrets(raw_data),
        working_directory=os.getcwd(),
        tags=tags,
        code=code,
        host=platform.node(),
        started=now(),
        steps=dict.fromkeys(config, StepState()),
    )
    record.write(folder)
    return Run(folder, record)


def runs_in(runs: Path) -> list[Run]:
    """All runs in a folder, the newest first; folders whose run.json cannot be read are none."""
    found = []
    for file in runs.resolve().glob(f"*/{RunRecord.FILE}"):
        try:
            found.append(Run(file.parent, RunRecord.read(file.parent)))
        except (InputError, OSError):
            continue
    return sorted(found, key=lambda run: (run.record.started, run.name), reverse=True)


def find(runs: Path, wanted: str, flag: str) -> Run:
    """The run of a name, of a folder, or the newest unfinished one for "latest" (the newest of all
    where every run is finished).

    Raises InputError, which names `flag` and the runs there are.
    """
    there = runs_in(runs)
    if not there:
        raise InputError(f"{flag} {wanted}: --runs {runs} holds no run: start one without it.")
    if wanted == LATEST:
        unfinished = [run for run in there if run.record.state != "finished"]
        return (unfinished or there)[0]
    for run in there:
        if run.name == Path(wanted).name:
            return run
    names = ", ".join(run.name for run in there[:5])
    raise InputError(f"{flag} {wanted} is no run in {runs}: the newest are {names}.")
