"""The Kubernetes API, as it answers a pod: each request ends in time, and is made again while the
server or the network fails.

The client of the kubernetes package finds the server, and who we are; jobs and pods stay the JSON
that they are, since an AscendJob has no classes there.
"""

import json
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from shared import servers
from shared.errors import InputError, WorkFailed

CONNECT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0  # between two tries
OUR_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
RIGHTS = "docker/kubernetes/rbac.yaml"

Json = dict[str, Any]


class Missing(Exception):
    """There is no such object (HTTP 404)."""


class Taken(Exception):
    """An object of this name is there, or has changed meanwhile (HTTP 409)."""


class NotNow(Exception):
    """The server says no for now (HTTP 400): a log before its container has started."""


class Refused(InputError):
    """The server does not let us, or does not take what we send."""


class Unanswered(WorkFailed):
    """Nobody who is a Kubernetes API has answered for long."""


class _TryAgain(Exception):
    """What was found instead of an answer."""


class Api:
    """The API of one namespace."""

    def __init__(self, settings: client.Configuration, namespace: str):
        settings.retries = False  # they are ours
        servers.bound()
        self.namespace, self.host = namespace, settings.host
        self._client = client.ApiClient(settings)

    @classmethod
    def of_here(cls) -> Self:
        """That of the cluster whose pod this is, else of the kubeconfig. Raises InputError."""
        settings = client.Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=settings)
                return cls(settings, OUR_NAMESPACE.read_text().strip())
            config.load_kube_config(client_configuration=settings)
            _, context = config.list_kube_config_contexts()
            servers.let_proxy(settings)
        except (ConfigException, OSError) as error:
            raise InputError(
                f"there is no Kubernetes API to start the nodes with ({servers.said(error)}): run "
                "it in a pod whose service account has a token, or give a kubeconfig."
            ) from None
        return cls(settings, context["context"].get("namespace", "default"))

    # Requests.

    def ask(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        limit_s: float | None = None,
        **query: str,
    ) -> Json:
        """The object that is answered.

        limit_s: how long it is tried again; None: as long as a server may be silent.

        Raises Missing, Taken, NotNow, Refused and Unanswered."""
        return self._tried(method, path, body, query, limit_s, is_text=False)

    def read_text(self, path: str, limit_s: float | None = None, **query: str) -> str:
        """The text that is answered, as of a log. Raises as `ask`."""
        return self._tried("GET", path, None, query, limit_s, is_text=True)

    def _tried(
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str],
        limit_s: float | None,
        is_text: bool,
    ) -> Any:
        limit_s = servers.patience_s() if limit_s is None else limit_s
        until, pause_s = time.monotonic() + limit_s, FIRST_PAUSE_S
        while True:
            left_s = max(until - time.monotonic(), 1.0)
            try:
                return self._once(method, path, body, query, left_s, is_text)
            except _TryAgain as found:
                if time.monotonic() + pause_s > until:
                    raise Unanswered(
                        f"the Kubernetes API at {self.host} has not answered for {limit_s:.0f} s "
                        f"({found})."
                    ) from None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _once(
        self,
        method: str,
        path: str,
        body: Json | None,
        query: Mapping[str, str],
        left_s: float,
        is_text: bool,
    ) -> Any:
        limits = (min(CONNECT_S, left_s), min(servers.patience_s(), left_s))
        try:
            answer = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "*/*" if is_text else "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=limits,
            )
            content = servers.whole(answer.stream(2**16)).decode(errors="replace")
        except ApiException as error:
            raise self._meaning(error) from None
        except (HTTPError, OSError, ValueError) as error:
            if isinstance(error.__cause__ or error, ssl.SSLCertVerificationError):
                raise Refused(f"{self.host} is not trusted ({servers.said(error)}).") from None
            raise _TryAgain(servers.said(error)) from None

        # What is no JSON comes of a proxy, which may be busy.
        if is_text:
            return content
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or "kind" not in found:
            raise _TryAgain("it answers, but not as a Kubernetes API")
        return found

    def _meaning(self, error: ApiException) -> Exception:
        """What an answer that is no success means."""
        try:
            status = json.loads(error.body or "")
            message = servers.said(status["message"])
        except (ValueError, TypeError, KeyError):
            status, message = None, servers.said(error.reason)
        code = f"HTTP {error.status}: {message}".rstrip(".")

        # What passes, what is refused, what is not there.
        match error.status:
            case 0 if "certificate" in str(error.reason).lower():
                return Refused(f"{self.host} is not trusted ({message}).")
            case 0 | 408 | 429:
                return _TryAgain(code)
            case number if number >= 500:
                return _TryAgain(code)
            case 401:
                return Refused(
                    f"the Kubernetes API at {self.host} does not know this pod ({code}): give it a "
                    "service account with a valid token."
                )
            case 403 if "admission webhook" not in message:
                return Refused(
                    f"the Kubernetes API at {self.host} refuses it ({code}): give the service "
                    f"account the rights of {RIGHTS}."
                )
            case 404 if status is not None:
                return Missing(message)
            case 409:
                return Taken(message)
            case 400 if status is not None:
                return NotNow(code)
            case _:
                return Refused(f"the Kubernetes API at {self.host} does not take it ({code}).")
