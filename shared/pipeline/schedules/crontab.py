"""A schedule as line of the user's crontab."""

import contextlib
import shlex
import shutil

import psutil

from shared.errors import InputError
from shared.pipeline.schedules.schedule import Schedule, Scheduled, answer_of, read_mark
from shared.servers import said

DAEMONS = {"cron", "crond", "fcron", "bcron-sched", "busybox"}
LONGEST_LINE = 998  # of Debian's cron
OFF = "#off "  # before the line of a disabled schedule


def is_there() -> bool:
    return shutil.which("crontab") is not None


def lines_of(schedule: Schedule) -> list[str]:
    """The comment that names it, and the line. Raises InputError for one that cron would cut."""
    folder, log = shlex.quote(str(schedule.folder)), shlex.quote(str(schedule.log))
    # cron makes a line's end of every % that has no backslash.
    command = f"cd {folder} && {shlex.join(schedule.command)} >> {log} 2>&1".replace("%", "\\%")
    line = f"{schedule.cron.text} {command}"
    if "\n" in line:
        raise InputError("a crontab takes no argument of several lines: put it into a file.")
    if len(line) > LONGEST_LINE:
        raise InputError(
            f"the line would have {len(line)} characters, and cron takes {LONGEST_LINE}: use "
            "shorter paths, or put the numbers of --set into a recipe."
        )
    return [schedule.mark, line]


def find() -> list[Scheduled]:
    """The schedules that are there."""
    lines = _read()
    found = []
    for place, line in enumerate(lines):
        if (marked := read_mark(line)) and place + 1 < len(lines):
            what = lines[place + 1]
            found.append(Scheduled(*marked, not what.startswith(OFF), what.removeprefix(OFF)))
    return found


def install(schedule: Schedule) -> None:
    """Write the line; the one of this name is replaced, all others stay."""
    new = lines_of(schedule)
    with contextlib.suppress(OSError):
        schedule.log.touch(mode=0o600)  # cron would let all read it
    _write([*_without(schedule.name), *new])
    print("installed a line in your crontab")
    print("  crontab -l                                shows it")
    print(f"  tail {schedule.log}   what it said")
    names = {process.info["name"] for process in psutil.process_iter(["name"])}
    if not names & DAEMONS:
        print(
            "No cron daemon is running: nothing starts before you start it (`service cron start`)."
        )


def disable(name: str) -> None:
    """Keep the line, which starts nothing."""
    lines = _read()
    for place, line in enumerate(lines[:-1]):
        if (read_mark(line) or ("",))[0] == name and not lines[place + 1].startswith(OFF):
            lines[place + 1] = OFF + lines[place + 1]
    _write(lines)


def delete(name: str) -> None:
    """Remove the line; what runs now goes on."""
    _write(_without(name))


def _without(name: str) -> list[str]:
    """All lines but those of a schedule."""
    lines, kept = iter(_read()), []
    for line in lines:
        if (read_mark(line) or ("",))[0] == name:
            next(lines, None)
        else:
            kept.append(line)
    return kept


def _read() -> list[str]:
    """The crontab; none where the user has none. Raises InputError where it cannot be read: what
    would be written then would lose its lines."""
    if not is_there():
        return []
    done = answer_of("crontab", "-l")
    none_yet = ("no crontab for", "No such file or directory")  # Vixie's and busybox's
    if done.returncode and not any(words in done.stderr for words in none_yet):
        reason = said(" ".join(done.stderr.split())).removesuffix(".")
        raise InputError(f"`crontab -l` failed: {reason or 'no reason was given'}.")
    return done.stdout.splitlines() if done.returncode == 0 else []


def _write(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    done = answer_of("crontab", "-", told=text)
    if done.returncode:
        reason = said(" ".join(done.stderr.split())).removesuffix(".")
        raise InputError(f"`crontab -` refused the line: {reason or 'no reason was given'}.")
