"""How it was measured, in words: a figure is worth nothing without."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime
import torch

from components.benchmark.config import BenchmarkConfig
from shared import tracking
from shared.device import Runtime
from shared.machine import threads
from shared.quality import METRICS


def environment(runtime: Runtime, other_work: str) -> dict[str, str]:
    """In which run it was measured and when, on what hardware, beside what and with which
    software."""
    run = os.environ.get("PIPELINE_RUN")  # by the embedded engine
    code = tracking.code_version()
    commit = code.get("git.commit", "") + ", with changes" * ("git.dirty" in code)
    return ({"run": run} if run else {}) | {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "not known",
        "device": runtime.describe(),
        "cpu threads": f"{threads.described(torch.get_num_threads())} per runtime",
        "other work": other_work or "little when it began",
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


GATE = (
    "Verdict: tonight's file, the champion's, and the champion's opened a second time were called "
    "in turn, in {} rounds of changing order; the change of speed is the median of the ratios "
    "within a round, its interval that of the median, its noise what the champion differs from "
    "itself by, 3 % at least. Changes of quality are means over the test pairs of the differences "
    "by pair, with Student's interval; those of FID, KID and labels found again have a jackknife's "
    "over ten groups of pairs. Their noise is a tenth of what is allowed. All intervals hold "
    "together with {:g} % confidence."
)


def method(options: BenchmarkConfig, painter: str, rounds: int) -> str:
    """What each figure of the report means, and how it was obtained.

    Args:
        painter: Name of the runtime whose pictures quality was measured of.
        rounds: In which the speed was compared with the champion's; 0 = it was not.
    """
    speed = (
        f"Speed: {options.rounds} timed rounds per runtime and batch size after {options.warmup} "
        "that do not count, the runtimes in turn on the same batches of real maps, 10 ms of rest "
        "before each. Device: maps and pictures stay on the device. Images/s and latency: from "
        "integer maps in host memory to pictures in host memory, copies to and from the device "
        "included; latency is per batch. End to end: map files are read and decoded, pictures are "
        "rounded and encoded as PNG, one after the other in one process, in the first three "
        "rounds. ais_bench is the time that Ascend's tool reports, without files. The speed-up is "
        "the median of the ratios within a round. Peak memory is the most held so far, of the "
        "process (on a CPU, all runtimes together) or of PyTorch on its device: it grows down the "
        "table."
    )
    metrics = [f"{metric.title} {metric.how}" for metric in METRICS if metric.how]
    networks = {"LPIPS": options.lpips_network, "FID and KID": options.fid_network}
    metrics += [f"{titles} by {Path(named).name}" for titles, named in networks.items() if named]
    quality = (
        f"Quality: pictures of {painter}, batch 1, rounded to uint8; {', '.join(metrics)}; means "
        "over pairs that have a photo: all test pairs, and the training pairs shown."
    )
    parity = (
        "Parity: against PyTorch in fp32 on the CPU, on the first of the maps, before anything is "
        "timed."
    )
    gate = f" {GATE.format(rounds, 100 * options.gate_confidence)}" if rounds else ""
    return f"{speed} {quality} {parity}{gate}"
