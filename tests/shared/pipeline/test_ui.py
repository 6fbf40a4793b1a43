"""MLflow's pages: which one, on which port, and that nothing is left."""

import http.server
import json
import signal
import socket
import subprocess
import threading
import urllib.request

import psutil
import pytest

from shared.pipeline.ui import deep_link, ui
from tests.asking import refusal
from tests.calling import command, environment

REST = "/api/2.0/mlflow/"


@pytest.fixture
def mlflow_answers():
    """A server that answers as MLflow's REST API does; what it was asked is kept."""
    answers, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            asked.append((self.path, json.loads(self.rfile.read(length))))
            body = json.dumps(answers.get(self.path.removeprefix(REST), {})).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers, asked
        server.shutdown()


def test_the_link_leads_to_the_experiment_of_the_newest_run(mlflow_answers):
    address, answers, asked = mlflow_answers
    assert deep_link(address) == address, "nothing is there yet"
    answers["experiments/search"] = {
        "experiments": [{"experiment_id": "0"}, {"experiment_id": "7"}]
    }
    assert deep_link(address) == address
    answers["runs/search"] = {"runs": [{"info": {"experiment_id": "7"}}]}
    view = "runs?workflowType=machine_learning"
    assert deep_link(address) == f"{address}/#/experiments/7/{view}"
    path, body = asked[-1]
    assert body["experiment_ids"] == ["0", "7"]
    assert body["order_by"] == ["attributes.start_time DESC"] and body["max_results"] == 1
    assert deep_link("http://127.0.0.1:9") == "http://127.0.0.1:9"


def test_a_port_that_is_taken_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(ui, tmp_path / "runs", port)
    assert f"--port {port} cannot be had (Address already in use): choose another" in said
    assert "--port 99999" in refusal(ui, tmp_path / "runs", 99999)
    assert not (tmp_path / "runs").exists()


def test_a_server_has_its_own_pages(mlflow_answers, tmp_path, monkeypatch, capsys):
    address, _, _ = mlflow_answers
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    ui(tmp_path / "runs", 5000)
    assert address in capsys.readouterr().out and not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_leaves_no_process(tmp_path, end):
    options = dict(stdout=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path)
    with subprocess.Popen(command("ui", "--port", 0), **options) as process:
        line = process.stdout.readline()
        assert line.startswith("ready after ")
        address = line.split(": ", 1)[1].strip()
        with urllib.request.urlopen(address) as page:
            assert page.status == 200
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(end)
        process.wait(30)
    assert (tmp_path / "runs" / "mlflow.db").is_file()
    assert family and not [one for one in family if one.is_running()]
