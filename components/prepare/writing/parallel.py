"""One function over many items on all cores, results in order, few of them in memory.

Not joblib (1.6, tried): its generator computes on while nobody takes the results, 300 MB of 3,000
results here, and its processes outlive one that is killed.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

from shared.machine import threads

Item, Result = TypeVar("Item"), TypeVar("Result")

MANY = 200  # items from which starting processes pays: in threads only decoding runs in parallel
CHUNK = 16  # items that a process is given at a time, unless their results are large
CHUNK_BYTES = 4 << 20


def parallel_map(
    function: "partial[Result]", items: Iterable[Item], count: int, result_bytes: int = 0
) -> Iterator[Result]:
    """Map `function` over `items` on all cores.

    Args:
        function: A partial of a function at module level.
        count: Number of the items.
        result_bytes: About the size of one result.
    """
    workers = threads.usable_cpus()

    # Threads are there at once, processes use all cores.
    if count < MANY:
        pool, chunk = ThreadPoolExecutor(workers), 1
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([function.func.__module__])
        pool = ProcessPoolExecutor(workers, context, _end_with_parent)
        chunk = max(1, min(CHUNK, CHUNK_BYTES // max(result_bytes, 1)))

    # The oldest result is handed on before another chunk is taken.
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
    """End a worker when its parent is gone: one that is killed cannot stop those that work for it,
    and they would wait for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _apply(function: "partial[Result]", items: list[Item]) -> list[Result]:
    return [function(item) for item in items]
