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

from shared.pipeline.processes import Guarded
from tests.calling import environment
from tests.loopback import misbehave


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of one that keeps all in a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    options = environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    with Guarded(command, options, 5.0, **quiet) as running:  # ends with whoever asked
        for _ in range(600):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{address}/health", timeout=5),
            ):
                break
            assert running.process.poll() is None
            time.sleep(0.2)
        yield address


class Way:
    """Stands between MLflow's client and the server.

    Attributes:
        fault: None, one of `loopback.FAULTS`, or "loses replies" (what is created is created, but
            nobody is told).
        dies_after: Requests that are let through before it refuses; None = all.
    """

    def __init__(self, server: str):
        self.fault: str | None = None
        self.dies_after: int | None = None
        self.requests = self.times_failed = 0
        self.told: list[bytes] = []  # paths and bodies of all requests
        self.ended = threading.Event()
        way, host = self, server.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                way.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                way.told.append(self.path.encode() + b"\n" + body)
                fault = way.fault
                if way.dies_after is not None and way.requests > way.dies_after:
                    fault = "refuses"
                if fault not in (None, "loses replies"):
                    way.times_failed += 1
                    return misbehave(self, fault, way.ended)
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
