"""What a step's container sees of this machine's files: the same paths as outside."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import InputError

MOST = 100  # places of one container
# Folders of the image that a place of this machine must not hide.
OF_IMAGE = ("/app", "/bin", "/dev", "/etc", "/home/app", "/lib", "/proc", "/run", "/sbin", "/sys")
OF_IMAGE += ("/tmp", "/usr/bin", "/usr/lib", "/usr/local/bin", "/usr/local/lib", "/var/tmp")


class Bind(NamedTuple):
    """A place of this machine, and where the container sees it."""

    source: str
    target: str
    is_writable: bool = False

    def as_mount(self) -> dict[str, Any]:
        """The arguments of docker's Mount."""
        return {"source": self.source, "target": self.target, "read_only": not self.is_writable}


def binds(read: Any, written: Iterable[Path | str]) -> list[Bind]:
    """What a container is given: places to write, and whatever `read` names.

    Args:
        read: Parameters of a step, at any depth: texts that name a file or folder that is there.
        written: Folders.

    Raises InputError for a place that would hide the image's own files, and for too many.
    """
    found = {str(place): Bind(str(place), str(place), True) for place in written}
    for place in _places_in(read):
        if not any(_is_within(place, one.target) for one in found.values()):
            found[place] = Bind(place, place)
    for place in found:
        _refuse_hiding(place)
    if len(found) > MOST:
        raise InputError(
            f"--engine docker: links in the raw data lead to {len(found)} places, of which a "
            f"container is given {MOST}: copy the files into one folder."
        )
    return list(found.values())


def _places_in(value: Any) -> Iterator[str]:
    """The files and folders that texts name, and those that links in them lead to, outer ones
    first."""
    waiting = {os.path.abspath(text) for text in _texts(value) if _is_place(text)}
    seen: set[str] = set()
    while waiting and len(seen) <= MOST:
        place = min(waiting, key=len)
        waiting.discard(place)
        if any(_is_within(place, one) for one in seen):
            continue
        _refuse_hiding(place)
        seen.add(place)
        waiting |= {one for one in _links_out_of(place) if _is_place(one)}
    return iter(sorted(seen, key=len))


def _refuse_hiding(place: str) -> None:
    """Raises InputError for a place that would hide files of the image."""
    if any(_is_within(one, place) for one in OF_IMAGE):
        raise InputError(
            f"--engine docker: {place} is a folder that the containers need themselves: give one "
            "below it, or elsewhere."
        )


def _is_place(text: str) -> bool:
    """Whether a text, such as an option's value, names what is there."""
    return len(text) < 4096 and "\0" not in text and bool(text) and os.path.exists(text)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            yield from _texts(list(value.values()))
        case list() | tuple():
            for one in value:
                yield from _texts(one)


def _links_out_of(place: str) -> Iterator[str]:
    """Folders that hold what symbolic links in a folder lead to, as the container will read them:
    by their names, without this machine's own links."""
    folders = [place] if os.path.isdir(place) else []
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:  # the step says what it cannot read
            continue
        for entry in entries:
            if entry.is_symlink():
                to = os.path.normpath(os.path.join(folder, os.readlink(entry.path)))
                if not _is_within(to, place):
                    yield to if os.path.isdir(to) else os.path.dirname(to)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)


def _is_within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(f"{folder.rstrip('/')}/")
