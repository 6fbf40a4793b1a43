"""A schedule as recurring run of a KFP API server, which is found again by its name."""

import hashlib
import json
from datetime import UTC

from kfp import Client
from kfp.dsl.graph_component import GraphComponent
from kfp_server_api import (
    ApiClient,
    RecurringRunMode,
    V2beta1CronSchedule,
    V2beta1RecurringRun,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from shared.errors import InputError
from shared.pipeline.graph import run_parameters
from shared.pipeline.schedules.cron import read_cron, to_kfp
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.schedules.schedule import describe
from shared.pipeline.server.client import check_raw_data, connect, shown, spec_of
from shared.servers import said

MARK = "by pipeline.py schedule, "  # before the digest, in a description
# Options that no server takes, and their flags.
OF_THIS_MACHINE = {
    "start": "--from",
    "timeout_min": "--timeout-min",
    "runs": "--runs",
    "keep_nights": "--keep-nights",
    "notify": "--notify",
}
PAGE_SIZE = 100
UTC_NAMES = ("", "UTC", "Etc/UTC")


def change(options: ScheduleOptions) -> None:
    """List, disable or delete recurring runs. Raises InputError where there is none of that
    name."""
    with connect(options.host) as client:
        if options.wish == "list":
            for run in _find(client):
                cron = run.trigger.cron_schedule if run.trigger else None
                when = f'cron "{cron.cron}"' if cron else "by an interval"
                print(said(f"{run.display_name} ({run.status.lower()}): {when}"))
            return

        name = options.full_name
        found = _find_mine(client, options)
        if not found:
            raise InputError(
                f"--{options.wish}: {shown(options.host)} has no recurring run {name}: see --list."
            )
        for run in found:
            if options.disable:
                client.disable_recurring_run(run.recurring_run_id)
            else:
                client.delete_recurring_run(run.recurring_run_id)
    print(f"{name} is {options.wish}d; a run that is under way goes on.")


def create(options: ScheduleOptions, graph: GraphComponent) -> None:
    """Make the recurring run of a built graph, in the place of those of its name; one that is as
    wanted stays. Missed starts are not made up for, and two runs never overlap.

    Raises InputError for what the server cannot do, and where it does not answer as one.
    """
    # What, and when: the zone of a server cannot be asked for. A night trains and measures anew.
    name, cron = options.full_name, read_cron(options.cron)
    _refuse_what_no_server_does(options)
    wanted = V2beta1RecurringRun(
        display_name=name,
        mode=RecurringRunMode.ENABLE,
        pipeline_spec=spec_of(graph, "data"),
        runtime_config=V2beta1RuntimeConfig(parameters=run_parameters(graph, options.raw_data)),
        trigger=V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=to_kfp(cron))),
        no_catchup=True,
        max_concurrency=1,
    )
    content = json.dumps(ApiClient().sanitize_for_serialization(wanted), sort_keys=True)
    wanted.description = MARK + hashlib.sha256(content.encode()).hexdigest()[:16]

    # The new one first, so that there is one at any moment.
    with connect(options.host) as client:
        there = _find_mine(client, options)
        enabled = (run for run in there if run.status == "ENABLED")
        known = next((run for run in enabled if run.description == wanted.description), None)
        if known is None:
            wanted.experiment_id = client.create_experiment(options.recipe_name).experiment_id
            recurring_runs = client._recurring_run_api
            recurring_runs.recurring_run_service_create_recurring_run(recurring_run=wanted)
        for run in there:
            if run is not known:
                client.delete_recurring_run(run.recurring_run_id)

    # What came of it.
    how = "is there already" if known else "replaced" if there else "created"
    print(f"{name}: {describe(cron, 'kfp', 'UTC', UTC)}")
    print(f'{how} on {shown(options.host)}, as cron "{to_kfp(cron)}": ', end="")
    print("one run at a time, none made up for.")
    print("If the server's CRON_SCHEDULE_TIMEZONE is not UTC, the hours are those of that zone.")


def _refuse_what_no_server_does(options: ScheduleOptions) -> None:
    check_raw_data(options.raw_data)
    if options.timezone not in UTC_NAMES:
        raise InputError(
            f"--timezone {options.timezone}: a KFP server goes by its own CRON_SCHEDULE_TIMEZONE, "
            "UTC unless its administrator has set it: leave --timezone out and give its hours."
        )
    for field, flag in OF_THIS_MACHINE.items():
        if getattr(options, field) != ScheduleOptions.model_fields[field].default:
            raise InputError(f"{flag} is for nights on this machine: leave it out with --host.")


def _find_mine(client: Client, options: ScheduleOptions) -> list[V2beta1RecurringRun]:
    """The recurring runs of the schedule's name. Raises InputError for one of somebody else."""
    found = _find(client, options.full_name)
    if not all((run.description or "").startswith(MARK) for run in found):
        raise InputError(
            f"--name {options.full_name} is a recurring run that `pipeline.py schedule` has not "
            "made: choose another name."
        )
    return found


def _find(client: Client, name: str = "") -> list[V2beta1RecurringRun]:
    """All recurring runs, or those of a name."""
    predicate = {"operation": 1, "key": "display_name", "stringValue": name}
    wanted = json.dumps({"predicates": [predicate]}) if name else None
    found, page = [], ""
    while True:
        answer = client.list_recurring_runs(page_token=page, page_size=PAGE_SIZE, filter=wanted)
        found += answer.recurring_runs or []
        page = answer.next_page_token
        if not page:
            return found
