"""A schedule as recurring run of a KFP API server, which is found again by its name."""

import hashlib
import json
from datetime import UTC
from typing import TYPE_CHECKING, Any

from shared.errors import InputError
from shared.pipeline.graph import run_parameters
from shared.pipeline.schedules.cron import read_cron, to_kfp
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.schedules.schedule import describe
from shared.pipeline.server.answers import Nothing, RecurringRun
from shared.pipeline.server.client import Server, connect
from shared.pipeline.server.creating import create_once
from shared.pipeline.server.reasons import NoAnswer
from shared.pipeline.server.runs import NOT_FOUND, named
from shared.pipeline.server.submitting import (
    check_raw_data,
    find_or_create_experiment,
    service_account,
    spec_of,
    upload,
)
from shared.servers import said

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

PATH = "recurringruns"
MARK = "by pipeline.py schedule, "  # before the digest, in a description
# Options that no server takes, and their flags.
OF_THIS_MACHINE = {
    "start": "--from",
    "timeout_min": "--timeout-min",
    "runs": "--runs",
    "keep_nights": "--keep-nights",
    "notify": "--notify",
    "foreground": "--foreground",
}
UTC_NAMES = ("", "UTC", "Etc/UTC")


def change(options: ScheduleOptions) -> None:
    """List, disable or delete recurring runs. Raises InputError where there is none of that
    name."""
    with connect(options) as server:
        if options.wish == "list":
            for run in _find(server):
                cron = run.trigger.cron_schedule
                when = f'cron "{cron.cron}"' if cron else "by an interval"
                print(said(f"{run.display_name} ({run.status.lower()}): {when}"))
            return

        name = options.full_name
        found = _find_mine(server, options)
        if not found:
            raise InputError(
                f"--{options.wish}: {server.access.url} has no recurring run {name}: see --list."
            )
        for run in found:
            if options.disable:
                server.ask("POST", f"{PATH}/{run.recurring_run_id}:disable", Nothing)
            else:
                _delete(server, run)
    print(f"{name} is {options.wish}d; a run that is under way goes on.")


def create(options: ScheduleOptions, graph: "GraphComponent") -> None:
    """Make the recurring run of a built graph, in the place of those of its name; one that is as
    wanted stays. Missed starts are not made up for, and two runs never overlap.

    Raises InputError for what the server cannot do, and where it does not answer as one.
    """
    # What, and when: the zone of a server cannot be asked for. A night trains and measures anew.
    name, cron = options.full_name, read_cron(options.cron)
    _refuse_what_no_server_does(options)
    wanted = {
        "display_name": name,
        "mode": "ENABLE",
        "runtime_config": {"parameters": run_parameters(graph, options.raw_data)},
        "trigger": {"cron_schedule": {"cron": to_kfp(cron)}},
        "no_catchup": True,
        "max_concurrency": "1",
    } | service_account(options)

    with connect(options) as server:
        # The pipeline in this version, whose page shows it; earlier schedules have a graph of their
        # own.
        there = _find_mine(server, options)
        version = upload(server, options.recipe_name, spec_of(graph, "data"))
        wanted["pipeline_version_reference"] = version
        content = json.dumps(wanted | {"experiment": options.experiment}, sort_keys=True)
        wanted["description"] = MARK + hashlib.sha256(content.encode()).hexdigest()[:16]

        # The new one first, so that there is one at any moment.
        old = {run.recurring_run_id for run in there}
        as_wanted = (run for run in there if run.description == wanted["description"])
        known = next((run for run in as_wanted if run.status == "ENABLED"), None)
        if known is None:
            experiment = find_or_create_experiment(
                server, options.experiment or options.recipe_name
            )
            wanted["experiment_id"] = experiment.experiment_id
            made = _create(server, options, wanted, old)

        # Of those that were made at the same moment, here and elsewhere, all keep the newest.
        now = _find_mine(server, options)
        new = [run for run in now if run.recurring_run_id not in old]
        kept = max([known or made, *new], key=_age)
        for run in now:
            if run.recurring_run_id != kept.recurring_run_id:
                _delete(server, run)

    # What came of it.
    how = "is there already" if known else "replaced" if there else "created"
    print(f"{name}: {describe(cron, 'kfp', 'UTC', UTC)}")
    print(f'{how} on {server.access.url}, as cron "{to_kfp(cron)}": ', end="")
    print("one run at a time, none made up for.")
    print("If the server's CRON_SCHEDULE_TIMEZONE is not UTC, the hours are those of that zone.")


def _create(
    server: Server, options: ScheduleOptions, wanted: dict[str, Any], old: set[str]
) -> RecurringRun:
    def find() -> RecurringRun | None:
        new = (run for run in _find(server, options.full_name) if run.recurring_run_id not in old)
        return next((run for run in new if run.description == wanted["description"]), None)

    return create_once(lambda: server.ask("POST", PATH, RecurringRun, body=wanted), find)


def _age(run: RecurringRun) -> tuple[float, str]:
    return run.created_at.timestamp() if run.created_at else 0.0, run.recurring_run_id


def _delete(server: Server, run: RecurringRun) -> None:
    """Somebody else may have been faster."""
    try:
        server.ask("DELETE", f"{PATH}/{run.recurring_run_id}", Nothing)
    except NoAnswer as failed:
        if not (failed.status == NOT_FOUND and failed.is_of_api):
            raise


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


def _find_mine(server: Server, options: ScheduleOptions) -> list[RecurringRun]:
    """The recurring runs of the schedule's name. Raises InputError for one of somebody else."""
    found = _find(server, options.full_name)
    if not all(run.description.startswith(MARK) for run in found):
        raise InputError(
            f"--name {options.full_name} is a recurring run that `pipeline.py schedule` has not "
            "made: choose another name."
        )
    return found


def _find(server: Server, name: str = "") -> list[RecurringRun]:
    """All recurring runs, or those of a name."""
    asked = {"filter": named(name)} if name else {}
    return list(
        server.pages(PATH, "recurringRuns", RecurringRun, namespace=server.namespace, **asked)
    )
