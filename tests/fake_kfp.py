"""A Kubeflow Pipelines API server on this machine, which is outside the building.

Every request and every answer is checked against the API's published contract, in `stand_ins`:
backend/api/v2beta1/swagger/kfp_api_single_file.swagger.json of kubeflow/pipelines at 7b70c7b, its
version 2.17.0, Apache-2.0. It keeps experiments, runs and
recurring runs; tasks of runs take their outputs from a cache as KFP's do (`kfp_cache.py`).
"""

import json
import re
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jsonschema import Draft4Validator, ValidationError

from tests.kfp_cache import Cache
from tests.places import STAND_INS

EQUALS = {1, "EQUALS"}


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

    `experiments`, `runs` and `recurring_runs` hold by id what the API tells; `tasks` the state of
    each task by run and name: SUCCEEDED, or CACHED where its outputs came from the cache.
    """

    def __init__(self):
        self.contract = read_contract()
        self.operations = [
            (method.upper(), re.compile(re.sub(r"\\{[^}]*\\}", "([^/:]+)", re.escape(path))), about)
            for path, methods in self.contract["paths"].items()
            for method, about in methods.items()
        ]
        self.experiments: dict[str, dict] = {}
        self.runs: dict[str, dict] = {}
        self.recurring_runs: dict[str, dict] = {}
        self.tasks: dict[str, dict[str, str]] = {}
        self.cache = Cache()
        self.calls: list[tuple[str, int]] = []  # operation and status of every answer
        self.authorization = ""  # header that is asked for; "" = none
        self.faults: dict[str, tuple[int, str]] = {}  # operation -> status and text it answers with
        self.hanging: set[str] = set()  # operations that answer after `close` alone
        self.closed = threading.Event()

        handler = type("Handler", (_Handler,), {"server_of": self})
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.host = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        self.http.shutdown()
        self.http.server_close()

    # A request.

    def answer(self, method: str, path: str, query: dict, body: Any, headers) -> tuple[int, Any]:
        """Status and JSON; what goes against the contract is a 400, also in our own answers."""
        name = "?"
        try:
            name, identity, about = self._operation(method, path)
            if self.authorization and headers.get("Authorization") != self.authorization:
                raise Refusal(401, "Unauthorized")
            if name in self.hanging:
                self.closed.wait()
            if name in self.faults:
                raise Refusal(*self.faults[name])
            self._check_request(about, query, body)
            answer = getattr(self, name)(*identity, query, body)
            self._check(about["responses"]["200"]["schema"], answer)
            status = 200
        except Refusal as refusal:
            status, message = refusal.args
            answer = {"code": 3, "message": message, "details": []}
        except ValidationError as error:
            place = "/".join(map(str, error.absolute_path))
            status, answer = 400, {"code": 3, "message": f"{name}: {place}: {error.message}"}
        self.calls.append((name, status))
        return status, answer

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

    def _check(self, schema: dict, value: Any) -> None:
        known = schema | {"definitions": self.contract["definitions"]}
        Draft4Validator(known).validate(value)

    # The operations, by their ids in the contract.

    def HealthzService_GetHealthz(self, query, _):
        return {"multi_user": False}

    def ExperimentService_CreateExperiment(self, query, body):
        names = {known["display_name"] for known in self.experiments.values()}
        if body["display_name"] in names:
            raise Refusal(409, f"Already exist error: {body['display_name']}")
        return self._add(self.experiments, "experiment_id", body, storage_state="AVAILABLE")

    def ExperimentService_ListExperiments(self, query, _):
        return _page("experiments", self.experiments, query)

    def ExperimentService_GetExperiment(self, identity, query, _):
        return _get(self.experiments, identity)

    def RunService_CreateRun(self, query, body):
        _get(self.experiments, body["experiment_id"])
        run = self._add(self.runs, "run_id", body, state="PENDING", storage_state="AVAILABLE")
        spec = body["pipeline_spec"]
        parameters = body.get("runtime_config", {}).get("parameters", {})
        self.tasks[run["run_id"]] = self.cache.execute(spec, parameters)
        return run

    def RunService_ListRuns(self, query, _):
        return _page("runs", self.runs, query)

    def RunService_GetRun(self, identity, query, _):
        run = _get(self.runs, identity)
        following = {"PENDING": "RUNNING", "RUNNING": "SUCCEEDED"}
        run["state"] = following.get(run["state"], run["state"])
        return run

    def RunService_TerminateRun(self, identity, query, _):
        _get(self.runs, identity)["state"] = "CANCELED"
        return {}

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

    def _add(self, records: dict[str, dict], key: str, body: dict, **known) -> dict:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        record = {**body, **known, key: str(uuid.uuid4()), "created_at": now}
        records[record[key]] = record
        return record


def _get(records: dict[str, dict], identity: str) -> dict:
    if identity not in records:
        raise Refusal(404, f"{identity} not found")
    return records[identity]


def _page(name: str, records: dict[str, dict], query: dict[str, str]) -> dict:
    """As many of the records as a page has, of those that the filter names, in the order asked."""
    predicates = json.loads(query.get("filter") or "{}").get("predicates", [])
    found = list(records.values())
    for one in predicates:
        if one.get("operation") not in EQUALS:
            raise Refusal(400, f"no filter {one}")
        wanted = one.get("stringValue", one.get("string_value"))
        key = {"name": "display_name"}.get(one["key"], one["key"])
        found = [record for record in found if record.get(key) == wanted]
    if query.get("experiment_id"):
        found = [record for record in found if record["experiment_id"] == query["experiment_id"]]
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
        body = json.loads(content) if content else None
        status, answer = self.server_of.answer(self.command, url.path, query, body, self.headers)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = do_GET
