"""`python -m tests.benchmarks.prepare_scale`: time and memory of preparing many small pairs.

Pairs of 64x64 pixels are generated in the seeds' flat layout and prepared by the command line, as a
user would; memory is that of all processes together, sampled 20 times a second."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from shared.command import command_line
from shared.data.images import encode_ids, encode_picture

SIDE = 64  # pixels
DISTINCT = 100  # pairs that are drawn; the others are copies of them under other names


def generate(folder: Path, count: int) -> None:
    """`count` pairs in train_{img,label,inst}, ten in test_{img,label,inst}."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(DISTINCT):
        labels = np.kron(rng.integers(0, 35, (8, 8)), np.ones((8, 8), int)).astype(np.uint8)
        photo = (labels * 7 + rng.integers(0, 9, (3, SIDE, SIDE))).astype(np.uint8)
        instances = labels.astype(np.uint16) * 1000
        ids = [encode_ids(array, Path("ids.png")) for array in (labels, instances)]
        contents.append({"img": encode_picture(photo, ".png"), "label": ids[0], "inst": ids[1]})
    for split, size in (("train", count), ("test", 10)):
        for kind in ("img", "label", "inst"):
            (folder / f"{split}_{kind}").mkdir(parents=True)
            for number in range(size):
                (folder / f"{split}_{kind}" / f"{number:06d}.png").write_bytes(
                    contents[number % DISTINCT][kind]
                )


def run_measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and the most memory that the command and its processes held at once, in 10^6
    bytes."""
    start, peak = time.monotonic(), 0
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            held = 0
            for one in (process, *process.children(recursive=True)):
                try:
                    held += one.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, held)
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.monotonic() - start, peak / 1e6


def prepare_scale(counts: tuple[int, ...] = (1_000, 10_000, 100_000)) -> None:
    """Measure time and memory of preparing many small pairs.

    Args:
        counts: Pairs to prepare.

    Example:
        python -m tests.benchmarks.prepare_scale --counts 1000
    """
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder) / "raw", count)
            command = [sys.executable, "-m", "components.prepare", "--raw-data", f"{folder}/raw"]
            command += ["--dataset", f"{folder}/dataset", "--size", f"{SIDE}x{SIDE}"]
            seconds, memory_mb = run_measured(command)
        row = {
            "pairs": count,
            "seconds": seconds,
            "pairs_per_second": count / seconds,
            "peak_memory_mb": memory_mb,
        }
        print("  ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)
        rows.append(row)
    print(json.dumps(rows))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.prepare_scale", prepare_scale, {}, argv)


if __name__ == "__main__":
    main()
