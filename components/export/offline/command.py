"""`python -m components.export offline inputs | pictures`: files for ais_bench, and its files as
pictures."""

import argparse
import sys
from pathlib import Path

from components.export.offline.inputs import form_of_dataset, form_of_export, write_inputs
from components.export.offline.pictures import write_pictures
from shared.contracts.dataset import DatasetManifest, parse_size
from shared.deployed.form import Form
from shared.errors import InputError


def form_of(
    flags: argparse.Namespace, manifest: DatasetManifest, size: tuple[int, int] | None
) -> Form:
    if flags.exported is None:
        return form_of_dataset(flags.form or "onehot", manifest, size)
    for flag, value in (("--form", flags.form), ("--size", flags.size)):
        if value is not None:
            raise InputError(
                f"{flag} {value} was given but --exported {flags.exported} has its own: leave it "
                "out."
            )
    return form_of_export(flags.exported, flags.dataset, manifest)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m components.export offline")
    commands = parser.add_subparsers(dest="command", required=True)
    style = dict(formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    inputs = commands.add_parser(
        "inputs", help="a prepared data set -> files that ais_bench reads", **style
    )
    inputs.add_argument("--dataset", type=Path, required=True, help="folder of the prepare step")
    inputs.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder to write: new, empty, or of the same command",
    )
    inputs.add_argument("--split", choices=("train", "test"), default="test", help="which pairs")
    inputs.add_argument(
        "--exported", type=Path, help="folder of the export step: the inputs of its file"
    )
    inputs.add_argument(
        "--form",
        choices=("onehot", "maps"),
        help="in place of --exported; onehot, or None: one-hot labels and edges as float32, "
        "for the seed's networks; "
        "maps: label and instance ids in two folders",
    )
    inputs.add_argument(
        "--format",
        choices=("bin", "npy"),
        default="bin",
        help="the numbers alone, or with a header",
    )
    inputs.add_argument(
        "--size", help="in place of --exported; HEIGHTxWIDTH in pixels, None: each pair's own"
    )

    pictures = commands.add_parser(
        "pictures", help="files that ais_bench wrote -> pictures", **style
    )
    pictures.add_argument(
        "--outputs", type=Path, required=True, help="folder with <name>_0.bin or <name>_0.npy"
    )
    pictures.add_argument("--out", type=Path, required=True, help="folder to write <name>.png to")
    sizes = pictures.add_mutually_exclusive_group(required=True)
    sizes.add_argument(
        "--dataset", type=Path, help="folder of the prepare step, whose pairs have the sizes"
    )
    sizes.add_argument("--size", help="HEIGHTxWIDTH of the pictures in pixels")
    pictures.add_argument("--split", choices=("train", "test"), default="test", help="of --dataset")
    pictures.add_argument(
        "--suffix", choices=("png", "jpg"), default="png", help="jpg is written with quality 95"
    )

    flags = parser.parse_args(argv)
    try:
        size = None if flags.size is None else parse_size(flags.size)
        if flags.command == "inputs":
            manifest = DatasetManifest.read(flags.dataset)
            form = form_of(flags, manifest, size)
            write_inputs(
                flags.dataset,
                manifest,
                flags.out,
                flags.split,
                form,
                flags.format,
                in_folders=flags.exported is not None or form.graph.form == "maps",
            )
        else:
            write_pictures(flags.outputs, flags.out, flags.suffix, flags.dataset, flags.split, size)
    except InputError as refusal:
        print(f"offline refused: {refusal}", file=sys.stderr)
        sys.exit(2)
