"""A KFP API server, asked by HTTP: v2beta1 of its published description.

Every call ends within a known time. What it raises says why an answer does not count, and whether
another try may help. kfp's own client has no limits (kubeflow/pipelines#8661), asks a server that
is busy five times with five tracebacks, and believes whatever is JSON.
"""

import contextlib
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import certifi
import urllib3
from pydantic import ValidationError

from shared import servers
from shared.errors import InputError
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.server.answers import Answer, Health
from shared.pipeline.server.credentials import Access, access_of
from shared.pipeline.server.reasons import NoAnswer, not_kfp, of_status, said_why
from shared.pipeline.submitting import ServerOptions

CONNECT_S = 10.0
PAUSES = (1 / 60, 1 / 15, 1 / 6)  # before other tries, in parts of the patience: 1, 4 and 10 s
API = "/apis/v2beta1/"
PAGE_SIZE, MOST_PAGES = 100, 1000

Kind = TypeVar("Kind", bound=Answer)


@contextlib.contextmanager
def connect(options: ServerOptions) -> Iterator["Server"]:
    """The server at --host, once it has answered as one.

    Raises InputError where it does not, be it later, within the context."""
    access = access_of(options)
    namespace = options.namespace or read_cluster(options.cluster).namespace
    try:
        yield Server(access, namespace)
    except NoAnswer as failed:
        way = servers.by_proxy(access.url)
        raise InputError(f"--host {access.url}{way} {failed}") from None


class _Page(Answer, extra="allow"):
    next_page_token: str = ""


class Server:
    """What can be asked. Raises NoAnswer where nothing comes that counts."""

    def __init__(self, access: Access, namespace: str = ""):
        self.access, self.namespace = access, namespace
        servers.bound()
        self._pool = _pool(access)
        self._has_answered = False
        self.has_users = self.ask("GET", "healthz", Health).multi_user

    def ask(self, method: str, path: str, kind: type[Kind], seconds: float = 0, **parts) -> Kind:
        """What a call answers. One that fails for a passing reason is tried again where a second
        time cannot make a second thing; for what can, see `creating.py`.

        Args:
            seconds: Limit of the one try; 0 = the patience, and other tries.
            parts: `query`; `body`, which becomes JSON; or `file`, its name and content.
        """
        repeats = method != "POST" or ":" in path  # to terminate twice is as once
        pauses = () if seconds else [servers.patience_s() * part for part in PAUSES]
        for pause in (*pauses, None):
            try:
                content = self._ask_once(method, path, seconds or servers.patience_s(), **parts)
                break
            except NoAnswer as failed:
                # At first a port where nobody listens is the wrong one.
                may_help = failed.passes and (self._has_answered or not failed.is_unsent)
                if pause is None or not may_help or not (repeats or failed.is_unsent):
                    raise
            time.sleep(pause)
        try:
            answer = kind.model_validate_json(content)
        except ValidationError:
            raise not_kfp() from None
        self._has_answered = True
        return answer

    def pages(self, path: str, name: str, kind: type[Kind], **query: str) -> Iterator[Kind]:
        """All records of a list, whose pages have them under `name`."""
        token = ""
        for _ in range(MOST_PAGES):
            asked = query | {"page_size": PAGE_SIZE, "page_token": token}
            page = self.ask("GET", path, _Page, query=asked)
            try:
                yield from [kind.model_validate(one) for one in page.model_extra.get(name) or ()]
            except (ValidationError, TypeError):
                raise not_kfp() from None
            token = page.next_page_token
            if not token:
                return
        raise not_kfp()

    def _ask_once(self, method: str, path: str, seconds: float, **parts) -> bytes:
        """The content of a success. A token that was renewed meanwhile is tried at once."""
        headers = self.access.headers()
        while True:
            with said_why(), self.open(method, API + path, headers, seconds, **parts) as answer:
                content = servers.whole(answer.stream(2**16))
            if answer.status == 200:
                return content
            known, headers = headers, self.access.headers()
            if answer.status != 401 or known == headers:
                break
        location, sources = answer.headers.get("Location"), self.access.sources
        raise of_status(answer.status, location, content, self.access.url, sources)

    def open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        seconds: float,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        file: tuple[str, bytes] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """An answer that is still to be read. Raises what urllib3 raises."""
        asked = {name: value for name, value in (query or {}).items() if value not in ("", None)}
        sent: dict[str, Any] = {"headers": dict(headers)}
        if body is not None:
            sent["body"] = json.dumps(body).encode()
            sent["headers"]["Content-Type"] = "application/json"
        if file:
            sent["fields"] = {"uploadfile": (*file, "application/yaml")}
        return self._pool.request(
            method,
            self.access.url + path + (f"?{urlencode(asked)}" if asked else ""),
            timeout=urllib3.Timeout(connect=min(CONNECT_S, seconds), read=seconds),
            retries=False,
            redirect=False,
            preload_content=False,
            **sent,
        )


def _pool(access: Access) -> urllib3.PoolManager:
    """The connections, by a proxy where the environment names one. Raises InputError."""
    trust, proxy = _trust(access), servers.proxy_of(access.url)
    if proxy is None:
        return urllib3.PoolManager(ssl_context=trust)
    headers = urllib3.HTTPHeaderDict(proxy.headers)
    return urllib3.ProxyManager(proxy.address, proxy_headers=headers, ssl_context=trust)


def _trust(access: Access) -> ssl.SSLContext | None:
    """Whom TLS believes: Mozilla's authorities, those of this machine or of SSL_CERT_FILE, and that
    of --ca-file."""
    if not access.url.startswith("https://"):
        return None
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    if access.ca_file:
        context.load_verify_locations(access.ca_file)
    return context
