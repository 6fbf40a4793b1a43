"""The Kubernetes API of a cluster on this machine, which is outside the building: jobs that several
nodes train in, their pods and logs.

What is posted is checked against the published descriptions of the kinds, in `stand_ins`; and
against the whole of Trainer's, where it is (TRAINJOB_CRD, or beside the checkout). A plot tells the
story of a job: at each look at it one act is played.
"""

import json
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from jsonschema import Draft202012Validator

from tests.loopback import misbehave
from tests.places import ROOT, STAND_INS

Json = dict[str, Any]
Act = Callable[["FakeKubernetes", Json], None]

JOBS = re.compile(
    r"/apis/(trainer\.kubeflow\.org/v1alpha1|mindxdl\.gitee\.com/v1)/namespaces/team/"
    r"(trainjobs|ascendjobs)(?:/([a-z0-9-]+))?"
)
PODS = re.compile(r"/api/v1/namespaces/team/pods(?:/([a-z0-9-]+)(/log)?)?")
CRD = Path(os.environ.get("TRAINJOB_CRD", ROOT.parent / "shared/reference/trainjob_crd.yaml"))


def description_of(plural: str) -> Draft202012Validator:
    """What the API takes, by what we write of it."""
    file = STAND_INS / f"{plural.removesuffix('s')}.schema.json"
    return Draft202012Validator(json.loads(file.read_text()))


def whole_description() -> Draft202012Validator:
    """Trainer's own CRD of a TrainJob, in which unknown fields are refused, which the API drops."""
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def sharpen(part: Any) -> None:
        if isinstance(part, dict):
            if "properties" in part and "x-kubernetes-preserve-unknown-fields" not in part:
                part.setdefault("additionalProperties", False)
        for below in part.values() if isinstance(part, dict) else part:
            if isinstance(below, dict | list):
                sharpen(below)

    schema["properties"]["metadata"].pop("properties", None)
    sharpen(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(schema)


class FakeKubernetes:
    """The server. Tests look at `calls`, and say what happens: `plot` the acts of a job's life, one
    at each look at it, and `faults` what the next requests of a method get instead of an answer."""

    def __init__(self):
        self.jobs: dict[str, Json] = {}
        self.pods: dict[str, Json] = {}
        self.logs: dict[str, list[tuple[datetime, str]]] = {}
        self.posted: list[Json] = []
        self.calls: list[str] = []  # method and path of each request, without its query
        self.faults: dict[str, list[str]] = {}  # by method, or "log": faults of the next requests
        self.plot: list[Act] = []
        self.always: Act | None = None  # played at each look behind the plot
        self.deletes_after: int = 0  # looks at a deleted job until it is gone
        self.token = "let-me-in"
        self.closed = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.handle_error = lambda *_: None  # clients here hang up as they like
        self.host = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        self.http.shutdown()
        self.http.server_close()

    def kubeconfig(self, folder: Path) -> Path:
        """A file by which the cluster is found."""
        user = {"name": "launcher", "user": {"token": self.token}}
        context = {"cluster": "here", "user": "launcher", "namespace": "team"}
        file = folder / "kubeconfig"
        about = {"clusters": [{"name": "here", "cluster": {"server": self.host}}]}
        about |= {"users": [user], "contexts": [{"name": "here", "context": context}]}
        about |= {"apiVersion": "v1", "kind": "Config", "current-context": "here"}
        file.write_text(yaml.safe_dump(about))
        return file

    def count(self, call: str) -> int:
        return sum(one.startswith(call) for one in self.calls)

    # What a plot does.

    def add_pod(self, job: Json, node: int, **status: Any) -> str:
        """A pod as the operator of the job would make it."""
        kind, name = job["kind"], job["metadata"]["name"]
        if kind == "TrainJob":
            patch = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]
            about = patch["replicatedJobs"][0]["template"]["spec"]["template"]["metadata"]
            own = {"batch.kubernetes.io/job-completion-index": str(node)}
            pod, container = f"{name}-node-0-{node}-{uuid.uuid4().hex[:5]}", "node"
        else:
            role, index = ("Master", 0) if node == 0 else ("Worker", node - 1)
            about = job["spec"]["replicaSpecs"][role]["template"]["metadata"]
            own = {"training.kubeflow.org/replica-index": str(index)}
            pod, container = f"{name}-{role.lower()}-{index}", "ascend"
        when = datetime.now(UTC).isoformat()
        self.pods[pod] = {
            "metadata": {"name": pod, "labels": about["labels"] | own, "creationTimestamp": when},
            "spec": {"containers": [{"name": container}]},
            "status": {"phase": "Running"} | status,
        }
        self.logs[pod] = []
        return pod

    def pod(self, node: int) -> Json:
        return list(self.pods.values())[node]

    def say(self, node: int, *lines: str, before_s: float = 0) -> None:
        """Lines of a node's log; lines of one call have the same time."""
        when = datetime.now(UTC) - timedelta(seconds=before_s)
        self.logs[self.pod(node)["metadata"]["name"]] += [(when, line) for line in lines]

    def end(self, node: int, code: int, reason: str = "", at: str = "2026-11-30T08:00:00Z") -> None:
        """The end of a node's pod."""
        pod = self.pod(node)
        how = {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}
        container = pod["spec"]["containers"][0]["name"]
        state = {"terminated": how | {"finishedAt": at}}
        pod["status"] = {"phase": "Failed" if code else "Succeeded"}
        pod["status"]["containerStatuses"] = [{"name": container, "state": state}]


def condition(kind: str, reason: str = "", message: str = "") -> Act:
    """An act: the job has this condition."""

    def act(_: FakeKubernetes, job: Json) -> None:
        conditions = job.setdefault("status", {}).setdefault("conditions", [])
        conditions.append({"type": kind, "status": "True", "reason": reason, "message": message})

    return act


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeKubernetes

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: Json | str) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        content = text.encode()
        self.send_response(status)
        kind = "text/plain" if isinstance(body, str) else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, code: int, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        self.answer(code, status | {"message": message})

    def handle_request(self) -> None:
        fake, url = self.fake, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        # 1000.0 is no whole number for Kubernetes, but it is one for jsonschema.
        body = json.loads(self.rfile.read(length), parse_float=str) if length else {}
        fake.calls.append(f"{self.command} {url.path}")
        what = "log" if url.path.endswith("/log") else self.command
        if fake.faults.get(what):
            fault = fake.faults[what].pop(0)
            if fault == "done, but cut off":  # its answer is lost
                self.do(url.path, body, {}, is_lost=True)
                self.close_connection = True
                return
            if fault:
                return misbehave(self, fault, fake.closed)
        if self.headers.get("Authorization") != f"Bearer {fake.token}":
            return self.refuse(401, "Unauthorized")
        self.do(url.path, body, {name: one[0] for name, one in parse_qs(url.query).items()})

    do_GET = do_POST = do_DELETE = handle_request

    def do(self, path: str, body: Json, query: Json, is_lost: bool = False) -> None:
        if is_lost:
            self.answer = lambda *_: None
        if found := JOBS.fullmatch(path):
            return self.do_job(found[2], found[3], body)
        if (found := PODS.fullmatch(path)) and self.command == "GET":
            return self.do_pod(found[1], bool(found[2]), query)
        self.refuse(404, "the server could not find the requested resource")

    def do_job(self, plural: str, name: str | None, body: Json) -> None:
        fake = self.fake
        if self.command == "POST":
            name = body["metadata"]["name"]
            if error := next(description_of(plural).iter_errors(body), None):
                return self.refuse(422, f"{error.json_path}: {error.message}")
            if name in fake.jobs:
                return self.refuse(409, f'{plural} "{name}" already exists')
            fake.posted.append(json.loads(json.dumps(body)))
            about = {"uid": uuid.uuid4().hex, "creationTimestamp": datetime.now(UTC).isoformat()}
            fake.jobs[name] = body | {"metadata": body["metadata"] | about}
            return self.answer(201, fake.jobs[name])

        job = fake.jobs.get(name or "")
        if job is None:
            return self.refuse(404, f'{plural} "{name}" not found')
        if self.command == "DELETE":
            uid = body.get("preconditions", {}).get("uid", job["metadata"]["uid"])
            if uid != job["metadata"]["uid"]:
                return self.refuse(409, "the UID in the precondition does not match")
            job["metadata"]["deletionTimestamp"] = datetime.now(UTC).isoformat()
            if not fake.deletes_after:
                self.remove(name)
            return self.answer(200, job)

        # A look at it: the next act of its plot.
        if "deletionTimestamp" in job["metadata"]:
            fake.deletes_after -= 1
            if fake.deletes_after <= 0:
                self.remove(name)
        elif fake.plot:
            fake.plot.pop(0)(fake, job)
        elif fake.always:
            fake.always(fake, job)
        if name not in fake.jobs:
            return self.refuse(404, f'{plural} "{name}" not found')
        self.answer(200, fake.jobs[name])

    def remove(self, name: str) -> None:
        self.fake.jobs.pop(name, None)
        self.fake.pods.clear()

    def do_pod(self, name: str | None, is_log: bool, query: Json) -> None:
        fake = self.fake
        if name is None:
            key, value = query["labelSelector"].split("=")
            found = [
                one for one in fake.pods.values() if one["metadata"]["labels"].get(key) == value
            ]
            return self.answer(200, {"kind": "PodList", "apiVersion": "v1", "items": found})
        if name not in fake.pods:
            return self.refuse(404, f'pods "{name}" not found')
        if not is_log:
            return self.answer(200, {"kind": "Pod"} | fake.pods[name])
        if fake.pods[name]["status"]["phase"] == "Pending":
            return self.refuse(400, f'container in pod "{name}" is waiting to start')
        since = float(query.get("sinceSeconds", math.inf))
        begin = time.time() - since if since < math.inf else 0
        lines = [(when, line) for when, line in fake.logs[name] if when.timestamp() >= begin]
        lines = lines[-int(query.get("tailLines", 10**6)) :]
        if query.get("timestamps") == "true":
            # As Go writes them: without zeros at the end of the fraction.
            stamps = [f"{when:%Y-%m-%dT%H:%M:%S.%f}".rstrip("0").rstrip(".") for when, _ in lines]
            lines = [(f"{one}Z ", line) for one, (_, line) in zip(stamps, lines, strict=True)]
        else:
            lines = [("", line) for _, line in lines]
        self.answer(200, "".join(f"{stamp}{line}\n" for stamp, line in lines))
