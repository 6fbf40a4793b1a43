"""How fast: the runtimes take turns on the same batches, so that a busy machine disturbs them
alike."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from components.benchmark.measure.workload import Workload
from shared.contracts.measured import SpeedRow
from shared.deployed.runners import Runner
from shared.device import pick
from shared.files.room import is_out_of_memory
from shared.terminal.device_errors import device_problem

# PyTorch's OpenMP threads go on spinning after a call: without a rest the next runtime lost 5 of
# 20 ms.
REST_S = 0.01
BASELINE = ("torch", "fp32")  # that the others are compared with
FILE_ROUNDS = 3  # of the timed ones; what files add varies little, and costs a call each time
MOST_WORDS = 160  # letters of a problem, in a row of a table


@dataclass
class Clock:
    """Seconds of each timed round of one runtime at one batch size."""

    runner: Runner
    calls: list[float] = field(default_factory=list)  # from host memory to host memory
    device: list[float] = field(default_factory=list)  # without the copies
    files: list[float] = field(default_factory=list)  # from map files to PNG files
    problem: str = ""

    def forget(self, rounds: int) -> None:
        """Leave out the first rounds."""
        for seconds in (self.calls, self.device, self.files):
            del seconds[:rounds]


def measure_speed(
    runners: list[Runner],
    workload: Workload,
    batch_sizes: tuple[int, ...],
    rounds: int,
    warmup: int,
) -> list[SpeedRow]:
    """Measure every runtime at every batch size, over `rounds` calls after `warmup` calls that do
    not count.

    Returns one row per batch size and runtime. A runtime that fails at a batch size, for want of
    memory or as its file takes another one, has a row that says so."""
    rows = []
    for batch_size in batch_sizes:
        # The runtimes in turn, in every round on the next batch.
        clocks = [Clock(runner) for runner in runners]
        for turn in range(warmup + rounds):
            with_files = turn < warmup + FILE_ROUNDS
            for clock in clocks:
                if not clock.problem:
                    _one_round(clock, workload, turn * batch_size, batch_size, with_files)

        # What counts.
        for clock in clocks:
            clock.forget(warmup)
        baseline = _baseline(clocks)
        for clock in clocks:
            row = speed_row(clock, batch_size, baseline)
            rate = row.problem or f"{row.images_per_second:.2f} images/s"
            name = f"{row.runtime} {row.precision}, batch {batch_size}"
            print(f"benchmark: {name}: {rate}", flush=True)
            rows.append(row)
    return rows


class RunnerFailed(Exception):
    """A runner cannot do what is to be timed.

    Args:
        number: Of the runner.
        problem: The reason in a few words.
    """

    def __init__(self, number: int, problem: str):
        super().__init__(problem)
        self.number, self.problem = number, problem


def rounds_in_turn(
    runners: list[Runner], workloads: list[Workload], batch_size: int
) -> Iterator[tuple[float, ...]]:
    """Time calls from host memory to host memory, round after round without end: the seconds of
    each runner.

    The runners take turns, each on the pairs of its workload. From round to round they come in
    another order: to be the first, or to come after a slow one, is nobody's lot. Raises
    RunnerFailed."""
    orders = list(itertools.permutations(range(len(runners))))
    for turn in itertools.count():
        seconds: list[list[float]] = [[] for _ in runners]
        for number in orders[turn % len(orders)]:
            try:
                batch = workloads[number].batch(turn * batch_size, batch_size)
                _timed(seconds[number], partial(runners[number], batch))
            except Exception as error:  # each runtime has its own kinds
                raise RunnerFailed(number, describe_problem(error)) from None
        yield tuple(itertools.chain.from_iterable(seconds))


def _one_round(
    clock: Clock, workload: Workload, start: int, batch_size: int, with_files: bool
) -> None:
    """Time one runtime on the batch from pair `start` on; what fails becomes the clock's
    problem."""
    runner = clock.runner
    if runner.batch_size not in (None, batch_size):
        clock.problem = f"its file takes batches of {runner.batch_size}"
        return
    try:
        batch = workload.batch(start, batch_size)
        _timed(clock.calls, lambda: runner(batch))
        if runner.device == "cpu":  # its memory is the host's: nothing is copied
            clock.device.append(clock.calls[-1])
        else:
            uploaded = runner.upload(batch)
            _timed(clock.device, lambda: runner.compute(uploaded))
        if with_files:
            _timed(clock.files, lambda: workload.from_files_to_files(runner, start, batch_size))
    except Exception as error:  # each runtime has its own kinds
        clock.problem = describe_problem(error)
        pick(runner.device).free_unused_memory()


def _timed(seconds: list[float], work: Callable[[], object]) -> None:
    """Add to `seconds` how long the work takes."""
    time.sleep(REST_S)
    started = time.perf_counter()
    work()
    seconds.append(time.perf_counter() - started)


def describe_problem(error: Exception) -> str:
    """Say in a few words, for the row of a table, why a runtime failed. Raises the error where its
    device has: nothing that follows on it is measured, or a fault of a file."""
    if is_out_of_memory(error):
        return "out of memory"
    if device_problem(error):
        raise error
    words = f"{type(error).__name__}: {error}"
    return " ".join(words.split())[:MOST_WORDS]


def _baseline(clocks: list[Clock]) -> Clock | None:
    """The runtime that the others are compared with, where it is measured and did not fail."""
    for clock in clocks:
        if (clock.runner.name, clock.runner.precision) == BASELINE and not clock.problem:
            return clock
    return None


def speed_row(clock: Clock, batch_size: int, baseline: Clock | None) -> SpeedRow:
    """The figures of a clock, or its problem.

    The speed-up is the median over the rounds of the ratio within a round, in which a busy machine
    disturbs both alike."""
    runner = clock.runner
    names = dict(
        runtime=runner.name, device=runner.device, precision=runner.precision, batch_size=batch_size
    )
    if clock.problem:
        return SpeedRow(**names, problem=clock.problem)

    def rate(seconds: list[float]) -> float:
        return batch_size * len(seconds) / sum(seconds)

    p50, p90, p99 = 1000 * np.percentile(clock.calls, [50, 90, 99])
    speedup = float(np.median(np.divide(baseline.calls, clock.calls))) if baseline else None
    return SpeedRow(
        **names,
        device_images_per_second=rate(clock.device),
        images_per_second=rate(clock.calls),
        end_to_end_images_per_second=rate(clock.files),
        latency_ms_p50=float(p50),
        latency_ms_p90=float(p90),
        latency_ms_p99=float(p99),
        peak_memory_mb=runner.peak_memory_mb(),
        speedup=speedup,
    )
