"""A schedule that this process keeps by itself: in a container no systemd and no cron runs."""

import os
import sys
import time
from datetime import UTC, datetime
from typing import NoReturn

from shared.pipeline.processes import Guarded
from shared.pipeline.schedules.cron import starts
from shared.pipeline.schedules.schedule import Schedule, find_zone
from shared.terminal.stopping import keeps

LOOK_S = 30.0  # between two looks at the clock, which somebody may set
GRACE_SECONDS = 150.0  # of a night, which gives its own processes 60, and their guards 10


def keep(schedule: Schedule) -> NoReturn:
    """Start the command of a schedule at its times until a signal ends both; a time that passes
    while it runs is left out."""
    keeps("the nights until now are kept", "the schedule ends with this process")
    _, zone = find_zone(schedule.zone)
    while True:
        start = next(starts(schedule.cron, "cron", zone, datetime.now(UTC)))
        print(f"schedule: the next start is on {start:%a %Y-%m-%d at %H:%M %Z}", flush=True)
        while (left_s := (start - datetime.now(UTC)).total_seconds()) > 0:
            time.sleep(min(left_s, LOOK_S))
        with Guarded(schedule.command, dict(os.environ), GRACE_SECONDS) as night:
            status = night.process.wait()
        print(f"schedule: the night ended with exit code {status}", file=sys.stderr, flush=True)
