"""Where steps and commands read what artifacts describe."""

import os
import shutil
import uuid
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from shared.contracts.location import Location
from shared.errors import InputError
from shared.files.digests import sha256_of
from shared.flags import as_flag
from shared.workspace.place import PREPARED, mounted, refused_if_unwritable


def where_they_lie(values: Mapping[str, Any], written: Set[str]) -> dict[str, Any]:
    """The arguments of a step or a command, its folders and files where they are to be read.

    written: Names of those that it writes.
    Raises InputError as `located`."""
    return {
        name: located(value, as_flag(name))
        if isinstance(value, Path) and name not in written
        else value
        for name, value in values.items()
    }


def located(place: Path, flag: str) -> Path:
    """Where an artifact is read, or what lies in it: on a workspace, if it says so, else in its own
    folder.

    flag: What names the place on the command line.
    Raises InputError where the workspace has not what the artifact describes."""
    inside = [] if os.path.lexists(place) else place.parents
    for folder in (place, *inside):
        if (folder / Location.FILE).is_file():
            return _place_of(folder, flag) / place.relative_to(folder)
    return place


def _place_of(folder: Path, flag: str) -> Path:
    location = Location.read(folder)
    described = Path(location.place) / location.described_by
    what = f"{flag} {folder} lies in {location.place}"
    if not os.path.isdir(location.workspace):
        raise InputError(
            f"{what}, but the workspace {location.workspace} is not there: let the cluster file "
            "name a volume that can be mounted into every pod."
        )
    anew = "start a new run, which prepares it again."
    if not described.is_file():
        raise InputError(
            f"{what}, but there is no {location.described_by} any more: the workspace is another "
            f"than in run {location.run}, or was emptied; {anew}"
        )
    if sha256_of(described).hex() != location.sha256:
        raise InputError(
            f"{what}, but the {location.described_by} there is another than run {location.run} "
            f"wrote: {anew}"
        )
    return Path(location.place)


def version_of(workspace: str) -> str:
    """A name that stays the same as long as all data sets that were prepared on a workspace are
    still there. With it in their keys KFP's cache forgets them once one is gone. Raises InputError
    where nothing can be written."""
    prepared = mounted(workspace) / PREPARED
    with refused_if_unwritable(prepared.parent):
        for version in sorted(prepared.glob("*")):
            try:
                for folder in version.iterdir():
                    located(folder, "")
            except InputError:
                shutil.rmtree(version)
                continue
            return version.name
        (version := prepared / uuid.uuid4().hex[:8]).mkdir(parents=True)
    return version.name
