"""Cron's five fields, against a slow twin that looks at every minute."""

import functools
import itertools
import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.pipeline.schedules.cron import (
    NICKNAMES,
    read_cron,
    skipped_starts,
    starts,
    to_calendars,
    to_kfp,
)
from tests.asking import refusal

BERLIN = ZoneInfo("Europe/Berlin")  # 2027-03-28 02:00 -> 03:00, 2027-10-31 03:00 -> 02:00
SPRING = datetime(2027, 3, 20, 12, tzinfo=BERLIN)
AUTUMN = datetime(2027, 10, 24, 12, tzinfo=BERLIN)
DAYS = 9
EXPRESSIONS = [
    "0 2 * * *",
    "30 2 * * *",
    "59 1 * * *",
    "0,30 1-3 * * *",
    "*/20 * * * *",
    "30 * * * *",
    "*/7 2 * * *",
    "15 */5 * * *",
    "0 2 * * 7",
    "0 2 * * Sun",
    "0 2 * * sat,0",
    "5 4 * * 5-7",
    "0 3 * Mar-APR,nov *",
    "30 2 28,31 * *",
    "30 2 13,27 * 5",
    "30 2 */2 * 0",
    "30 2 27-31 * */3",
    "30 2-2/5 * * */7",
    "30 2 1-31 * 1",
    "30 2 13 * 1-7",
    "10-50/20 2-23/7 1,30,31 3,4,10,11 mon-wed",
    *NICKNAMES,
]


# The twin.


def allowed(field: str, first: int, last: int, names: str) -> set[int]:
    """The numbers of a field, by the words of crontab(5)."""
    for place, name in enumerate(names.split()):
        field = field.lower().replace(name, str(place + first))
    found = set()
    for term in field.split(","):
        bounds, _, step = term.partition("/")
        low, _, high = bounds.partition("-")
        low, high = (first, last) if low == "*" else (int(low), int(high or low))
        found |= {n for n in range(low, high + 1) if (n - low) % int(step or 1) == 0}
    return found


@functools.cache
def read_slowly(text: str) -> tuple[list[set[int]], bool]:
    """The numbers of the five fields, and whether both days must fit."""
    fields = NICKNAMES.get(text, text).split()
    months = "jan feb mar apr may jun jul aug sep oct nov dec"
    bounds = ((0, 59, ""), (0, 23, ""), (1, 31, ""), (1, 12, months))
    sets = [allowed(field, *ends) for field, ends in zip(fields, bounds, strict=False)]
    sets.append(allowed(fields[4], 0, 7, "sun mon tue wed thu fri sat"))
    return sets, "*" in (fields[2][0], fields[4][0])


def fits(text: str, wall: datetime) -> bool:
    (minutes, hours, days, months, weekdays), both = read_slowly(text)
    if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
        return False
    of_month = wall.day in days
    of_week = wall.isoweekday() in weekdays or wall.isoweekday() % 7 in weekdays
    return of_month and of_week if both else of_month or of_week


@functools.cache
def minutes_of(zone, after: datetime) -> list[datetime]:
    """Every minute of some days, as it passes."""
    first = after.astimezone(UTC)
    counts = range(1, DAYS * 24 * 60)
    return [(first + timedelta(minutes=count)).astimezone(zone) for count in counts]


def slow_starts(text: str, scheduler: str, zone, after: datetime) -> list[datetime]:
    """What a scheduler that looks at the clock every minute would do, by its documentation."""
    minute, hour = NICKNAMES.get(text, text).split()[:2]
    by_the_clock = scheduler == "cron" and "*" in minute[0] + hour[0]
    found, last, seen = [], after, set()
    for now in minutes_of(zone, after):
        wall = now.replace(tzinfo=None, fold=0)
        jumped = wall - last.replace(tzinfo=None) > timedelta(minutes=1)
        if fits(text, wall) and (by_the_clock or wall not in seen):
            found.append(now)
        elif jumped and scheduler == "cron" and not by_the_clock:
            missed = (wall - timedelta(minutes=count) for count in range(1, 61))
            if any(fits(text, one) for one in missed):
                found.append(now)
        seen.add(wall)
        last = now
    return found


def until(times: Iterator[datetime], after: datetime) -> list[datetime]:
    end = after.astimezone(UTC) + timedelta(days=DAYS)
    return list(itertools.takewhile(lambda time: time.astimezone(UTC) < end, times))


def instants(times: list[datetime]) -> list[str]:
    """As text, since equal times on the wall count as equal times in Python."""
    return [time.isoformat() for time in times]


def random_expressions(count: int) -> list[str]:
    """Five fields: a star, or at most two terms."""
    some = random.Random(7)

    def field(first: int, last: int) -> str:
        step = some.choice((2, 3, 5, 7))
        if some.random() < 0.4:
            return some.choice(("*", f"*/{step}"))
        ends = [
            sorted(some.choices(range(first, last + 1), k=2)) for _ in range(some.randint(1, 2))
        ]
        forms = ("{0}", "{0}-{1}", "{0}-{1}/{2}")
        return ",".join(some.choice(forms).format(low, high, step) for low, high in ends)

    bounds = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    return [" ".join(field(*ends) for ends in bounds) for _ in range(count)]


@pytest.mark.parametrize("after", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_start_times_are_those_of_a_scheduler_that_looks_every_minute(text, after):
    cron = read_cron(text)
    for scheduler in ("cron", "systemd"):
        found = until(starts(cron, scheduler, BERLIN, after), after)
        assert instants(found) == instants(slow_starts(text, scheduler, BERLIN, after)), scheduler
    in_utc = until(starts(cron, "kfp", UTC, after), after)
    assert in_utc == [now for now in minutes_of(UTC, after) if fits(text, now)]


def test_a_time_that_is_not_there_and_one_that_is_there_twice():
    """Of the night of the change itself, in words."""
    nightly = read_cron("30 2 * * *")
    before, after = datetime(2027, 3, 28, tzinfo=BERLIN), datetime(2027, 10, 31, tzinfo=BERLIN)
    first = lambda scheduler, day: next(starts(nightly, scheduler, BERLIN, day)).isoformat()  # noqa: E731
    assert first("cron", before) == "2027-03-28T03:00:00+02:00"
    assert first("systemd", before) == "2027-03-29T02:30:00+02:00"
    skipped = [datetime(2027, 3, 28, 2, 30), datetime(2028, 3, 26, 2, 30)]
    assert skipped_starts(nightly, BERLIN, before) == skipped
    for scheduler in ("cron", "systemd"):
        times = list(itertools.islice(starts(nightly, scheduler, BERLIN, after), 2))
        assert instants(times) == ["2027-10-31T02:30:00+02:00", "2027-11-01T02:30:00+01:00"]
    second_time = datetime(2027, 10, 31, 2, 10, tzinfo=BERLIN, fold=1)
    assert next(starts(nightly, "systemd", BERLIN, second_time)).day == 1
    assert skipped_starts(read_cron("30 2 * * 1"), BERLIN, before) == []
    assert skipped_starts(nightly, UTC, before) == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
@pytest.mark.parametrize("after", [SPRING, AUTUMN], ids=["spring", "autumn"])
def test_systemd_reads_the_calendar_as_cron_reads_its_fields(after):
    for text in [*EXPRESSIONS, *random_expressions(10)]:
        cron, count = read_cron(text), 25
        found = set()
        for line in to_calendars(cron, "Europe/Berlin"):
            base = f"{after.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            asked = ["systemd-analyze", "calendar", f"--iterations={count}", "--base-time", base]
            said = subprocess.run([*asked, line], capture_output=True, text=True, check=True).stdout
            lines = (one.partition(": ")[2].strip() for one in said.splitlines())
            shown = [one for one in lines if one.endswith(" UTC")]
            found |= {datetime.strptime(one, "%a %Y-%m-%d %H:%M:%S UTC") for one in shown}
        wanted = itertools.islice(starts(cron, "systemd", BERLIN, after), count)
        naive = [time.astimezone(UTC).replace(tzinfo=None) for time in wanted]
        assert sorted(found)[:count] == naive, text


# KFP's fields, by the documentation of robfig/cron 1.2.


@functools.cache
def read_kfp(text: str) -> tuple[list[str], list[set[int]]]:
    bounds = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    fields = text.split()
    assert len(fields) == 6
    sets = [allowed(field, *ends, "") for field, ends in zip(fields, bounds, strict=True)]
    for found, (first, last) in zip(sets, bounds, strict=True):
        assert min(found) >= first and max(found) <= last, "robfig/cron refuses it"
    return fields, sets


def fits_kfp(text: str, wall: datetime) -> bool:
    """Six fields: seconds, minutes, hours, days, months, weekdays 0-6."""
    fields, sets = read_kfp(text)
    starred = any("*" in term for field in (fields[3], fields[5]) for term in field.split(","))
    days = (wall.day in sets[3], wall.isoweekday() % 7 in sets[5])
    numbers = (wall.second, wall.minute, wall.hour, wall.month)
    fit = all(number in sets[place] for number, place in zip(numbers, (0, 1, 2, 4), strict=True))
    return fit and (all(days) if starred else any(days))


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_kfp_starts_at_the_times_of_the_five_fields(text):
    translated = to_kfp(read_cron(text))
    minutes = minutes_of(UTC, SPRING)
    found = [now for now in minutes if fits_kfp(translated, now)]
    assert found == [now for now in minutes if fits(text, now)]


def test_translations_that_are_known():
    nightly = read_cron("0 2 * * *")
    assert to_kfp(nightly) == "0 0 2 * * *"
    assert to_calendars(nightly, "Europe/Berlin") == ["*-*-* 02:00:00 Europe/Berlin"]
    assert to_kfp(read_cron("30 2 * * 1-5")) == "0 30 2 * * 1,2,3,4,5"
    assert to_kfp(read_cron("0 2 * * 7")) == "0 0 2 * * 0"
    assert to_calendars(read_cron("0 2 13 * fri")) == [
        "*-*-13 02:00:00",
        "Fri *-*-* 02:00:00",
    ], "one of the two days suffices"
    assert read_cron(" 0  2 * jan-MAR sun,Wed").text == "0 2 * 1-3 0,3"


@pytest.mark.parametrize(
    "given, said",
    [
        ("0 25 * * *", "'25' is no possible hour"),
        ("60 2 * * *", "'60' is no possible minute"),
        ("0 2 0 * *", "'0' is no possible day-of-month"),
        ("0 2 30 2 *", "'30' is no possible day-of-month"),
        ("0 2 * 13 *", "'13' is no possible month"),
        ("0 2 * * 8", "'8' is no possible day-of-week"),
        ("0 2 * * fri-sun", "is no possible day-of-week"),
        ("*/0 2 * * *", "'*/0' is no possible minute"),
        ("0 2 L * *", "is no day-of-month"),
        ("0 2 * * 1#2", "is no day-of-week"),
        ("0 2 ? * *", "is no day-of-month"),
        ("0 2,, * * *", "is no hour"),
        ("0 2 */2,5 * 1", "'*/2' is no day-of-month: write * or */15 alone"),
        ("5/15 * * * *", "has a step but no range: write 5-59/15"),
        ("0 0 2 * * *", "six fields, but cron knows no seconds: leave out the first, --cron '0 2"),
        ("0 2 * *", "has 4 fields, not the five minute"),
        ("", "has 0 fields"),
        ("@reboot", "choose one of @hourly"),
    ],
)
def test_what_is_no_cron_is_refused_in_one_sentence(given, said):
    assert said in refusal(read_cron, given)
