"""Why what a server answers, or its silence, is no answer of a KFP API: one sentence each."""

import contextlib
import json
import re
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from shared import servers
from shared.pipeline.server.credentials import COOKIE, TOKEN

WANTS_LOGIN = re.compile(r"\b(401|403|407)\b")  # of a proxy that passes nothing on
BUSY = (408, 425, 429)  # and all from 500 on
IN_TEXT = (400, 409, 413, 422)  # whose reason KFP's upload says without JSON
HOW = f"--token-file, --cookie-file, {TOKEN}, {COOKIE}, or user and password in the URL"


class NoAnswer(Exception):
    """Nothing that counts; as text what comes behind "--host URL " in a sentence.

    Attributes:
        status: Of HTTP; 0 = there was none.
        is_of_api: Whether the API itself said it, not what stands before it.
        passes: Whether another try may help.
        is_unsent: Whether the server cannot have heard of it.
        is_silence: Whether it may still be at work on it.
    """

    def __init__(self, text: str, status: int = 0, is_of_api: bool = False, **how: bool):
        super().__init__(text)
        self.status, self.is_of_api = status, is_of_api
        self.passes, self.is_unsent, self.is_silence = (
            how.get(name, False) for name in ("passes", "is_unsent", "is_silence")
        )


def not_kfp(status: int = 0) -> NoAnswer:
    """An answer that no KFP API server gives."""
    code = f" (HTTP {status})" if status else ""
    return NoAnswer(
        f"answers, but not as a KFP API server{code}: check the address; it may be that of a page "
        "where people log in.",
        status,
    )


def of_status(
    status: int, location: str | None, content: bytes, url: str, sources: str
) -> NoAnswer:
    """Of an answer that is no success.

    Args:
        location: Where it forwards to.
        sources: Where token, cookie or password came from; "" = there were none.
    """
    said = _message(content, status)
    code = f"HTTP {status}"
    match status:
        case 301 | 302 | 303 | 307 | 308:
            return NoAnswer(_elsewhere(status, location or "", url), status)
        case 407:
            reason = f"is not reached: the proxy wants a login ({code}): write user and password "
            reason += "into HTTP_PROXY, as in http://user:password@proxy.example:3128."
        case 401 if sources:
            reason = f"refuses access ({code}) to {sources}: it is wrong, or too old: renew it."
        case 401:
            reason = f"refuses access ({code}): give {HOW}."
        case 403:
            why = f": {said}; " if said else " "
            reason = f"refuses access ({code}){why}"
            reason += f"with {sources}: " if sources else f"without {HOW}: "
            reason += "ask who runs it for the right, or name your --namespace."
        case 404 if not said:
            reason = f"does not answer as a KFP API server ({code}): check the address, to which "
            reason += "a path such as /pipeline may belong."
        case _ if status >= 500 or status in BUSY:
            why = f": {said}" if said else ""
            reason = f"does not work at the moment ({code}{why}): try again later."
            return NoAnswer(reason, status, bool(said), passes=True)
        case _ if said:
            reason = f"does not take it ({code}): {said}."
        case _:
            return not_kfp(status)
    return NoAnswer(reason, status, bool(said))


def _message(content: bytes, status: int) -> str:
    """What the API says of a failure; "" where it is not the API that says something."""
    try:
        about = json.loads(content)
        said = about.get("message") or about.get("error_message") or about.get("error")
    except (ValueError, AttributeError, RecursionError):
        text = content.decode(errors="replace").strip()
        said = text if status in IN_TEXT and not text.startswith("<") else ""
    return servers.said(said).rstrip(".") if isinstance(said, str) else ""


def _elsewhere(status: int, location: str, url: str) -> str:
    try:
        to = urlsplit(location)
        place = f"{to.scheme}://{to.hostname}{to.path}" if to.hostname else to.path
        is_same = to.scheme == "https" and to.hostname == urlsplit(url).hostname
    except ValueError:
        place, is_same = "", False
    if is_same and url.startswith("http://"):
        return f"sends you to its https (HTTP {status}): write https:// for http://."
    to_place = f", to {servers.said(place)}" if place else ""
    return (
        f"answers, but not as a KFP API server (HTTP {status}{to_place}): check the address; where "
        f"people log in there, give {HOW}."
    )


@contextlib.contextmanager
def said_why() -> Iterator[None]:
    """Raise NoAnswer for what urllib3 raises of a call, or of reading its answer."""
    try:
        yield

    # The way there, and back.
    except ReadTimeoutError:
        raise NoAnswer("gave no answer in time.", is_silence=True) from None
    except SSLError as error:
        raise _of_tls(error) from None
    except ProxyError as error:
        cause = error.original_error
        reason = servers.said(getattr(cause, "strerror", None) or cause).rstrip(".")
        raise NoAnswer(
            f"cannot be reached ({reason}): check HTTP_PROXY, HTTPS_PROXY and NO_PROXY, and user "
            "and password in them.",
            passes=not WANTS_LOGIN.search(reason),
            is_unsent=True,
        ) from None
    except (ConnectTimeoutError, NewConnectionError) as error:
        cause = error.__cause__ or error
        reason = servers.said(getattr(cause, "strerror", None) or "no answer in time")
        passes = not servers.is_final(cause)
        raise NoAnswer(
            f"cannot be reached ({reason}): check the address, and that the server is running.",
            passes=passes,
            is_unsent=True,
        ) from None
    except LocationValueError:
        raise NoAnswer("is no address: write for example http://kfp:8080.") from None
    # More than any answer has, not packed as it says, of a length that is none.
    except (DecodeError, ValueError, OverflowError):
        raise not_kfp() from None
    except HTTPError:
        raise NoAnswer(
            "breaks the connection off, or is no web server: check address and port, and that the "
            "server is running.",
            passes=True,
        ) from None


def _of_tls(error: SSLError) -> NoAnswer:
    cause = error.__cause__ or (error.args[0] if error.args else error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = servers.said(cause.verify_message)
        return NoAnswer(
            f"has a certificate that is not trusted ({reason}): check the address, and give its "
            "authority's certificate with --ca-file.",
        )
    if "WRONG_VERSION" in str(cause) or "HTTP_REQUEST" in str(cause):
        return NoAnswer("speaks no TLS at this port: write http://, or another port.")
    reason = servers.said(getattr(cause, "reason", None) or cause)
    return NoAnswer(f"breaks TLS off ({reason}): check address and port.", passes=True)
