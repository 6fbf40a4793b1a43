"""Cron's five fields: checked, as times, and in the words of every scheduler.

The rule is that of crontab(5), with names, steps and @daily; cronsim reads it as Debian's cron
does. Where neither day field begins with a star, one of the two suffices.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal

from cronsim import CronSim, CronSimError

from shared.errors import InputError

FIELDS = {"minute": 59, "hour": 23, "day-of-month": 31, "month": 12, "day-of-week": 7}  # the last
EXAMPLE = 'write for example --cron "0 2 * * *", which is every day at 02:00'
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
WEEKDAYS = "sun mon tue wed thu fri sat".split()
STAR = re.compile(r"\*(/\d{1,4})?")  # a field by itself: beside others in a list crons disagree
TERM = re.compile(r"\d{1,4}(-\d{1,4}(/\d{1,4})?)?")  # of a list in a field

# What a scheduler does when a change of the clock skips a time or brings it twice; measured with
# systemd 252 and robfig/cron 1.2, which is KFP's; that of cron stands in cron(8). KFP would start
# twice what is there twice, but its own zone is UTC unless its administrator changed that.
Scheduler = Literal["cron", "systemd", "kfp"]


@dataclass(frozen=True)
class Cron:
    """When something starts, to the minute."""

    text: str  # five fields, names as numbers
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    either_day: bool  # whether a day of the month or one of the week suffices
    explanation: str


def read_cron(given: str) -> Cron:
    """Read five fields, or a nickname such as @daily. Raises InputError."""
    # Five fields, in numbers.
    text = NICKNAMES.get(given.strip().lower(), given.strip())
    fields = text.lower().split()
    if text.startswith("@"):
        raise InputError(f"--cron {given!r}: choose one of {', '.join(NICKNAMES)}, or {EXAMPLE}.")
    if len(fields) == 6:
        raise InputError(
            f"--cron {given!r} has six fields, but cron knows no seconds: leave out the first, "
            f"--cron {' '.join(fields[1:])!r}."
        )
    if len(fields) != 5:
        raise InputError(
            f"--cron {given!r} has {len(fields)} fields, not the five {', '.join(FIELDS)}: "
            f"{EXAMPLE}."
        )
    fields[3] = _names_to_numbers(fields[3], MONTHS, first=1)
    fields[4] = _names_to_numbers(fields[4], WEEKDAYS, first=0)

    # What cronsim knows besides, and what crons read in different ways, is refused.
    for place, (name, last) in enumerate(FIELDS.items()):
        terms = [] if STAR.fullmatch(fields[place]) else fields[place].split(",")
        for term in terms:
            if re.fullmatch(r"\d+/\d+", term):
                start, step = term.split("/")
                raise InputError(
                    f"--cron {given!r}: {term!r} has a step but no range: write "
                    f"{start}-{last}/{step}."
                )
            if not TERM.fullmatch(term):
                raise InputError(
                    f"--cron {given!r}: {term!r} is no {name}: write * or */15 alone, or a list of "
                    "numbers, names and ranges such as 1,3-5,10-20/2."
                )
        # cronsim takes a range of one with a step for an open one.
        fields[place] = re.sub(r"\b(\d+)-\1/\d+", r"\1", fields[place])

    # What it means.
    text = " ".join(fields)
    try:
        simulated = CronSim(text, datetime(2000, 1, 1))
        next(simulated)
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        found = fields[list(FIELDS).index(name)]
        raise InputError(f"--cron {given!r}: {found!r} is no possible {name}: {EXAMPLE}.") from None
    except StopIteration:
        raise InputError(f"--cron {given!r}: there is no such day: {EXAMPLE}.") from None
    weekdays = frozenset(day % 7 for day in simulated.weekdays)
    if not simulated.day_and and (len(simulated.days) == 31 or len(weekdays) == 7):
        return read_cron(" ".join([*fields[:2], "*", fields[3], "*"]))
    return Cron(
        text=text,
        minutes=frozenset(simulated.minutes),
        hours=frozenset(simulated.hours),
        days=frozenset(simulated.days),
        months=frozenset(simulated.months),
        weekdays=weekdays,
        either_day=not simulated.day_and,
        explanation=simulated.explain(),
    )


def _names_to_numbers(field: str, names: list[str], first: int) -> str:
    """Numbers for the names of a field, which not every cron takes in ranges and lists."""
    numbers = {name: str(first + place) for place, name in enumerate(names)}
    return re.sub(r"[a-z]+", lambda word: numbers.get(word[0], word[0]), field)


# Times.


def starts(cron: Cron, scheduler: Scheduler, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """The times at which a scheduler of a time zone starts, later than `after`, in that zone.

    A time that a change of the clock skips is left out by systemd, and made up for by cron right
    after the change. Of a time that comes twice both take the first.
    """
    after = after.astimezone(zone)
    if scheduler == "cron" or zone is UTC:
        yield from CronSim(cron.text, after)
        return
    # Times on the wall, of which some are none. A day earlier, as an hour may come twice.
    for wall in CronSim(cron.text, after.replace(tzinfo=None) - timedelta(days=1)):
        start = wall.replace(tzinfo=zone)
        if start.astimezone(UTC) > after and not _is_skipped(wall, zone):
            yield start


def skipped_starts(cron: Cron, zone: tzinfo, after: datetime) -> list[datetime]:
    """The times of the next year that a change of the clock skips, without a time zone."""
    today = after.astimezone(zone).date()
    skipped = []
    for day in (today + timedelta(days=count) for count in range(366)):
        if _clock(day, zone) == _clock(day + timedelta(days=1), zone):
            continue
        midnight = datetime(day.year, day.month, day.day)
        minutes = (midnight + timedelta(minutes=count) for count in range(24 * 60))
        skipped += [
            wall
            for wall in minutes
            if wall.minute in cron.minutes and wall.hour in cron.hours
            if _is_skipped(wall, zone) and _has_day(cron, day)
        ]
    return skipped


def _clock(day: date, zone: tzinfo) -> timedelta:
    return datetime(day.year, day.month, day.day, tzinfo=zone).utcoffset()


def _is_skipped(wall: datetime, zone: tzinfo) -> bool:
    there_and_back = wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)
    return there_and_back.replace(tzinfo=None) != wall


def _has_day(cron: Cron, day: date) -> bool:
    fits = (day.day in cron.days, day.isoweekday() % 7 in cron.weekdays)
    return day.month in cron.months and (any(fits) if cron.either_day else all(fits))


# The words of other schedulers.


def to_kfp(cron: Cron) -> str:
    """KFP's six fields: seconds first, Sunday is 0 only, the rule of the days is the same.

    Of five fields KFP would take the first for seconds, without a word.
    """
    *fields, weekdays = cron.text.split()
    if not weekdays.startswith("*"):
        weekdays = ",".join(map(str, sorted(cron.weekdays)))
    return " ".join(["0", *fields, weekdays])


def to_calendars(cron: Cron, zone: str = "") -> list[str]:
    """Values of OnCalendar= of a systemd timer, one for each rule of the days.

    Args:
        zone: Name of a time zone; empty: that of the machine.
    """
    time = f"{_ranges(cron.hours, range(24))}:{_ranges(cron.minutes, range(60))}:00"
    months, days = _ranges(cron.months, range(1, 13)), _ranges(cron.days, range(1, 32))
    week = "" if len(cron.weekdays) == 7 else _week(cron.weekdays)
    if not cron.either_day:
        expressions = [f"{week} *-{months}-{days} {time}"]
    else:
        expressions = [f"*-{months}-{days} {time}", f"{week} *-{months}-* {time}"]
    return [f"{expression} {zone}".strip() for expression in expressions]


def _week(weekdays: frozenset[int]) -> str:
    return ",".join(WEEKDAYS[day].capitalize() for day in sorted(weekdays))


def _ranges(numbers: frozenset[int], every: range) -> str:
    """`1,3..5` in two digits; `*` for all that there are."""
    if numbers == frozenset(every):
        return "*"
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]:02}..{run[-1]:02}" if len(run) > 1 else f"{run[0]:02}" for run in runs
    )
