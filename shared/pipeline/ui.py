"""MLflow's pages on the store of the runs: in seconds, at the right view, gone with Ctrl-C."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from shared import servers, tracking
from shared.errors import InputError, nearby
from shared.pipeline.processes import Guarded
from shared.secrets import without_secrets
from shared.terminal.stopping import keeps
from shared.tracking import store

HOST = "127.0.0.1"  # nobody else sees the store
READY_SECONDS, GRACE_SECONDS = 120.0, 5.0
# One worker and no job runner: 6 s to the first page instead of 25, a fifth of the memory.
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def ui(runs: Path = Path("runs"), port: int = 5000) -> None:
    """Show the runs in MLflow until Ctrl-C; the browser opens where there is a display.

    Args:
        runs: Folder of the runs and of the MLflow store, which is made where it is not there.
        port: Port of this machine; 0 = any that is free.

    Example:
        python pipeline.py ui --port 5001
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.store_uri(runs)
    if uri.startswith(("http://", "https://")):
        link = without_secrets(deep_link(uri))
        print(f"MLFLOW_TRACKING_URI is a server, which has its own pages: {link}")
        return
    port = free_port(port)
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--runs {runs} cannot be made: {error.strerror}.") from None

    keeps(f"all is kept in {nearby(runs)}", "the same command again shows it")

    # The server, and where to look.
    start = time.perf_counter()
    with serving(uri, runs, port) as (address, server, log):
        link = deep_link(address)
        print(f"ready after {time.perf_counter() - start:.0f} s: {link}\nCtrl-C ends it.")
        sys.stdout.flush()
        if _has_display():
            webbrowser.open(link)
        server.wait()
        raise SystemExit(f"MLflow's server ended by itself: {_last_words(log)}")


@contextlib.contextmanager
def serving(uri: str, runs: Path, port: int) -> Iterator[tuple[str, subprocess.Popen, IO[str]]]:
    """MLflow's server on a store inside the block: its address, process and log.

    Raises InputError where it does not start."""
    try:
        store.make_missing(uri)
    except (store.Unreachable, store.Refused) as error:
        raise InputError(
            f"MLflow's store {without_secrets(uri)} cannot be made: {error}."
        ) from None
    address = f"http://{HOST}:{port}"
    artifacts = store.artifacts_of(uri) or (runs.resolve() / "mlartifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--artifacts-destination", artifacts]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    environment = os.environ | SERVER | {"MLFLOW_BACKEND_STORE_URI": uri}  # it may have a password
    with tempfile.TemporaryFile("w+") as log:
        output = dict(stdout=log, stderr=subprocess.STDOUT)
        with Guarded(command, environment, GRACE_SECONDS, **output) as server:
            _wait(address, server.process, log)
            yield address, server.process, log


def deep_link(address: str) -> str:
    """The page of the experiment whose run is the newest; that of all where there is none."""
    try:
        known = _ask(address, "experiments/search", max_results=1000).get("experiments", [])
        identities = [experiment["experiment_id"] for experiment in known]
        newest = dict(order_by=["attributes.start_time DESC"], max_results=1)
        found = _ask(address, "runs/search", experiment_ids=identities, **newest).get("runs", [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, HTTPException):
        return address
    if not found:
        return address
    return store.link(address, found[0]["info"]["experiment_id"])


def _ask(address: str, path: str, **body) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    servers.bound()
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(servers.whole(iter(lambda: answer.read(2**16), b"")))


def free_port(port: int) -> int:
    """Raises InputError for one that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"--port {port} cannot be had ({getattr(error, 'strerror', None) or error}): "
                "choose another, or 0 for any that is free."
            ) from None
        return probe.getsockname()[1]


def _wait(address: str, server: subprocess.Popen, log) -> None:
    """Wait until the server answers. Raises InputError where it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5):
            return
        time.sleep(0.2)
    raise InputError(f"MLflow's server did not start: {_last_words(log)}.")


def _last_words(log) -> str:
    """The last error in a server's log, else its last line."""
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return servers.said((errors or lines or ["it said nothing"])[-1]).removesuffix(".")


def _has_display() -> bool:
    shown = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, shown))
