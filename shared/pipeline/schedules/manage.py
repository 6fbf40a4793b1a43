"""`pipeline.py schedule` on this machine: by the user's systemd, else by the user's crontab."""

import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Self

from pydantic import model_validator

from shared.errors import InputError
from shared.flags import as_words
from shared.pipeline.nights import NightlyOptions
from shared.pipeline.schedules import crontab, foreground, systemd
from shared.pipeline.schedules.cron import read_cron
from shared.pipeline.schedules.schedule import Schedule, check_name, describe, find_zone, local_zone
from shared.pipeline.submitting import ServerOptions, refuse_without_host
from shared.secrets import without_secrets


class ScheduleOptions(ServerOptions, NightlyOptions):
    """When a night starts, or what becomes of a schedule that is there."""

    STEP: ClassVar[str] = "schedule"

    cron: str = ""
    """Minute, hour, day of the month, month, day of the week, such as "0 2 * * *", or @daily."""
    name: str = ""
    """Name of the schedule: the same name again replaces it; empty: pix2pixhd- and the recipe."""
    timezone: str = ""
    """Time zone of --cron, such as Europe/Berlin; empty: of the machine, and with --host UTC."""
    foreground: bool = False
    """Start the nights from this process, which stays: in a container, without systemd or cron."""
    list: bool = False
    """Show the schedules that are there."""
    disable: bool = False
    """Keep the schedule, but let it start nothing."""
    delete: bool = False
    """Remove the schedule."""

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        refuse_without_host(self, ServerOptions.model_fields)
        return self

    @property
    def full_name(self) -> str:
        """Raises InputError for what cannot name a unit."""
        return check_name(self.name or f"pix2pixhd-{self.recipe_name.replace('_', '-')}")

    @property
    def wish(self) -> str:
        """What is to be done: list, disable, delete or create. Raises InputError for several, and
        for times that are none."""
        wishes = [wish for wish in ("list", "disable", "delete") if getattr(self, wish)]
        wishes += ["cron"] if self.cron else []
        if len(wishes) > 1:
            raise InputError(f"--{wishes[0]} and --{wishes[1]} exclude each other: choose one.")
        if not wishes:
            raise InputError('--cron is missing: write for example --cron "0 2 * * *".')
        if self.cron:
            read_cron(self.cron)  # before anything is looked at for the night
        return "create" if self.cron else wishes[0]


def change(options: ScheduleOptions) -> None:
    """List, disable or delete schedules of this machine. Raises InputError where there is none of
    that name."""
    there = [(home, one) for home in (systemd, crontab) for one in home.find()]
    if options.wish == "list":
        for _, one in there:
            print(f"{one.name}{'' if one.enabled else ' (disabled)'}: {without_secrets(one.what)}")
        if not there:
            print("Nothing is scheduled here.")
        return

    name = options.full_name
    mine = [(home, one) for home, one in there if one.name == name]
    if not mine:
        names = ", ".join(one.name for _, one in there) or "none"
        raise InputError(f"--{options.wish}: there is no schedule {name} here, but {names}.")
    for home, one in mine:
        one.refuse_other_checkout()
        home.disable(name) if options.disable else home.delete(name)
        print(f"{name} is {options.wish}d; a run that is under way goes on.")


def create(options: ScheduleOptions) -> None:
    """Install what starts `nightly` on this machine, in the place of the schedule of that name.

    Raises InputError where it cannot be, SystemExit with 2 where nothing on this machine starts
    anything: the files to install by hand are printed then.
    """
    # What, and when.
    _refuse_secrets(options)
    cron = read_cron(options.cron)
    zone_name, zone = find_zone(options.timezone)
    schedule = Schedule(
        name=options.full_name,
        cron=cron,
        zone=options.timezone,
        arguments=["nightly", *as_words(options, NightlyOptions)],
        folder=Path.cwd(),
        log=options.runs.resolve() / f"{options.full_name}.log",
        timeout_min=options.timeout_min,
    )

    # Who starts it.
    if options.foreground:
        print(f"{schedule.name}: {describe(cron, 'cron', zone_name, zone)}")
        foreground.keep(schedule)
    home = _choose(options)
    if home is None:
        _print_by_hand(schedule)
        sys.exit(2)
    for other in (systemd, crontab):
        for one in other.find():
            if one.name == schedule.name:
                one.refuse_other_checkout()
                if other is not home:
                    other.delete(one.name)

    # The folder of the runs, and the schedule.
    try:
        options.runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--runs {options.runs} cannot be made: {error.strerror}.") from None
    print(f"{schedule.name}: {describe(cron, _kind(home), zone_name, zone)}")
    home.install(schedule)


def _refuse_secrets(options: ScheduleOptions) -> None:
    """Raises InputError for what the files of a schedule, and the arguments of what it starts,
    would show to others."""
    if (shown := without_secrets(options.raw_data or "")) != (options.raw_data or ""):
        raise InputError(
            f"--raw-data {shown} has secrets in it, which the files of a schedule are no place "
            "for: put the URL into a variable of the environment that it starts in (of systemd: "
            "~/.config/pix2pixhd.env) and give --raw-data env://VARIABLE."
        )
    if without_secrets(options.notify) != options.notify:
        raise InputError(
            "--notify has secrets in it, which the files of a schedule are no place for: put the "
            "command into a script that only you can read, and give that."
        )


def _choose(options: ScheduleOptions) -> ModuleType | None:
    """Who starts things here. Raises InputError where that one knows no time zones."""
    if systemd.is_running():
        return systemd
    here, _ = local_zone()
    if crontab.is_there() and options.timezone not in ("", here):
        raise InputError(
            f"--timezone {options.timezone}: no systemd of yours is running, and cron goes by the "
            f"machine's time zone, {here}: leave it out and give the hours of that zone."
        )
    return crontab if crontab.is_there() else None


def _kind(home: ModuleType) -> str:
    return "systemd" if home is systemd else "cron"


def _print_by_hand(schedule: Schedule) -> None:
    for name, text in systemd.units_of(schedule).items():
        print(f"{systemd.folder_of_units() / name}:\n\n{without_secrets(text)}")
    print("or in a crontab:\n")
    print(without_secrets("\n".join(crontab.lines_of(schedule))))
    print(
        "\nschedule: nothing was installed: neither `systemctl --user` nor `crontab` works here; "
        "install the above where one does.",
        file=sys.stderr,
    )
