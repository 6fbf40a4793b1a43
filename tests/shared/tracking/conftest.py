"""A real MLflow server, and a way to it that can fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shared.tracking import courier, store
from tests.mlflow_server import Way, mlflow_server


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a real one."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(scope="session")
def client(server) -> MlflowClient:
    """On the server itself, whatever happens on the way of others."""
    return MlflowClient(server)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """To be copied: to make one takes seconds."""
    file = tmp_path_factory.mktemp("database") / "mlflow.db"
    store.open_client(f"sqlite:///{file}")
    return file


@pytest.fixture
def way(server, monkeypatch) -> Iterator[Way]:
    """A way to the server for this process, which is told to be impatient."""
    way = Way(server)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PIPELINE_PARENT_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PIPELINE_JOURNAL", raising=False)
    monkeypatch.delenv("PIPELINE_RUN", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", way.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(courier, "EVERY_S", 0.2)
    monkeypatch.setattr(courier, "LONGEST_WAIT_S", 0.4)
    monkeypatch.setattr(courier, "PATIENCE_S", 2.0)  # a busy machine answers late
    monkeypatch.setenv("PIPELINE_PATIENCE_S", "10")
    yield way
    way.ended.set()
    way.http.shutdown()
    way.http.server_close()
