"""What a pipeline shows: on a terminal lines that fit it, and the progress bar of the running step;
elsewhere plain lines. All lines stand in the log, without bars and colours."""

import io
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TextIO

from shared.errors import called_in
from shared.secrets import of_owner, without_secrets
from shared.servers import plain
from shared.terminal.inner import PRESSED, InnerTerminal
from shared.terminal.stopping import is_stopping

OVER = "\r\x1b[K"  # what comes next stands where a bar was
LABEL = re.compile(r" *\S+(?: \S+){0,2} {2,}| *")  # of a line: what is wrapped goes on behind it


class Screen:
    """Takes the lines of a pipeline and its steps."""

    def __init__(self, stream: TextIO, log: TextIO):
        self.stream, self.log = stream, log
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.last_line = ""  # that a step printed: the reason where it failed
        self._bar = ""  # that stands there now

    def say(self, line: str = "") -> None:
        """A line of the pipeline."""
        over = OVER if self._bar else ""
        self._bar = ""
        # Not by print, which kfp replaces while a step runs.
        self.stream.write(f"{over}{fit(self._near(line), self.columns)}\n")
        self.stream.flush()
        self.log.write(f"{line}\n")
        self.log.flush()

    def show(self, line: str) -> None:
        """A line that a step has printed; when it is stopped, of which our own line is the last,
        for the log alone."""
        line = plain(without_secrets(line)).rstrip()
        if not line.strip():
            return
        self.last_line = line.strip()
        if is_stopping():
            self.log.write(f"{line}\n")
        else:
            self.say(line)

    def draw(self, bar: str) -> None:
        """The progress bar of a step, over the one before; an empty one is none."""
        bar = plain(without_secrets(bar)).rstrip()
        if bar != self._bar and not is_stopping():
            self._bar = bar
            self.stream.write(f"{OVER}{bar[: self.columns - PRESSED]}")
            self.stream.flush()

    def _near(self, line: str) -> str:
        """A line whose paths are as short as a person at the terminal can have them."""
        return line.replace(f"{called_in()}/", "") if self.is_terminal else line

    @property
    def columns(self) -> int | None:
        """Of the terminal; None where there is none."""
        return columns_of(self.stream) if self.is_terminal else None

    def for_step(self) -> InnerTerminal | None:
        """A terminal for a step whose bar is to be seen here."""
        return InnerTerminal(self.stream.fileno(), self.draw) if self.is_terminal else None


class Log:
    """A file that takes text alone."""

    def __init__(self, path: Path):
        self.file = open(path, "a", opener=of_owner)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_raised) -> None:
        self.file.close()

    def write(self, text: str) -> int:
        return self.file.write(plain(without_secrets(text)))

    def flush(self) -> None:
        self.file.flush()


def say(text: str) -> None:
    """Print lines, on a terminal so that they fit it."""
    columns = columns_of(sys.stdout) if sys.stdout.isatty() else None
    print("\n".join(fit(line, columns) for line in text.splitlines()), flush=True)


class FittingLines(io.TextIOBase):
    """A stream whose lines go on to another one, wrapped where they are wider than the terminal, or
    than 80 columns elsewhere."""

    def __init__(self, stream: TextIO):
        self.stream, self.begun = stream, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        columns = shutil.get_terminal_size().columns
        for line in lines:
            is_wide = len(plain(line)) > columns
            try:
                self.stream.write(f"{fit(plain(line), columns, hanging=0) if is_wide else line}\n")
            except BrokenPipeError:  # whoever reads has seen enough, as `head` has
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
                sys.exit(128 + signal.SIGPIPE)
        return len(text)

    @property
    def encoding(self) -> str:
        return self.stream.encoding

    def isatty(self) -> bool:
        return self.stream.isatty()


def columns_of(stream: TextIO) -> int:
    """Of the terminal that a stream goes to."""
    return os.get_terminal_size(stream.fileno()).columns or 80


def fit(line: str, columns: int | None, hanging: int = 2) -> str:
    """A line for so many columns, wrapped at words; a word that is longer, such as a path, stays
    whole so that it can be copied. None: as it is.

    hanging: columns before the further lines, where the first does not begin with a label."""
    if columns is None or len(line) <= columns:
        return line
    label = len(LABEL.match(line)[0])
    indent = " " * (label if 0 < label <= columns // 3 else hanging)
    lines = [line[:label]]
    for word in re.findall(r"\s*\S+", line[label:]):
        fits = len(lines[-1]) + len(word) <= columns
        is_long = len(indent) + len(word.lstrip()) > columns
        if fits or is_long or len(lines[-1]) <= len(indent):
            lines[-1] += word
        else:
            lines.append(indent + word.lstrip())
    return "\n".join(lines)
