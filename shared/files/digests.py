"""SHA-256 of files: what is written down of them, and compared when they are read."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

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
