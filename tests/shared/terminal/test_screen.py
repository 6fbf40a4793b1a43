"""What a pipeline shows, at real terminals and elsewhere."""

import os
import re
import sys
import textwrap
import threading
import time

import pytest

from shared.pipeline.processes import run_step
from shared.servers import plain
from shared.terminal.inner import read_lines
from shared.terminal.screen import Log, Screen, fit
from tests.calling import SMALL, command, environment
from tests.places import ROOT
from tests.terminals import Terminal

# A pipeline of one step that counts to twenty, and prints beside its bar.
PIPELINE = """
import os, sys
from pathlib import Path
from shared.pipeline.processes import run_step
from shared.terminal.screen import Log, Screen
with Log(Path("log.txt")) as log:
    screen = Screen(sys.stdout, log)
    screen.say("begins " + "word " * 30)
    run_step([sys.executable, "-c", sys.argv[1]], dict(os.environ), screen.show,
             terminal=screen.for_step())
    screen.say("ends")
"""
STEP = """
import sys, time
from shared.terminal.progress import progress
print("is a terminal" if sys.stdout.isatty() else "is none")
for number in progress(range(20), "step: counted", 20, "numbers"):
    time.sleep(0.12)
print("\\x1b[31mred\\x1b[0m and", "many " * 40)
"""


def at_terminal(columns: int, tmp_path) -> Terminal:
    words = [sys.executable, "-c", PIPELINE, STEP]
    variables = environment() | {"PYTHONPATH": str(ROOT)}
    with Terminal(words, tmp_path, variables, columns) as terminal:
        assert terminal.wait(60) == 0, terminal.shown
    return terminal


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal_shows_the_bar_of_the_step_and_lines_that_fit(columns, tmp_path):
    terminal = at_terminal(columns, tmp_path)
    bars = re.findall(r"\r\x1b\[K(step: counted:[^\r\n]*)", terminal.shown)
    assert len(bars) > 5 and any(" 50%" in bar or "/20" in bar for bar in bars)
    assert columns - 5 <= max(map(len, bars)) <= columns - 3
    lines = [line for line in terminal.lines() if line]
    assert max(map(len, lines)) <= columns
    assert lines[1].startswith("  word") and "is a terminal" in lines and lines[-1] == "ends"
    assert sum("step: counted" in line for line in lines) == 1, "the last line of the bar alone"
    assert "\x1b[31m" not in terminal.shown


def test_the_log_has_whole_lines_without_bars(tmp_path):
    at_terminal(60, tmp_path)
    log = (tmp_path / "log.txt").read_text().splitlines()
    assert log[0] == ("begins " + "word " * 30) and log[-1] == "ends"
    assert log[1] == "is a terminal" and log[2].startswith("step: counted 20 of 20 numbers, ")
    assert log[3].startswith("red and many many") and len(log) == 5


def test_elsewhere_there_are_plain_lines(tmp_path):
    with open(tmp_path / "out", "w") as out, Log(tmp_path / "log.txt") as log:
        screen = Screen(out, log)
        variables = environment() | {"PYTHONPATH": str(ROOT)}
        step = [sys.executable, "-c", STEP.replace("0.12", "0")]
        assert run_step(step, variables, screen.show, terminal=screen.for_step()) == 0
    shown = (tmp_path / "out").read_text()
    assert shown == (tmp_path / "log.txt").read_text()
    first, counted, red = shown.splitlines()
    assert first == "is none" and red == ("red and " + "many " * 40).rstrip()
    assert re.fullmatch(r"step: counted 20 of 20 numbers, [\d.]+ numbers/s", counted)


def test_a_secret_is_shown_neither_as_a_line_nor_in_a_bar(tmp_path):
    bar = textwrap.dedent("""
        import sys, time
        for end in ("", "\\n"):
            sys.stdout.write("\\rhttps://ann:geheim@host/x" + end)
            sys.stdout.flush()
            time.sleep(0.3)
    """)
    words = [sys.executable, "-c", PIPELINE, bar]
    with Terminal(words, tmp_path, environment() | {"PYTHONPATH": str(ROOT)}) as terminal:
        terminal.wait(60)
    assert "@host/x" in terminal.shown and "geheim" not in terminal.shown


@pytest.mark.parametrize(
    ("written", "from_pipe", "from_terminal"),
    [
        ("a\nb\n", ["a", "b"], ["a", "b"]),
        ("a\r\nb", ["a", "b"], ["a", "b"]),
        ("\r10%\r20%\rdone\n", ["", "10%", "20%", "done"], ["done"]),
        ("\r10%\r   \rline\n", ["", "10%", "   ", "line"], ["line"]),
        ("\r10%\r   \r\n", ["", "10%", "   "], ["   "]),
        ("fünf\n", ["fünf"], ["fünf"]),
        ("", [], []),
    ],
)
@pytest.mark.parametrize("pieces", [1, 100])
def test_lines_are_what_is_seen_of_them_however_they_come(
    written, from_pipe, from_terminal, pieces
):
    data = written.encode()
    size = max(1, len(data) // pieces)
    for is_terminal, expected in ((False, from_pipe), (True, from_terminal)):
        reading, writing = os.pipe()

        def write(writing=writing) -> None:
            for start in range(0, len(data), size):
                os.write(writing, data[start : start + size])
                time.sleep(0.002)
            os.close(writing)

        threading.Thread(target=write).start()
        found = [text for text, is_whole in read_lines(reading, is_terminal) if is_whole]
        os.close(reading)
        assert found == expected


def test_lines_are_wrapped_at_words_behind_their_label():
    line = "raw data  one two three four /a/very/long/path/that/stays/whole five"
    assert fit(line, 30).splitlines() == [
        "raw data  one two three four /a/very/long/path/that/stays/whole",
        "          five",
    ]
    assert fit("report    /a/path/of/thirty/characters/x", 30).count("\n") == 0
    assert fit("style     one two three", 16).splitlines() == ["style     one", "  two three"]
    label = fit("MLflow    one two three four five six seven eight nine", 36)
    assert label.splitlines() == [
        "MLflow    one two three four five",
        "          six seven eight nine",
    ]
    assert fit(line, None) == line and fit("short", 30) == "short"


def test_plain_text_has_no_control_characters():
    assert plain("\x1b[95m'demo'\x1b[0m\ta\x07\x1b[2K\x1b(B\r\n") == "'demo'\ta\n"


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80])
def test_a_whole_pipeline_at_a_terminal(columns, tmp_path):
    run = command("submit", "--set", *SMALL, "prepare.max_images=4")
    with Terminal(run, tmp_path, environment(), columns) as terminal:
        assert terminal.wait(600) == 0, terminal.shown
    lines = terminal.lines()
    wide = [line for line in lines if len(line) > columns and " " in line.strip()]
    assert not wide, wide
    for number in range(1, 7):
        assert sum(line.startswith(f"step {number} of 6: ") for line in lines) == 1
    assert sum(line.startswith("runtime ") for line in lines) == 1, "the table comes once"
    assert re.search(r"\r\x1b\[Kepoch 1/3 \|", terminal.shown), "the bar of the training"
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert not re.search(r"[^\n\t -~\x80-\uffff]", log.read_text())
