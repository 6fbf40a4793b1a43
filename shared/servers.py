"""What a server answers comes to an end, in time and in size, and is fit to be shown: whatever
answers, nobody waits for ever.

A time-out of a socket ends silence alone. A byte every ten seconds, or one interim answer after the
other, would hold whoever reads; so that `bound` limits all that is read by http.client, which
urllib, MLflow's and KFP's clients are built on."""

import base64
import contextlib
import http.client
import io
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from shared.errors import InputError
from shared.secrets import without_secrets

PATIENCE, PATIENCE_S = "PIPELINE_PATIENCE_S", 60.0  # variable that sets it, and without that
SLOWEST_BYTES_PER_S = 1000
LOOK_S = 0.5  # between two looks at how far a call is
MOST_INTERIM_ANSWERS = 20  # of status 100, before the answer
MOST_BYTES = 64 * 2**20  # of an answer that is read as a whole; of files there is no limit
MOST_SHOWN = 300  # letters of what somebody else says

# Colours and movements of a terminal, other characters that are no text, and those that turn the
# direction of what follows.
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

Answer = TypeVar("Answer")


# What is shown.


def plain(text: str) -> str:
    """A text without colours, movements and other control characters, but for tabs and line
    ends."""
    return CONTROL.sub("", text)


def said(text: object) -> str:
    """What a server, or whoever else is not us, has said: the first line, without secrets and
    control characters, of a length that people read."""
    lines = str(text)[: 100 * MOST_SHOWN].strip().splitlines() or [""]
    line = plain(without_secrets(lines[0])).strip()
    return line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN - 3]}..."


# How long is waited.


def patience_s() -> float:
    """Seconds that a server may be silent, or send next to nothing. Raises InputError."""
    given = os.environ.get(PATIENCE) or PATIENCE_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0
    if not 0.1 <= seconds <= 86400:
        raise InputError(f"{PATIENCE}={given}: write seconds, from 0.1 to 86400.")
    return seconds


def is_final(error: BaseException) -> bool:
    """Whether another try would end as this one did: nobody has the name, or none that is
    trusted."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLCertVerificationError)


# The proxy on the way, by HTTPS_PROXY, HTTP_PROXY and NO_PROXY, which the libraries know too.


class Proxy(NamedTuple):
    """Who passes on what is asked."""

    address: str  # http://host:port, without user and password
    headers: dict[str, str]  # by which it knows us


def keep_loopback() -> None:
    """From now on, here and in all that is started from here, this machine is asked by no proxy,
    which would be another machine's loopback."""
    proxies = urllib.request.getproxies_environment()
    if not proxies.keys() - {"no"}:
        return
    known = [one.strip() for one in proxies.get("no", "").split(",") if one.strip()]
    if known != ["*"]:
        known += [one for one in ("localhost", "127.0.0.1", "::1") if one not in known]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(known)


def proxy_of(url: str) -> Proxy | None:
    """By whom this environment asks a URL; None: nobody. Raises InputError for what is no address
    of a proxy, and does not show it: it may hold a password."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    given = urllib.request.getproxies_environment().get(scheme, "")
    if not given or urllib.request.proxy_bypass_environment(parts.netloc.rpartition("@")[2]):
        return None
    try:
        proxy = urlsplit(given if "://" in given else f"http://{given}")
        host = f"[{proxy.hostname}]" if ":" in (proxy.hostname or "") else proxy.hostname
        if proxy.scheme not in ("http", "https") or not host:
            raise ValueError
        address = f"{proxy.scheme}://{host}" + (f":{proxy.port}" if proxy.port else "")
    except ValueError:
        raise InputError(
            f"{scheme.upper()}_PROXY is no address of an HTTP proxy: write for example "
            "http://proxy.example:3128."
        ) from None
    if proxy.username is None:
        return Proxy(address, {})
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return Proxy(address, {"proxy-authorization": f"Basic {base64.b64encode(pair).decode()}"})


def let_proxy(settings: Any) -> None:
    """Let a client of Kubernetes, which asks no environment itself, go by its proxy."""
    proxy = proxy_of(settings.host)
    if proxy and not settings.proxy:
        settings.proxy, settings.proxy_headers = proxy.address, proxy.headers


def by_proxy(url: str) -> str:
    """By whom a URL is asked, for a sentence, with a blank before it; "" where by nobody."""
    try:
        proxy = proxy_of(url)
    except InputError:
        return f" by the proxy of {urlsplit(url).scheme.upper()}_PROXY, which is no address"
    return f" by the proxy {proxy.address}" if proxy else ""


class Pace:
    """How fast something comes."""

    def __init__(self):
        self._limit_s = patience_s()
        self._bytes, self._waited_s = 0, 0.0

    def took(self, count: int, waited_s: float) -> None:
        """Note that so many bytes came after so long. Raises TimeoutError for a trickle, which is
        as bad as silence."""
        self._bytes, self._waited_s = self._bytes + count, self._waited_s + waited_s
        if self._waited_s > self._limit_s:
            if self._bytes < SLOWEST_BYTES_PER_S * self._limit_s:
                raise TimeoutError(f"{self._bytes:,} bytes came in {self._waited_s:.0f} s")
            self._bytes, self._waited_s = 0, 0.0


def within(
    seconds: float, call: Callable[[], Answer], progress: Callable[[], Any] = lambda: None
) -> Answer:
    """What a call returns or raises; TimeoutError where it does neither for so long, and `progress`
    stays as it was. Its thread, which nothing can stop, is then left behind."""
    ended: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            ended.put((True, call()))
        except BaseException as error:
            ended.put((False, error))

    threading.Thread(target=work, daemon=True).start()
    seen, until = progress(), time.monotonic() + seconds
    while True:
        try:
            is_answer, found = ended.get(timeout=min(seconds, LOOK_S))
        except queue.Empty:
            if seen != (seen := progress()):
                until = time.monotonic() + seconds
            elif time.monotonic() > until:
                raise TimeoutError(f"no answer in {seconds:g} s") from None
        else:
            if is_answer:
                return found
            raise found


def answer_of(command: Sequence[str], seconds: float) -> str:
    """What a program prints to either stream, however it ends. Raises OSError where it cannot be
    started, TimeoutError where it has not ended by then: it is killed with all that it started."""
    quiet = dict(stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, **quiet)
    with process.stdout:
        try:
            return process.communicate(timeout=seconds)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in its driver
                process.wait(timeout=1)
            raise TimeoutError(f"no answer within {seconds:g} s") from None


# What is read.


class _PacedFile(io.RawIOBase):
    """The bytes of an answer, at a pace that counts from the first of them."""

    def __init__(self, raw: io.RawIOBase):
        self._raw, self._pace, self._has_begun = raw, Pace(), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        asked = time.monotonic()
        count = self._raw.readinto(buffer)
        if self._has_begun:
            self._pace.took(count or 0, time.monotonic() - asked)
        self._has_begun = True
        return count

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock, *arguments, **options):
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_PacedFile(self.fp.detach()))
        self._interim_answers = 0

    def _read_status(self):
        self._interim_answers += 1
        if self._interim_answers > MOST_INTERIM_ANSWERS:
            raise http.client.HTTPException("one interim answer after the other")
        return super()._read_status()


def bound() -> None:
    """From now on limit what this process reads by http.client."""
    http.client.HTTPConnection.response_class = _BoundedResponse


def whole(parts: Iterable[bytes]) -> bytes:
    """The content of an answer from its parts. Raises ValueError where it is longer than any that
    makes sense."""
    taken, length = [], 0
    for part in parts:
        taken.append(part)
        length += len(part)
        if length > MOST_BYTES:
            raise ValueError(f"the answer is longer than {MOST_BYTES / 2**20:.0f} MiB")
    return b"".join(taken)


def bound_requests() -> None:
    """The same for what is read by requests, MLflow's client; and what is no file is limited in
    size: a small answer can unpack to any."""
    from requests import Response
    from requests.exceptions import ContentDecodingError

    bound()
    content = Response.content.fget
    if content.__module__ == __name__:
        return

    def bounded(answer: Response) -> bytes:
        if answer._content is False and not answer._content_consumed and answer.raw is not None:
            try:
                answer._content = whole(answer.iter_content(2**16))
            except ValueError as error:
                answer.close()
                raise ContentDecodingError(str(error)) from None
        return content(answer)

    Response.content = property(bounded)
