"""What all processes of a training must have alike, whichever node they are on."""

import time
from collections.abc import Mapping
from pathlib import Path

from components.train.devices.exchange import gathered
from components.train.devices.world import World
from shared.errors import InputError
from shared.files.owned import LOCK

LATE_S = 15.0  # a network disk may show a new file only then


def check_one_folder(model: Path, world: World) -> None:
    """Raises InputError where --model is not the same folder for all: in it lies the lock of the
    one that writes, which says who holds it. All ranks must call it."""
    if world.size == 1:
        return
    lock = gathered(_read(model / LOCK), world)[0]
    until = time.monotonic() + LATE_S
    while not (sees := _read(model / LOCK) == lock) and time.monotonic() < until:
        time.sleep(0.1)
    for rank, is_same in enumerate(gathered(sees, world)):
        if not is_same:
            raise InputError(
                f"node {rank // world.local_size} sees another --model {model} than node 0, which "
                "writes it: put it on a disk that all nodes share."
            )


def _read(file: Path) -> bytes:
    """A file's content, b"" where there is none."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def check_alike(options: Mapping[str, object], world: World) -> None:
    """Raises InputError where a process was given something else than the main one; options by
    flag. All ranks must call it."""
    every = gathered(options, world)
    for rank, other in enumerate(every):
        for flag, value in every[0].items():
            if other.get(flag) != value:
                raise InputError(
                    f"{flag} is {other.get(flag)} on node {rank // world.local_size}, but {value} "
                    "on node 0: give all nodes the same."
                )
