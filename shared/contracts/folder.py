"""A folder that passes between steps: one JSON file describes it."""

import hashlib
import re
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.bounds import reason_of
from shared.errors import InputError
from shared.files.digests import Promise, refused_if_unreadable
from shared.files.names import Name
from shared.files.writing import Write, write_atomically

# The last line of a file, which is no field: the SHA-256 of the same file without it.
SEAL = "sha256_of_all_above"
SEALED = re.compile(rb',\s*"%s": "([^"]*)"' % SEAL.encode())


class Record(BaseModel):
    """Base of what is written as JSON: frozen, no unknown fields, numbers that are some."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


class Folder(Record):
    """A folder described by one JSON file; `write` is atomic, `read` names what is missing or
    unknown."""

    FILE: ClassVar[str]  # name of the JSON file
    FLAG: ClassVar[str]  # by which steps are given the folder
    MADE_BY: ClassVar[str]  # command that writes it
    format: Literal[1] = 1

    def write(self, folder: Path, write: Write = write_atomically) -> None:
        content = self.model_dump_json(indent=2) + "\n"
        sha, end = hashlib.sha256(content.encode()).hexdigest(), "\n}\n"
        sealed = content.removesuffix(end) + f',\n  "{SEAL}": "{sha}"' + end
        write(Path(folder) / self.FILE, sealed.encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises InputError where the file is missing, is not as it was written, or does not fit
        this version."""
        path = Path(folder) / cls.FILE
        if not path.is_file():
            raise InputError(
                f"{cls.FLAG} {folder} holds no {cls.FILE}: give the folder that "
                f"`{cls.MADE_BY}` wrote."
            )
        with refused_if_unreadable():
            content = path.read_bytes()
        body, is_whole = _unsealed(content)
        try:
            found = cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            reason = reason_of(error)
            raise InputError(
                f"{path} does not fit this version: {field}: {reason[:1].lower()}{reason[1:]}; "
                f"make it again with `{cls.MADE_BY}`."
            ) from None
        if not is_whole:
            raise InputError(
                f"{path} was changed after it was written: copy the folder again, or make it again "
                f"with `{cls.MADE_BY}`; if the change is yours, remove its "
                f"line {SEAL}, and the comma before it."
            )
        return found


def _unsealed(content: bytes) -> tuple[bytes, bool]:
    """The JSON of a file without its seal, and whether it is as it was written; that is believed of
    one without a seal, as earlier versions wrote it."""
    seal = SEALED.search(content, max(0, content.rfind(SEAL.encode()) - 100))
    if seal is None:
        return content, True
    body = content[: seal.start()] + content[seal.end() :]
    return body, hashlib.sha256(body).hexdigest().encode() == seal[1]


class FolderOfFiles(Folder):
    """A folder that says of its files which they are."""

    files: dict[Name, str] = {}  # SHA-256 by name; {} = an earlier version wrote it

    def promise(self, folder: Path, given_as: str = "") -> Promise:
        """What it says of its files.

        given_as: the folder in the caller's words, where that is not its usual flag."""
        given_as = given_as or f"{self.FLAG} {folder}"
        again = f"make it again with `{self.MADE_BY}`."
        remedy = f"copy the folder again, or {again}"
        return Promise(Path(folder), given_as, self.FILE, self.files, remedy)
