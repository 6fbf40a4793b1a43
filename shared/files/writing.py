"""Files appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path


def link_or_copy(source: Path, target: Path) -> None:
    """A file that takes no room of its own, where the disk knows hard links."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without
        shutil.copyfile(source, target)


Write = Callable[[Path, bytes | Path], None]


@contextlib.contextmanager
def written_together() -> Iterator[Write]:
    """Files that are written in the block appear at its end, each whole, or none where it fails (a
    full disk). What is given to write: the content, or a file written before in the block, which
    takes no room where the disk knows hard links."""
    places: dict[Path, Path] = {}

    def partial_of(path: Path) -> Path:
        return path.with_name(f".{path.name}.partial")

    def write(path: Path, content: bytes | Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        places[partial := partial_of(path)] = path
        partial.unlink(missing_ok=True)  # of a killed run, which may be a link
        if isinstance(content, Path):
            link_or_copy(partial_of(content), partial)
        else:
            partial.write_bytes(content)

    try:
        yield write
    except BaseException:
        for partial in places:
            partial.unlink(missing_ok=True)
        raise
    for partial, path in places.items():
        os.replace(partial, path)


def write_atomically(path: Path, content: bytes) -> None:
    """The file appears whole or not at all, also when the process is killed while it writes."""
    with written_together() as write:
        write(path, content)
