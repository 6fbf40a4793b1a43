"""A schedule as timer of the user's systemd."""

import getpass
import os
import re
import shutil
import subprocess
from pathlib import Path

from shared.errors import InputError
from shared.pipeline.schedules.cron import to_calendars
from shared.pipeline.schedules.schedule import Schedule, Scheduled, answer_of, read_mark
from shared.servers import said

SERVICE = """\
{mark}
[Unit]
Description=pix2pixHD pipeline: {name}

[Service]
Type=oneshot
WorkingDirectory={folder}
ExecStart={command}
# MLFLOW_TRACKING_URI, what CANN's set_env.sh sets, and the like; it need not be there.
EnvironmentFile=-%h/.config/pix2pixhd.env
# The command ends by itself before; systemd steps in only when it does not, and then leaves no
# process behind.
TimeoutStartSec={limit}
# Steps and MLflow's runs get a minute for their end, the command of --notify another.
TimeoutStopSec=3min
KillMode=control-group
"""
TIMER = """\
{mark}
[Unit]
Description=pix2pixHD pipeline: when {name} starts

[Timer]
{calendars}
# A start that the machine slept through is made up for.
Persistent=true

[Install]
WantedBy=timers.target
"""
PLAIN = re.compile(r"[\w./=,-]+")  # words that need no quotes
MARGIN_MIN = 15  # between the end that a command sets itself, and systemd's


def is_running() -> bool:
    """Whether there is a systemd of this user that would start it."""
    if not shutil.which("systemctl"):
        return False
    return _systemctl("show", "--property=Version", check=False).returncode == 0


def units_of(schedule: Schedule) -> dict[str, str]:
    """Name and text of the two units."""
    calendars = to_calendars(schedule.cron, schedule.zone)
    limit = f"{round(schedule.timeout_min + MARGIN_MIN)}min" if schedule.timeout_min else "infinity"
    parts = {
        "mark": schedule.mark,
        "name": schedule.name,
        "folder": str(schedule.folder).replace("%", "%%"),
        # The colon keeps systemd from looking for $variables.
        "command": ":" + " ".join(map(_quoted, schedule.command)),
        "limit": limit,
        "calendars": "\n".join(f"OnCalendar={calendar}" for calendar in calendars),
    }
    return {
        f"{schedule.name}.service": SERVICE.format(**parts),
        f"{schedule.name}.timer": TIMER.format(**parts),
    }


def _quoted(word: str) -> str:
    """A word of ExecStart=: specifiers begin with %, in quotes a backslash escapes."""
    if PLAIN.fullmatch(word):
        return word
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("%", "%%")):
        word = word.replace(character, written)
    return f'"{word}"'


def folder_of_units() -> Path:
    configuration = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(configuration) / "systemd" / "user"


def find() -> list[Scheduled]:
    """The schedules that are there, also where no systemd runs now."""
    found = []
    for timer in sorted(folder_of_units().glob("*.timer")):
        text = timer.read_text(errors="replace")
        if marked := read_mark(text.partition("\n")[0]):
            service = timer.with_suffix(".service")
            lines = [*text.splitlines(), *service.read_text(errors="replace").splitlines()]
            wanted = ("OnCalendar=", "ExecStart=:")
            what = [line.partition("=")[2] for line in lines if line.startswith(wanted)]
            link = timer.parent / "timers.target.wants" / timer.name
            found.append(Scheduled(*marked, link.is_symlink(), "; ".join(what)))
    return found


def install(schedule: Schedule) -> None:
    """Write, enable and start the timer; the one of this name is replaced.

    Raises InputError where the units cannot be written or systemd does not take them.
    """
    folder = folder_of_units()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units_of(schedule).items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(text)
    except OSError as error:
        raise InputError(f"{error.filename} cannot be written: {error.strerror}.") from None
    _systemctl("daemon-reload")
    # A timer that runs already keeps its old times until it starts anew.
    _systemctl("enable", f"{schedule.name}.timer")
    _systemctl("restart", f"{schedule.name}.timer")

    print(f"installed {folder / schedule.name}.service and .timer")
    print(f"  systemctl --user list-timers {schedule.name}.timer   when it starts next")
    print(f"  systemctl --user start {schedule.name}.service       starts it now")
    print(f"  journalctl --user -u {schedule.name}                 what it said")
    if not _lingers():
        print("It starts only while you are logged in; `loginctl enable-linger` changes that.")


def _lingers() -> bool:
    if not shutil.which("loginctl"):
        return True
    asked = ["loginctl", "show-user", getpass.getuser(), "--property=Linger", "--value"]
    return answer_of(*asked).stdout.strip() != "no"


def disable(name: str) -> None:
    """Keep the timer, which starts no more; what runs now goes on."""
    _systemctl("disable", "--now", f"{name}.timer")


def delete(name: str) -> None:
    """Stop the timer and remove both units; what runs now goes on."""
    if is_running():
        disable(name)
    for unit in (f"{name}.timer", f"{name}.service"):
        (folder_of_units() / unit).unlink(missing_ok=True)
    if is_running():
        _systemctl("daemon-reload")


def _systemctl(*words: str, check: bool = True) -> subprocess.CompletedProcess:
    done = answer_of("systemctl", "--user", *words)
    if check and done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        reason = said(last).removesuffix(".")
        raise InputError(f"`systemctl --user {' '.join(words)}` failed: {reason}.")
    return done
