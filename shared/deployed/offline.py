"""`python -m shared.deployed.offline inputs | pictures`: files for ais_bench, and what it wrote as
pictures.

They take the places of the seed's pix2pixhd_preprocess.py and pix2pixhd_postprocess.py. A file that
ais_bench writes is named after its input: the name up to the first dot, `_`, and the number of the
network's output."""

import argparse
import contextlib
import io
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from shared.contracts.dataset import DatasetManifest, Pair, parse_size
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.folder import write_atomically
from shared.contracts.model import Architecture
from shared.data.images import resize_photo, write_picture
from shared.data.maps import PairReader
from shared.deployed.styles import Style
from shared.deployed.synthesiser import feeds, to_pixels
from shared.errors import InputError

FILE_MODE, FOLDER_MODE = 0o640, 0o750  # ais_bench reads nothing that group or others can write to


@dataclass(frozen=True)
class Network:
    """What files are made for."""

    architecture: Architecture
    graph: Graph
    style: Style | None
    size: tuple[int, int] | None  # (height, width) of its maps, None = each pair's own
    has_folders: (
        bool  # for its inputs, with their names; else the files of its only one lie in --out itself
    )

    @classmethod
    def of_export(cls, exported: Path, dataset: Path, manifest: DatasetManifest) -> Self:
        """Raises InputError for a data set that it cannot read, and for a file that ais_bench
        cannot be fed."""
        card = ExportCard.read(exported)
        card.architecture.refuse_other_data(dataset, manifest)
        if card.graph.style == "instance":
            raise InputError(
                f"--exported {exported} takes styles by instance, tables of any length, but "
                "ais_bench takes one "
                "length: export it with --style label or map."
            )
        style = Style(np.array(card.style, np.float32)) if card.style else None
        return cls(card.architecture, card.graph, style, card.size, has_folders=True)

    @classmethod
    def of_form(cls, form: str, manifest: DatasetManifest, size: tuple[int, int] | None) -> Self:
        """One without instance features, which reads all else that the data set has."""
        architecture = Architecture.model_construct(
            num_labels=manifest.num_labels,
            input_nc=manifest.input_nc,
            use_instances=manifest.has_instances,
            feat_num=0,
        )  # of the layers nothing is known, nor needed
        return cls(architecture, Graph(inputs=form), None, size, has_folders=form == "maps")

    def feed(self, inputs: np.ndarray, instances: np.ndarray | None) -> dict[str, np.ndarray]:
        """A batch of one, see `shared.deployed.synthesiser.feeds`."""
        return feeds(self.architecture, self.graph, inputs, instances, self.style)

    def feed_of_one_pixel(self) -> dict[str, np.ndarray]:
        channels = self.architecture.input_nc
        return self.feed(
            np.zeros((channels, 1, 1) if channels else (1, 1), np.uint8), np.zeros((1, 1), np.int32)
        )


def write_inputs(
    dataset: Path,
    manifest: DatasetManifest,
    out: Path,
    split: str,
    network: Network,
    file_format: str,
) -> None:
    """Write what `network` reads for the pairs of one split: a file per sample and input."""
    pairs = list(pairs_by_output(dataset, manifest, split).values())
    for pair in pairs:
        if not re.fullmatch(r"[_A-Za-z0-9.-]+", pair.name):
            raise InputError(
                f"--dataset {dataset} has a pair {pair.name!r} but ais_bench takes names of "
                "letters, digits and _.- "
                "only: rename its files and prepare the data set again."
            )

    one_pixel = network.feed_of_one_pixel()
    sizes = [network.size or (pair.height, pair.width) for pair in pairs]
    pixels = sum(height * width for height, width in sizes)
    total = sum(
        one.nbytes * (len(pairs) if name == "style" else pixels) for name, one in one_pixel.items()
    )
    folders = {name: out / name if network.has_folders else out for name in one_pixel}
    files = {
        (name, pair.name): folders[name] / f"{pair.name}.{file_format}"
        for name in folders
        for pair in pairs
    }
    print(
        f"offline: {len(files)} files of {total:,} bytes in all ({total / 1e9:.2f} GB) for {out}",
        flush=True,
    )
    check_out(out, set(files.values()), total)

    shapes = {name: set() for name in folders}
    with refused_if_unwritable(out):
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)
        reader = PairReader(dataset, manifest, split)
        for i, pair in enumerate(pairs):
            sample = reader.read(i, network.size, with_photo=False)
            for name, array in network.feed(sample.inputs, sample.instances).items():
                write_atomically(files[name, pair.name], as_file(array[0], file_format))
                files[name, pair.name].chmod(FILE_MODE)
                shapes[name].add(array.shape[1:])

    for name, folder in folders.items():
        some = ["x".join(map(str, shape)) for shape in sorted(shapes[name])[:3]]
        some = ", ".join(some) + ", ..." * (len(shapes[name]) > 3)
        print(f"offline: {folder}: {len(pairs)} files of {one_pixel[name].dtype} {some}")
    print(f"--input {','.join(map(str, folders.values()))}")


def check_out(out: Path, files: set[Path], total: int) -> None:
    """Refuses a folder with other than these files, which ais_bench would read too, or a disk
    without `total` bytes."""
    own = files | {
        file.with_name(f".{file.name}.partial") for file in files
    }  # of a run that was killed
    for path in out.rglob("*"):
        if not path.is_dir() and path not in own:
            raise InputError(
                f"--out {out} holds another file, {path.name}: give a new or empty folder."
            )
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free + sum(
        file.stat().st_size for file in files if file.is_file()
    )
    if total > free:
        raise InputError(
            f"--out {out} has {free:,} bytes free but the {len(files)} files take {total:,}: give "
            "another disk, "
            "a smaller size, or maps in place of one-hot channels where the network takes them."
        )


def pairs_by_output(dataset: Path, manifest: DatasetManifest, split: str) -> dict[str, Pair]:
    """The pairs of a split by the name that ais_bench gives their output, without its number."""
    pairs = {}
    for pair in getattr(manifest, split):
        other = pairs.setdefault(pair.name.partition(".")[0], pair)
        if other is not pair:
            raise InputError(
                f"--dataset {dataset} has the pairs {other.name} and {pair.name}, whose outputs "
                "ais_bench gives one "
                "name (up to the first dot): rename their files and prepare the data set again."
            )
    if not pairs:
        raise InputError(
            f"--dataset {dataset} has no pairs in its {split} split: give another --split."
        )
    return pairs


def as_file(array: np.ndarray, file_format: str) -> bytes:
    """Content of a .bin (the numbers alone, in C order) or .npy file."""
    if file_format == "bin":
        return array.tobytes()
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_pictures(
    outputs: Path,
    out: Path,
    suffix: str,
    dataset: Path | None,
    split: str,
    size: tuple[int, int] | None,
) -> None:
    """Write the network outputs that ais_bench left in `outputs` as <name>.<suffix>.

    Their height and width are `size`, or those of the pair of this name in `dataset`; a .npy of
    others is resized."""
    files = sorted(path for path in outputs.glob("*") if path.suffix in (".bin", ".npy"))
    if not files:
        raise InputError(
            f"--outputs {outputs} holds no .bin or .npy files: give the folder that ais_bench "
            "wrote them to."
        )
    pairs = pairs_by_output(dataset, DatasetManifest.read(dataset), split) if dataset else {}
    jobs: dict[str, tuple[Path, tuple[int, int]]] = {}
    for file in files:
        name, _, number = file.stem.rpartition("_")
        if not (name and number.isdecimal()):
            raise InputError(
                f"--outputs {outputs} holds {file.name}, which is not named <name>_<number> as by "
                "ais_bench: "
                "rename or remove it."
            )
        if dataset and name not in pairs:
            raise InputError(
                f"--outputs {outputs} holds {file.name} but --dataset {dataset} has no {split} "
                f"pair {name}: "
                "give the data set and --split that the inputs were made from."
            )
        picture = f"{pairs[name].name if dataset else name}.{suffix}"
        if picture in jobs:
            raise InputError(
                f"--outputs {outputs} holds both {jobs[picture][0].name} and {file.name} for "
                f"{picture}: remove one."
            )
        jobs[picture] = file, (pairs[name].height, pairs[name].width) if dataset else size

    with refused_if_unwritable(out):
        for name, (file, wanted_size) in jobs.items():
            picture = read_output(file, *wanted_size, size_is_certain=size is not None)
            pixels = resize_photo(to_pixels(picture), *wanted_size)  # (3, H, W) uint8
            write_picture(out / name, pixels)
    print(f"offline: wrote {len(jobs)} pictures to {out}")


def read_output(file: Path, height: int, width: int, size_is_certain: bool) -> np.ndarray:
    """(3, H, W) float32 or float16 in [-1, 1], finite, or uint8; H and W of a .bin are those given.

    Raises InputError for anything else, and for a .bin that may be uint8 or float32 of a smaller
    size."""
    if file.suffix == ".npy":
        try:
            array = np.load(file, allow_pickle=False)
        except Exception:  # a broken header raises errors of many types
            raise InputError(
                f"{file} cannot be read as a .npy file: run the network again."
            ) from None
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        known = array.dtype in (np.float32, np.float16, np.uint8)
        if not known or array.ndim != 3 or len(array) != 3 or not array.size:
            raise InputError(
                f"{file} holds {array.dtype} of shape {array.shape}: give float32, float16 or "
                "uint8 of "
                "(3, height, width)."
            )
    else:
        length, count = file.stat().st_size, 3 * height * width
        types = {4 * count: "<f4", 2 * count: "<f2", count: "u1"}
        if length not in types:
            raise InputError(
                f"{file} has {length} bytes but a picture of {height}x{width} has {4 * count} as "
                "float32, "
                f"{2 * count} as float16, {count} as uint8: give the --size that the network "
                "makes, without --dataset."
            )
        if length == count and not size_is_certain:
            raise InputError(
                f"{file} has {length} bytes, a picture of {height}x{width} as uint8 or of half "
                "those sides as float32: "
                "give the --size that the network makes, without --dataset."
            )
        array = np.fromfile(file, types[length]).reshape(3, height, width)
    if not np.isfinite(array).all():
        raise InputError(
            f"{file} holds nan or inf: the network is broken, compare it with `export`'s own proof."
        )
    return array


@contextlib.contextmanager
def refused_if_unwritable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error.strerror}: {error.filename}): give a place "
            "you can write to."
        ) from None


def network_of(
    flags: argparse.Namespace, manifest: DatasetManifest, size: tuple[int, int] | None
) -> Network:
    if flags.exported is None:
        return Network.of_form(flags.form or "onehot", manifest, size)
    for flag, value in (("--form", flags.form), ("--size", flags.size)):
        if value is not None:
            raise InputError(
                f"{flag} {value} was given but --exported {flags.exported} has its own: leave it "
                "out."
            )
    return Network.of_export(flags.exported, flags.dataset, manifest)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m shared.deployed.offline")
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
            network = network_of(flags, manifest, size)
            write_inputs(flags.dataset, manifest, flags.out, flags.split, network, flags.format)
        else:
            write_pictures(flags.outputs, flags.out, flags.suffix, flags.dataset, flags.split, size)
    except InputError as refusal:
        print(f"offline refused: {refusal}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
