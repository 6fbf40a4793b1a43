"""How far a long loop is: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
LINE_SECONDS = 5


def progress(items: Iterable[Item], what: str, total: int, done: int = 0) -> Iterator[Item]:
    """Passes `items` on; `done` of `total` were there before. The last line gives the rate."""
    if sys.stderr.isatty():
        yield from tqdm(
            items,
            desc=f"prepare: {what}",
            total=total,
            initial=done,
            unit=" pairs",
            dynamic_ncols=True,
        )
        return
    start, printed, before = time.monotonic(), time.monotonic(), done
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if done == total or now - printed > LINE_SECONDS:
            rate = (done - before) / max(now - start, 1e-9)
            print(f"prepare: {what}: {done} of {total} pairs, {rate:.1f} pairs/s", flush=True)
            printed = now
