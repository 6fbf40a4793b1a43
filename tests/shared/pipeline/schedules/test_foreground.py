"""A schedule that its own process keeps, as the container of docker/compose.yaml does."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from shared.pipeline.schedules import foreground
from shared.pipeline.schedules import schedule as schedules
from shared.pipeline.schedules.cron import read_cron
from shared.pipeline.schedules.schedule import Schedule
from tests.places import ROOT

NIGHT = """
import os, signal, sys, time
print(os.getpid(), *sys.argv[1:], file=open("night", "a"), flush=True)
if "endless" in sys.argv:
    time.sleep(60)
sys.exit(3)
"""
KEEP = """
from datetime import UTC, datetime
from pathlib import Path
from shared.pipeline.schedules import foreground, schedule
from shared.pipeline.schedules.cron import read_cron
from shared.terminal.stopping import program
schedule.PIPELINE = Path("night.py")
if {now}:
    foreground.starts = lambda *_: iter([datetime.now(UTC)])
with program("schedule"):
    cron = read_cron("0 2 * * *")
    foreground.keep(schedule.Schedule("s", cron, "UTC", ["endless"], Path(), Path(), 0))
"""


def test_nights_start_at_their_times_one_after_the_other(tmp_path, monkeypatch, capsys):
    """A clock that sleeping moves: three nights are three days, whatever a night's exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.py").write_text(NIGHT)
    monkeypatch.setattr(schedules, "PIPELINE", tmp_path / "night.py")
    clock = [datetime(2026, 3, 28, 12, tzinfo=UTC)]
    waits = []

    class Clock:
        @staticmethod
        def now(_zone) -> datetime:
            return clock[0]

    def sleep(seconds: float) -> None:
        if len((tmp_path / "night").read_text().splitlines() if waits else []) == 3:
            raise KeyboardInterrupt
        waits.append(seconds)
        clock[0] += timedelta(hours=6) if seconds == foreground.LOOK_S else timedelta(0, seconds)

    (tmp_path / "night").touch()
    monkeypatch.setattr(foreground, "datetime", Clock)
    monkeypatch.setattr(foreground.time, "sleep", sleep)
    cron = read_cron("0 2 * * *")
    with pytest.raises(KeyboardInterrupt):
        foreground.keep(Schedule("s", cron, "Europe/Berlin", ["nightly"], tmp_path, tmp_path, 0))
    said = capsys.readouterr()
    times = [line.partition("on ")[2] for line in said.out.splitlines()]
    # Of the second day there is no 02:00 in Berlin: cron starts right after the change.
    assert times[:2] == ["Sun 2026-03-29 at 03:00 CEST", "Mon 2026-03-30 at 02:00 CEST"]
    assert len(times) == 4 and said.err.count("the night ended with exit code 3") == 3
    assert all(line.endswith(" nightly") for line in (tmp_path / "night").read_text().splitlines())
    assert max(waits) <= foreground.LOOK_S


@pytest.mark.parametrize("when", ["waiting", "night"])
def test_sigterm_ends_it_and_its_night(when, tmp_path):
    (tmp_path / "night.py").write_text(NIGHT)
    script = KEEP.format(now=when == "night")
    keeper = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "the next start is on" in keeper.stdout.readline()
    until = time.monotonic() + 30
    while when == "night" and not (tmp_path / "night").exists() and time.monotonic() < until:
        time.sleep(0.02)
    keeper.send_signal(signal.SIGTERM)
    _, said = keeper.communicate(timeout=20)
    assert keeper.returncode == 143
    assert said.splitlines()[-1].startswith("schedule stopped by SIGTERM: the nights until now are")
    if when == "night":
        pid = int((tmp_path / "night").read_text().split()[0])
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
