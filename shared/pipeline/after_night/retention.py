"""Old nights give their room back: what is large goes, what says how they went stays."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shared import registry, tracking
from shared.errors import InputError
from shared.pipeline.runs import JOURNAL, Run, runs_in
from shared.registry import FILES_REMOVED, RegistryError, Version, connected
from shared.registry.registration import PENDING
from shared.registry.trained import training_run
from shared.tracking import store
from shared.tracking.replay import is_delivered

# Of a night's folder and its artifacts these stay: they are small, and say how it went.
KEPT_FOLDERS = {"benchmark"}  # its report; what stands beside the folders stays too
KEPT_FILES = {".html", ".json", ".txt", ".yaml"}  # at the top of an MLflow run's artifacts


@dataclass
class Room:
    """What can go of one night."""

    night: str
    folders: list[Path] = field(default_factory=list)
    artifacts: list[tuple[str, str]] = field(default_factory=list)  # where, and which
    versions: list[Version] = field(default_factory=list)
    size: int = 0  # bytes

    def __str__(self) -> str:
        parts = [folder.name for folder in self.folders]
        parts += ["MLflow artifacts"] if self.artifacts else []
        parts += [f"files of version {version.number}" for version in self.versions]
        return f"{self.night}: {', '.join(parts)} ({self.size / 1e6:,.1f} MB)"


def retire_nights(runs: Path, recipe: str, keep: int) -> None:
    """Remove what takes room of all finished nights of a recipe but the newest, and say so.

    Nights that are not finished stay whole, since they may be continued; so do the champion, the
    challenger and the champion before, with the trainings that they come from, whatever a run that
    stays refers to, and what MLflow has not taken yet. Where the registry or MLflow cannot be
    asked nothing is removed.

    Args:
        keep: How many nights stay; 0 = all.
    """
    if not keep:
        return
    try:
        if store.URI not in os.environ:
            if not (runs / "mlflow.db").is_file():
                raise RegistryError(f"{runs} has no MLflow store.")
            os.environ[store.URI] = tracking.store_uri(runs)
        rooms = list(find_room(runs, recipe, keep))
    except RegistryError as error:
        print(f"--keep-nights {keep}: nothing was removed: {error}")
        return
    for room in rooms:
        _remove(room)
        print(f"--keep-nights {keep}: removed of {room}")
    if rooms:
        print(f"--keep-nights {keep}: {sum(room.size for room in rooms) / 1e6:,.1f} MB in all")


def find_room(runs: Path, recipe: str, keep: int) -> Iterator[Room]:
    """What can go, the newest night first; nothing is removed. Raises RegistryError."""
    # The nights that are too old, and what must stay of them.
    runs = runs.resolve()
    nights = [
        run
        for run in runs_in(runs)
        if run.record.recipe == recipe and run.record.tags.get("nightly") == "true"
    ]
    finished = [night for night in nights if night.record.state == "finished"]
    old = {night.name: night for night in finished[keep:]}
    with connected() as client:
        versions = registry.versions(client, recipe)
        needed = _needed_versions(client, versions, recipe)
        trainings = _trainings(client, needed)
    stay = [run for run in runs_in(runs) if run.name not in old]
    wanted = {version.tags.get("run", "") for version in needed} | set(_named_by(stay, old))
    reused = {
        (state.reused_from, step)
        for run in stay
        for step, state in run.record.steps.items()
        if state.reused_from
    }

    # What is left of each.
    for night in old.values():
        if night.name in wanted or not _is_in_mlflow(night):
            continue
        room = Room(night.name, folders=list(_folders(night, runs)))
        room.versions = [
            version
            for version in versions
            if version.tags.get("run") == night.name and FILES_REMOVED not in version.tags
            if version not in needed
        ]
        room.size = sum(map(_freed, room.folders))
        for where, name, size in _artifacts(night, trainings, reused, room.versions, runs):
            room.artifacts.append((where, name))
            room.size += size
        if room.folders or room.artifacts or room.versions:
            yield room


def _is_in_mlflow(night: Run) -> bool:
    """Whether MLflow has all that its journal holds."""
    journal = night.folder / JOURNAL
    return is_delivered(journal) and not (journal / PENDING).exists()


def _needed_versions(client, versions: list[Version], recipe: str) -> list[Version]:
    """The champion, the one before it, and the challenger."""
    numbers = registry.champions(client, recipe)[-2:]
    return [version for version in versions if version.aliases or version.number in numbers]


def _trainings(client, versions: Iterable[Version]) -> set[str]:
    """The ids of the MLflow runs whose checkpoints the versions come from."""
    found = set()
    for version in versions:
        for step in ("train_global", "train_local"):
            with contextlib.suppress(InputError):  # it has no such stage
                found.add(training_run(client, version, step)[0])
    return found


def _named_by(stay: list[Run], old: Iterable[str]) -> Iterator[str]:
    """Old nights that a run which stays was told to read from. Outputs that it took over are links
    of its own, which need nobody."""
    for run in stay:
        record = run.record.model_dump(mode="json", include={"config", "raw_data", "tags"})
        text = json.dumps(record, ensure_ascii=False)
        yield from (name for name in old if f"/{name}/" in text or f'/{name}"' in text)


def _folders(night: Run, runs: Path) -> Iterator[Path]:
    """The folders of its steps, and its journal; nothing that a link leads to."""
    if night.folder.is_symlink() or night.folder.parent != runs:
        return
    for folder in sorted(night.folder.iterdir()):
        is_large = folder.name.replace("-", "_") in night.record.steps or folder.name == JOURNAL
        if is_large and folder.name not in KEPT_FOLDERS:
            if folder.is_dir() and not folder.is_symlink():
                yield folder


def _freed(folder: Path) -> int:
    """Bytes that go with a folder: a file that other folders have too takes no room here."""
    sizes = (path.lstat() for path in folder.rglob("*"))
    return sum(size.st_size for size in sizes if size.st_nlink == 1)


# MLflow.


def _artifacts(
    night: Run,
    trainings: set[str],
    reused: set[tuple[str, str]],
    versions: list[Version],
    runs: Path,
) -> Iterator[tuple[str, str, int]]:
    """Where, name and size of what goes of the artifacts of a night's MLflow runs, and of its
    versions."""
    with connected() as client:
        for run in _runs_of(client, night):
            step = run.data.tags.get("step", "")
            if run.info.run_id in trainings or (night.name, step) in reused:
                continue
            for name, size in _listed(run.info.artifact_uri, runs):
                if PurePosixPath(name).suffix not in KEPT_FILES:
                    yield run.info.artifact_uri, name, size
        for version in versions:
            identity = version.files.removeprefix("models:/")
            place = client.get_logged_model(identity).artifact_location
            for name, size in _listed(place, runs):
                yield place, name, size


def _runs_of(client, night: Run) -> list:
    """A night's MLflow run and those of its steps."""
    experiment = client.get_experiment_by_name(night.record.recipe)
    if experiment is None:
        return []
    places = [experiment.experiment_id]
    parents = client.search_runs(places, f"attributes.run_name = '{night.name}'")
    children = [
        child
        for parent in parents
        for child in client.search_runs(
            places, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", max_results=1000
        )
    ]
    return [*parents, *children]


def _listed(uri: str, runs: Path) -> list[tuple[str, int]]:
    """Names and sizes of the artifacts at the top of a place; none of a folder of this machine
    that is neither below the runs nor beside the database."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.file_utils import local_file_uri_to_path

    if "://" not in uri or uri.startswith("file:"):
        place = Path(local_file_uri_to_path(uri)).resolve()
        beside = store.artifacts_of(os.environ.get(store.URI, "")) or runs.as_uri()
        homes = (runs, Path(local_file_uri_to_path(beside)).resolve())
        if not any(place.is_relative_to(home) for home in homes):
            return []
    repository = get_artifact_repository(uri)

    def size(artifact) -> int:
        if not artifact.is_dir:
            return artifact.file_size or 0
        return sum(map(size, repository.list_artifacts(artifact.path)))

    return [(artifact.path, size(artifact)) for artifact in repository.list_artifacts()]


def _remove(room: Room) -> None:
    """Remove it; what cannot be removed costs a warning, and stays for the next time."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    for folder in room.folders:
        shutil.rmtree(folder, onerror=_warn)
    try:
        with connected() as client:
            # A version says that it is empty before it is.
            for version in room.versions:
                registry.set_tag(client, version, FILES_REMOVED, "--keep-nights")
            for where, name in room.artifacts:
                get_artifact_repository(where).delete_artifacts(name)
    except RegistryError as error:
        print(f"warning: --keep-nights: not all was removed: {error}")


def _warn(_function, path: str, error) -> None:
    print(f"warning: --keep-nights: {path} cannot be removed: {error[1]}")
