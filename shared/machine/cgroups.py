"""What Linux's control groups limit for this process: those of version 1 and of version 2."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def folders(controller: str) -> Iterator[tuple[Path, int]]:
    """The folders of our own groups under a controller and of those above them, with the version
    whose files they hold; some may not be there."""
    for line in read(ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        top, version = ROOT / "sys/fs/cgroup", 2
        if controller in controllers.split(","):
            top, version = top / controller, 1
        elif controllers:
            continue
        # A container may see the path as the host has it, or itself as the root.
        place = Path(path.strip("/"))
        yield from ((top / folder, version) for folder in (place, *place.parents))


def read(path: Path) -> str:
    """The text of a file, "" where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
