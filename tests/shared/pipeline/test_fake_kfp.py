"""The stand-in of a KFP server: what the official client says to it, and what goes against the
contract."""

import json
import urllib.request

import pytest
from kfp import Client, compiler, dsl
from kfp_server_api import ApiException


@dsl.component(base_image="python:3.11")
def grow(height: int) -> int:
    return height + 1


@pytest.fixture
def client(kfp_server, monkeypatch, tmp_path):
    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    return Client(host=kfp_server.host)


@dsl.pipeline(name="garden")
def garden(height: int = 1):
    first = grow(height=height)
    grow(height=first.output)


def test_a_run_is_kept_and_its_tasks_come_from_the_cache_the_second_time(kfp_server, client):
    kfp_server.cache.outputs = {("grow", "Output"): 2, ("grow-2", "Output"): 3}
    runs = [
        client.create_run_from_pipeline_func(garden, arguments, experiment_name="plants").run_id
        for arguments in ({}, {}, {"height": 1}, {"height": 5})
    ]
    first, second, same, other = (kfp_server.tasks[run] for run in runs)
    assert set(first.values()) == {"SUCCEEDED"} and set(second.values()) == {"CACHED"}
    assert same == second and other == {"grow": "SUCCEEDED", "grow-2": "CACHED"}, "2 came of both"
    (experiment,) = kfp_server.experiments.values()
    assert experiment["display_name"] == "plants"
    assert [client.get_run(runs[0]).state for _ in range(2)] == ["RUNNING", "SUCCEEDED"]


def test_recurring_runs_are_kept_found_stopped_and_deleted(kfp_server, client, tmp_path):
    experiment = client.create_experiment("plants").experiment_id
    file = str(tmp_path / "garden.yaml")
    compiler.Compiler().compile(garden, file)

    def create(name: str, **options) -> str:
        cron = dict(cron_expression="0 0 2 * * *", pipeline_package_path=file)
        made = client.create_recurring_run(experiment, name, **cron, **options)
        return made.recurring_run_id

    nightly = create("nightly", max_concurrency=1, no_catchup=True)
    for number in range(4):
        create(f"other {number}")
    named = json.dumps(
        {"predicates": [{"operation": 1, "key": "display_name", "stringValue": "nightly"}]}
    )
    (found,) = client.list_recurring_runs(filter=named).recurring_runs
    assert (found.recurring_run_id, found.status, found.no_catchup) == (nightly, "ENABLED", True)
    page = client.list_recurring_runs(page_size=3, sort_by="created_at desc")
    rest = client.list_recurring_runs(page_token=page.next_page_token, page_size=3)
    assert (len(page.recurring_runs), len(rest.recurring_runs)) == (3, 2)
    assert page.recurring_runs[0].display_name == "other 3"

    client.disable_recurring_run(nightly)
    assert client.get_recurring_run(nightly).status == "DISABLED"
    client.enable_recurring_run(nightly)
    assert client.get_recurring_run(nightly).status == "ENABLED"
    client.delete_recurring_run(nightly)
    with pytest.raises(ApiException, match="404"):
        client.get_recurring_run(nightly)
    with pytest.raises(ApiException, match="at most 10"):
        create("busy", max_concurrency=11)


def test_what_the_contract_does_not_know_is_refused(kfp_server):
    def post(path: str, **body) -> int:
        request = urllib.request.Request(
            f"{kfp_server.host}/apis/v2beta1/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code

    assert post("experiments", display_name="plants") == 200
    assert post("experiments", display_name="plants") == 409
    assert post("experiments", name="trees") == 400
    assert post("experiments?colour=green", display_name="trees") == 400
    assert post("trees") == 404


def test_faults_are_answered_as_planned(kfp_server, client):
    kfp_server.faults["RunService_ListRuns"] = (503, "upstream connect error")
    with pytest.raises(ApiException, match="503"):
        client.list_runs()
    del kfp_server.faults["RunService_ListRuns"]
    assert client.list_runs().runs is None or not client.list_runs().runs
    kfp_server.authorization = "Bearer secret"
    with pytest.raises(ApiException, match="401"):
        client.list_runs()
    assert kfp_server.calls[-1] == ("RunService_ListRuns", 401)
