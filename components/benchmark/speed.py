"""How fast: the runtimes take turns on the same batches, so that a busy machine disturbs them alike."""

import time

import numpy as np

from components.benchmark.runners import OnnxRunner, TorchRunner, batch_of
from shared.contracts import SpeedRow

REST_S = 0.01  # PyTorch's OpenMP threads go on spinning after a call: without a rest the next runtime lost 5 of 20 ms


def measure_speed(
    runners: list[TorchRunner | OnnxRunner],
    samples: list[dict[str, np.ndarray]],
    batch_sizes: tuple[int, ...],
    rounds: int,
    warmup: int,
) -> list[SpeedRow]:
    """One row per batch size and runtime, over `rounds` calls after `warmup` calls that do not count."""
    rows = []
    for batch_size in batch_sizes:
        seconds = {runner.name: [] for runner in runners}
        for turn in range(warmup + rounds):
            batch = batch_of(samples, turn * batch_size, batch_size)
            for runner in runners:
                time.sleep(REST_S)
                started = time.perf_counter()
                runner(batch)
                seconds[runner.name].append(time.perf_counter() - started)
        for runner in runners:
            row = speed_row(runner, batch_size, np.array(seconds[runner.name][warmup:]))
            print(f"benchmark: {row.runtime}, batch {batch_size}: {row.images_per_second:.2f} images/s", flush=True)
            rows.append(row)
    return rows


def speed_row(runner: TorchRunner | OnnxRunner, batch_size: int, seconds: np.ndarray) -> SpeedRow:
    """seconds (rounds,): duration of each call."""
    p50, p90, p99 = 1000 * np.percentile(seconds, [50, 90, 99])
    return SpeedRow(
        runtime=runner.name,
        device=runner.device,
        precision=runner.precision,
        batch_size=batch_size,
        images_per_second=float(batch_size * len(seconds) / seconds.sum()),
        latency_ms_p50=float(p50),
        latency_ms_p90=float(p90),
        latency_ms_p99=float(p99),
        peak_memory_mb=runner.peak_memory_mb(),
    )
