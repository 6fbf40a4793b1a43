"""The graph on a KFP API server."""

import base64
import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3
import yaml
from kfp import Client
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, ServiceAccountTokenVolumeCredentials
from kfp.client.token_credentials_base import TokenCredentialsBase
from kfp.dsl.graph_component import GraphComponent
from kfp_server_api import (
    ApiClient,
    ApiException,
    Configuration,
    HealthzServiceApi,
    V2beta1Run,
    V2beta1RuntimeConfig,
)
from urllib3.exceptions import HTTPError, ReadTimeoutError

from shared import servers
from shared.errors import InputError
from shared.pipeline.graph import run_parameters, write_yaml
from shared.pipeline.reuse import Reuse
from shared.secrets import without_secrets

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
NOT_KFP = (
    "answers, but not as a KFP API server: check the address; it may be that of a page where "
    "people log in."
)


def submit(
    host: str,
    recipe: str,
    graph: GraphComponent,
    raw_data: str | None,
    tags: dict[str, str],
    reuse: Reuse = "on",
) -> None:
    """Create a run of a built graph on the server at `host`.

    Raises InputError where the server does not take it, and for raw data that no pod can read or
    every user of the server could.
    """
    check_raw_data(raw_data)
    name = f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    about = [f"Recipe {recipe}.", *(f"{key}={value}" for key, value in tags.items())]
    with connect(host) as client:
        experiment = client.create_experiment(recipe)
        run = V2beta1Run(
            display_name=name,
            description=" ".join(about),
            experiment_id=experiment.experiment_id,
            pipeline_spec=spec_of(graph, reuse),
            runtime_config=V2beta1RuntimeConfig(parameters=run_parameters(graph, raw_data)),
        )
        run = client.runs.run_service_create_run(run=run)
    print(f"Run details: {client._get_url_prefix()}/#/runs/details/{run.run_id}")
    print(f"submitted {name} to {shown(host)}")


def check_raw_data(raw_data: str | None) -> None:
    """Raises InputError for raw data that a run on a server cannot have."""
    if not (raw_data or "").strip():
        raise InputError(
            "--host needs --raw-data: a path or URL that the pods of the cluster can read."
        )
    if (harmless := without_secrets(raw_data)) != raw_data:
        raise InputError(
            f"--raw-data {harmless} has secrets in it, and a server shows the parameters of its "
            "runs to all its users: give the secrets to the pods as environment variables of a "
            "Kubernetes secret; --raw-data env://VARIABLE is the URL that one of them holds."
        )


def spec_of(graph: GraphComponent, reuse: Reuse) -> dict[str, Any]:
    """The graph as a server takes it, its cache on for the tasks that may be reused."""
    with tempfile.TemporaryDirectory() as folder:
        write_yaml(graph, file := Path(folder) / "pipeline.yaml", "")
        spec, *platform = yaml.safe_load_all(file.read_text())
    for name, task in spec["root"]["dag"]["tasks"].items():
        if reuse == "off" or (reuse == "data" and name != "prepare"):
            task["cachingOptions"] = {}
    return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec


# The client.


@contextlib.contextmanager
def connect(host: str) -> Iterator[Client]:
    """A client of the server at `host`, which may have user and password in it.

    Raises InputError where the server does not answer as one, be it later, within the context.
    """
    url, credentials = _read_host(host)
    warnings.filterwarnings("ignore", module="kfp")
    try:
        _look_for_kfp(url, credentials)
        client = Client(host=url, credentials=credentials)
        _give_up_in_time(client._run_api.api_client)  # all of its parts share this one
        yield client
    except ApiException as error:
        raise InputError(f"--host {url} {_reason(error)}") from None
    except ReadTimeoutError:
        raise InputError(
            f"--host {url} gave no answer in time: look there for what was made before you say "
            "the same command again."
        ) from None
    # kfp's client decodes what an answer holds, and reads as much as it claims to have.
    except (NotKfp, UnicodeDecodeError, OverflowError):
        raise InputError(f"--host {url} {NOT_KFP}") from None
    except HTTPError as error:
        raise InputError(
            f"--host {url} cannot be reached ({type(error).__name__}): check the address, and "
            "that the server is running."
        ) from None


def shown(host: str) -> str:
    """The URL of a server without user and password. Raises InputError for what is none."""
    return _read_host(host)[0]


def _read_host(host: str) -> tuple[str, TokenCredentialsBase | None]:
    """The URL without user and password, and how the client shows who it is. Raises InputError."""
    try:
        parts = urlsplit(host)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise InputError(
            "--host has no readable host: write special characters of a password as %XX."
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.path:
        raise InputError("--host is no URL of a server: write for example http://kfp:8080.")

    credentials = None
    if parts.password is not None:
        credentials = _Basic(unquote(parts.username or ""), unquote(parts.password))
    elif file := os.environ.get(KF_PIPELINES_SA_TOKEN_ENV):
        if not os.access(file, os.R_OK):
            raise InputError(f"{KF_PIPELINES_SA_TOKEN_ENV} names {file}, which cannot be read.")
        credentials = ServiceAccountTokenVolumeCredentials()
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}".rstrip("/"), credentials


class _Basic(TokenCredentialsBase):
    """User and password, for which a proxy before the server may ask."""

    def __init__(self, user: str, password: str):
        self.token = base64.b64encode(f"{user}:{password}".encode()).decode()

    def refresh_api_key_hook(self, config: Configuration) -> None:
        config.api_key["authorization"] = self.token
        config.api_key_prefix["authorization"] = "Basic"


def _look_for_kfp(url: str, credentials: TokenCredentialsBase | None) -> None:
    """Ask the server whether it is one; kfp's own client would ask five times, with tracebacks.

    Raises InputError where it answers as something else, and what kfp and urllib3 raise."""
    configuration = Configuration(host=url)
    if credentials:
        configuration.api_key["authorization"] = ""
        configuration.refresh_api_key_hook = credentials.refresh_api_key_hook
        configuration.api_key_prefix["authorization"] = "Bearer"
    asking = ApiClient(configuration)
    _give_up_in_time(asking)
    answer = HealthzServiceApi(asking).healthz_service_get_healthz(_preload_content=False)
    try:
        about = json.loads(answer.data)
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise NotKfp


class NotKfp(HTTPError):
    """An answer that no KFP API server gives."""


def _give_up_in_time(client: ApiClient) -> None:
    """Make every request of kfp's client end after some time, and once
    (kubeflow/pipelines#8661: it offers no limit)."""
    limit = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)
    servers.bound()
    pool = client.rest_client.pool_manager
    request = pool.request

    def limited(*arguments, **options) -> urllib3.BaseHTTPResponse:
        options |= {"timeout": limit, "retries": False, "preload_content": False}
        try:  # also of where it forwards to
            answer = request(*arguments, **options)
            answer._body = servers.whole(answer.stream(2**16))
        except ValueError as error:
            raise NotKfp(str(error)) from None
        return answer

    deserialize = client.deserialize

    def understood(*arguments) -> Any:
        try:
            return deserialize(*arguments)
        except (ValueError, TypeError, AttributeError) as error:
            raise NotKfp(str(error)) from None

    client.deserialize = understood

    pool.request = limited


def _reason(error: ApiException) -> str:
    """What an answer that is no success means, and what to do."""
    if error.status in (401, 403):
        return (
            f"refuses access (HTTP {error.status}): give user and password in the URL, or a token "
            f"in the file that {KF_PIPELINES_SA_TOKEN_ENV} names."
        )
    if error.status == 404:
        return "does not answer as a KFP API server (HTTP 404): check the address."
    if error.status == 0:  # TLS
        reason = servers.said(error.reason)
        return f"cannot be reached ({reason}): check the address and the certificate."
    if error.status >= 500:
        return f"does not work at the moment (HTTP {error.status}): try again later."
    try:
        message = json.loads(error.body)["message"].splitlines()[0]
    except (ValueError, TypeError, KeyError, IndexError):
        message = error.reason
    return f"does not take it (HTTP {error.status}): {servers.said(message).rstrip('.')}."
