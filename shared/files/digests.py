"""SHA-256 of files: what is written down of them, and compared when they are read."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shared.errors import InputError
from shared.files.owned import writer_of


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


def digests_of(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by name, for the JSON that is to promise them."""
    return {path.name: sha256_of(path).hex() for path in paths}


def digest_files(paths: list[Path]) -> str:
    """Short SHA-256 over names and contents, in the given order."""
    return digest_digests((path.name, sha256_of(path)) for path in paths)


def digest_digests(files: Iterable[tuple[str, bytes]]) -> str:
    """The digest of files of which the names and the SHA-256 of the contents are known."""
    sha = hashlib.sha256()
    for name, digest in files:
        sha.update(name.encode() + digest)
    return sha.hexdigest()[:16]


class NotAsWritten(InputError):
    """A file is not the one that was written with the JSON of its folder."""

    def __init__(self, sentence: str, path: Path):
        super().__init__(sentence)
        self.path = path


@dataclass(frozen=True)
class Promise:
    """What the JSON of a folder says of the files beside it."""

    folder: Path
    given_as: str  # in the caller's words, such as "--model runs/model"
    json: str  # name of the file that says it
    files: Mapping[str, str]  # SHA-256 by name; a file that is not in it is not compared
    remedy: str  # what to do, the end of a sentence

    @contextlib.contextmanager
    def kept(self, names: Iterable[str] | None = None) -> Iterator[None]:
        """Compare files, None: all, beside what the block does: reading them and their SHA-256 take
        about as long as the longer of both.

        What the block reads is not to be believed before its end, where the first file is refused
        that is not the one that was written (NotAsWritten), whatever else the block found of it.
        Raises InputError before the block for a file that is missing."""
        names = self.files if names is None else names
        promised = {name: self.files[name] for name in names if name in self.files}
        for name in promised:
            if not (self.folder / name).is_file():
                raise InputError(
                    f"{self.given_as} has no {name}, which its {self.json} names: {self.remedy}"
                )
        with ThreadPoolExecutor(max(1, len(promised)), "digests") as pool:
            found = {name: pool.submit(sha256_of, self.folder / name) for name in promised}
            try:
                yield
            except Exception:
                self._compare(promised, found)
                raise
            self._compare(promised, found)

    def _compare(self, promised: Mapping[str, str], found: Mapping[str, Future[bytes]]) -> None:
        for name, sha in found.items():
            if (is_now := sha.result().hex()) != promised[name]:
                raise self._refusal(name, is_now) from None

    def _refusal(self, name: str, is_now: str) -> NotAsWritten:
        path, others = self.folder / name, {sha: other for other, sha in self.files.items()}
        what = f", but {others[is_now]}" if is_now in others else ""
        what = what or ("" if path.stat().st_size else ", but empty")
        remedy = self.remedy
        if writer := writer_of(self.folder):
            remedy = f"{writer}, writes to it at this moment: say the same command again."
        return NotAsWritten(
            f"{self.given_as}: {name} is not the file that was written with {self.json}{what}: "
            f"{remedy}",
            path,
        )
