"""What a step writes to a workspace, and what of it becomes its artifact."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from shared.contracts.location import Location
from shared.files.digests import sha256_of
from shared.files.writing import take_over
from shared.workspace.place import PREPARED, mounted, refused_if_unwritable, run_id
from shared.workspace.turns import Turn


@dataclass(frozen=True)
class Stays:
    """What of a step's output stays on the workspace; the rest becomes its artifact."""

    names: tuple[str, ...]  # patterns of names at its top
    described_by: str = ""  # the file by which later steps read it there; "": they read none of it
    grows: tuple[str, ...] = ()  # patterns of files that are written to where they stand


@contextlib.contextmanager
def output_on(workspace: str, step: str, output: str, artifact: Path, stays: Stays):
    """Give the block a folder on the workspace to write a step's output to. At its end the artifact
    gets what does not stay there.

    Args:
        step: Name of the step in its run.
        output: What the folder is called.

    Raises InputError where there is no workspace or nothing can be written to it, and WorkFailed
    where another pod does the step by now.
    """
    root, run = mounted(workspace), run_id()
    with refused_if_unwritable(root):
        turn = Turn.begin(root / run / step, stays.grows)
    folder = turn.folder / output
    with turn.watched():
        yield folder
    turn.refuse_if_over()

    # The artifact, and where the rest of it is. Some runs make none, as one for its speed.
    if not folder.is_dir():
        return
    take_over(folder, artifact, leave=(*stays.names, ".*"))
    if stays.described_by:
        location = Location(
            workspace=str(root),
            place=str(folder),
            run=run,
            described_by=stays.described_by,
            sha256=sha256_of(folder / stays.described_by).hex(),
        )
        location.write(artifact)
        for version in (root / PREPARED).glob("*"):
            location.write(version / run)
    turn.remove_earlier()
