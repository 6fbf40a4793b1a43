"""prepare -> all, on a cluster: where a data set lies that is too large to be copied into pods."""

from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.folder import Folder
from shared.files.names import Name

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Location(Folder):
    """The place of a folder on a workspace; beside it lies a copy of what describes the folder."""

    FILE: ClassVar[str] = "location.json"
    FLAG: ClassVar[str] = "--dataset"
    MADE_BY: ClassVar[str] = "python -m components.prepare"

    workspace: str  # where it is mounted in every pod
    place: str  # of the folder, absolute
    run: str  # that made it
    described_by: Name  # the file that describes the folder
    sha256: Sha256  # of that file
