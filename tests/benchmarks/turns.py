"""What the benchmarks measure by: calls that take turns in one run, and commands with the memory
that they hold."""

import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Turns:
    """One of several calls that took turns: medians over the rounds."""

    seconds: float
    speedup: float  # the first call's seconds by this one's, of the same round
    lowest: float  # speed-up of a round
    highest: float


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Turns]:
    """Time calls in turns, so that what else the machine does meets all of them; the round before
    the first is the warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number:
                seconds[name].append(time.perf_counter() - start)

    first, turns = next(iter(seconds.values())), {}
    for name, own in seconds.items():
        speedups = [plain / one for plain, one in zip(first, own, strict=True)]
        middle = statistics.median(own), statistics.median(speedups)
        turns[name] = Turns(*middle, min(speedups), max(speedups))
    return turns


def measured_row(things: str, count: int, command: list[str], mapped: bool) -> dict[str, float]:
    """Run a command over so many things: print and return its time, rate and most memory.

    Memory is that of all its processes together, sampled 20 times a second, in 10^6 bytes. Without
    `mapped` it is that without the pages of mapped files, such as the cache of a data set: the
    system takes those back as it likes.
    """
    start, peak = time.monotonic(), 0
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            held = 0
            for one in (process, *process.children(recursive=True)):
                try:
                    memory = one.memory_info()
                except psutil.NoSuchProcess:
                    continue
                held += memory.rss - (0 if mapped else memory.shared)
            peak = max(peak, held)
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {process.returncode}")

    seconds = time.monotonic() - start
    row = {things: count, "seconds": seconds, f"{things}_per_second": count / seconds}
    row["peak_memory_mb"] = peak / 1e6
    print("  ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)
    return row
