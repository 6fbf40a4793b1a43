"""A terminal for a process of ours, as large as the one that we are at: its progress bar is drawn
there."""

import codecs
import os
import re
import termios
import tty
from collections.abc import Callable, Iterator

PRESSED = 3  # columns behind a bar: where ^C is echoed, the line must not wrap
SIZE = os.terminal_size((80, 24))  # of a terminal that does not know its own


class InnerTerminal:
    """Its end for the process, `theirs`, and ours.

    Attributes:
        draw: Takes what stands in the line that has not ended yet, such as a bar.
    """

    def __init__(self, outer: int, draw: Callable[[str], None]):
        """outer: file descriptor of the terminal that we are at."""
        self.outer, self.draw, self.size = outer, draw, None
        self.ours, self.theirs = os.openpty()
        tty.setraw(self.theirs)  # what is written comes as it is
        self.follow()

    def close(self) -> None:
        """When the process is gone."""
        os.close(self.ours)

    def follow(self) -> None:
        """Be as large as the outer one, which may have changed."""
        size = os.get_terminal_size(self.outer)
        if size != self.size:
            self.size = size
            columns, lines = size if all(size) else SIZE
            termios.tcsetwinsize(self.ours, (lines, max(columns - PRESSED, 1)))


def read_lines(stream: int, is_terminal: bool) -> Iterator[tuple[str, bool]]:
    """What comes from a pipe or a terminal, as (text, whether it is a whole line).

    On a terminal a carriage return begins the line anew, and what stands in one that has not ended
    comes as it changes; from a pipe it ends the line."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ends, text = ("\n" if is_terminal else r"\r\n|\n|\r(?!\Z)"), ""
    while True:
        try:
            data = os.read(stream, 1 << 16)
        except OSError:  # of a terminal that nobody has open any more
            data = b""
        *lines, text = re.split(ends, text + decoder.decode(data, final=not data))
        for line in lines:
            yield _seen(line), True
        if not data:
            if _seen(text):
                yield _seen(text), True
            return
        if is_terminal:
            begun, returned, rest = text.rpartition("\r")
            text = f"{_seen(begun)}{returned}" if not rest else f"{returned}{rest}"
            yield rest, False


def _seen(line: str) -> str:
    """What is seen of a line after its carriage returns."""
    return line.removesuffix("\r").rpartition("\r")[2]
