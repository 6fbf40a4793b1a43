"""Files in a store (s3://, gs://, https://, whatever fsspec knows): what there is, in which
version, block by block."""

import base64
import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import fsspec

from components.prepare.fetch.paths import why_no_path
from shared.errors import InputError
from shared.secrets import restored
from shared.servers import Pace, by_proxy, is_final, patience_s, said, within

VARIABLE = "env"  # scheme of the name of a variable that holds the URL
CHUNK = 4 * 2**20  # bytes read at once
RETRY_PAUSES = (1, 5, 20)  # seconds, when the connection is lost
FINAL = (400, 405, 406, 451, 501, 505)  # HTTP statuses that another try does not change
# How many times the patience with a server, which its client has too, an answer may take, a block
# of CHUNK bytes, and the list of a folder, which comes in many answers.
ANSWER, RANGE, LISTING = 2, 4, 30

# What stores call the version of a file. The first one counts, alone: times differ between a
# listing and a query.
VERSION_KEYS = (
    *("md5Hash", "Content-MD5", "ETag", "etag", "generation"),
    *("mtime", "LastModified", "Last-Modified", "last_modified", "modified", "updated", "created"),
)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the store lists it."""

    name: str  # path below the copy's folder
    path: str  # in the store
    size: int  # bytes
    version: str  # "" = the store tells none
    md5: str  # hexadecimal, "" = the store tells none


class Unreachable(Exception):
    """No answer, or one that broke off. Its text names the cause without any URL. `is_final`:
    another try cannot help."""

    def __init__(self, reason: str, is_final: bool = False):
        super().__init__(reason)
        self.is_final = is_final


def parse_url(source: str) -> tuple[str, str, str]:
    """The URL to open, the URL to show and store (it has no password and no query), and the SHA-256
    or "". Raises InputError."""
    url, has_fragment, fragment = _held(restored(source)).partition("#")

    # No part of a password may be taken for the host, which is shown.
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        if not re.fullmatch(r"[^:]*(:\d*)?", host) and "@" in source.partition(host)[2]:
            raise ValueError("this host is the beginning of a password with / ? or # in it")
    except ValueError:
        raise InputError(
            "--raw-data has no readable host: write special characters of a password as %XX."
        ) from None
    shown = f"{parts.scheme}://{host}{parts.path}".rstrip("/")

    if "::" in url:
        raise InputError(
            "--raw-data is a chain of URLs (::): "
            "give the URL of the folder or of the archive alone."
        )
    if has_fragment and not re.fullmatch("sha256=[0-9a-fA-F]{64}", fragment):
        raise InputError(
            f"--raw-data {shown} has a # but no checksum behind it: write #sha256=<64 hex digits>."
        )
    url = parts.scheme + url[len(parts.scheme) :]  # fsspec knows lower case only
    return url, shown, fragment.removeprefix("sha256=").lower()


def _held(source: str) -> str:
    """The URL that a variable of the environment holds, where `source` is env://VARIABLE: it has
    secrets that are to stand nowhere else. Raises InputError."""
    scheme, _, name = source.partition("://")
    if scheme != VARIABLE:
        return source
    if "://" not in os.environ.get(name, ""):
        raise InputError(
            f"--raw-data {source}: the environment has no variable {name} that holds a URL: set it "
            "where the step runs."
        )
    return os.environ[name]


def check_client(url: str, shown: str) -> None:
    """Raises InputError where the client of a URL's scheme is not installed."""
    try:
        fsspec.get_filesystem_class(urlsplit(url).scheme)
    except ImportError as error:
        package = error.__cause__.name
        raise InputError(f"--raw-data {shown} needs {package}: pip install {package}.") from None
    except ValueError:
        raise InputError(
            f"--raw-data {shown} has an unknown scheme: give s3://, gs:// or https://."
        ) from None


class Store:
    """A URL in its file system. Raises InputError where another try cannot help, else
    Unreachable."""

    def __init__(self, url: str, shown: str):
        self.url, self.shown = url, shown
        self.stopped = threading.Event()
        self.trusts_etags = True  # until one that looks like an MD5 is none

        check_client(url, shown)

        # aiohttp's own time-out ends a large file after 300 s, and it asks for no proxy.
        self.is_http = urlsplit(url).scheme in ("http", "https")
        options = {}
        if self.is_http:
            import aiohttp

            limits = dict(sock_connect=min(30, patience_s()), sock_read=patience_s())
            timeout = aiohttp.ClientTimeout(total=None, **limits)
            options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
        with self._answers():
            self.fs, self.path = fsspec.core.url_to_fs(url, **options)

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        """Sort what the clients of the stores raise, each its own: no rights, nothing there, or
        unreachable."""
        try:
            yield
        except Exception as error:
            # Over HTTP fsspec says that a file is not found, whatever it was.
            if self.is_http and isinstance(error, FileNotFoundError):
                error = error.__cause__ or error
            status = getattr(error, "status", None) or getattr(error, "code", None)
            way = by_proxy(self.url) if self.is_http else ""
            if status == 407 or "Proxy" in type(error).__name__:  # aiohttp's, of a proxy itself
                found = f"HTTP {status}" if status else str(error)
                raise Unreachable(f"{said(found)}{way}", is_final=status is not None) from None
            if (
                isinstance(error, PermissionError)
                or status in (401, 403)
                or "Credentials" in type(error).__name__  # s3fs
                or str(error).startswith("Forbidden")  # gcsfs
            ):
                raise InputError(
                    f"--raw-data {self.shown}: access denied{way}: check the credentials."
                ) from None
            if isinstance(error, (FileNotFoundError, NotADirectoryError)) or status in (404, 410):
                raise InputError(
                    f"--raw-data {self.shown}: nothing found there: check the address."
                ) from None
            reason = str(error) if isinstance(error, TimeoutError) else ""
            found = f"HTTP {status}" if status else reason or type(error).__name__
            lost = status in FINAL or is_final(getattr(error, "os_error", error))
            raise Unreachable(f"{found}{way}", lost) from None

    def with_retries(self, call: Callable[[], Any], reached: Callable[[], int] = lambda: 0) -> Any:
        """Call again after each of the pauses, which begin anew whenever `reached` has grown."""
        pauses, furthest = iter(RETRY_PAUSES), 0
        while True:
            try:
                return call()
            except Unreachable as error:
                if error.is_final:
                    raise
                if reached() > furthest:
                    pauses, furthest = iter(RETRY_PAUSES), reached()
                pause = next(pauses, None)
                if pause is None or self.stopped.wait(pause):
                    raise

    def find(self) -> tuple[list[RemoteFile], Literal["file", "folder"]]:
        """All files but hidden ones, and what the URL is."""
        with self._answers():
            self.fs.invalidate_cache()
            info = within(ANSWER * patience_s(), lambda: self.fs.info(self.path))
            kind = "file" if info["type"] == "file" else "folder"
            found = self._one_file(info) if kind == "file" else self._files_below()

        if info.get("mimetype") == "text/html":
            raise InputError(
                f"--raw-data {self.shown} is a web page: "
                "give the address of a file, such as an archive."
            )
        for name in found:  # no key may lead out of the folder
            if why_no_path(name):
                raise InputError(
                    f"--raw-data {self.shown} has a file {name[:300]!r}, no path below a folder: "
                    "rename it."
                )
        found = {name: entry for name, entry in found.items() if not re.search(r"(^|/)\.", name)}
        if not found:
            raise InputError(f"--raw-data {self.shown}: nothing found there: check the address.")
        if any(entry["size"] is None for entry in found.values()):
            raise InputError(
                f"--raw-data {self.shown} does not tell its length: "
                "give the address of a stored file."
            )
        return [
            RemoteFile(name, entry["name"], entry["size"], _version(entry), self._md5(entry))
            for name, entry in found.items()
        ], kind

    def _one_file(self, info: dict) -> dict[str, dict]:
        """The URL's file by its name, as `_files_below`."""
        path = unquote(urlsplit(self.path).path) if self.is_http else self.path
        return {PurePosixPath(path).name: info | {"name": self.path}}

    def _files_below(self) -> dict[str, dict]:
        """What the store tells of each file, by its path below the URL."""
        base = self.path.rstrip("/") + "/"
        listed = within(LISTING * patience_s(), lambda: self.fs.find(self.path, detail=True))
        return {
            entry["name"].removeprefix(base): entry
            for entry in listed.values()
            if entry["type"] == "file" and not entry["name"].endswith("/")  # a folder's mark
        }

    def _md5(self, info: dict) -> str:
        """The MD5 that the store promises, or what looks like one; "" without either."""
        promised = info.get("md5Hash") or info.get("Content-MD5") or ""
        if re.fullmatch("[A-Za-z0-9+/]{22}==", promised):
            return base64.b64decode(promised).hex()
        # A web server's ETag can be anything.
        etag = "" if self.is_http else str(info.get("ETag", "")).strip('"')
        return etag if re.fullmatch("[0-9a-f]{32}", etag) else ""

    def version(self, file: RemoteFile) -> str:
        """The version that the store has now."""
        with self._answers():
            self.fs.invalidate_cache()
            return _version(within(ANSWER * patience_s(), lambda: self.fs.info(file.path)))

    def blocks(self, file: RemoteFile, start: int) -> Iterator[tuple[int, bytes]]:
        """(Offset, bytes) from `start` on, or from 0 where the server cannot begin in the
        middle."""
        read = self._stream if self.is_http and start < file.size else self._ranges
        with self._answers():
            yield from read(file, start)

    def _stream(self, file: RemoteFile, start: int) -> Iterator[tuple[int, bytes]]:
        """One request, since a web server without ranges sends the whole file whatever part is
        asked for."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        limit_s, pace = ANSWER * patience_s(), Pace()

        def open_stream():
            return self.fs.open(file.path, block_size=0, size=file.size, headers=headers)

        with within(limit_s, open_stream) as stream:
            offset = start if stream.r.status == 206 else 0
            asked = time.monotonic()
            while block := within(limit_s, lambda: stream.read(CHUNK)):
                pace.took(len(block), time.monotonic() - asked)
                yield offset, block
                offset += len(block)
                asked = time.monotonic()

    def _ranges(self, file: RemoteFile, start: int) -> Iterator[tuple[int, bytes]]:
        """A request per block."""
        while start < file.size:
            # By keyword: the second parameter of s3fs is another one.
            part = dict(start=start, end=min(start + CHUNK, file.size))
            block = within(
                RANGE * patience_s(), lambda part=part: self.fs.cat_file(file.path, **part)
            )
            if not block:
                return
            yield start, block
            start += len(block)


def _version(info: dict) -> str:
    """The first of VERSION_KEYS that the store tells, and its value; "" without any."""
    return next((f"{key} {info[key]}" for key in VERSION_KEYS if info.get(key)), "")
