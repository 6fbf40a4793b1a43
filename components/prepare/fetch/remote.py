"""Raw data in a store (s3://, gs://, https://, whatever fsspec knows) -> a local copy, made once,
then kept up to date.

<into>/<readable part of the URL>-<hash>/   the copy: one file, or the tree below the URL without
                                            hidden files
    .remote.jsonl                           the ledger
    .../.<name>.partial                     a file on its way
    .../.<name>.version                     the remote version that a large one belongs to

fsspec lists and reads. Its own `get` and `rsync` begin a file anew when the connection breaks and
compare no checksums; with data sets of 10 GB in one archive both are needed, so that the blocks are
copied here.
"""

import hashlib
import re
import shutil
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TextIO

from components.prepare.fetch import stores
from components.prepare.fetch.ledger import LEDGER, Kind, Ledger
from components.prepare.fetch.stores import RemoteFile, Store, Unreachable, parse_url
from shared.errors import InputError, repeat
from shared.files.owned import only_writer
from shared.files.writing import partial_of, put_in_place, sync_all
from shared.terminal.progress import Progress

THREADS = 8
POLL_SECONDS = 5  # a large file shows no less often how far it is


def is_remote(source: str) -> bool:
    """Whether it begins as a URL does; file:// is one, a path and a Windows drive are none."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source) is not None


def as_shown(url: str) -> str:
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
        copy = _up_to_date_copy(url, shown, sha256, folder)
        if sha256:
            _check_sha256(copy, sha256, shown)
    except OSError as error:  # of the local disk: Store has turned all others into its own
        raise InputError(
            f"--raw-data {shown} cannot be copied to {folder} ({error.strerror}): "
            "give a place that can be written to and has space."
        ) from None
    return copy


def _up_to_date_copy(url: str, shown: str, sha256: str, folder: Path) -> Path:
    """The copy as the store is now, or the last complete one where the store cannot be reached."""
    try:
        store = Store(url, shown)
        files, kind = store.with_retries(store.find)
    except Unreachable as error:
        copy = _complete_copy(folder)
        if copy is None:
            raise InputError(
                f"--raw-data {shown} cannot be reached ({error}): "
                "check the address and the network."
            ) from None
        print(
            f"prepare: warning: {shown} cannot be reached ({error}), its copy is used: {copy}",
            flush=True,
        )
        return copy

    if kind == "file" or not sha256:  # a folder with a checksum is refused, uncopied
        _mirror(store, files, kind, folder)
    return folder / files[0].name if kind == "file" else folder


def _check_sha256(copy: Path, sha256: str, shown: str) -> None:
    if not copy.is_file():
        raise InputError(
            f"--raw-data {shown} is a folder but #sha256 belongs to one file: leave it out."
        )
    if (found := _hash(copy, "sha256")) != sha256:
        copy.unlink()
        raise InputError(
            f"--raw-data {shown} has SHA-256 {found} and not {sha256} as its URL says "
            "(the copy is removed): correct the URL or get the right file."
        )


def _complete_copy(folder: Path) -> Path | None:
    """What an earlier `fetch` returned, if it is whole."""
    if not (folder / LEDGER).is_file():
        return None
    ledger = Ledger((folder / LEDGER).read_bytes().decode(errors="replace").splitlines())
    sizes = {name: line.size for name, line in ledger.copied.items()}
    if not (ledger.complete and sizes) or any(
        _length(folder / name) != sizes[name] for name in sizes
    ):
        return None
    return folder / next(iter(sizes)) if ledger.complete == "file" else folder


def _mirror(store: Store, files: list[RemoteFile], kind: Kind, folder: Path) -> None:
    """Make the folder hold these files, and of earlier ones no other."""
    # A second process waits here, then finds everything copied.
    doing = f"prepare: {store.shown} is being copied"
    with (
        only_writer(folder, "--copies", doing=doing),
        open(folder / LEDGER, "a+", errors="replace") as out,
    ):
        out.seek(0)
        ledger = Ledger(out)

        # What the store has no more goes.
        gone = ledger.copied.keys() - {file.name for file in files}
        for name in gone:
            (folder / name).unlink(missing_ok=True)
            ledger.add(out, removed=name)

        # What is new, changed or damaged here comes, if it finds room. Of a file without a version
        # nobody knows whether it changed since the copy was whole.
        was_whole = bool(ledger.complete)
        todo = [
            file
            for file in files
            if not ledger.holds(file)
            or (was_whole and not file.version)
            or _length(folder / file.name) != file.size
        ]
        needed = sum(file.size - (_length(partial_of(folder / file.name)) or 0) for file in todo)
        if needed > (free := shutil.disk_usage(folder).free):
            raise InputError(
                f"--raw-data {store.shown} needs {_megabytes(needed)} MB but {folder} has "
                f"{_megabytes(free)} MB free: free space or give another disk."
            )
        if todo:
            _copy_all(store, todo, folder, ledger, out)
        else:
            print(f"prepare: already copied: {folder}", flush=True)
        if ledger.complete != kind:
            sync_all(folder)  # before the ledger says that all is there
            ledger.add(out, complete=kind)


def _copy_all(
    store: Store, files: list[RemoteFile], folder: Path, ledger: Ledger, out: TextIO
) -> None:
    """Copy with many threads, while this one writes the ledger and prints the progress."""
    total = _megabytes(sum(file.size for file in files))
    finished, finished_bytes = 0, 0
    todo, pending = iter(files), dict[Future[str], RemoteFile]()

    def megabytes_here() -> str:
        """What is here, of files on their way the part that came."""
        arriving = (_length(partial_of(folder / file.name)) or 0 for file in pending.values())
        return f"{_megabytes(finished_bytes + sum(arriving))} of {total} MB"

    copied = Progress("prepare: copied", len(files), "files", has_rate=False)
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            while finished < len(files):
                # As many as keep the threads busy: a store may hold 100,000s.
                for file in islice(todo, 2 * THREADS - len(pending)):
                    pending[pool.submit(_copy, store, file, folder)] = file

                # Each file goes into the ledger as soon as it is there.
                for future in wait(pending, POLL_SECONDS, FIRST_COMPLETED).done:
                    file, sha256 = pending.pop(future), future.result()
                    ledger.add_file(out, file, sha256)
                    finished, finished_bytes = finished + 1, finished_bytes + file.size

                copied.show(finished, detail=megabytes_here)
        except Unreachable as error:
            raise InputError(
                f"--raw-data {store.shown}: connection lost ({error}) after {finished} of "
                f"{len(files)} files: {repeat()} goes on from there."
            ) from None
        finally:
            store.stopped.set()


def _copy(store: Store, file: RemoteFile, folder: Path) -> str:
    """Copy one file, which appears whole and checked or not at all; returns its SHA-256."""
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, note = partial_of(target), target.with_name(f".{target.name}.version")

    def received() -> str:
        store.with_retries(
            lambda: _receive(store, file, partial, note), reached=lambda: _length(partial) or 0
        )
        return _hash(partial, "sha256")

    # S3 objects under KMS have ETags that look like an MD5 and are none. Whether this store's are
    # such shows when one does not fit: then the same bytes come again, and none is looked at again.
    sha256 = received()
    is_etag = file.md5 in file.version
    if file.md5 and (store.trusts_etags or not is_etag) and _hash(partial, "md5") != file.md5:
        partial.unlink()
        if not is_etag or received() != sha256:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"--raw-data {store.shown}: {file.name} arrived with another MD5 than the store "
                f"tells (the copy is removed): say {repeat()}."
            )
        store.trusts_etags = False

    put_in_place(partial, target, synced=False)  # all of them: see `_mirror`
    note.unlink(missing_ok=True)
    return sha256


def _receive(store: Store, file: RemoteFile, partial: Path, note: Path) -> None:
    """Try once to complete `partial`; it goes on from its end where `note` has the version that the
    store has now.

    Raises Unreachable where the connection breaks, InputError where the file changes meanwhile.
    """
    # The beginning that is there may be of another version. A small file begins anew: to ask for
    # its version would take as long.
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


def _length(path: Path) -> int | None:
    """Size in bytes, None where there is no file."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):  # another thread may just have renamed it
        return None


def _hash(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
