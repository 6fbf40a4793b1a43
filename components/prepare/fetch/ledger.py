"""The ledger of a copy: what was copied in which version, and whether all of it is there."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TextIO

from pydantic import AfterValidator

from components.prepare.fetch.paths import why_no_path
from components.prepare.fetch.stores import RemoteFile
from shared.contracts.folder import Record

LEDGER = ".remote.jsonl"

Kind = Literal["file", "folder"]  # what the URL of the copy names


def _below(path: str) -> str:
    if reason := why_no_path(path):
        raise ValueError(f"a part of the path {reason}")
    return path


PathBelow = Annotated[str, AfterValidator(_below)]  # of a file, with / between its parts


class Line(Record):
    """A line of the ledger: of a file that was copied or removed, or of a whole copy."""

    file: PathBelow | None = None
    size: int = -1  # bytes
    version: str = ""
    sha256: str = ""
    removed: PathBelow | None = None
    complete: Kind | Literal[""] = ""


class Ledger:
    """A line of JSON per file that was copied or removed, and a last one when the copy is whole.

    `copied` holds the record of each file by its name, `complete` the kind of a whole copy, or "".
    """

    def __init__(self, lines: Iterable[str]):
        self.copied: dict[str, Line] = {}
        self.complete: Kind | Literal[""] = ""
        for line in lines:
            try:
                self._take(Line.model_validate_json(line))
            except ValueError:  # a kill cut the line off, or the disk spoiled it
                self.complete = ""

    def add_file(self, out: TextIO, file: RemoteFile, sha256: str) -> None:
        """Append that a file was copied."""
        self.add(out, file=file.name, size=file.size, version=file.version, sha256=sha256)

    def add(self, out: TextIO, **record: Any) -> None:
        """Append one of {file, size, version, sha256}, {removed} and {complete}."""
        out.write("\n" + json.dumps(record))  # newline first: a line cut off spoils no other
        out.flush()
        self._take(Line(**record))

    def _take(self, line: Line) -> None:
        self.complete = line.complete
        self.copied.pop(line.removed, None)
        if line.file is not None:
            self.copied[line.file] = line

    def holds(self, file: RemoteFile) -> bool:
        """Whether the file was copied in the version that the store has now."""
        line = self.copied.get(file.name)
        return line is not None and (line.size, line.version) == (file.size, file.version)
