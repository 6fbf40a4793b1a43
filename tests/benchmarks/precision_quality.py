"""`python -m tests.benchmarks.precision_quality`: what a precision costs in quality, by short
trainings from the same weights, on the same pairs in the same order."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.command import command_line
from shared.contracts.model import ModelCard


def precision_quality(
    dataset: Path,
    recipe: str = "demo",
    precisions: tuple[str, ...] = ("fp32", "bf16"),
    seeds: int = 3,
    epochs: int = 8,
    epochs_decay: int = 4,
    size: str = "64x128",
    ngf: int = 8,
) -> None:
    """Train in each precision from each seed, and tell test figures and losses side by side.

    A difference between precisions means something where it is larger than that between seeds.

    Args:
        dataset: Prepared data set with test pairs.
        recipe: Whose section train_global has the other options.
        precisions: Precisions to train in.
        seeds: Trainings in each.
        epochs: Epochs at the full learning rate.
        epochs_decay: Epochs after those, of a falling one.
        size: HEIGHTxWIDTH of the frames in pixels.
        ngf: Channels of G's first layer.

    Example:
        python -m tests.benchmarks.precision_quality --dataset runs/dataset --seeds 3
    """
    options = [*("--recipe", recipe, "--recipe-section", "train_global"), "--no-flip"]
    options += ["--epochs", f"{epochs}", "--epochs-decay", f"{epochs_decay}"]
    options += ["--size", size, "--crop", "", "--ngf", f"{ngf}", "--device", "cpu"]
    options += ["--workers", "0", "--sample-every-epochs", f"{epochs + epochs_decay}"]

    # Seed by seed, so that what else the machine does meets all precisions.
    found: dict[str, list[dict[str, float]]] = {name: [] for name in precisions}
    for seed in range(seeds):
        for name in precisions:
            own = [*options, "--precision", name, "--seed", f"{seed}"]
            found[name].append(trained(dataset, own))
            print(f"seed {seed} {name:5} {_line(found[name][-1])}", flush=True)

    # Means and spread over the seeds, for people and for programs.
    for name, runs in found.items():
        means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        print(f"mean   {name:5} {_line(means)}")
        spread = (
            {key: statistics.stdev(run[key] for run in runs) for key in means} if seeds > 1 else {}
        )
        print(f"spread {name:5} {_line(spread)}")
    print(json.dumps(found))


def trained(dataset: Path, options: list[str]) -> dict[str, float]:
    """The last epoch's losses and figures of the test pairs, of a training as a user starts it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "components.train", *options]
        command += ["--dataset", f"{dataset}", "--model", f"{folder}/model"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return ModelCard.read(Path(folder) / "model").metrics


def _line(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.precision_quality", precision_quality, {}, argv)


if __name__ == "__main__":
    main()
