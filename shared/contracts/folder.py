"""A folder that passes between steps: one JSON file describes it."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import InputError
from shared.files.writing import Write, write_atomically


class Record(BaseModel):
    """Base of what is written as JSON: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Folder(Record):
    """A folder described by one JSON file; `write` is atomic, `read` names what is missing or
    unknown."""

    FILE: ClassVar[str]  # name of the JSON file
    FLAG: ClassVar[str]  # by which steps are given the folder
    MADE_BY: ClassVar[str]  # step that writes it
    format: Literal[1] = 1

    def write(self, folder: Path, write: Write = write_atomically) -> None:
        write(Path(folder) / self.FILE, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises InputError where the file is missing or does not fit this version."""
        path = Path(folder) / cls.FILE
        if not path.is_file():
            raise InputError(
                f"{cls.FLAG} {folder} holds no {cls.FILE}: give the folder that "
                f"`python -m components.{cls.MADE_BY}` wrote."
            )
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            reason = first["msg"].removeprefix("Value error, ")
            raise InputError(
                f"{path} does not fit this version: {field}: {reason[:1].lower()}{reason[1:]}; "
                f"make it again with `python -m components.{cls.MADE_BY}`."
            ) from None
