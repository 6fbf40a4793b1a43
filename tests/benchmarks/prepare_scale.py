"""`python -m tests.benchmarks.prepare_scale`: time and memory of preparing many small pairs, and of
training on them."""

import json
import subprocess
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
NETWORKS = ["--ngf", "4", "--n-downsample-global", "2", "--n-blocks-global", "1", "--ndf", "4"]


def prepare_scale(counts: tuple[int, ...] = (1_000, 10_000, 100_000), train_steps: int = 0) -> None:
    """Prepare many small pairs as a user would, and tell time and memory.

    Pairs of 64x64 pixels in the seeds' flat layout; memory of all processes together.

    Args:
        counts: Pairs to prepare, one data set after the other.
        train_steps: So many steps on each are timed, with data loading and without, of networks so
            small that loading would show; 0: none.

    Example:
        python -m tests.benchmarks.prepare_scale --counts 500 5000 50000 --train-steps 100
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
            if train_steps:
                rows[-1] |= trained(Path(folder), train_steps)
    print(json.dumps(rows))


def trained(folder: Path, steps: int) -> dict[str, float]:
    """A training's own figures: time of a step, with and without data loading, and memory."""
    command = [sys.executable, "-m", "components.train", "--performance-run", f"{steps}", *NETWORKS]
    command += ["--dataset", f"{folder}/dataset", "--model", f"{folder}/model"]
    command += ["--device", "cpu", "--workers", "0"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    row = {
        "step_ms": 1000 / found["images_per_second"],
        "step_without_loading_ms": 1000 / found["images_per_second_without_loading"],
        "training_peak_memory_mb": found["peak_memory_mb"],
    }
    print("  ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)
    return row


def blocks(rng: np.random.Generator) -> Sample:
    """Blocks of 8 pixels, each an instance of its own label."""
    labels = np.kron(rng.integers(0, 35, (8, 8)), np.ones((8, 8), int))
    photo = (labels * 7 + rng.integers(0, 9, (3, SIDE, SIDE))).astype(np.uint8)
    return Sample.of_maps("blocks", labels.astype(np.uint8), labels * 1000, photo)


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.prepare_scale", prepare_scale, {}, argv)


if __name__ == "__main__":
    main()
