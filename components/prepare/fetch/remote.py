"""Raw data in a store (s3://, gs://, https://, whatever fsspec knows) -> a local copy, made once,
then kept up to date.

<into>/<readable part of the URL>-<hash>/    the copy: one file, or the tree below the URL without
hidden files
    .remote.jsonl                            the ledger: a line per copied file; complete when its
    last line says so .../.<name>.partial, .<name>.version     a file on its way; of a large one,
    the remote version it belongs to
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from components.prepare.fetch import stores
from components.prepare.fetch.stores import RemoteFile, Store, Unreachable, parse_url
from shared.errors import InputError

THREADS = 8
PROGRESS_SECONDS = 5
LEDGER = ".remote.jsonl"


def is_remote(source: str) -> bool:
    """Whether it begins as a URL does; file:// is one, a path and a Windows drive are none."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def without_secrets(url: str) -> str:
    """The URL as it may be shown and stored: without password, query and checksum."""
    return parse_url(url)[1]


def fetch(url: str, into: Path) -> Path:
    """Copy what the URL holds into a folder below `into`; the same call again copies only what is
    new or incomplete.

    A complete copy serves alone while the store cannot be reached. Raises InputError, for a lost
    connection too.

    Args:
        url: A folder or a file, over http(s) a file; `#sha256=<64 hex digits>` behind a file's URL
            is checked.

    Returns:
        The local file where the URL is one file, else the local folder.
    """
    assert is_remote(url), url
    url, shown, sha256 = parse_url(url)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", shown)[-60:].strip(".-")
    folder = into / f"{readable}-{hashlib.sha256(shown.encode()).hexdigest()[:10]}"
    try:
        try:
            store = Store(url, shown)
            files, kind = store.with_retries(store.find)
        except Unreachable as error:
            copy = _complete_copy(folder)
            if copy is None:
                raise InputError(
                    f"--raw-data {shown} cannot be reached ({error}): check the address and the "
                    "network."
                ) from None
            print(
                f"prepare: warning: {shown} cannot be reached ({error}), its copy is used: {copy}",
                flush=True,
            )
        else:
            copy = folder / files[0].name if kind == "file" else folder
            if kind == "file" or not sha256:
                _mirror(store, files, kind, folder)
        if sha256:
            _check_sha256(copy, sha256, shown)
    except OSError as error:  # of the local disk: Store has turned all others into its own
        raise InputError(
            f"--raw-data {shown} cannot be copied to {folder} ({error.strerror}): "
            f"give a place that can be written to and has space."
        ) from None
    return copy


def _check_sha256(copy: Path, sha256: str, shown: str) -> None:
    if not copy.is_file():
        raise InputError(
            f"--raw-data {shown} is a folder but #sha256 belongs to one file: leave it out."
        )
    if (found := _hash(copy, "sha256")) != sha256:
        copy.unlink()
        raise InputError(
            f"--raw-data {shown} has SHA-256 {found} and not {sha256} as its URL says (the copy "
            "is removed): "
            f"correct the URL or get the right file."
        )


def _mirror(store: Store, files: list[RemoteFile], kind: str, folder: Path) -> None:
    """Make the folder hold these files, and of earlier ones no other."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LEDGER, "a+") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)  # a second process waits, then finds everything copied
        ledger.seek(0)
        copied, complete = _read_ledger(ledger)
        gone = copied.keys() - {file.name for file in files}
        for name in gone:
            (folder / name).unlink(missing_ok=True)
            _append(ledger, removed=name)

        todo = [file for file in files if not _is_copied(file, copied.get(file.name), folder)]
        needed = sum(file.size - (_length(_partial(folder / file.name)) or 0) for file in todo)
        if needed > (free := shutil.disk_usage(folder).free):
            raise InputError(
                f"--raw-data {store.shown} needs {_megabytes(needed)} MB but {folder} has "
                f"{_megabytes(free)} MB free: "
                f"free space or give another disk."
            )
        if todo:
            _copy_all(store, todo, folder, ledger)
        else:
            print(f"prepare: already copied: {folder}", flush=True)
        if todo or gone or not complete:
            _append(ledger, complete=kind)


def _append(ledger: TextIO, **record: Any) -> None:
    ledger.write(
        "\n" + json.dumps(record)
    )  # newline first: a line that was cut off by a kill spoils no other
    ledger.flush()


def _read_ledger(lines: Iterable[str]) -> tuple[dict[str, dict], str]:
    """Records by file name, and "file" or "folder" for a complete copy, else ""."""
    copied, complete = {}, ""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            record = {}
        complete = record.get("complete", "")
        copied.pop(record.get("removed"), None)
        if "file" in record:
            copied[record["file"]] = record
    return copied, complete


def _is_copied(file: RemoteFile, record: dict | None, folder: Path) -> bool:
    same = record is not None and (record["size"], record["version"]) == (file.size, file.version)
    return same and _length(folder / file.name) == file.size


def _complete_copy(folder: Path) -> Path | None:
    """What an earlier `fetch` returned, if it is whole."""
    if not (folder / LEDGER).is_file():
        return None
    copied, complete = _read_ledger((folder / LEDGER).read_text().splitlines())
    if not complete or any(
        _length(folder / name) != record["size"] for name, record in copied.items()
    ):
        return None
    return folder / next(iter(copied)) if complete == "file" else folder


def _copy_all(store: Store, files: list[RemoteFile], folder: Path, ledger: TextIO) -> None:
    """Many threads copy; this one writes the ledger and prints the progress."""
    total = _megabytes(sum(file.size for file in files))
    finished, finished_bytes, printed = 0, 0, time.monotonic()
    todo, pending = iter(files), {}
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            while finished < len(files):
                for file in islice(todo, 2 * THREADS - len(pending)):
                    pending[pool.submit(_copy, store, file, folder)] = file
                for future in wait(
                    pending, timeout=PROGRESS_SECONDS, return_when=FIRST_COMPLETED
                ).done:
                    file = pending.pop(future)
                    _append(
                        ledger,
                        file=file.name,
                        size=file.size,
                        version=file.version,
                        sha256=future.result(),
                    )
                    finished, finished_bytes = finished + 1, finished_bytes + file.size
                if finished == len(files) or time.monotonic() - printed >= PROGRESS_SECONDS:
                    here = finished_bytes + sum(
                        _length(_partial(folder / f.name)) or 0 for f in pending.values()
                    )
                    progress = f"{finished} of {len(files)} files, {_megabytes(here)} of {total} MB"
                    print(f"prepare: copied {progress}", flush=True)
                    printed = time.monotonic()
        except Unreachable as error:
            raise InputError(
                f"--raw-data {store.shown}: connection lost ({error}) after {finished} of "
                f"{len(files)} files: "
                f"the same command again goes on from there."
            ) from None
        finally:
            store.stopped.set()


def _copy(store: Store, file: RemoteFile, folder: Path) -> str:
    """One file, which appears whole and checked or not at all. Returns the SHA-256 of its bytes."""
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, note = _partial(target), target.with_name(f".{target.name}.version")

    def received() -> str:
        store.with_retries(
            lambda: _receive(store, file, partial, note), reached=lambda: _length(partial) or 0
        )
        return _hash(partial, "sha256")

    sha256 = received()
    is_etag = file.md5 in file.version
    if file.md5 and (store.trusts_etags or not is_etag) and _hash(partial, "md5") != file.md5:
        partial.unlink()
        # S3 objects under KMS have ETags that look like an MD5 and are none: then the same bytes
        # come again.
        if not is_etag or received() != sha256:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"--raw-data {store.shown}: {file.name} arrived with another MD5 than the store "
                "tells "
                f"(the copy is removed): say the same command again."
            )
        store.trusts_etags = False
    os.replace(partial, target)
    note.unlink(missing_ok=True)
    return sha256


def _receive(store: Store, file: RemoteFile, partial: Path, note: Path) -> None:
    """One try to complete `partial`; it goes on from its end where `note` has the version that the
    store has now."""
    is_large = file.size > stores.CHUNK
    version = store.version(file) if is_large else ""
    if not (version and note.is_file() and note.read_text() == version):
        partial.unlink(missing_ok=True)
        if version:
            note.write_text(version)
    with open(partial, "ab") as out:
        for offset, block in store.blocks(file, start=out.tell()):
            if store.stopped.is_set() or offset > file.size:
                break
            if offset == 0:
                out.truncate(0)
            out.write(block)
    if _length(partial) < file.size:
        raise Unreachable("it broke off")
    if _length(partial) > file.size or is_large and store.version(file) != version:
        partial.unlink()
        raise InputError(
            f"--raw-data {store.shown}: {file.name} changed while it was copied: copy it again."
        )


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _length(path: Path) -> int | None:
    """In bytes, None where there is no file."""
    try:
        return path.stat().st_size
    except (
        FileNotFoundError,
        NotADirectoryError,
    ):  # asked, not looked up first: another thread may rename it
        return None


def _hash(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
