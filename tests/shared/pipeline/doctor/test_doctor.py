"""`pipeline.py doctor` against stand-ins of Kubernetes and MLflow on loopback, which are outside
the building; Kubernetes' own client checks the objects that it reads."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from pipeline import main
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.doctor import here, kubernetes_api, verb
from shared.pipeline.doctor.findings import Finding, look
from shared.pipeline.submitting import ServerOptions
from tests.loopback import FAULTS, misbehave

NAMESPACE = "/api/v1/namespaces/team"
SITE = Cluster.model_validate(
    dict(
        namespace="team",
        service_account="pix2pixhd",
        accelerator=dict(resource="nvidia.com/gpu", node_selector={"gpu": "a100"}),
        raw_data=dict(claim="raw"),
        workspace=dict(claim="work"),
        secrets=dict(mlflow=dict(username="MLFLOW_TRACKING_USERNAME")),
        pull_secrets=["registry"],
    )
)


def named(kind: str, name: str, **parts) -> dict:
    return dict(apiVersion="v1", kind=kind, metadata=dict(name=name), **parts)


def cluster() -> dict[str, dict]:
    """Answers of a cluster that has all of SITE, by path."""
    quota = dict(hard={"pods": "20", "requests.nvidia.com/gpu": "4"})
    quota |= dict(used={"pods": "3", "requests.nvidia.com/gpu": "2"})
    node = named("Node", "a", status=dict(allocatable={"nvidia.com/gpu": "8"}))
    claim = "PersistentVolumeClaim"
    return {
        NAMESPACE: named("Namespace", "team"),
        f"{NAMESPACE}/persistentvolumeclaims/raw": named(claim, "raw", status=dict(phase="Bound")),
        f"{NAMESPACE}/persistentvolumeclaims/work": named(
            claim, "work", status=dict(phase="Bound")
        ),
        f"{NAMESPACE}/secrets/mlflow": named("Secret", "mlflow", data={"username": "c2VjcmV0"}),
        f"{NAMESPACE}/secrets/registry": named("Secret", "registry", data={}),
        f"{NAMESPACE}/serviceaccounts/pix2pixhd": named("ServiceAccount", "pix2pixhd"),
        f"{NAMESPACE}/resourcequotas": dict(items=[named("ResourceQuota", "q", status=quota)]),
        "/api/v1/nodes": dict(items=[node]),
    }


class Web:
    """A server of JSON by path; a number is a status, a text one of FAULTS."""

    def __init__(self):
        self.answers: dict[str, dict | int | str] = {}
        self.ended = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = web.answers.get(self.path.partition("?")[0], 404)
                if isinstance(answer, str) and answer in FAULTS:
                    return misbehave(self, answer, web.ended)
                status = answer if isinstance(answer, int) else 200
                body = answer if isinstance(answer, str) else json.dumps(answer)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def web(tmp_path, monkeypatch):
    server = Web()
    user = dict(name="u", user={})
    context = dict(name="c", context=dict(cluster="c", user="u"))
    about = dict(apiVersion="v1", kind="Config", users=[user], contexts=[context])
    about |= {"clusters": [dict(name="c", cluster=dict(server=server.url))]}
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(about | {"current-context": "c"}))
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield server
    server.ended.set()
    server.http.shutdown()
    server.http.server_close()


def states(rows: list[Finding]) -> dict[str, str]:
    return {row.what: row.state for row in rows}


# Kubernetes.


def test_a_cluster_that_has_all(web):
    web.answers = cluster()
    rows = kubernetes_api.cluster(SITE, "team")
    assert {row.state for row in rows} == {"there"} and len(rows) == 8
    assert Finding("nvidia.com/gpu", "there", "8 on 1 nodes") in rows
    assert "c2VjcmV0" not in str(rows)


@pytest.mark.parametrize(
    ("path", "answer", "what", "state", "about"),
    [
        ("", 404, "namespace team", "missing", "is not there"),
        ("/persistentvolumeclaims/raw", 404, "claim raw", "missing", "is not there"),
        (
            "/persistentvolumeclaims/work",
            named("PersistentVolumeClaim", "work", status=dict(phase="Pending")),
            *("claim work", "missing", "is Pending"),
        ),
        (
            "/secrets/mlflow",
            named("Secret", "mlflow", data={}),
            "secret mlflow",
            "missing",
            "username",
        ),
        ("/secrets/mlflow", 403, "secret mlflow", "not seen", "not allowed to look (HTTP 403)"),
        ("/serviceaccounts/pix2pixhd", 404, "service account pix2pixhd", "missing", "not there"),
        (
            "/resourcequotas",
            dict(
                items=[
                    named(
                        *("ResourceQuota", "q"), status=dict(hard={"pods": "9"}, used={"pods": "9"})
                    )
                ]
            ),
            *("quota q", "missing", "pods used up"),
        ),
        ("/resourcequotas", 403, "quotas", "not seen", "HTTP 403"),
    ],
)
def test_what_a_cluster_lacks_is_a_row(web, path, answer, what, state, about):
    web.answers = cluster() | {f"{NAMESPACE}{path}": answer}
    (row,) = [row for row in kubernetes_api.cluster(SITE, "team") if row.what == what]
    assert row.state == state and about in row.about


def test_cards_that_no_node_has(web):
    web.answers = cluster() | {"/api/v1/nodes": dict(items=[])}
    row = kubernetes_api.cluster(SITE, "team")[-1]
    assert row.state == "missing" and row.about.startswith("no node with gpu=a100 has one")


def test_no_account_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert states(kubernetes_api.cluster(SITE, "")) == {"Kubernetes": "not seen"}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_answers_is_a_row_in_time(web, fault, monkeypatch):
    monkeypatch.setenv("PIPELINE_PATIENCE_S", "0.3")
    monkeypatch.setattr(kubernetes_api, "_LIMIT", {"_request_timeout": 0.3})
    web.answers = {NAMESPACE: fault, "/version": fault}
    rows = look("Kubernetes", lambda: kubernetes_api.cluster(Cluster(), "team"))
    rows += look("MLflow", lambda: here.mlflow(web.url, Path("runs")))
    for row in rows:
        assert row.state in ("missing", "not seen") and "\n" not in row.about, row
        assert len(row.about) < 500 and row.about.isprintable()


# Servers.


def test_mlflow_answers_or_is_missing(web, tmp_path):
    web.answers = {"/version": "3.17.2"}
    assert here.mlflow(web.url, tmp_path) == [Finding("MLflow", "there", f"3.17.2 at {web.url}")]
    (silent,) = here.mlflow("http://127.0.0.1:9", tmp_path)
    assert silent.state == "missing" and "start it" in silent.about
    assert here.mlflow("http://127.0.0.1:9", tmp_path, is_of_cluster=True)[0].state == "not seen"
    assert here.mlflow("", tmp_path)[0].state == "there"


def test_a_kfp_server_answers_or_is_missing(kfp_server):
    assert states(verb.kfp_server(ServerOptions(host=kfp_server.host))) == {"KFP server": "there"}
    (row,) = look("KFP server", lambda: verb.kfp_server(ServerOptions(host="http://127.0.0.1:9")))
    assert row.state == "missing" and "cannot be reached" in row.about


# The command.


def test_the_table_and_its_exit_codes(tmp_path, monkeypatch, capsys, web):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(here, "devices", lambda: [Finding("cpu", "there", "1")])
    main(["doctor"])
    said = capsys.readouterr().out
    assert re.search("container engine +not there +.*answers at unix:///nowhere", said)
    assert said.endswith("doctor: all that is needed is there\n")

    web.answers = cluster() | {f"{NAMESPACE}/persistentvolumeclaims/raw": 404}
    Path("site.yaml").write_text(yaml.safe_dump(dict(namespace="team", raw_data={"claim": "raw"})))
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--cluster", "site.yaml", "--engine", "docker"])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err == "doctor: missing: container engine, claim raw\n"


def test_devices_are_those_that_torch_sees():
    found = states(here.devices())
    assert found["cpu"] == "there" and found.keys() == {"cuda", "npu", "cpu"}
