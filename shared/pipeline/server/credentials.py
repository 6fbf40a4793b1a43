"""Who we are to a KFP server: by its URL, by files that are read anew at every call, since tokens
are renewed, or by the environment. Never by the value of an option, which every user of the machine
can read."""

import base64
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from shared.errors import InputError
from shared.files.documents import read_text
from shared.pipeline.submitting import ServerOptions

# Variables of the environment: kfp's own, but for the token and the cookie themselves.
ENDPOINT, TOKEN_PATH = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN, COOKIE = "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE"
VARIABLE = "env://"
LONGEST = 64 * 1024  # bytes of a token or cookie


class Proof(NamedTuple):
    """A header that says who we are."""

    header: str
    scheme: str  # before the value, with a blank
    source: str  # where the value comes from, in words
    read: Callable[[], str]
    is_renewed: bool = False  # whether it may be another one the next time


class Access(NamedTuple):
    """How a server is reached."""

    url: str  # without user and password
    proofs: tuple[Proof, ...] = ()
    ca_file: str = ""

    def headers(self) -> dict[str, str]:
        """What goes with a call. Raises InputError where a file holds no token or cookie."""
        return {proof.header: proof.scheme + _one_line(proof) for proof in self.proofs}

    @property
    def sources(self) -> str:
        return " and ".join(proof.source for proof in self.proofs)

    @property
    def is_renewed(self) -> bool:
        return any(proof.is_renewed for proof in self.proofs)


def access_of(options: ServerOptions) -> Access:
    """Raises InputError for what is no URL, and for files that are not there or hold nothing."""
    parts = _split(options.host)

    # An option, or the URL, comes before the environment.
    proofs = []
    if parts.password is not None:
        if options.token_file:
            raise InputError("--token-file and a password in --host exclude each other.")
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password)}"
        code = base64.b64encode(pair.encode(errors="surrogateescape")).decode()
        proofs.append(Proof("Authorization", "Basic ", "user and password of --host", lambda: code))
    elif file := options.token_file or os.environ.get(TOKEN_PATH):
        named = "--token-file" if options.token_file else TOKEN_PATH
        proofs.append(_of_file("Authorization", "Bearer ", f"{named} {file}", Path(file)))
    elif token := os.environ.get(TOKEN):
        proofs.append(Proof("Authorization", "Bearer ", TOKEN, lambda: token))
    if file := options.cookie_file:
        proofs.append(_of_file("Cookie", "", f"--cookie-file {file}", file))
    elif cookie := os.environ.get(COOKIE):
        proofs.append(Proof("Cookie", "", COOKIE, lambda: cookie))

    # All of it is there now.
    access = Access(_bare(parts), tuple(proofs), str(options.ca_file or ""))
    access.headers()
    if access.ca_file:
        _check_ca(access.ca_file)
    return access


def shown(host: str) -> str:
    """The URL of a server without user and password. Raises InputError for what is none."""
    return _bare(_split(host))


def _split(host: str) -> SplitResult:
    """The parts of a server's URL. Raises InputError for what is none."""
    is_held, name = host.startswith(VARIABLE), host.removeprefix(VARIABLE)
    if is_held and not os.environ.get(name):
        raise InputError(f"--host {host}: the environment has no variable {name}: set it.")
    try:
        parts = urlsplit(os.environ[name] if is_held else host)
        _ = parts.port
    except ValueError:
        raise InputError(
            "--host has no readable host: write special characters of a password as %XX."
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.path:
        raise InputError("--host is no URL of a server: write for example http://kfp:8080.")
    if parts.username and parts.password is None:
        raise InputError(
            f"--host has a user without a password: a token is given by --token-file or in {TOKEN}."
        )
    return parts


def _bare(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


def _of_file(header: str, scheme: str, source: str, file: Path) -> Proof:
    def read() -> str:
        try:
            return read_text(file)
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror}.") from None
        except ValueError as error:
            raise InputError(f"{source} {error}.") from None

    return Proof(header, scheme, source, read, is_renewed=True)


def _one_line(proof: Proof) -> str:
    """The value of a header. Raises InputError for what cannot be one."""
    value = proof.read().strip()
    if not value:
        raise InputError(f"{proof.source} holds nothing: write the token or cookie into it.")
    if not (value.isascii() and value.isprintable()) or len(value) > LONGEST:
        raise InputError(f"{proof.source} holds no token or cookie: it must be one line of ASCII.")
    return value


def _check_ca(file: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # of which those of ssl are
        reason = error.strerror or "no certificate in it"
        raise InputError(f"--ca-file {file} cannot be used: {reason}.") from None
