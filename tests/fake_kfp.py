"""A Kubeflow Pipelines API server on this machine, which is outside the building.

Every request and every answer is checked against the API's published contract, in `stand_ins`:
backend/api/v2beta1/swagger/kfp_api_single_file.swagger.json of kubeflow/pipelines at 7b70c7b, its
version 2.17.0, Apache-2.0. It keeps pipelines and their versions, experiments, runs and recurring
runs; tasks of runs take their outputs from a cache as KFP's do (`kfp_cache.py`). Nodes of a run,
the end of one that was terminated, and logs, which the contract leaves out, are as the code of that
commit has them (backend/src/apiserver: server/api_converter.go, server/run_log_server.go).
"""

import email
import json
import re
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import yaml
from jsonschema import Draft4Validator, ValidationError

from tests.kfp_cache import Cache
from tests.loopback import misbehave
from tests.places import STAND_INS

EQUALS = {1, "EQUALS"}
LOG = re.compile("/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log")
ACTIVE = ("PENDING", "RUNNING", "PAUSED")
NO_TIME = "1970-01-01T00:00:00Z"


class Refusal(Exception):
    """An answer that is no success: status and message."""


def read_contract() -> dict:
    """The swagger, which says nothing of unknown fields: they are refused. Numbers of 64 bits are
    strings in it, but servers take both and the client sends numbers."""
    contract = json.loads((STAND_INS / "kfp_api_v2beta1.swagger.json").read_text())

    def sharpen(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("format") == "int64" and part.get("type") == "string":
                part["type"] = ["string", "integer"]
            if "properties" in part and part.get("type") == "object":
                part.setdefault("additionalProperties", False)
        for below in part.values() if isinstance(part, dict) else part:
            if isinstance(below, dict | list):
                sharpen(below)

    sharpen(contract)
    return contract


class FakeKfp:
    """The server. Tests look at its records, and plan its faults.

    `pipelines`, `versions`, `experiments`, `runs` and `recurring_runs` hold by id what the API
    tells; `tasks` the state of each task by run and name: SUCCEEDED, or CACHED where its outputs
    came from the cache.
    """

    def __init__(self):
        self.contract = read_contract()
        self.operations = [
            (method.upper(), re.compile(re.sub(r"\\{[^}]*\\}", "([^/:]+)", re.escape(path))), about)
            for path, methods in self.contract["paths"].items()
            for method, about in methods.items()
        ]
        self.pipelines: dict[str, dict] = {}
        self.versions: dict[str, dict] = {}
        self.experiments: dict[str, dict] = {}
        self.runs: dict[str, dict] = {}
        self.recurring_runs: dict[str, dict] = {}
        self.tasks: dict[str, dict[str, str]] = {}
        self.cache = Cache()
        self.calls: list[tuple[str, int]] = []  # operation and status of every answer
        self.has_users = False

        # How runs go: state of the run and of its tasks, at each look at it; the last one stays.
        self.course: list[tuple[str, dict[str, str]]] = [("RUNNING", {}), ("SUCCEEDED", {})]
        self.complaints: dict[str, str] = {}  # of tasks that fail
        self.logs: dict[str, str] = {}  # by pod, which is called after its task: train-global-pod

        # What it asks for, and what it does wrong.
        self.authorization = ""  # header that is asked for; "" = none
        self.cookie = ""
        self.prefix = ""  # of the path; elsewhere there is something else
        self.faults: dict[str, tuple[int, str]] = {}  # operation -> status and text it answers with
        self.passing: dict[str, list[str]] = {}  # operation -> faults of loopback, one a call
        self.lost: dict[str, list[str]] = {}  # the same, where the operation is done all the same
        self.hanging: set[str] = set()  # operations that answer after `close` alone
        self.closed = threading.Event()

        handler = type("Handler", (_Handler,), {"server_of": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def host(self) -> str:
        return self.address + self.prefix

    def close(self) -> None:
        self.closed.set()
        self.http.shutdown()
        self.http.server_close()

    # A request.

    def answer(self, method: str, path: str, query: dict, body: Any, headers) -> tuple[int, Any]:
        """Status and JSON; what goes against the contract is a 400, also in our own answers."""
        name = "?"
        try:
            if not path.startswith(self.prefix + "/"):
                raise Refusal(404, "")
            path = path.removeprefix(self.prefix)
            if log := LOG.fullmatch(path):
                name = "log"
                self._authorize(headers)
                return 200, self._log(*log.groups())
            name, identity, about = self._operation(method, path)
            self._authorize(headers)
            if name in self.hanging:
                self.closed.wait()
            if self.passing.get(name):
                self.calls.append((name, 0))
                return 0, self.passing[name].pop(0)
            if name in self.faults:
                raise Refusal(*self.faults[name])
            self._check_request(about, query, body)
            answer = getattr(self, name)(*identity, query, body)
            self._check(about["responses"]["200"]["schema"], answer)
            status = 200
            if self.lost.get(name):
                self.calls.append((name, 0))
                return 0, self.lost[name].pop(0)
        except Refusal as refusal:
            status, message = refusal.args
            answer = {"code": 3, "message": message, "details": []} if message else "<html>"
        except ValidationError as error:
            place = "/".join(map(str, error.absolute_path))
            status, answer = 400, {"code": 3, "message": f"{name}: {place}: {error.message}"}
        self.calls.append((name, status))
        return status, answer

    def _authorize(self, headers) -> None:
        if self.authorization and headers.get("Authorization") != self.authorization:
            raise Refusal(401, "Unauthorized")
        if self.cookie and headers.get("Cookie") != self.cookie:
            raise Refusal(401, "")

    def _operation(self, method: str, path: str) -> tuple[str, tuple[str, ...], dict]:
        for its_method, pattern, about in self.operations:
            found = pattern.fullmatch(path)
            if found and its_method == method and hasattr(self, about["operationId"]):
                return about["operationId"], found.groups(), about
        raise Refusal(404, f"no operation {method} {path}")

    def _check_request(self, about: dict, query: dict, body: Any) -> None:
        parameters = about.get("parameters", [])
        unknown = set(query) - {known["name"] for known in parameters if known["in"] == "query"}
        if unknown:
            raise Refusal(400, f"unknown query parameters {unknown}")
        for parameter in parameters:
            if parameter["in"] == "body":
                self._check(parameter["schema"], body)
            if parameter["in"] == "formData" and not isinstance(body, UploadedFile):
                raise Refusal(400, f"no file {parameter['name']}")

    def _check(self, schema: dict, value: Any) -> None:
        known = schema | {"definitions": self.contract["definitions"]}
        Draft4Validator(known).validate(value)

    # The operations, by their ids in the contract.

    def HealthzService_GetHealthz(self, query, _):
        return {"multi_user": True} if self.has_users else {}  # it leaves out what is false

    def PipelineService_CreatePipeline(self, query, body):
        self._refuse_second(self.pipelines, body, "name", "namespace")
        return self._add(self.pipelines, "pipeline_id", body)

    def PipelineService_ListPipelines(self, query, _):
        return _page("pipelines", self.pipelines, query)

    def UploadPipelineVersion(self, query, file):
        pipeline = _get(self.pipelines, query["pipelineid"])["pipeline_id"]
        spec, *platform = yaml.safe_load_all(file)
        whole = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        about = {"pipeline_id": pipeline, "name": query["name"], "pipeline_spec": whole}
        self._refuse_second(self.versions, about, "name", "pipeline_id")
        return self._add(self.versions, "pipeline_version_id", about)

    def PipelineService_ListPipelineVersions(self, pipeline, query, _):
        mine = {name: one for name, one in self.versions.items() if one["pipeline_id"] == pipeline}
        return _page("pipeline_versions", mine, query)

    def ExperimentService_CreateExperiment(self, query, body):
        if self.has_users and not body.get("namespace"):
            raise Refusal(400, "Experiment's namespace cannot be empty in multi-user mode")
        self._refuse_second(self.experiments, body, "display_name", "namespace")
        return self._add(self.experiments, "experiment_id", body, storage_state="AVAILABLE")

    def ExperimentService_ListExperiments(self, query, _):
        return _page("experiments", self.experiments, query)

    def ExperimentService_GetExperiment(self, identity, query, _):
        return _get(self.experiments, identity)

    def RunService_CreateRun(self, query, body):
        _get(self.experiments, body["experiment_id"])
        spec = self.spec_of(body)
        run = self._add(self.runs, "run_id", body, state="PENDING", storage_state="AVAILABLE")
        run["run_details"] = {"task_details": []}
        parameters = body.get("runtime_config", {}).get("parameters", {})
        self.tasks[run["run_id"]] = self.cache.execute(spec, parameters)
        return run

    def spec_of(self, run: dict) -> dict:
        """The graph of a run, which may lie in a version."""
        if reference := run.get("pipeline_version_reference"):
            version = _get(self.versions, reference["pipeline_version_id"])
            assert version["pipeline_id"] == reference["pipeline_id"]
            run = version
        spec = run["pipeline_spec"]
        return spec.get("pipeline_spec", spec)

    def RunService_ListRuns(self, query, _):
        return _page("runs", self.runs, query)

    def RunService_GetRun(self, identity, query, _):
        run = _get(self.runs, identity)
        if run["state"] == "CANCELING":  # which Argo ends as a failure
            run["state"] = "FAILED"
            run["state_history"].append({"update_time": _now(), "state": "FAILED"})
        elif run["state"] in ACTIVE:
            looks = sum(call == ("RunService_GetRun", 200) for call in self.calls)
            run["state"], tasks = self.course[min(looks, len(self.course) - 1)]
            run["run_details"]["task_details"] = self._nodes(run, tasks)
            if run["state"] not in ACTIVE:
                run["finished_at"] = _now()
        return run

    def _nodes(self, run: dict, tasks: dict[str, str]) -> list[dict]:
        """Argo's nodes, of which a task has three."""
        nodes = [_node("root-driver", "SUCCEEDED"), _node("root", run["state"], [])]
        nodes.append(_node("demo-x7k2p", run["state"], ["root-driver-node", "root-node"]))
        for task, state in tasks.items():
            name = task.replace("_", "-")
            pod = f"{name}-pod"
            nodes.append(_node(f"{name}-driver", "SUCCEEDED"))
            nodes.append(_node(name, state, [pod]))
            nodes.append(_node("executor", state) | {"task_id": pod})
            if complaint := self.complaints.get(task):
                nodes[-1]["error"] = {"code": 13, "message": complaint}
        return nodes

    def RunService_TerminateRun(self, identity, query, _):
        run = _get(self.runs, identity)
        if run["state"] not in (*ACTIVE, "CANCELING"):
            raise Refusal(400, f"Failed to terminate run {identity}. Row not found")
        run["state"] = "CANCELING"
        run["state_history"] = [{"update_time": _now(), "state": "CANCELING"}]
        return {}

    def _log(self, run: str, pod: str) -> str:
        """It has status 200 in any case."""
        if pod in self.logs:
            return self.logs[pod]
        message = f"Failed to read logs for run {run}: pods {pod!r} not found"
        return json.dumps({"error_message": message, "error_details": message})

    def RecurringRunService_CreateRecurringRun(self, query, body):
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise Refusal(400, "The max concurrency must be at least 1 and at most 10.")
        if cron := body.get("trigger", {}).get("cron_schedule", {}).get("cron"):
            if len(cron.split()) not in (5, 6):  # 5 are taken, as seconds and so on
                raise Refusal(400, f"Expected 5 or 6 fields, found {len(cron.split())}: {cron}")
        status = {"ENABLE": "ENABLED"}.get(body.get("mode", ""), "DISABLED")
        return self._add(self.recurring_runs, "recurring_run_id", body, status=status)

    def RecurringRunService_ListRecurringRuns(self, query, _):
        return _page("recurringRuns", self.recurring_runs, query)

    def RecurringRunService_GetRecurringRun(self, identity, query, _):
        return _get(self.recurring_runs, identity)

    def RecurringRunService_EnableRecurringRun(self, identity, query, _):
        _get(self.recurring_runs, identity).update(status="ENABLED", mode="ENABLE")
        return {}

    def RecurringRunService_DisableRecurringRun(self, identity, query, _):
        _get(self.recurring_runs, identity).update(status="DISABLED", mode="DISABLE")
        return {}

    def RecurringRunService_DeleteRecurringRun(self, identity, query, _):
        _get(self.recurring_runs, identity)
        del self.recurring_runs[identity]
        return {}

    def _refuse_second(self, records: dict[str, dict], body: dict, *key: str) -> None:
        if any(all(known.get(k) == body.get(k) for k in key) for known in records.values()):
            raise Refusal(409, f"Already exist error: {body[key[0]]}")

    def _add(self, records: dict[str, dict], key: str, body: dict, **known) -> dict:
        record = {**body, **known, key: str(uuid.uuid4()), "created_at": _now()}
        records[record[key]] = record
        return record


class UploadedFile(bytes):
    """The content of a multipart form's file."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _node(name: str, state: str, children: list[str] | None = None) -> dict:
    """A node that has begun two minutes ago."""
    begun = datetime.fromtimestamp(datetime.now(UTC).timestamp() - 120, UTC)
    return {
        "task_id": f"{name}-node",
        "display_name": name,
        "state": state,
        "start_time": begun.isoformat(),
        "end_time": NO_TIME if state in ("PENDING", "RUNNING") else _now(),
        "child_tasks": [{"pod_name": child} for child in children or []],
    }


def _get(records: dict[str, dict], identity: str) -> dict:
    if identity not in records:
        raise Refusal(404, f"{identity} not found")
    return records[identity]


def _page(name: str, records: dict[str, dict], query: dict[str, str]) -> dict:
    """As many of the records as a page has, of those that the filter names, in the order asked."""
    # The server takes escapes out of a filter a second time.
    predicates = json.loads(unquote_plus(query.get("filter") or "{}")).get("predicates", [])
    found = list(records.values())
    for one in predicates:
        if one.get("operation") not in EQUALS:
            raise Refusal(400, f"no filter {one}")
        wanted = one.get("stringValue", one.get("string_value"))
        found = [record for record in found if record.get(one["key"]) == wanted]
    for key in {"experiment_id", "namespace"} & query.keys():
        found = [one for one in found if one.get(key, query[key]) == query[key]]
    if query.get("sort_by"):
        key, _, order = query["sort_by"].partition(" ")
        found.sort(key=lambda record: record[key], reverse=order == "desc")

    start, size = int(query.get("page_token") or 0), int(query.get("page_size") or 20)
    page = {name: found[start : start + size], "total_size": len(found)}
    if start + size < len(found):
        page["next_page_token"] = str(start + size)
    return page


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: FakeKfp

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = self._body(content) if content else None
        status, answer = self.server_of.answer(self.command, url.path, query, body, self.headers)
        if status == 0:
            return misbehave(self, answer, self.server_of.closed)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = do_GET

    def _body(self, content: bytes) -> Any:
        kind = self.headers["Content-Type"]
        if not kind.startswith("multipart/form-data"):
            return json.loads(content)
        form = email.message_from_bytes(f"Content-Type: {kind}\n\n".encode() + content)
        (part,) = form.get_payload()
        assert part.get_param("name", header="Content-Disposition") == "uploadfile"
        return UploadedFile(part.get_payload(decode=True))
