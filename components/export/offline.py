"""`python -m components.export.offline inputs | pictures`: files for ais_bench, and what it wrote as pictures.

They take the places of the seed's pix2pixhd_preprocess.py and pix2pixhd_postprocess.py. A file that ais_bench writes is
named after its input: the name up to the first dot, `_`, and the number of the network's output.
"""

import argparse
import contextlib
import io
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from shared.condition import encode_maps, to_uint8
from shared.contracts import DatasetManifest, Pair, parse_size, write_atomically
from shared.errors import InputError
from shared.images import resize_photo, write_photo
from shared.samples import PairReader, Sample

FILE_MODE, FOLDER_MODE = 0o640, 0o750  # ais_bench reads nothing that group or others can write to


def write_inputs(
    dataset: Path, out: Path, split: str, form: str, file_format: str, size: tuple[int, int] | None
) -> None:
    """Write the network inputs of one split, a file per sample and input; `size` (height, width), None = each its own.

    form: "onehot", the one input of the seed's network, float32 (C, H, W) of one-hot labels (or the picture in
    [-1, 1]) and edges; or "maps", the inputs of the graph that `export` writes, in one folder each.
    """
    manifest = DatasetManifest.read(dataset)
    pairs = list(pairs_by_output(dataset, manifest, split).values())
    for pair in pairs:
        if not re.fullmatch(r"[_A-Za-z0-9.-]+", pair.name):
            raise InputError(
                f"--dataset {dataset} has a pair {pair.name!r} but ais_bench takes names of letters, digits and _.- "
                "only: rename its files and prepare the data set again."
            )

    inputs = describe(manifest, form)
    files = {(folder, pair.name): out / folder / f"{pair.name}.{file_format}" for folder in inputs for pair in pairs}
    sizes = [size or (pair.height, pair.width) for pair in pairs]
    bytes_per_pixel = sum(dtype.itemsize * int(np.prod(channels)) for dtype, channels in inputs.values())
    total = sum(height * width for height, width in sizes) * bytes_per_pixel
    print(f"offline: {len(files)} files of {total:,} bytes in all ({total / 1e9:.2f} GB) for {out}", flush=True)
    check_out(out, set(files.values()), total)

    with refused_if_unwritable(out):
        for folder in inputs:
            (out / folder).mkdir(parents=True, exist_ok=True)
            (out / folder).chmod(FOLDER_MODE)
        reader = PairReader(dataset, manifest, split)
        for i, pair in enumerate(pairs):
            arrays = encode(reader.read(i, size), manifest, form)
            for (folder, (dtype, _)), array in zip(inputs.items(), arrays, strict=True):
                file = files[folder, pair.name]
                write_atomically(file, as_file(np.ascontiguousarray(array, dtype), file_format))
                file.chmod(FILE_MODE)

    distinct = sorted(set(sizes))
    for folder, (dtype, channels) in inputs.items():
        shapes = ["x".join(map(str, channels + one_size)) for one_size in distinct[:3]]
        some = ", ".join(shapes) + ", ..." * (len(distinct) > 3)
        print(f"offline: {out / folder}: {len(pairs)} files of {dtype.name} {some}")
    print(f"offline: {total:,} bytes in all; ais_bench --input {','.join(str(out / folder) for folder in inputs)}")


def check_out(out: Path, files: set[Path], total: int) -> None:
    """Refuses a folder with other than these files, which ais_bench would read too, or a disk without `total` bytes."""
    own = files | {file.with_name(f".{file.name}.partial") for file in files}  # of a run that was killed
    for path in out.rglob("*"):
        if not path.is_dir() and path not in own:
            raise InputError(f"--out {out} holds another file, {path.name}: give a new or empty folder.")
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free + sum(file.stat().st_size for file in files if file.is_file())
    if total > free:
        raise InputError(
            f"--out {out} has {free:,} bytes free but the {len(files)} files take {total:,}: give another disk, "
            "a smaller --size, or --form maps where the network takes it."
        )


def pairs_by_output(dataset: Path, manifest: DatasetManifest, split: str) -> dict[str, Pair]:
    """The pairs of a split by the name that ais_bench gives their output, without its number."""
    pairs = {}
    for pair in getattr(manifest, split):
        other = pairs.setdefault(pair.name.partition(".")[0], pair)
        if other is not pair:
            raise InputError(
                f"--dataset {dataset} has the pairs {other.name} and {pair.name}, whose outputs ais_bench gives one "
                "name (up to the first dot): rename their files and prepare the data set again."
            )
    if not pairs:
        raise InputError(f"--dataset {dataset} has no pairs in its {split} split: give another --split.")
    return pairs


def describe(manifest: DatasetManifest, form: str) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and channels of each input of the network, by the folder of its files."""
    if form == "onehot":
        channels = manifest.num_labels + manifest.input_nc + int(manifest.has_instances)
        return {".": (np.dtype("<f4"), (channels,))}
    name, channels = ("image", (manifest.input_nc,)) if manifest.input_nc else ("labels", ())
    inputs = {name: (np.dtype(np.uint8), channels)}
    return inputs | {"instances": (np.dtype("<i4"), ())} if manifest.has_instances else inputs


def encode(sample: Sample, manifest: DatasetManifest, form: str) -> list[np.ndarray]:
    """The arrays that `describe` describes, in its order."""
    if form == "maps":
        return [sample.inputs, sample.instances] if manifest.has_instances else [sample.inputs]
    instances = torch.tensor(sample.instances).unsqueeze(0) if manifest.has_instances else None
    return [encode_maps(torch.tensor(sample.inputs).unsqueeze(0), instances, manifest.num_labels)[0].numpy()]


def as_file(array: np.ndarray, file_format: str) -> bytes:
    """Content of a .bin (the numbers alone, in C order) or .npy file."""
    if file_format == "bin":
        return array.tobytes()
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_pictures(
    outputs: Path, out: Path, suffix: str, dataset: Path | None, split: str, size: tuple[int, int] | None
) -> None:
    """Write the network outputs that ais_bench left in `outputs` as <name>.<suffix>.

    Their height and width are `size`, or those of the pair of this name in `dataset`; a .npy of others is resized.
    """
    files = sorted(path for path in outputs.glob("*") if path.suffix in (".bin", ".npy"))
    if not files:
        raise InputError(
            f"--outputs {outputs} holds no .bin or .npy files: give the folder that ais_bench wrote them to."
        )
    pairs = pairs_by_output(dataset, DatasetManifest.read(dataset), split) if dataset else {}
    jobs: dict[str, tuple[Path, tuple[int, int]]] = {}
    for file in files:
        name, _, number = file.stem.rpartition("_")
        if not (name and number.isdecimal()):
            raise InputError(
                f"--outputs {outputs} holds {file.name}, which is not named <name>_<number> as by ais_bench: "
                "rename or remove it."
            )
        if dataset and name not in pairs:
            raise InputError(
                f"--outputs {outputs} holds {file.name} but --dataset {dataset} has no {split} pair {name}: "
                "give the data set and --split that the inputs were made from."
            )
        picture = f"{pairs[name].name if dataset else name}.{suffix}"
        if picture in jobs:
            raise InputError(
                f"--outputs {outputs} holds both {jobs[picture][0].name} and {file.name} for {picture}: remove one."
            )
        jobs[picture] = file, (pairs[name].height, pairs[name].width) if dataset else size

    with refused_if_unwritable(out):
        for picture, (file, wanted_size) in jobs.items():
            signed = torch.from_numpy(read_output(file, *wanted_size))  # (3, H, W), [-1, 1]
            pixels = to_uint8(signed).permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
            pixels = resize_photo(pixels, *wanted_size)
            if suffix == "png":
                write_photo(out / picture, pixels)
            else:
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
                write_atomically(out / picture, buffer.getvalue())
    print(f"offline: wrote {len(jobs)} pictures to {out}")


def read_output(file: Path, height: int, width: int) -> np.ndarray:
    """(3, H, W) float32 or float16, finite; H and W of a .bin are those given. Raises InputError for anything else."""
    if file.suffix == ".npy":
        try:
            array = np.load(file, allow_pickle=False)
        except Exception:  # a broken header raises errors of many types
            raise InputError(f"{file} cannot be read as a .npy file: run the network again.") from None
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        if array.dtype not in (np.float32, np.float16) or array.ndim != 3 or len(array) != 3 or not array.size:
            raise InputError(
                f"{file} holds {array.dtype} of shape {array.shape}: give float32 or float16 of (3, height, width)."
            )
    else:
        length, count = file.stat().st_size, 3 * height * width
        types = {4 * count: "<f4", 2 * count: "<f2"}
        if length not in types:
            raise InputError(
                f"{file} has {length} bytes but a picture of {height}x{width} has {4 * count} as float32 "
                f"({2 * count} as float16): give the --size that the network makes, without --dataset."
            )
        array = np.fromfile(file, types[length]).reshape(3, height, width)
    if not np.isfinite(array).all():
        raise InputError(f"{file} holds nan or inf: the network is broken, compare it with `export`'s own proof.")
    return array


@contextlib.contextmanager
def refused_if_unwritable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error.strerror}: {error.filename}): give a place you can write to."
        ) from None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m components.export.offline")
    commands = parser.add_subparsers(dest="command", required=True)
    style = dict(formatter_class=argparse.ArgumentDefaultsHelpFormatter)

    inputs = commands.add_parser("inputs", help="a prepared data set -> files that ais_bench reads", **style)
    inputs.add_argument("--dataset", type=Path, required=True, help="folder of the prepare step")
    inputs.add_argument("--out", type=Path, required=True, help="folder to write: new, empty, or of the same command")
    inputs.add_argument("--split", choices=("train", "test"), default="test", help="which pairs")
    inputs.add_argument(
        "--form",
        choices=("onehot", "maps"),
        default="onehot",
        help="onehot: one-hot labels and edges as float32, for networks exported without them, as the seed's; "
        "maps: label and instance ids in two folders, for the graph that this project exports",
    )
    inputs.add_argument("--format", choices=("bin", "npy"), default="bin", help="the numbers alone, or with a header")
    inputs.add_argument("--size", help="HEIGHTxWIDTH to resize to in pixels; None: each pair's own")

    pictures = commands.add_parser("pictures", help="files that ais_bench wrote -> pictures", **style)
    pictures.add_argument("--outputs", type=Path, required=True, help="folder with <name>_0.bin or <name>_0.npy")
    pictures.add_argument("--out", type=Path, required=True, help="folder to write <name>.png to")
    sizes = pictures.add_mutually_exclusive_group(required=True)
    sizes.add_argument("--dataset", type=Path, help="folder of the prepare step, whose pairs have the sizes")
    sizes.add_argument("--size", help="HEIGHTxWIDTH of the pictures in pixels")
    pictures.add_argument("--split", choices=("train", "test"), default="test", help="of --dataset")
    pictures.add_argument("--suffix", choices=("png", "jpg"), default="png", help="jpg is written with quality 95")

    flags = parser.parse_args(argv)
    try:
        size = None if flags.size is None else parse_size(flags.size)
        if flags.command == "inputs":
            write_inputs(flags.dataset, flags.out, flags.split, flags.form, flags.format, size)
        else:
            write_pictures(flags.outputs, flags.out, flags.suffix, flags.dataset, flags.split, size)
    except InputError as refusal:
        print(f"offline refused: {refusal}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
