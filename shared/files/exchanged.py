"""What a step makes anew takes the place of what it made before when it is whole and proven, all of
it at once."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from shared.files.writing import make_folder, sync, sync_all

WORK, GONE = ".work", ".gone"
# In a folder of files that belong together and are too large to stand there twice, until all are
# there: its readers refuse it.
UNFINISHED = ".unfinished"


@contextlib.contextmanager
def exchanged(folder: Path, card: str, made: Iterable[str]) -> Iterator[Path]:
    """Give the block a hidden folder in `folder` to write to, of which all takes the place of what
    was made there before when the block ends; where it fails, that stays as it was.

    The card goes first and comes last: of a kill in between a folder without one is left, which
    every reader refuses and the same command fills.

    Args:
        card: The file by which readers know the folder.
        made: Patterns of the other names that are ever made there: nothing old stays beside the
            new.
    """
    work = folder / WORK
    shutil.rmtree(work, ignore_errors=True)  # of a killed run
    make_folder(work)
    try:
        yield work
        sync_all(work)

        # The old, then the new.
        new = sorted(work.iterdir(), key=lambda path: (path.name == card, path.name))
        old = [path for pattern in (card, *made) for path in sorted(folder.glob(pattern))]
        (work / GONE).mkdir()
        for path in old:
            os.replace(path, work / GONE / path.name)
        sync(folder)
        for path in new:
            if path.name == card:
                sync(folder)
            os.replace(path, folder / path.name)
        sync(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
