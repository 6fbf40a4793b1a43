"""One function over many items on all cores, results in order, few of them in memory."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")

MANY = 200  # items from which starting processes pays: in threads only decoding runs in parallel
CHUNK = 16  # items that a process is given at a time, unless their results are large
CHUNK_BYTES = 4 << 20


def parallel_map(
    function: "partial[Result]", items: Iterable[Item], count: int, result_bytes: int = 0
) -> Iterator[Result]:
    """`map` on all cores; `count`: of the items. `function` is a partial of one at module level."""
    workers = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if count < MANY:
        pool, chunk = ThreadPoolExecutor(workers), 1
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([function.func.__module__])
        pool = ProcessPoolExecutor(workers, context, _end_with_parent)
        chunk = max(1, min(CHUNK, CHUNK_BYTES // max(result_bytes, 1)))
    items, waiting = iter(items), deque[Future]()
    with pool:
        try:
            while True:
                while len(waiting) < 2 * workers and (some := list(islice(items, chunk))):
                    waiting.append(pool.submit(_apply, function, some))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """For a process that is killed, and cannot stop those that work for it: they would wait for
    ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _apply(function: "partial[Result]", items: list[Item]) -> list[Result]:
    return [function(item) for item in items]
