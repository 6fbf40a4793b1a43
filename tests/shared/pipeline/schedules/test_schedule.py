"""Schedules of this machine: what is written, by whom it is started, and that a name stands for
one."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline
from pipeline import schedule
from shared.errors import InputError
from shared.flags import as_words, read_flags
from shared.pipeline.nights import NightlyOptions
from shared.pipeline.schedules import crontab, manage, systemd
from shared.pipeline.schedules import schedule as schedules
from shared.pipeline.schedules.cron import read_cron
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.schedules.schedule import Schedule
from tests.asking import refusal
from tests.calling import call
from tests.places import ROOT

SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
ODD = ["a b", "100%", "%h", "$HOME", "${HOME}", 'q"uote', "it's", "back\\slash", "~", ";", ""]
ECHO = """
import json, os, sys
json.dump([sys.argv[1:], os.getcwd()], open(os.environ["ECHO_TO"], "w"))
"""


def ask(**options) -> None:
    checked = ScheduleOptions.check(options)
    (manage.create if checked.wish == "create" else manage.change)(checked)


def nightly(cron: str = "0 2 * * *", **options) -> None:
    ask(cron=cron, **options)


def lines(machine) -> list[str]:
    return machine.crontab.read_text().splitlines()


def words_of_unit(text: str) -> list[str]:
    """The command of a service, by systemd.service(5): the prefix `:` means no variables, %% is %,
    and within double quotes a backslash escapes, as in a shell."""
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=:")]
    assert "%" not in line.replace("%%", "")
    return shlex.split(line.removeprefix("ExecStart=:").replace("%%", "%"))


# What is written.


@pytest.fixture
def odd(machine, monkeypatch, tmp_path):
    """A schedule of odd words, in an odd folder, of a pipeline.py that notes what it was given."""
    checkout = tmp_path / 'check out 50% "$x"'
    checkout.mkdir()
    (checkout / "pipeline.py").write_text(ECHO)
    monkeypatch.setattr(schedules, "PIPELINE", checkout / "pipeline.py")
    cron = read_cron("0 2 * * *")
    return Schedule("odd", cron, "", ODD, Path.cwd(), tmp_path / "my log 7%", timeout_min=480)


def test_a_crontab_line_gives_every_word_as_it_was(odd, tmp_path):
    *_, line = crontab.lines_of(odd)
    command = line.removeprefix("0 2 * * * ")
    # crontab(5): a % is a line's end unless a backslash is before it.
    assert "%" not in command.replace("\\%", "")
    environment = {"HOME": "/root", "ECHO_TO": str(tmp_path / "told"), "PATH": "/usr/bin:/bin"}
    command = command.replace("\\%", "%")
    subprocess.run(["/bin/sh", "-c", command], env=environment, check=True, cwd="/")
    assert json.loads((tmp_path / "told").read_text()) == [ODD, str(odd.folder)]
    assert odd.log.read_text() == ""


def test_a_unit_gives_every_word_as_it_was(odd):
    text = systemd.units_of(odd)["odd.service"]
    assert words_of_unit(text) == odd.command == [sys.executable, str(schedules.PIPELINE), *ODD]
    folder = next(line for line in text.splitlines() if line.startswith("WorkingDirectory="))
    assert folder.partition("=")[2].replace("%%", "%") == str(odd.folder)


@pytest.mark.skipif(not SYSTEMD_ANALYZE, reason="no systemd-analyze here")
@pytest.mark.parametrize("text", ["0 2 * * *", "*/15 1-5 13,27 jan,mar-may fri"])
def test_units_are_what_systemd_takes(odd, text, tmp_path, monkeypatch):
    monkeypatch.setattr(schedules, "PIPELINE", Path("/usr/bin/true"))
    cron = read_cron(text)
    for name, unit in systemd.units_of(dataclasses.replace(odd, cron=cron)).items():
        (tmp_path / name).write_text(unit)
    verify = [SYSTEMD_ANALYZE, "verify", "--user", *sorted(tmp_path.glob("odd.*"))]
    done = subprocess.run(
        verify,
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0 and "odd" not in done.stderr, done.stderr


def test_systemd_waits_longer_than_the_night_and_leaves_no_process(odd):
    service = systemd.units_of(odd)["odd.service"]
    assert "TimeoutStartSec=495min\n" in service and "KillMode=control-group\n" in service
    endless = systemd.units_of(dataclasses.replace(odd, timeout_min=0))["odd.service"]
    assert "TimeoutStartSec=infinity\n" in endless


def test_a_line_that_cron_would_cut_is_refused(odd):
    long = dataclasses.replace(odd, arguments=["x" * 900])
    assert "characters, and cron takes 998" in refusal(crontab.lines_of, long)
    assert "several lines" in refusal(crontab.lines_of, dataclasses.replace(odd, arguments=["\n"]))


def test_nightly_is_given_what_schedule_was_given(machine):
    """By a line of the README, and with every flag of nightly."""
    readme = (ROOT / "README.md").read_text().replace("\\\n", " ")
    line = next(
        line for line in readme.splitlines() if "schedule --cron" in line and "demo" in line
    )
    of_readme = shlex.split(line)[3:]
    odd_ones = shlex.split("--cron @daily --set a.b=-1 'c.d=x y' --raw-data=-x --runs 'r s'")
    for words in (of_readme, [*odd_ones, "--timeout-min=0.5", "--notify", "mail -s 'a b' me"]):
        options = ScheduleOptions.check(read_options(schedule, words, ScheduleOptions))
        passed_on = as_words(options, NightlyOptions)
        read = NightlyOptions.check(read_options(pipeline.nightly, passed_on, NightlyOptions))
        same = set(NightlyOptions.model_fields)
        assert read.model_dump() == options.model_dump(include=same)
        assert not {"--cron", "--timezone", "--host"} & set(passed_on)


def read_options(verb, words: list[str], kind) -> dict:
    return {name: read_flags(verb, "test", words)[name] for name in kind.model_fields}


# What has no place in files that others read.


@pytest.mark.parametrize("program", ["crontab", "systemctl"])
def test_secrets_are_refused_in_a_schedule(program, machine):
    machine.has(program)
    url = "https://zaphod:pa55word@host/a.zip?sig=5ignature"
    refused = refusal(nightly, raw_data=url)
    assert refused.startswith("--raw-data https://***@host/a.zip?sig=*** has secrets in it")
    assert "env://VARIABLE" in refused
    hook = "curl -H 'Authorization: Bearer abcdefgh123' https://chat.example"
    assert refusal(nightly, notify=hook).startswith("--notify has secrets in it")
    assert not machine.crontab.exists() and not machine.units.exists()
    nightly(raw_data="env://RAW_DATA")
    assert (Path.cwd() / "runs").is_dir()


def test_a_program_of_the_system_that_hangs_is_not_waited_for(machine, monkeypatch):
    monkeypatch.setenv("PIPELINE_PATIENCE_S", "0.2")
    (machine.programs / "crontab").write_text("#!/bin/sh\nexec /bin/sleep 9\n")
    (machine.programs / "crontab").chmod(0o755)
    assert "`crontab -l` gives no answer in 0.2 s" in refusal(nightly)


# By crontab.


def test_a_name_stands_for_one_line_and_other_lines_stay(machine, capsys):
    machine.has("crontab")
    machine.crontab.write_text("MAILTO=me\n1 1 * * * true\n")
    nightly(raw_data="https://host/a.zip", overrides=["train_global.epochs=2"], timeout_min=480)
    first = lines(machine)
    assert first[:2] == ["MAILTO=me", "1 1 * * * true"] and len(first) == 4
    assert first[3].startswith("0 2 * * * cd ") and "--timeout-min=480 " in first[3]
    assert (Path.cwd() / "runs").is_dir(), "where the log goes"
    nightly(raw_data="https://host/a.zip", overrides=["train_global.epochs=2"], timeout_min=480)
    assert lines(machine) == first, "the same again"
    nightly("30 3 * * mon", timeout_min=10)
    changed = lines(machine)
    assert len(changed) == 4 and changed[3].startswith("30 3 * * 1 cd ")
    nightly(name="other", recipe="demo")
    assert len(lines(machine)) == 6

    capsys.readouterr()
    ask(disable=True)
    ask(list=True)
    out = capsys.readouterr().out
    assert "pix2pixhd-demo (disabled): 30 3" in out and "other: 0 2" in out
    assert [line for line in lines(machine) if line.startswith("30 3")] == []
    nightly()
    assert [line[:10] for line in lines(machine)[::-1] if line[0].isdigit()][0] == "0 2 * * * "
    ask(delete=True)
    ask(delete=True, name="other")
    assert lines(machine) == ["MAILTO=me", "1 1 * * * true"]
    assert "there is no schedule pix2pixhd-demo" in refusal(ask, delete=True)


def test_a_schedule_of_another_checkout_is_not_touched(machine, monkeypatch):
    machine.has("crontab")
    nightly()
    before = lines(machine)
    monkeypatch.setattr(schedules, "PIPELINE", Path("/elsewhere/pipeline.py"))
    for options in (dict(cron="0 5 * * *"), dict(delete=True), dict(disable=True)):
        assert "choose another name" in refusal(ask, **options)
    assert lines(machine) == before


def test_a_crontab_that_cannot_be_read_is_not_written(machine):
    machine.has("crontab")
    (machine.programs / "crontab").write_text("#!/bin/sh\necho 'you are not allowed' >&2; exit 1")
    assert "`crontab -l` failed: you are not allowed." == refusal(nightly)


def test_cron_has_no_time_zone_of_its_own(machine, monkeypatch):
    machine.has("crontab")
    here, _ = schedules.local_zone()
    other = "Asia/Tokyo" if here != "Asia/Tokyo" else "Europe/Berlin"
    assert f"cron goes by the machine's time zone, {here}" in refusal(nightly, timezone=other)
    nightly(timezone=here)


# By systemd.


def test_a_timer_is_written_started_and_replaced(machine, capsys):
    machine.has("systemctl", "crontab")
    nightly("0 2 13 * fri", timezone="Europe/Berlin", timeout_min=60)
    assert not machine.crontab.exists(), "only one of the two starts it"
    timer, service = (machine.units / f"pix2pixhd-demo.{kind}" for kind in ("timer", "service"))
    assert timer.read_text().count("OnCalendar=") == 2
    said = machine.log.read_text()
    for told in ("daemon-reload", "enable pix2pixhd-demo.timer", "restart pix2pixhd-demo.timer"):
        assert f"--user {told}\n" in said
    assert "list-timers pix2pixhd-demo.timer" in capsys.readouterr().out

    written = timer.read_text(), service.read_text()
    nightly("0 2 13 * fri", timezone="Europe/Berlin", timeout_min=60)
    assert (timer.read_text(), service.read_text()) == written
    nightly("@weekly", timezone="Europe/Berlin", timeout_min=90)
    assert "OnCalendar=Sun *-*-* 00:00:00 Europe/Berlin\n" in timer.read_text()
    assert "TimeoutStartSec=105min" in service.read_text()

    ask(list=True)
    assert "pix2pixhd-demo: Sun *-*-* 00:00:00 Europe/Berlin; " in capsys.readouterr().out
    ask(disable=True)
    ask(list=True)
    assert "pix2pixhd-demo (disabled): " in capsys.readouterr().out
    ask(delete=True)
    assert not timer.exists() and not service.exists()


def test_a_night_is_not_started_twice_where_systemd_comes_later(machine):
    machine.has("crontab")
    nightly()
    machine.has("systemctl")
    nightly()
    assert lines(machine) == [] and (machine.units / "pix2pixhd-demo.timer").exists()


def test_what_systemd_refuses_is_told(machine):
    machine.has("systemctl")
    failing = "#!/bin/sh\ntest $2 != enable || { echo 'Failed: no such unit.' >&2; exit 1; }"
    (machine.programs / "systemctl").write_text(failing)
    said = refusal(nightly)
    assert said == "`systemctl --user enable pix2pixhd-demo.timer` failed: Failed: no such unit."


# By nobody.


def test_where_nothing_starts_anything_it_says_what_to_install(machine, capsys):
    with pytest.raises(SystemExit) as stop:
        nightly()
    said = capsys.readouterr()
    assert stop.value.code == 2 and "nothing was installed" in said.err
    assert "OnCalendar=*-*-* 02:00:00\n" in said.out and "\n0 2 * * * cd '" in said.out
    assert not list(Path.cwd().iterdir())


def test_a_day_without_the_time_is_told(machine, capsys):
    machine.has("systemctl")
    nightly("30 2 * * *", timezone="Europe/Berlin")
    assert "-03-" in capsys.readouterr().out.partition("there is no 02:30")[0].splitlines()[-1]
    nightly("30 * * * *", timezone="Europe/Berlin")
    nightly("30 4 * * *", timezone="Europe/Berlin")
    assert "there is no" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, said",
    [
        ({}, "--cron is missing"),
        (dict(cron="@daily", list=True), "--list and --cron exclude each other"),
        (dict(disable=True, delete=True), "--disable and --delete exclude each other"),
        (dict(cron="0 2 * *"), "has 4 fields"),
        (dict(cron="@daily", name="a/b"), "--name 'a/b': use letters"),
        (dict(cron="@daily", timezone="Mars/Olympus"), "--timezone 'Mars/Olympus' is unknown"),
        (dict(cron="@daily", timezone="../x"), "--timezone '../x' is unknown"),
        (dict(cron="@daily", runs=Path("/proc/runs")), "--runs /proc/runs cannot be made"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(options, said, machine):
    machine.has("crontab")
    assert said in refusal(ask, **options)
    assert not machine.crontab.exists()


def test_times_that_are_none_are_refused_before_the_night_is_looked_at(monkeypatch):
    monkeypatch.setattr(pipeline.started, "schedule_here", pytest.fail)
    assert "has 4 fields" in refusal(schedule, ScheduleOptions(cron="0 2 * *"))


def test_what_a_night_would_refuse_is_refused_at_once(tmp_path):
    """As a user asks; nothing is installed on this machine."""
    words = ("schedule", "--cron", "@daily", "--recipe", "label2city_512p", "--raw-data", "nowhere")
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    said = done.stdout + done.stderr
    assert "nowhere is no folder" in said and "vgg_weights" in said
    assert not list(tmp_path.iterdir())


def test_unknown_name_in_options_is_an_input_error():
    with pytest.raises(InputError):
        ScheduleOptions.check({"cron": "@daily", "timeout_min": -1})
