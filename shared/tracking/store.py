"""Where MLflow keeps its runs, how it is opened, and what its errors mean."""

import contextlib
import functools
import json
import logging
import os
import sqlite3
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path

from shared import servers
from shared.errors import runnable, runs_flag
from shared.files.owned import one_at_a_time
from shared.secrets import without_secrets

URI = "MLFLOW_TRACKING_URI"
KNOWN_AS = "PIPELINE_STORE"  # the store in that of a container, which reaches it by a server
LOCK, ARTIFACTS = "mlflow.lock", "mlartifacts"  # beside the database of a local store
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
MIGRATIONS = "alembic_version"  # the table that says which migrations a database has had

# A lost server is given up after seconds instead of minutes; who calls tries again later.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # it may say a year
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

# HTTP: authorization missing, time-out, too many requests. They pass, whatever was sent.
PASSING = {401, 403, 404, 405, 407, 408, 429, 499}


TOO_LARGE = 413  # for a proxy: it will be

# How MLflow's client begins what it says of an answer that is no JSON.
NOT_OF_MLFLOW = "API request to"


class Unreachable(Exception):
    """MLflow did not take a call, but may take it later: no answer, no rights, a full disk."""


class Refused(Exception):
    """MLflow will never take this call as it is."""


def load_mlflow():
    """The module, loaded with our defaults: it takes seconds, once."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module="mlflow")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    servers.bound_requests()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return mlflow


def open_client(uri: str):
    """An MlflowClient for a tracking URI; the database of a local store is made where it is not
    there.

    Raises Unreachable or Refused for a store that cannot be opened."""
    mlflow = load_mlflow()
    with judged(), locked(uri):
        _make_missing(uri)
        client = _client(mlflow, uri)
        _remove_misread_folder(uri)
        return client


def make_missing(uri: str) -> None:
    """Make the database of a local store where it is not there, before a program that would do it
    in its own way opens it.

    Raises Unreachable or Refused where it cannot be made."""
    with judged(), locked(uri):
        _make_missing(uri)


def _make_missing(uri: str) -> None:
    """By one process at a time: two that make one leave it unusable."""
    if (file := database(uri)) and (not file.exists() or _is_half_made(file)):
        _make(load_mlflow(), file)


def _is_half_made(file: Path) -> bool:
    """Whether MLflow was killed while it made a database in its place, as it does by itself: its
    migrations have begun, which it then cannot go on with, and nothing is in any table yet."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(file)) as opened:
        tables = {name for (name,) in opened.execute(TABLES)}
        return MIGRATIONS in tables and not any(
            opened.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()
            for name in tables - {MIGRATIONS}
        )
    return False  # another program's, or one that cannot be read: MLflow says what is wrong with it


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)


def _make(mlflow, file: Path) -> None:
    """Make a database beside its place and move it there whole: where MLflow is killed while it
    makes one, nothing can open that any more."""
    partial = file.with_name(f"{file.name}.partial")
    for left in file.parent.glob(f"{partial.name}*"):  # with SQLite's own journal
        left.unlink()
    # MLflow keeps a store by its address, which this one has for a moment only.
    made = mlflow.MlflowClient(tracking_uri=uri_of_database(partial))._tracking_client.store
    made.engine.dispose()
    partial.rename(file)


def _remove_misread_folder(uri: str) -> None:
    """Remove the empty folder that MLflow makes beside the right one where a path has to be
    escaped, since it does not read the escapes there."""
    file, literal = database(uri), Path(uri.partition(":///")[2].partition("?")[0])
    if file and literal.absolute() != file:
        with contextlib.suppress(OSError):  # it is not there, or not empty and so not that one
            literal.parent.rmdir()


@functools.cache
def _client(mlflow, uri: str):
    return mlflow.MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def locked(uri: str) -> Iterator[None]:
    """Inside, no other process of ours makes a thing in the local store; nothing for a server."""
    file = database(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(file.with_name(LOCK)):
        yield


@contextlib.contextmanager
def judged() -> Iterator[None]:
    """Raises Unreachable or Refused for whatever MLflow or a store of files raises."""
    try:
        yield
    except (Unreachable, Refused):
        raise
    except Exception as error:
        judgement = Refused if _is_final(error) else Unreachable
        raise judgement(one_line(error)) from error


def _is_final(error: Exception) -> bool:
    """Whether the same call would fail again on a healthy server: MLflow itself refuses it, and not
    whoever stands before it, such as a page where people log in."""
    response = getattr(error, "response", None)  # of requests
    if hasattr(error, "get_http_status_code"):  # MLflow's own
        status = error.get_http_status_code()
        is_of_mlflow = not str(error).startswith(NOT_OF_MLFLOW)
    elif hasattr(response, "status_code"):
        status = response.status_code
        is_of_mlflow = response.text.lstrip().startswith("{") or status == TOO_LARGE
    else:
        is_other = isinstance(error, FileNotFoundError | ValueError | TypeError)
        return is_other and not isinstance(error, json.JSONDecodeError)
    return is_of_mlflow and 400 <= status < 500 and status not in PASSING


def one_line(error: Exception) -> str:
    """The first line of an error, as it can be shown."""
    return servers.said(error) or type(error).__name__


# Addresses.


def uri_of_database(file: Path) -> str:
    """The store in a file, the inverse of `database`. SQLAlchemy reads %XX in it, and ends the path
    at a question mark."""
    return f"sqlite:///{str(file).replace('%', '%25').replace('?', '%3F')}"


def database(uri: str) -> Path | None:
    """The file of a local store; None for a server or another kind of store."""
    place, slashes, rest = uri.partition(":///")
    path = rest.partition("?")[0].removeprefix("file:")
    if place != "sqlite" or not slashes or path in ("", ":memory:"):
        return None
    return Path(urllib.parse.unquote(path)).absolute()


def artifacts_of(uri: str) -> str | None:
    """Where the files of a local store go: beside its database, not into the working directory as
    MLflow would have it; None where a server decides."""
    file = database(uri)
    return (file.parent / ARTIFACTS).as_uri() if file else None


def ui_address(uri: str) -> str:
    """The address of the UI: that of the server, or where `ui_command` shows a local store."""
    if uri.startswith("http"):
        return without_secrets(uri).replace("***@", "").rstrip("/")
    return "http://127.0.0.1:5000"


def ui_command(uri: str) -> str:
    """The command that shows a store, or the address of the server that does."""
    if uri.startswith("http"):
        return ui_address(uri)
    file = database(uri)
    return runnable(f"python pipeline.py ui{runs_flag(file.parent) if file else ''}")


def link(uri: str, experiment_id: str, run_id: str | None = None) -> str:
    """The page of a run, or of the runs of an experiment as a table: MLflow 3 opens on an empty
    page for agents otherwise."""
    page = f"{ui_address(uri)}/#/experiments/{urllib.parse.quote(experiment_id)}/runs"
    return f"{page}{f'/{run_id}' if run_id else ''}?workflowType=machine_learning"
