"""`python -m tests.benchmarks.prepare_scale`: time and memory of preparing many small pairs."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from shared.command import command_line
from shared.data.maps import Sample
from tests.benchmarks.street import write_raw
from tests.benchmarks.turns import measured_row

SIDE = 64  # pixels
DISTINCT = 100  # pairs that are drawn; the others are copies of them under other names


def prepare_scale(counts: tuple[int, ...] = (1_000, 10_000, 100_000)) -> None:
    """Prepare many small pairs as a user would, and tell time and memory.

    Pairs of 64x64 pixels in the seeds' flat layout; memory of all processes together.

    Args:
        counts: Pairs to prepare, one data set after the other.

    Example:
        python -m tests.benchmarks.prepare_scale --counts 1000 10000
    """
    rng = np.random.default_rng(0)
    drawn = [blocks(rng) for _ in range(DISTINCT)]
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_raw(Path(folder) / "raw", drawn, count, test=10)
            command = [sys.executable, "-m", "components.prepare", "--size", f"{SIDE}x{SIDE}"]
            command += ["--raw-data", f"{folder}/raw", "--dataset", f"{folder}/dataset"]
            rows.append(measured_row("pairs", count, command, mapped=True))
    print(json.dumps(rows))


def blocks(rng: np.random.Generator) -> Sample:
    """Blocks of 8 pixels, each an instance of its own label."""
    labels = np.kron(rng.integers(0, 35, (8, 8)), np.ones((8, 8), int))
    photo = (labels * 7 + rng.integers(0, 9, (3, SIDE, SIDE))).astype(np.uint8)
    return Sample.of_maps("blocks", labels.astype(np.uint8), labels * 1000, photo)


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.prepare_scale", prepare_scale, {}, argv)


if __name__ == "__main__":
    main()
