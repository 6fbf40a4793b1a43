"""What is scheduled, whoever starts it: a command, its times, and a name that stands for both."""

import itertools
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.errors import InputError
from shared.pipeline.schedules.cron import Cron, Scheduler, skipped_starts, starts
from shared.servers import patience_s

PIPELINE = Path(__file__).resolve().parents[3] / "pipeline.py"
MARK = "# of `pipeline.py schedule`, which changes it:"  # before name and pipeline.py
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
ZONE = re.compile(r"[A-Za-z0-9_+/-]{1,64}")


@dataclass(frozen=True)
class Schedule:
    """A command that starts at the times of a cron expression."""

    name: str
    cron: Cron
    zone: str  # name of a time zone, '' = that of the machine
    arguments: list[str]  # of pipeline.py
    folder: Path  # where it starts, in which relative paths are meant
    log: Path  # what it prints, where nobody else keeps that
    timeout_min: float  # after which it ends by itself; 0 = never

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(PIPELINE), *self.arguments]

    @property
    def mark(self) -> str:
        """A comment by which it is found again."""
        return f"{MARK} {self.name} {PIPELINE}"


@dataclass(frozen=True)
class Scheduled:
    """A schedule that is there."""

    name: str
    pipeline: str  # the pipeline.py that made it, '' = not known
    enabled: bool
    what: str  # when, and which command

    def refuse_other_checkout(self) -> None:
        """Raises InputError where another checkout has made it."""
        if self.pipeline not in ("", str(PIPELINE)):
            raise InputError(
                f"--name {self.name} is a schedule of {self.pipeline}: choose another name, or "
                "delete that one from there."
            )


def answer_of(*command: str, told: str | None = None) -> subprocess.CompletedProcess:
    """What a program of the system answers. Raises InputError where it does not."""
    limit_s = patience_s()
    try:
        return subprocess.run(
            command, input=told, capture_output=True, text=True, errors="replace", timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"`{' '.join(command)}` gives no answer in {limit_s:g} s: look why it hangs, and say "
            "the same command again."
        ) from None


def check_name(name: str) -> str:
    """Raises InputError for what cannot name a unit."""
    if not NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: use letters, digits, dots and hyphens.")
    return name


def read_mark(line: str) -> tuple[str, str] | None:
    """(name, pipeline.py) of a comment made by `Schedule.mark`; None for any other line."""
    if not line.startswith(MARK):
        return None
    name, _, pipeline = line.removeprefix(MARK).strip().partition(" ")
    return name, pipeline


# Time zones.


def local_zone() -> tuple[str, tzinfo]:
    """The name and the rules of the machine's time zone, which systemd and cron go by."""
    clock = Path("/etc/localtime")
    if not clock.exists():
        return "UTC", UTC
    name = os.path.realpath(clock).rpartition("zoneinfo/")[2]
    with open(clock, "rb") as rules:
        return name.removeprefix("/etc/"), ZoneInfo.from_file(rules, key=name)


def find_zone(name: str) -> tuple[str, tzinfo]:
    """The name and the rules of a time zone; of the machine's for ''. Raises InputError."""
    if not name:
        return local_zone()
    try:
        if not ZONE.fullmatch(name):
            raise ValueError
        return name, ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(
            f"--timezone {name!r} is unknown here: write for example Europe/Berlin."
        ) from None


def describe(cron: Cron, scheduler: Scheduler, zone_name: str, zone: tzinfo) -> str:
    """When it starts: in words, the next three times, and nights that a change of the clock takes
    away."""
    now = datetime.now(UTC)
    times = itertools.islice(starts(cron, scheduler, zone, now), 3)
    lines = [f"{cron.explanation}, {zone_name} time ({cron.text})"]
    lines += [f"    {time:%a %Y-%m-%d %H:%M} {time.tzname()}" for time in times]
    # A day that loses its only starts; one of many is no loss.
    for lost in skipped_starts(cron, zone, now) if scheduler == "systemd" else ():
        midnight = lost.replace(hour=0, minute=0, tzinfo=zone) - timedelta(minutes=1)
        if next(starts(cron, scheduler, zone, midnight)).date() != lost.date():
            lines.append(
                f"On {lost:%Y-%m-%d} there is no {lost:%H:%M}: systemd does not start then."
            )
    return "\n".join(lines)
