"""docs/ascend.md: every row is whole, and the command lines take its commands."""

import importlib
import re
import shlex

import pytest

from tests.places import ROOT

PAGE = ROOT / "docs" / "ascend.md"
TABLES = re.findall(r"(?m)^\| what .*\n\|---.*\n((?:\|.*\n)+)", PAGE.read_text())
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for table in TABLES
    for line in table.splitlines()
]
COMMANDS = sorted(set(re.findall(r"`(python -m components\.[^`]+)`", PAGE.read_text())))


def test_each_row_says_what_why_how_what_comes_out_and_what_to_send():
    assert len(ROWS) >= 4
    for row in ROWS:
        assert len(row) == 5 and all(row), row
        assert re.match(r"`[^`]+`", row[2]), row


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_takes_the_command(command, capsys):
    words = shlex.split(command)
    module = importlib.import_module(f"{words[2]}.__main__")
    verbs = [word for word in words[3:5] if re.fullmatch("[a-z][a-z_-]*", word)]
    with pytest.raises(SystemExit) as end:
        module.main([*verbs, "--help"])
    assert end.value.code in (None, 0)
    flags = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert {word for word in words if word.startswith("--")} <= flags
