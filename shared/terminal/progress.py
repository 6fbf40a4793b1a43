"""How far a long loop is: a bar on a terminal, else a line now and then; at the end a line."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
LINE_SECONDS = 5  # between two lines; later in a loop a tenth of the time that it has taken


class Progress:
    """Says how far a loop is that counts by itself; the last line says that all is done."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0, has_rate: bool = True):
        """`done` of `total` were there before. what: who does what, such as "prepare: copied".
        has_rate: whether it means anything how many are done in a second."""
        self.what, self.total, self.unit, self.before = what, total, unit, done
        self.has_rate = has_rate
        self.start = self.printed = time.monotonic()
        self.bar = tqdm(
            desc=what,
            total=total,
            initial=done,
            unit=f" {unit}",
            dynamic_ncols=True,
            leave=False,
            disable=None,  # None: it shows itself on a terminal only
        )

    def show(self, done: int, detail: Callable[[], str] | None = None) -> None:
        """Show that so many are done. detail: what else to say, asked only where it is shown."""
        now = time.monotonic()
        pause = max(LINE_SECONDS, (now - self.start) / 10)
        if done < self.total and not self.bar.disable:
            self.bar.set_postfix_str(detail() if detail else "", refresh=False)
            self.bar.update(done - self.bar.n)
        elif done == self.total or now - self.printed >= pause:
            self.bar.close()
            rate = (done - self.before) / max(now - self.start, 1e-9)
            parts = [f"{self.what} {done} of {self.total} {self.unit}"]
            parts += [detail()] if detail else []
            parts += [f"{rate:.1f} {self.unit}/s"] if self.has_rate else []
            print(", ".join(parts), flush=True)
            self.printed = now

    def close(self) -> None:
        """Take the bar away, where the loop ends early."""
        self.bar.close()


def progress(
    items: Iterable[Item], what: str, total: int, unit: str, done: int = 0
) -> Iterator[Item]:
    """Pass `items` on and show how many of them are done, as `Progress` does."""
    shown = Progress(what, total, unit, done)
    with contextlib.closing(shown):
        for number, item in enumerate(items, start=done + 1):
            yield item
            shown.show(number)


def duration(seconds: float) -> str:
    """A duration in the two largest units that matter: 45 s, 12 min, 2 h 05 min, 3 d 04 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // (24 * 60)} d {minutes // 60 % 24:02} h"
