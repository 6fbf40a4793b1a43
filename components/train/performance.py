"""Speed and memory of the training step, as `--performance-run` measures them."""

import dataclasses
import itertools
import json
import statistics
from collections.abc import Iterator
from contextlib import closing
from time import perf_counter

import numpy as np
from tabulate import tabulate

from components.train.data.batches import Batch, EpochLoader
from components.train.step import Trainer
from shared import tracking

ROUNDS = 3  # in which the passes take turns
HELD_BATCHES = 8  # on the device, for the passes without loading


@dataclasses.dataclass(frozen=True)
class PerformanceReport:
    """What `--performance-run` measures; rates and the share are medians over the rounds."""

    device: str
    precision: str
    batch_size: int
    world_size: int
    steps: int  # of each of the three passes
    warmup: int  # steps before the clock starts, in each round and pass
    images_per_second: float  # with data loading, of all processes
    images_per_second_without_loading: float
    step_ms_p50: float  # without data loading
    step_ms_p90: float
    step_ms_p99: float
    data_wait_share: float  # 0 .. 1, of the time of the pass with data loading
    peak_memory_mb: float

    def figures(self) -> dict[str, float]:
        """What was measured, for MLflow."""
        measured = ("images_per_second", "step_ms", "data_wait", "peak_memory")
        found = {k: v for k, v in dataclasses.asdict(self).items() if k.startswith(measured)}
        return {f"performance/{name}": value for name, value in found.items()}

    def table(self) -> str:
        """What was measured, for people."""
        rows = {
            "images/s with data loading": f"{self.images_per_second:.2f}",
            "images/s without": f"{self.images_per_second_without_loading:.2f}",
            "ms per step, p50 / p90 / p99": (
                f"{self.step_ms_p50:.1f} / {self.step_ms_p90:.1f} / {self.step_ms_p99:.1f}"
            ),
            "time that waits for data": f"{self.data_wait_share:.1%}",
            "peak memory": f"{self.peak_memory_mb:.0f} MiB",
            "device": self.device,
            "batch size x processes": f"{self.batch_size} x {self.world_size}",
            "steps, warm-up": f"{self.steps}, {self.warmup} in each of up to {ROUNDS} rounds",
        }
        return tabulate(rows.items(), tablefmt="plain", disable_numparse=True)


@dataclasses.dataclass(frozen=True)
class _Pass:
    """Some steps on one clock."""

    images: int
    seconds: float
    waited: float  # seconds

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def performance_run(
    trainer: Trainer, loader: EpochLoader, steps: int, warmup: int = 10
) -> PerformanceReport:
    """Time `steps` training steps with data loading, as many without, and as many one by one.

    Steps only: no losses are fetched, nothing is written. The trainer's weights move: it is not to
    be saved afterwards. The pass with loading begins an epoch in each round, and the steps before
    the clock starts let its workers come into their stride; where an epoch ends within the pass,
    the start of the next one counts, as it does in training. On an accelerator the wait for data
    may hide behind work that is queued: then the two rates are close all the same."""
    assert steps >= 1 and warmup >= 1

    # Batches that lie on the device.
    rounds = min(ROUNDS, steps)
    first = min(trainer.epoch + 1, trainer.schedule.total_epochs)
    trainer.start_epoch(first)
    with closing(_endless(loader, first)) as batches:
        held = [next(batches).to(trainer.runtime.torch_device) for _ in range(HELD_BATCHES)]

    # The three passes in turn, each warmed up.
    with_loading, without_loading, seconds_of_steps = [], [], []
    for number in range(rounds):
        share = steps * (number + 1) // rounds - steps * number // rounds
        on_device = itertools.cycle(held)
        _timed(trainer, on_device, warmup)
        without_loading.append(_timed(trainer, on_device, share))
        seconds_of_steps += [_timed(trainer, on_device, 1).seconds for _ in range(share)]
        with closing(_endless(loader, first + number)) as batches:
            _timed(trainer, batches, warmup)
            with_loading.append(_timed(trainer, batches, share))

    # Medians over the rounds, percentiles over all single steps.
    p50, p90, p99 = 1000 * np.percentile(seconds_of_steps, (50, 90, 99))
    return PerformanceReport(
        device=trainer.runtime.describe(),
        precision=trainer.runtime.precision,
        batch_size=loader.order.batch_size,
        world_size=trainer.world.size,
        steps=steps,
        warmup=warmup,
        images_per_second=statistics.median(one.rate for one in with_loading),
        images_per_second_without_loading=statistics.median(one.rate for one in without_loading),
        step_ms_p50=float(p50),
        step_ms_p90=float(p90),
        step_ms_p99=float(p99),
        data_wait_share=statistics.median(one.waited / one.seconds for one in with_loading),
        peak_memory_mb=trainer.runtime.peak_memory_mb(),
    )


def publish(report: PerformanceReport) -> dict[str, float]:
    """A table for people, a JSON line for programs, figures for MLflow; returns the figures."""
    print(report.table())
    print(json.dumps(dataclasses.asdict(report)), flush=True)
    tracking.log_headline(report.figures())
    return report.figures()


def _endless(loader: EpochLoader, epoch: int) -> Iterator[Batch]:
    """Batches of this epoch and of those after it."""
    for number in itertools.count(epoch):
        yield from loader.epoch(number)


def _timed(trainer: Trainer, batches: Iterator[Batch], steps: int) -> _Pass:
    """The device is idle when the clock starts and when it stops, and is never waited for in
    between."""
    images, waited = 0, 0.0
    trainer.runtime.synchronize()
    start = perf_counter()
    for _ in range(steps):
        asked = perf_counter()
        batch = trainer.carrier.carry(next(batches))
        waited += perf_counter() - asked
        trainer.step(batch)
        images += len(batch) * trainer.world.size
    trainer.runtime.synchronize()
    return _Pass(images, perf_counter() - start, waited)
