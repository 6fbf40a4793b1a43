"""Schedules on a KFP server, which a stand-in plays that checks the API's published contract."""

import pytest

from pipeline import CONFIGS, build
from shared import servers
from shared.pipeline.recipes import read_recipe
from shared.pipeline.schedules import recurring
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.server import client
from tests.asking import refusal
from tests.kfp_cache import recipe_in


@pytest.fixture
def ask(kfp_server, monkeypatch):
    monkeypatch.setenv(servers.PATIENCE, "0.5")

    def ask(**options) -> None:
        checked = ScheduleOptions.check({"host": kfp_server.host} | options)
        if checked.wish == "create":
            numbers = read_recipe(checked.recipe, CONFIGS, checked.overrides)
            recurring.create(checked, build(checked.recipe, numbers))
        else:
            recurring.change(checked)

    return ask


@pytest.fixture
def nightly(ask):
    return lambda cron="0 2 * * *", **options: ask(cron=cron, raw_data="s3://b/raw", **options)


def test_a_recurring_run_starts_what_was_asked_and_nothing_twice(kfp_server, nightly, capsys):
    nightly(overrides=("train_global.epochs=3",))
    (run,) = kfp_server.recurring_runs.values()
    assert run["display_name"] == "pix2pixhd-demo" and run["status"] == "ENABLED"
    assert run["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * *"
    assert run["no_catchup"] is True and int(run["max_concurrency"]) == 1
    given = run["runtime_config"]["parameters"]
    assert (given["raw_data"], given["epochs"], given["train_global"]) == ("s3://b/raw", 3, {})
    assert "pipeline_spec" not in run, "its graph is that of an uploaded version"
    spec = kfp_server.spec_of(run)
    assert recipe_in(spec)["train_global"]["epochs"] == 3
    (experiment,) = kfp_server.experiments.values()
    assert experiment["display_name"] == "demo"
    out = capsys.readouterr().out
    assert "At 02:00 every day, UTC time" in out and "CRON_SCHEDULE_TIMEZONE" in out

    tasks = spec["root"]["dag"]["tasks"]
    assert {step.replace("_", "-") for step in CONFIGS} <= tasks.keys()
    cached = {name for name, task in tasks.items() if task.get("cachingOptions")}
    assert cached <= {"prepare"}, "a night trains and measures anew"


def test_a_name_stands_for_one_recurring_run(kfp_server, nightly, ask, capsys, monkeypatch):
    nightly()
    (run,) = kfp_server.recurring_runs.values()
    for number in range(12):
        other = {"recurring_run_id": f"id-{number}", "display_name": f"other-{number}"}
        kfp_server.recurring_runs[f"id-{number}"] = {**run, **other}
    monkeypatch.setattr(client, "PAGE_SIZE", 5)
    before = dict(kfp_server.recurring_runs)
    nightly()
    assert kfp_server.recurring_runs == before, "the same again"
    assert "is there already" in capsys.readouterr().out.splitlines()[-2]

    nightly("0 3 * * sun")
    (changed,) = kfp_server.recurring_runs.keys() - before.keys()
    assert len(kfp_server.recurring_runs) == len(before) == 13
    cron = kfp_server.recurring_runs[changed]["trigger"]["cron_schedule"]["cron"]
    assert cron == "0 0 3 * * 0"

    ask(disable=True)
    statuses = {run["display_name"]: run["status"] for run in kfp_server.recurring_runs.values()}
    assert {name for name in statuses if statuses[name] == "DISABLED"} == {"pix2pixhd-demo"}
    capsys.readouterr()
    ask(list=True)
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == 13 and 'pix2pixhd-demo (disabled): cron "0 0 3 * * 0"' in listed

    nightly("0 3 * * sun")
    ask(delete=True, name="other-3")
    names = [run["display_name"] for run in kfp_server.recurring_runs.values()]
    assert sorted(names) == sorted({f"other-{n}" for n in range(12) if n != 3} | {"pix2pixhd-demo"})
    assert {run["status"] for run in kfp_server.recurring_runs.values()} == {"ENABLED"}
    assert "has no recurring run other-3" in refusal(ask, delete=True, name="other-3")


@pytest.mark.parametrize(
    "options, said",
    [
        (dict(timezone="Europe/Berlin"), "goes by its own CRON_SCHEDULE_TIMEZONE, UTC unless"),
        (dict(timeout_min=60), "--timeout-min is for nights on this machine"),
        (dict(cron="0 0 2 * * *"), "six fields"),
        (dict(raw_data=None), "--host needs --raw-data"),
    ],
)
def test_what_a_server_cannot_do_is_refused(kfp_server, ask, options, said):
    asked = dict(cron="@daily", raw_data="s3://b/raw") | options
    assert said in refusal(ask, **asked)
    assert not kfp_server.recurring_runs


def test_a_recurring_run_of_somebody_else_is_not_touched(kfp_server, nightly, ask):
    nightly()
    (run,) = kfp_server.recurring_runs.values()
    run["description"] = "by hand"
    before = {name: dict(one) for name, one in kfp_server.recurring_runs.items()}
    for call in (nightly, lambda: ask(disable=True), lambda: ask(delete=True)):
        assert "choose another name" in refusal(call)
    assert kfp_server.recurring_runs == before


def test_one_of_an_earlier_version_is_replaced_disabled_and_deleted(kfp_server, nightly, ask):
    """It has the graph in itself, and the digest of that in its description."""
    nightly()
    (version,), (pipeline,) = kfp_server.versions.values(), kfp_server.pipelines.values()
    (now,) = kfp_server.recurring_runs.values()
    spec = {"pipeline_spec": kfp_server.spec_of(now)}
    old = {key: one for key, one in now.items() if key != "pipeline_version_reference"}
    old |= spec | {"description": f"{recurring.MARK}{'0' * 16}", "recurring_run_id": "old"}

    # Replaced by one of the same version: nothing is uploaded twice.
    kfp_server.recurring_runs = {"old": dict(old)}
    nightly()
    (new,) = kfp_server.recurring_runs.values()
    assert new["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert len(kfp_server.versions) == 1

    # Disabled and deleted as it is.
    kfp_server.recurring_runs = {"old": dict(old)}
    ask(disable=True)
    assert kfp_server.recurring_runs["old"]["status"] == "DISABLED"
    ask(delete=True)
    assert not kfp_server.recurring_runs


def test_a_version_that_was_deleted_is_uploaded_again(kfp_server, nightly):
    """A night of the recurring run that is there would find no graph."""
    nightly()
    ((name, run),) = kfp_server.recurring_runs.items()
    kfp_server.versions.clear()
    nightly()
    ((new, _),) = kfp_server.recurring_runs.items()
    assert new != name and len(kfp_server.versions) == 1


def test_one_that_could_not_be_made_leaves_the_old_one(kfp_server, nightly):
    nightly()
    before = dict(kfp_server.recurring_runs)
    failing = "RecurringRunService_CreateRecurringRun"
    kfp_server.faults[failing] = (500, "the database is gone")
    refusal(nightly, "0 4 * * *")
    assert kfp_server.recurring_runs == before


@pytest.mark.parametrize("cron", ["0 2 * * *", "0 5 * * *"])
def test_of_two_that_are_made_at_once_one_stays(cron, kfp_server, nightly, monkeypatch):
    real = kfp_server.RecurringRunService_CreateRecurringRun
    monkeypatch.setenv(servers.PATIENCE, "30")  # the other one uploads before this one is answered

    def create_with_another(query, body):
        monkeypatch.setattr(kfp_server, "RecurringRunService_CreateRecurringRun", real)
        made = real(query, body)
        nightly(cron)  # by somebody else, at this moment
        return made

    monkeypatch.setattr(kfp_server, "RecurringRunService_CreateRecurringRun", create_with_another)
    nightly("0 2 * * *")
    (run,) = kfp_server.recurring_runs.values()
    assert run["display_name"] == "pix2pixhd-demo" and run["status"] == "ENABLED"


def test_a_call_that_lost_its_answer_makes_no_second_schedule(kfp_server, nightly):
    kfp_server.lost["RecurringRunService_CreateRecurringRun"] = ["cut off"]
    nightly()
    assert len(kfp_server.recurring_runs) == 1
