"""The ledger of a copy: what was copied in which version, and whether all of it is there."""

import json
from collections.abc import Iterable
from typing import Any, Literal, TextIO

from components.prepare.fetch.stores import RemoteFile

LEDGER = ".remote.jsonl"

Kind = Literal["file", "folder"]  # what the URL of the copy names


class Ledger:
    """A line of JSON per file that was copied or removed, and a last one when the copy is whole.

    `copied` holds the record of each file by its name, `complete` the kind of a whole copy, or "".
    """

    def __init__(self, lines: Iterable[str]):
        self.copied: dict[str, dict] = {}
        self.complete: Kind | Literal[""] = ""
        for line in lines:
            try:
                self._take(json.loads(line))
            except ValueError:  # a kill cut the line off
                self.complete = ""

    def add_file(self, out: TextIO, file: RemoteFile, sha256: str) -> None:
        """Append that a file was copied."""
        self.add(out, file=file.name, size=file.size, version=file.version, sha256=sha256)

    def add(self, out: TextIO, **record: Any) -> None:
        """Append one of {file, size, version, sha256}, {removed} and {complete}."""
        out.write("\n" + json.dumps(record))  # newline first: a line cut off spoils no other
        out.flush()
        self._take(record)

    def _take(self, record: dict) -> None:
        self.complete = record.get("complete", "")
        self.copied.pop(record.get("removed"), None)
        if "file" in record:
            self.copied[record["file"]] = record

    def holds(self, file: RemoteFile) -> bool:
        """Whether the file was copied in the version that the store has now."""
        record = self.copied.get(file.name, {})
        return (record.get("size"), record.get("version")) == (file.size, file.version)
