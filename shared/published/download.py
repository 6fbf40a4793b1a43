"""Brings published weight files to torch.hub's folder: whole, checked, and once for all processes.

torch.hub.download_url_to_file is no help: it has no time-outs, does not try again, lets every
process download for itself, and what it had when it was killed stays there for ever."""

import contextlib
import hashlib
import http.client
import io
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from shared import servers
from shared.errors import InputError
from shared.files.owned import one_at_a_time
from shared.files.writing import partial_of, put_in_place
from shared.published.files import WeightFile
from shared.servers import said
from shared.terminal.progress import Progress

CHUNK = 2**20  # bytes
TIMEOUT_SECONDS = 30  # without an answer, or a byte of it
PATIENCE_SECONDS = 60  # in which CHUNK bytes must have come
ASKING_SECONDS = 5  # before the first step, when no more than an answer is wanted
RETRY_PAUSES = (1, 5, 20)  # seconds
FINAL = (400, 401, 403, 404, 405, 410, 451)  # HTTP statuses that another try does not change


class Unreachable(Exception):
    """It did not come; the text says why. `is_final`: another try cannot help."""

    def __init__(self, reason: str, is_final: bool = False):
        super().__init__(reason)
        self.is_final = is_final


def fetch(file: WeightFile, flag: str) -> Path:
    """Where a published file lies, after it was downloaded if it was not there.

    flag: What asks for it, in the words of a command line.

    Raises InputError where it cannot be had, or other bytes lie in its place."""
    place = file.place
    if not place.is_file():
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = file.place.with_name(f".{file.name}.lock")
            with one_at_a_time(lock, f"{file.name}: downloaded"):
                if not place.is_file():
                    _download(file, flag)
                    return place
        except OSError as error:
            raise _cannot_write(file, flag, error.strerror) from None
    check(file, flag)
    return place


def check(file: WeightFile, flag: str) -> None:
    """Raises InputError where what lies in the place of a published file is not that file."""
    try:
        found = _sha256(file.place)
    except OSError as error:
        raise InputError(
            f"{flag} needs {file.place}, which cannot be read ({error.strerror}): make it readable "
            "for this user."
        ) from None
    if found != file.sha256:
        raise InputError(
            f"{flag} needs {file.place} as it was published, but this file has SHA-256 {found} and "
            f"not {file.sha256}: remove it, and it is downloaded anew."
        )


def look_for(file: WeightFile, flag: str) -> str:
    """Whether a published file is there, or will be downloaded, in a few words.

    Raises InputError where it will be possible to have it neither way."""
    if file.place.is_file():
        check(file, flag)
        return file.name

    # Room for it.
    folder = file.place.parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise _cannot_write(file, flag, error.strerror) from None
    if file.size > (free := shutil.disk_usage(existing).free):
        raise _cannot_write(file, flag, f"{free / 1e6:,.0f} MB are free there")

    # Its address.
    try:
        with _ask(file, 0, ASKING_SECONDS):
            return f"{file} will be downloaded"
    except Unreachable as error:
        raise _cannot_download(file, flag, error) from None


def _cannot_download(file: WeightFile, flag: str, reason: object) -> InputError:
    return InputError(
        f"{flag} needs {file}, which is not here and cannot be downloaded ({reason}): get "
        f"{file.shown_address} and put it to {file.place}."
    )


def _cannot_write(file: WeightFile, flag: str, reason: object) -> InputError:
    return InputError(
        f"{flag} needs {file}, but {file.place.parent} cannot take it ({reason}): name another "
        "folder in TORCH_HOME."
    )


# Downloading.


def _download(file: WeightFile, flag: str) -> None:
    """Download into a partial file, and give it its name when its digest is right.

    What an earlier call left is gone on with, once: it may be of anything."""
    partial = partial_of(file.place)
    began_earlier = _length(partial) > 0
    print(f"downloads {file} from {file.shown_address} to {file.place.parent}", flush=True)
    _receive_all(file, partial, flag)
    if began_earlier and _sha256(partial) != file.sha256:
        partial.unlink()
        _receive_all(file, partial, flag)
    if (found := _sha256(partial)) != file.sha256:
        partial.unlink()
        raise InputError(
            f"{flag} needs {file} but {file.shown_address} holds another file (SHA-256 {found} and "
            f"not {file.sha256}): get the right one and put it to {file.place}."
        )
    put_in_place(partial, file.place)


def _receive_all(file: WeightFile, partial: Path, flag: str) -> None:
    """Complete the partial file, after lost connections from where it ends."""
    pauses, reached = iter(RETRY_PAUSES), _length(partial)
    total = file.size // 10**6
    shown = Progress(f"{file.name}: downloaded", total, "MB", reached // 10**6) if total else None
    while _length(partial) < file.size:
        try:
            for length in _receive(file, partial):
                if shown and (length == file.size or length // 10**6 < total):
                    shown.show(length // 10**6)
        except Unreachable as error:
            # Whoever gets on is given all tries again.
            if _length(partial) >= reached + CHUNK:
                pauses, reached = iter(RETRY_PAUSES), _length(partial)
            pause = next(pauses, None)
            if pause is None or error.is_final:
                raise _cannot_download(file, flag, error) from None
            print(f"{file.name}: {error}, again in {pause} s", flush=True)
            time.sleep(pause)


def _receive(file: WeightFile, partial: Path) -> Iterator[int]:
    """Try once to complete the partial file; gives its lengths. Raises Unreachable, and OSError
    where it cannot be written."""
    with open(partial, "ab") as out, _ask(file, out.tell(), TIMEOUT_SECONDS) as answer:
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            out.truncate(0)
        length, until = out.seek(0, io.SEEK_END), time.monotonic() + PATIENCE_SECONDS
        checked = length
        while length < file.size:
            # What came.
            with _as_unreachable(TIMEOUT_SECONDS):
                block = answer.read1(min(CHUNK, file.size - length))
            if not block:
                raise Unreachable("it broke off")
            out.write(block)
            length += len(block)
            yield length

            # A trickle is as bad as silence.
            if time.monotonic() > until:
                if length < checked + CHUNK:
                    raise Unreachable(f"under {CHUNK:,} bytes came in {PATIENCE_SECONDS} s")
                checked, until = length, time.monotonic() + PATIENCE_SECONDS


@contextlib.contextmanager
def _ask(file: WeightFile, start: int, timeout: float) -> Iterator[http.client.HTTPResponse]:
    """The answer that holds the file from `start` on, or all of it. Raises Unreachable."""
    servers.bound()
    headers = {"User-Agent": "pix2pixhd-pipeline", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with _as_unreachable(timeout, servers.by_proxy(file.address)):
        request = urllib.request.Request(file.address, headers=headers)
        answer = urllib.request.urlopen(request, timeout=timeout)
    with answer:
        expected = file.size - start * (answer.status == HTTPStatus.PARTIAL_CONTENT)
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != expected:
            found = f"what is there has {int(length):,} bytes and not {expected:,}"
            raise Unreachable(found, is_final=True)
        yield answer


@contextlib.contextmanager
def _as_unreachable(timeout: float, way: str = "") -> Iterator[None]:
    """Turns what a connection may raise into Unreachable with a reason for people.

    way: The proxy that was asked, in words."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise Unreachable(f"HTTP {error.code}{way}", error.code in FINAL) from None
    except TimeoutError as error:
        came = str(error) if "bytes came" in str(error) else f"nothing came in {timeout:g} s"
        raise Unreachable(came) from None
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        cause = getattr(error, "reason", None) or error
        reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        raise Unreachable(f"{said(reason)}{way}", servers.is_final(cause)) from None


def _length(path: Path) -> int:
    """Size in bytes, 0 where there is no file."""
    return path.stat().st_size if path.is_file() else 0


def _sha256(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
