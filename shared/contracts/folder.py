"""A folder that passes between steps: one JSON file describes it. Files appear whole or not at
all."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import InputError


def sha256_of(path: Path) -> bytes:
    """Of a file's content."""
    with refused_if_unreadable(), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@contextlib.contextmanager
def refused_if_unreadable() -> Iterator[None]:
    """Raises InputError for a file that this user may not read."""
    try:
        yield
    except PermissionError as error:
        raise InputError(
            f"{error.filename} cannot be read ({error.strerror}): give yourself the right to, such "
            "as with chmod u+r."
        ) from None


def digest_files(paths: list[Path]) -> str:
    """Short SHA-256 over names and contents, in the given order."""
    return digest_digests((path.name, sha256_of(path)) for path in paths)


def digest_digests(files: Iterable[tuple[str, bytes]]) -> str:
    """The digest of files of which the names and the SHA-256 of the contents are known."""
    sha = hashlib.sha256()
    for name, digest in files:
        sha.update(name.encode() + digest)
    return sha.hexdigest()[:16]


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
            raise InputError(
                f"{path} does not fit this version: {field}: {first['msg'].lower()}; "
                f"make it again with `python -m components.{cls.MADE_BY}`."
            ) from None
