"""A schedule as recurring run of a KFP API server, which is found again by its name."""

import hashlib
import json
import tempfile
from datetime import UTC
from pathlib import Path
from typing import Any

import yaml
from kfp import Client
from kfp.dsl.graph_component import GraphComponent
from kfp_server_api import V2beta1RecurringRun

from shared.errors import InputError
from shared.pipeline.graph import write_yaml
from shared.pipeline.schedules.cron import read_cron, to_kfp
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.schedules.schedule import describe
from shared.pipeline.server import check_raw_data, connect, shown

MARK = "by pipeline.py schedule, "  # before the digest, in a description
OF_THIS_MACHINE = ("timeout_min", "runs")  # flags that no server takes
KEPT = {"prepare"}  # tasks that a cache may spare: a night is there to train and to measure
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
                print(f"{run.display_name} ({run.status.lower()}): {when}")
            return

        name = options.full_name
        found = _find(client, name)
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


def create(options: ScheduleOptions, graph: GraphComponent, config: dict[str, Any]) -> None:
    """Make the recurring run of a built graph, in the place of those of its name; one that is as
    wanted stays. Missed starts are not made up for, and two runs never overlap.

    Args:
        config: The complete config of every step.

    Raises InputError for what the server cannot do, and where it does not answer as one.
    """
    # What, and when: the zone of a server cannot be asked for.
    name, cron = options.full_name, read_cron(options.cron)
    _refuse_what_no_server_does(options)
    arguments = {"raw_data": options.raw_data, **config}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        spec = _without_caching(graph, file)
        wanted = json.dumps([to_kfp(cron), arguments, spec], sort_keys=True)
        mark = MARK + hashlib.sha256(wanted.encode()).hexdigest()[:16]

        # The new one first, so that there is one at any moment.
        with connect(options.host) as client:
            there = _find(client, name)
            known = [run for run in there if run.description == mark and run.status == "ENABLED"]
            if not known:
                experiment = client.create_experiment(options.recipe).experiment_id
                client.create_recurring_run(
                    experiment,
                    name,
                    description=mark,
                    cron_expression=to_kfp(cron),
                    max_concurrency=1,
                    no_catchup=True,
                    params=arguments,
                    pipeline_package_path=str(file),
                )
            for run in there:
                if run not in known[:1]:
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
    for field in OF_THIS_MACHINE:
        if getattr(options, field) != ScheduleOptions.model_fields[field].default:
            flag = f"--{field.replace('_', '-')}"
            raise InputError(f"{flag} is for nights on this machine: leave it out with --host.")


def _without_caching(graph: GraphComponent, file: Path) -> dict[str, Any]:
    """Write a graph whose tasks run anew, but for those in KEPT, and return it."""
    write_yaml(graph, file, "by `python pipeline.py schedule`")
    spec, *platforms = yaml.safe_load_all(file.read_text())
    for name, task in spec["root"]["dag"]["tasks"].items():
        if name not in KEPT:
            task.pop("cachingOptions", None)
    file.write_text(yaml.safe_dump_all([spec, *platforms]))
    return spec


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
