"""`python -m tests.benchmarks.tracking_cost`: what logging costs a training of ten steps a second.

Processor time is counted, which other programs on the machine do not change: of the training's own
thread, which waits for it, and of all threads, which is an upper bound where cores are few. First
it is counted that everything arrived. MLFLOW_TRACKING_URI is the store; without it, a new one."""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from shared import tracking
from shared.command import command_line

LOSSES = ("G_GAN", "G_VGG", "G_feature_matching", "D_real", "D_fake", "G_L1")
STEP_S = 0.1


def tracking_cost(steps: int = 300) -> None:
    """Print what `log_metrics` of eight scalars costs in each step.

    Args:
        steps: How many.

    Example:
        python -m tests.benchmarks.tracking_cost --steps 600
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MLFLOW_TRACKING_URI", tracking.store_uri(Path(folder)))
        with tracking.step_run("cost", {}, Path(folder) / "cost"):
            run_id = tracking.run_id()
            figures = measure(steps)
        history = tracking.client().get_metric_history(run_id, "loss/G_GAN")
        assert [point.step for point in history] == list(range(steps)), "not all has arrived"

    # A line for programs, a table for people.
    share = figures["own_thread_ms"] / (1000 * STEP_S)
    print(f"of a step of {1000 * STEP_S:.0f} ms, {steps} steps, 8 scalars each:")
    print(f"  the training's thread   {figures['own_thread_ms']:.3f} ms ({share:.2%})")
    print(f"  the median call         {figures['median_call_ms']:.3f} ms")
    print(f"  all threads             {figures['all_threads_ms']:.3f} ms")
    print(json.dumps(figures))


def measure(steps: int) -> dict[str, float]:
    """Milliseconds a step."""
    calls, own, start, all_before = [], 0.0, time.perf_counter(), time.process_time()
    for step in range(steps):
        scalars = {f"loss/{name}": 1 / (step + 1) for name in LOSSES}
        scalars |= {"data_wait_share": 0.01, "skipped_updates": 0.0}
        own_before, before = time.thread_time(), time.perf_counter()
        tracking.log_metrics(scalars, step)
        calls.append(time.perf_counter() - before)
        own += time.thread_time() - own_before
        time.sleep(max(0.0, start + (step + 1) * STEP_S - time.perf_counter()))
    return {
        "own_thread_ms": 1000 * own / steps,
        "median_call_ms": 1000 * statistics.median(calls),
        "all_threads_ms": 1000 * (time.process_time() - all_before) / steps,
    }


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark as a command."""
    command_line("python -m tests.benchmarks.tracking_cost", tracking_cost, {}, argv)


if __name__ == "__main__":
    main()
