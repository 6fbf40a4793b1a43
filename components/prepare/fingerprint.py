"""What the steps read from outside of the graph, as it is now: raw data, weights, tables; of
published weights what they will be.

KFP's cache and our reuse of finished steps look at this, since they cannot look at the data.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Set
from typing import Any

from components.prepare.fetch.remote import is_remote
from components.prepare.fetch.stores import Store, Unreachable, parse_url
from components.prepare.layouts.listing import entries
from components.prepare.stamps import file_stamp
from shared.errors import InputError
from shared.published.files import published_in
from shared.workspace.inputs import version_of

# Options that name a folder which the step writes, one below the raw data, or no file at all.
NOT_READ = {"copies", "input_folder", "photo_folder", "instance_folder", "registered_model"}


def fingerprint(
    raw_data: str, configs: dict[str, dict[str, Any]], workspace: str = ""
) -> dict[str, str]:
    """A short digest per step: another one whenever a file that the step reads from outside has
    changed; "" where it reads none.

    Args:
        raw_data: What `prepare` is given.
        configs: Options of every step. What they name and is there is read.
        workspace: Where the data set will lie, "" = in the artifact. What lay there and is gone is
            another version too.

    Raises InputError for raw data or a workspace that are not there.
    """
    versions = {}
    for step, config in configs.items():
        published = published_in(config)
        stamps = [file.sha256 for files in published.values() for file in files]
        for place in _places_in(config, without=NOT_READ | published.keys()):
            stamps += _local(place)
        if step == "prepare":
            stamps += _remote(raw_data) if is_remote(raw_data) else _local(_checked(raw_data))
            stamps += [version_of(workspace)] if workspace else []
        versions[step] = _digest(stamps) if stamps else ""
    return versions


def _places_in(config: dict[str, Any], without: Set[str]) -> Iterator[str]:
    """The files and folders that options name, but for some options."""
    for name in sorted(config.keys() - without):
        values = config[name] if isinstance(config[name], list) else [config[name]]
        yield from (value for value in values if isinstance(value, str) and os.path.exists(value))


def _checked(raw_data: str) -> str:
    if not raw_data.strip():
        raise InputError(
            "--raw-data is empty (on a server, the parameter raw_data): give a folder, archive or "
            "URL of paired images that this machine, or the pod, can read."
        )
    if not os.path.exists(raw_data):
        raise InputError(
            f"--raw-data {raw_data!r} is not there: give a folder, archive or URL of paired images "
            "that this machine, or the pod, can read."
        )
    return raw_data


def _digest(stamps: Iterable[str]) -> str:
    text = "\n".join(stamps)
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _local(place: str) -> Iterator[str]:
    """Name and stamp of a file, or of every file below a folder, hidden ones left out."""
    if os.path.isfile(place):
        yield f"{os.path.basename(place)} {file_stamp(os.stat(place))}"
        return
    waiting, seen = [("", place)], set()
    while waiting:
        prefix, folder = waiting.pop()
        if (real := os.path.realpath(folder)) in seen:  # links may lead round and round
            continue
        seen.add(real)
        for entry in sorted(entries(folder), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append((f"{prefix}{entry.name}/", entry.path))
            else:
                found = (
                    file_stamp(entry.stat()) if os.path.exists(entry.path) else "link to nothing"
                )
                yield f"{prefix}{entry.name} {found}"


def _remote(url: str) -> Iterator[str]:
    """Name, size and version of every file in a store; what never comes again where the store tells
    no version."""
    url, shown, sha256 = parse_url(url)
    if sha256:
        yield sha256
        return
    try:
        store = Store(url, shown)
        files, _ = store.with_retries(store.find)
        unknown = "" if all(file.version for file in files) else "tells no version of its files"
    except Unreachable as error:
        files, unknown = [], f"cannot be reached ({error})"
    if unknown:
        print(f"fingerprint: warning: {shown} {unknown}: it is prepared again", flush=True)
        yield uuid.uuid4().hex
    for file in sorted(files, key=lambda file: file.name):
        yield f"{file.name} {file.size} {file.version}"
