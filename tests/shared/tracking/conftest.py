"""A real MLflow server, and a way to it that can fail."""

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from shared.pipeline.processes import Guarded
from shared.tracking import courier, store
from tests.calling import environment as clean_environment


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of a real one."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    options = clean_environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    with Guarded(command, options, 5.0, **quiet) as running:  # ends with pytest
        for _ in range(600):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{address}/health", timeout=5),
            ):
                break
            assert running.process.poll() is None
            time.sleep(0.2)
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


class Way:
    """Stands between MLflow's client and the server.

    Attributes:
        fault: None, "refuses" (connections end at once), "hangs", "500", "loses replies" (what is
            created is created, but nobody is told).
        dies_after: Requests that are let through before it refuses; None = all.
    """

    def __init__(self, server: str):
        self.fault: str | None = None
        self.dies_after: int | None = None
        self.requests = 0
        self.ended = threading.Event()
        way, host = self, server.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                way.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = way.fault
                if way.dies_after is not None and way.requests > way.dies_after:
                    fault = "refuses"
                match fault:
                    case "hangs":
                        way.ended.wait(60)
                        self.close_connection = True
                        return
                    case "refuses":
                        self.close_connection = True
                        return
                    case "500":
                        self.answer(500, b"out of order", {})
                        return
                inner = http.client.HTTPConnection(host, timeout=30)
                headers = {key: value for key, value in self.headers.items() if key != "Host"}
                inner.request(self.command, self.path, body, headers)
                reply = inner.getresponse()
                content = reply.read()
                inner.close()
                if fault == "loses replies" and "create" in self.path:
                    self.close_connection = True
                    return
                self.answer(
                    reply.status, content, {"Content-Type": reply.getheader("Content-Type")}
                )

            def answer(self, status: int, content: bytes, headers: dict) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value or "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_any

            def log_message(self, *_) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


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
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr(courier, "EVERY_S", 0.2)
    monkeypatch.setattr(courier, "LONGEST_WAIT_S", 0.4)
    monkeypatch.setattr(courier, "PATIENCE_S", 2.0)
    yield way
    way.ended.set()
    way.http.shutdown()
    way.http.server_close()
