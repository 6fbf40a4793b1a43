"""Ctrl-C and its like, with real processes and signals: one line, what is open closed, exit 130."""

import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.calling import command, environment
from tests.places import ROOT
from tests.terminals import CTRL_C, Terminal

INT, TERM = signal.SIGINT, signal.SIGTERM
ONE_LINE = "pot stopped: what is finished is kept; say the same command again\n"

# A program whose work says when it has begun and when what it had open is closed.
POT = """
import os, sys, time
from shared.terminal import stopping

def say(word):
    print(word, flush=True)

with stopping.program("pottery"):
    with stopping.at_work("pot"):
        try:
            {work}
        finally:
            say("closing")
            {closing}
            say("closed")
{end}
"""
SLEEP = "say('ready'); time.sleep(60)"


class Pot:
    """A process of POT, in a group of its own."""

    def __init__(self, work=SLEEP, closing="", end="", ignored=(), **variables):
        work, end = textwrap.indent(work, " " * 12).strip(), textwrap.dedent(end)
        program = POT.format(work=work, closing=closing, end=end)

        def as_a_shell_does() -> None:
            for one in (INT, TERM, signal.SIGHUP):
                signal.signal(one, signal.SIG_IGN if one in ignored else signal.SIG_DFL)

        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        options = dict(cwd=ROOT, env=environment() | variables, start_new_session=True, **pipes)
        options["preexec_fn"] = as_a_shell_does
        self.process = subprocess.Popen([sys.executable, "-c", program], **options)

    def hear(self, word: str) -> None:
        assert self.process.stdout.readline().strip() == word

    def signal(self, *signums: int, pause=0.0) -> None:
        for signum in signums:
            os.killpg(self.process.pid, signum)
            time.sleep(pause)

    def end(self) -> tuple[int, str, str]:
        """Exit code, rest of stdout, stderr."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.mark.parametrize("signum, how", [(INT, ""), (TERM, " by SIGTERM")])
def test_a_signal_is_one_line_at_once_and_all_is_closed(signum, how):
    pot = Pot(closing="time.sleep(0.5)")
    pot.hear("ready")
    pot.signal(signum)
    pot.hear("closing")
    assert pot.process.stderr.readline() == ONE_LINE.replace("stopped", f"stopped{how}")
    assert pot.end() == (128 + signum, "closed\n", "")


def test_what_is_kept_and_how_to_go_on_is_said():
    pot = Pot(work="stopping.keeps('a bowl is kept', 'go on with: glaze')\n" + SLEEP)
    pot.hear("ready")
    pot.signal(INT)
    assert pot.end()[2] == "pot stopped: a bowl is kept; go on with: glaze\n"


def test_a_second_ctrl_c_ends_at_once_and_a_doubled_one_does_not():
    pot = Pot(closing="time.sleep(1)")
    pot.hear("ready")
    pot.signal(INT, INT, pause=0.05)  # as timeout(1) does
    assert pot.end() == (130, "closing\nclosed\n", ONE_LINE)
    pot = Pot(closing="time.sleep(60)")
    pot.hear("ready")
    pot.signal(INT, INT, pause=0.4)
    assert pot.end() == (130, "closing\n", ONE_LINE)


def test_a_second_sigterm_breaks_nothing_off():
    pot = Pot(closing="time.sleep(1)")
    pot.hear("ready")
    pot.signal(TERM, TERM, pause=0.4)
    assert pot.end()[:2] == (143, "closing\nclosed\n")


def test_who_started_us_says_it():
    pot = Pot(PIPELINE_STOP_IS_SAID="1")
    pot.hear("ready")
    pot.signal(INT)
    assert pot.end() == (130, "closing\nclosed\n", "")


def test_signals_that_are_ignored_stay_so():
    """As nohup and a shell's `&` have it."""
    pot = Pot(work="say('ready'); time.sleep(1)", ignored=(INT, signal.SIGHUP))
    pot.hear("ready")
    pot.signal(INT, signal.SIGHUP)
    assert pot.end() == (0, "closing\nclosed\n", "")


def test_where_an_exception_gets_lost_it_comes_again():
    work = """
    class Bowl:
        def __del__(self):
            say("ready")
            time.sleep(60)
    bowl = Bowl()
    del bowl
    time.sleep(60)
    """
    pot = Pot(work=textwrap.dedent(work))
    pot.hear("ready")
    pot.signal(INT)
    assert pot.end() == (130, "closing\nclosed\n", ONE_LINE)


def test_a_fork_of_ours_says_nothing_and_ends_with_us():
    work = """
    child = os.fork()
    if not child:
        time.sleep(2)
        os._exit(0)
    try:
        say("ready")
        time.sleep(60)
    finally:
        say(os.waitpid(child, 0)[1])
    """
    pot = Pot(work=textwrap.dedent(work))
    pot.hear("ready")
    pot.signal(INT)
    assert pot.end() == (130, "0\nclosing\nclosed\n", ONE_LINE)


def test_at_the_very_end_nothing_is_lost():
    """All is done and said; the interpreter takes its time to go."""
    end = "import atexit; atexit.register(time.sleep, 60); print('end', flush=True)"
    pot = Pot(work="say('ready')", end=end)
    for word in ("ready", "closing", "closed", "end"):
        pot.hear(word)
    time.sleep(0.2)
    pot.signal(INT)
    assert pot.end() == (0, "", "")


# Our programs, at a terminal.


def programs(folder) -> dict[str, list]:
    """What can be stopped, by its name."""
    scenes, dataset = folder / "scenes", folder / "dataset"
    step = [sys.executable, "-m"]
    return {
        "compile": command("compile", "--output", folder / "p.yaml"),
        "preflight": command("preflight"),
        "submit": command("submit"),
        "nightly": command("nightly"),
        "ui": command("ui", "--port", 0),
        "demo": [*step, "components.prepare", "demo", "--out", folder / "new", "--train", 200],
        "prepare": [*step, "components.prepare", "--raw-data", scenes, "--dataset", dataset],
        "check": [*step, "components.prepare", "--check", "--raw-data", scenes],
    }


def stopped_at(seconds: float, program: list, folder, again: bool = False) -> Terminal:
    """A program after Ctrl-C so many seconds after its first line of ours; no process of it may be
    left."""
    mark = {"STOPPING": str(folder), "PYTHONPATH": str(ROOT)}
    with Terminal(program, folder, environment() | mark) as terminal:
        while not listens(terminal.process.pid):
            time.sleep(0.001)
        time.sleep(seconds)
        terminal.press(CTRL_C)
        if again:
            time.sleep(0.4)
            terminal.press(CTRL_C)
        terminal.wait(60)
    deadline = time.monotonic() + 20
    while left := [one for one in psutil.process_iter() if marked(one, folder)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    return terminal


def listens(pid: int) -> bool:
    """Whether our code runs: until then, some hundredths of a second, Python itself is loaded."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return bool(caught >> (TERM - 1) & 1)


def marked(process: psutil.Process, folder) -> bool:
    try:
        is_ours = process.environ().get("STOPPING") == str(folder)
        return is_ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def assert_stopped(terminal: Terminal) -> None:
    """Exit 130, or all was done before."""
    told = [line for line in terminal.lines() if " stopped: " in line or line.startswith("stopped")]
    assert "Traceback" not in terminal.shown and "Exception ignored" not in terminal.shown
    assert "KeyboardInterrupt" not in terminal.shown
    if terminal.process.returncode == 130:
        assert len(told) == 1 and "; " in told[0], terminal.shown
    else:
        assert (terminal.process.returncode, told) == (0, []), terminal.shown


@pytest.mark.parametrize("name, seconds", [("compile", 0), ("demo", 0.5), ("submit", 2.5)])
def test_ctrl_c_while_a_program_is_loaded(name, seconds, tmp_path):
    assert_stopped(stopped_at(seconds, programs(tmp_path)[name], tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compile", "preflight", "submit", "nightly", "ui", "demo"])
@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_at_any_time(name, again, tmp_path):
    for seed in range(6):
        seconds = random.Random(f"{name} {seed} {again}").uniform(0, 25)
        folder = tmp_path / str(seed)
        folder.mkdir()
        print(f"{name} after {seconds:.2f} s")
        assert_stopped(stopped_at(seconds, programs(folder)[name], folder, again))


LEFT = """
import atexit, gc, sys, tempfile, threading, time
from pathlib import Path

atexit.register(print, "a library that was there before")
from shared.terminal import stopping

class Cycle:
    def __init__(self, file):
        self.file, self.itself = file, self
    def __del__(self):
        print("looked through the memory")

def late():
    threading.main_thread().join()
    Path("late").write_text("of a thread that goes on")

gc.disable()
with stopping.program("pottery"):
    atexit.register(print, "a library that came later")
    Cycle(open("text", "w")).file.write("unclosed text")
    Cycle(open("bytes", "wb")).file.write(b"unclosed bytes")
    folder = tempfile.TemporaryDirectory(dir=".")
    threading.Thread(target=late).start()
    sys.stdout.write("no line yet ")
    sys.exit(3)
"""


def test_the_end_is_short_and_loses_nothing(tmp_path):
    """No search for what nobody uses any more; but all is written and whatever waits for the end is
    called."""
    begun = environment() | {"PYTHONPATH": str(ROOT)}
    options = dict(cwd=tmp_path, env=begun, capture_output=True, text=True)
    ended = subprocess.run([sys.executable, "-c", LEFT], **options)
    assert (ended.returncode, ended.stderr) == (3, "")
    later, before = "a library that came later\n", "a library that was there before\n"
    assert ended.stdout == f"no line yet {later}{before}"
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found.pop("text") == "unclosed text" and found.pop("bytes") == "unclosed bytes"
    assert found == {"late": "of a thread that goes on"}
