"""`python -m components.prepare`: raw pictures to a checked data set, and scenes to try it on."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from components.prepare.config import DEMO_SIZE, DEMO_TEST, DEMO_TRAIN, PrepareConfig
from components.prepare.problems import refused
from shared.bounds import MANY, Seed
from shared.command import command_line, run_tracked
from shared.errors import InputError
from shared.terminal.stopping import keeps


def prepare(
    raw_data: Annotated[str, tyro.conf.arg(metavar="PATH|URL")],
    dataset: Path | None = None,
    check: tyro.conf.FlagCreatePairsOff[bool] = False,
    check_report: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    *,
    config: PrepareConfig,
) -> None:
    """Check paired images of any usual layout and write them as a data set that every later step
    reads.

    The data set appears whole or not at all. The same command again continues what was interrupted,
    or finds that all is done.

    Args:
        raw_data: Folder of images, archive of one, or URL of either (s3://, gs://, https://).
        dataset: Folder to write; with --check it is not needed.
        check: List all problems instead of writing; exit code 2 where prepare would refuse them.
        check_report: With --check: JSON file to write with everything that was found, file by file.

    Example:
        python -m components.prepare --raw-data runs/demo-data --dataset runs/dataset --size 128x256
    """
    if check:
        keeps("it writes nothing")
        from components.prepare.check import check as find_problems

        sys.exit(2 if refused(find_problems(raw_data, config, check_report)) else 0)
    if check_report:
        raise InputError(f"--check-report {check_report} belongs to --check: say that too.")
    if dataset is None:
        raise InputError("--dataset is missing: name the folder to write, or look with --check.")

    from components.prepare.run import run

    run_tracked(run, config, raw_data=raw_data, dataset=dataset)


def demo(
    out: Path,
    train: Annotated[int, Field(ge=1, le=MANY)] = DEMO_TRAIN,
    test: Annotated[int, Field(ge=1, le=MANY)] = DEMO_TEST,
    size: str = DEMO_SIZE,
    seed: Seed = 0,
) -> None:
    """Draw street scenes by code, in Cityscapes' raw layout with its ids.

    Args:
        out: Folder to write.
        train: Number of scenes for training.
        test: Number of scenes for testing.
        size: HEIGHTxWIDTH of the scenes in pixels.
        seed: The same seed gives the same scenes.

    Example:
        python -m components.prepare demo --out runs/demo-data
    """
    from components.prepare.demo.scenes import generate
    from shared.contracts.dataset import parse_size

    generate(out, train, test, *parse_size(size), seed)


def check_dataset(dataset: Path) -> None:
    """Compare a data set and its cache with what prepare noted of them when it wrote them.

    Exit code 2, and the name of the first file that is another one, where they are not the same.
    `sha256sum --check SHA256SUMS` does it for the images without this project.

    Args:
        dataset: Folder of the prepare step.

    Example:
        python -m components.prepare check-dataset --dataset runs/dataset
    """
    from shared.contracts.dataset import DatasetManifest
    from shared.data.checking import check_dataset as compare

    compare(dataset, DatasetManifest.read(dataset))


def main(argv: list[str] | None = None) -> None:
    commands = {"demo": demo, "check-dataset": check_dataset}
    command_line("python -m components.prepare", prepare, commands, argv)


if __name__ == "__main__":
    main()
