"""MLflow's registry of models: a version for every export that was measured, and which of them is
the champion.

A registered model has the name of its recipe. Its alias `champion` is at the version that the next
night is compared with, `challenger` at the newest one that was as good. Which champions there were
stands in a tag of the registered model, so that a rollback finds the way."""

import atexit
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared import tracking
from shared.contracts.exported import ExportCard
from shared.errors import InputError
from shared.servers import plain
from shared.tracking import store

CHAMPION, CHALLENGER = "champion", "challenger"
FILES_REMOVED = "files_removed"  # tag of a version whose files are gone, on purpose: by what
CHAMPIONS = "champions"  # tag of the registered model: numbers of its versions, the newest last
MOST_CHAMPIONS = 1000
FIGURES, NUMBERS = TypeAdapter(dict[str, float]), TypeAdapter(list[int])


class RegistryError(Exception):
    """The registry does not answer, or has lost files; the text is one sentence."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    number: int
    tags: dict[str, str]
    aliases: tuple[str, ...] = ()
    created: datetime | None = None  # UTC
    files: str = ""  # where MLflow has them

    @property
    def uri(self) -> str:
        """What MLflow loads it by."""
        return f"models:/{self.name}/{self.number}"

    @property
    def figures(self) -> dict[str, float]:
        """The headline figures of its benchmark. Raises RegistryError."""
        return _read_tag(FIGURES, self.tags.get("figures", "{}"), "figures", str(self))

    def __str__(self) -> str:
        run = self.tags.get("run")
        return f"version {self.number} of {self.name}" + (f" (run {run})" if run else "")


def _read_tag(kind: TypeAdapter, text: str, key: str, whose: str) -> Any:
    """What a tag holds, which people can edit. Raises RegistryError."""
    try:
        return kind.validate_json(text)
    except ValidationError:
        raise RegistryError(
            f"tag {key} of {whose} in MLflow is not what was written there: delete it."
        ) from None


# What is there. `client` is an MlflowClient, as `connected` gives it; what it raises comes through.


def versions(client, name: str) -> list[Version]:
    """All versions of a registered model, the oldest first; none where there is no such model."""
    registered = registered_model(client, name)
    if registered is None:
        return []
    aliases: dict[int, list[str]] = {}
    for alias, number in registered.aliases.items():
        aliases.setdefault(int(number), []).append(alias)
    found = client.search_model_versions(f"name='{name}'", max_results=10_000)
    everything = [
        Version(
            name=name,
            number=int(one.version),
            tags={key: plain(value) for key, value in one.tags.items()},  # they are shown
            aliases=tuple(sorted(aliases.get(int(one.version), ()))),
            created=datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
            files=one.source,
        )
        for one in found
    ]
    return sorted(everything, key=lambda version: version.number)


def with_alias(found: list[Version], alias: str) -> Version | None:
    """The version of these that has the alias."""
    return next((version for version in found if alias in version.aliases), None)


def with_number(found: list[Version], number: int) -> Version | None:
    """The version of these that has the number."""
    return next((version for version in found if version.number == number), None)


def champion_folder(name: str) -> Path | None:
    """The exported folder of the champion of a model, in a folder of its own that lasts as long as
    this process; None where there is no champion yet.

    Raises RegistryError where MLflow does not answer, or has lost the files.
    """
    from mlflow.artifacts import download_artifacts

    with connected() as client:
        champion = with_alias(versions(client, name), CHAMPION)
        if champion is None:
            return None
        folder = temporary_folder() / f"{name}-version-{champion.number}"
        download_artifacts(champion.uri, dst_path=str(folder))
    if not (folder / ExportCard.FILE).is_file():
        raise RegistryError(f"{champion} has lost its files.")
    return folder


def registered_model(client, name: str):
    """MLflow's registered model of this name, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


# Aliases.


def crown(client, version: Version) -> None:
    """Make a version the champion; the one before is remembered, and no version stays
    challenger."""
    history = champions(client, version.name)
    challenger = with_alias(versions(client, version.name), CHALLENGER)
    set_alias(client, version, CHAMPION)
    _write_champions(client, version.name, [*history, version.number])
    if challenger:
        client.delete_registered_model_alias(version.name, CHALLENGER)


def uncrown(client, name: str) -> tuple[Version, Version]:
    """Make the champion before this one the champion again; returns both, that one last. Raises
    InputError where there was none."""
    found = [one for one in versions(client, name) if FILES_REMOVED not in one.tags]
    history = [number for number in champions(client, name) if with_number(found, number)]
    if len(history) < 2:
        only = with_number(found, history[0]) if history else None
        reason = f"{only} is the first one" if only else "it never had one"
        raise InputError(f"{name} has no champion to go back to: {reason}.")
    deposed, restored = with_number(found, history[-1]), with_number(found, history[-2])
    # In this order: broken off in between, the champion is what it was, and so is the way back.
    _write_champions(client, name, history[:-1])
    set_alias(client, restored, CHAMPION)
    set_tag(client, deposed, "rolled_back", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}")
    return deposed, restored


def champions(client, name: str) -> list[int]:
    """The numbers of the versions that were the champion, one after the other, the present one
    last; also one that a person gave the alias by hand."""
    registered = registered_model(client, name)
    if registered is None:
        return []
    history = _read_tag(NUMBERS, registered.tags.get(CHAMPIONS, "[]"), CHAMPIONS, f"model {name}")
    present = registered.aliases.get(CHAMPION)
    if present is not None and history[-1:] != [int(present)]:
        history.append(int(present))
    return history


def _write_champions(client, name: str, history: list[int]) -> None:
    client.set_registered_model_tag(name, CHAMPIONS, json.dumps(history[-MOST_CHAMPIONS:]))


def set_alias(client, version: Version, alias: str) -> None:
    client.set_registered_model_alias(version.name, alias, str(version.number))


def set_tag(client, version: Version, key: str, value: str) -> None:
    client.set_model_version_tag(version.name, str(version.number), key, value)


# How MLflow is asked.


@contextlib.contextmanager
def connected() -> Iterator:
    """Give an MlflowClient; what it, or the way to it, raises becomes a RegistryError."""
    if not os.environ.get(store.URI):
        raise RegistryError(f"{store.URI} is not set: it says where MLflow's registry is.")
    from mlflow.exceptions import MlflowException

    try:
        yield tracking.client()
    except (MlflowException, OSError, store.Unreachable, store.Refused) as error:
        reason = store.one_line(error)
        raise RegistryError(f"MLflow's registry does not answer ({reason}).") from None


def temporary_folder() -> Path:
    """A folder that goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="registry-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
