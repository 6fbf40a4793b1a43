"""A prepared data set as the input files of ais_bench.

They take the place of what the seed's pix2pixhd_preprocess.py wrote."""

import io
import re
import shutil
from pathlib import Path

import numpy as np

from components.export.out import refused_if_unwritable
from shared.contracts.dataset import DatasetManifest, Pair, parse_size
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.folder import write_atomically
from shared.contracts.model import GeneratorInput
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.deployed.form import Feeds, Form
from shared.errors import InputError

FILE_MODE, FOLDER_MODE = 0o640, 0o750  # ais_bench reads nothing that group or others can write to


def form_of_inputs(
    exported: Path | None,
    form: str | None,
    size: str | None,
    dataset: Path,
    manifest: DatasetManifest,
) -> Form:
    """The form of an exported file, or else of a network told of by "maps" or "onehot" and
    HEIGHTxWIDTH. Raises InputError where both are given."""
    if exported is None:
        height_width = None if size is None else parse_size(size)
        return form_of_dataset(form or "onehot", manifest, height_width)
    for flag, value in (("--form", form), ("--size", size)):
        if value is not None:
            raise InputError(
                f"{flag} {value} was given but --exported {exported} has its own: leave it out."
            )
    return form_of_export(exported, dataset, manifest)


def form_of_export(exported: Path, dataset: Path, manifest: DatasetManifest) -> Form:
    """The form of an exported file. Raises InputError for a data set that it cannot read, and for a
    file that ais_bench cannot be fed."""
    form = Form.of_export(ExportCard.read(exported))
    form.reads.refuse_other_data(dataset, manifest)
    if form.graph.style == "instance":
        raise InputError(
            f"--exported {exported} takes styles by instance, tables of any length, but ais_bench "
            "takes one length: export it with --style label or map."
        )
    return form


def form_of_dataset(form: str, manifest: DatasetManifest, size: tuple[int, int] | None) -> Form:
    """The form of a network without instance features that reads all else that the data set has.

    form: "maps" or "onehot"."""
    reads = GeneratorInput(
        num_labels=manifest.num_labels,
        input_nc=manifest.input_nc,
        use_instances=manifest.has_instances,
        feat_num=0,
    )
    return Form(reads, Graph(form=form), size=size)


def write_inputs(
    dataset: Path,
    manifest: DatasetManifest,
    out: Path,
    split: str,
    form: Form,
    file_format: str,
    in_folders: bool,
) -> None:
    """Write what a network of this form reads for the pairs of one split: a file per sample and
    input.

    Args:
        form: Without a size each pair keeps its own.
        file_format: "bin" or "npy".
        in_folders: A folder for each input, with its name; else the files of the only one lie in
            `out` itself.
    """
    pairs = list(pairs_by_output(dataset, manifest, split).values())
    for pair in pairs:
        if not re.fullmatch(r"[_A-Za-z0-9.-]+", pair.name):
            raise InputError(
                f"--dataset {dataset} has a pair {pair.name!r} but ais_bench takes names of "
                "letters, digits and _.- only: rename its files and prepare the data set again."
            )

    # What will be written, and whether there is room for it.
    one_pixel = feed_of_one_pixel(form)
    sizes = [form.size or (pair.height, pair.width) for pair in pairs]
    pixels = sum(height * width for height, width in sizes)
    total = sum(
        one.nbytes * (len(pairs) if name == "style" else pixels) for name, one in one_pixel.items()
    )
    folders = {name: out / name if in_folders else out for name in one_pixel}
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

    # The files.
    shapes = {name: set() for name in folders}
    with refused_if_unwritable(out):
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)
        reader = PairReader(dataset, manifest, split)
        for i, pair in enumerate(pairs):
            sample = reader.read(i, form.size, with_photo=False)
            for name, array in form.feed(sample).items():
                write_atomically(files[name, pair.name], as_file(array[0], file_format))
                files[name, pair.name].chmod(FILE_MODE)
                shapes[name].add(array.shape[1:])

    # What they are, and how ais_bench is told of them.
    for name, folder in folders.items():
        some = ["x".join(map(str, shape)) for shape in sorted(shapes[name])[:3]]
        some = ", ".join(some) + ", ..." * (len(shapes[name]) > 3)
        print(f"offline: {folder}: {len(pairs)} files of {one_pixel[name].dtype} {some}")
    print(f"--input {','.join(map(str, folders.values()))}")


def feed_of_one_pixel(form: Form) -> Feeds:
    """Inputs for a map of one pixel: their names, types and sizes."""
    channels = form.reads.input_nc
    inputs = np.zeros((channels, 1, 1) if channels else (1, 1), np.uint8)
    return form.feed(Sample.of_maps("", inputs, np.zeros((1, 1), np.int32)))


def check_out(out: Path, files: set[Path], total: int) -> None:
    """Refuses a folder with other than these files, which ais_bench would read too, or a disk
    without `total` bytes."""
    partial = {file.with_name(f".{file.name}.partial") for file in files}  # of a killed run
    for path in out.rglob("*"):
        if not path.is_dir() and path not in files | partial:
            raise InputError(
                f"--out {out} holds another file, {path.name}: give a new or empty folder."
            )

    # Files of an earlier run make room for the new ones.
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free + sum(
        file.stat().st_size for file in files if file.is_file()
    )
    if total > free:
        raise InputError(
            f"--out {out} has {free:,} bytes free but the {len(files)} files take {total:,}: give "
            "another disk, a smaller size, or maps in place of one-hot channels where the "
            "network takes them."
        )


def pairs_by_output(dataset: Path, manifest: DatasetManifest, split: str) -> dict[str, Pair]:
    """The pairs of a split by the name that ais_bench gives their output, without its number."""
    pairs = {}
    for pair in getattr(manifest, split):
        other = pairs.setdefault(pair.name.partition(".")[0], pair)
        if other is not pair:
            raise InputError(
                f"--dataset {dataset} has the pairs {other.name} and {pair.name}, whose outputs "
                "ais_bench gives one name (up to the first dot): rename their files and prepare "
                "the data set again."
            )
    if not pairs:
        raise InputError(
            f"--dataset {dataset} has no pairs in its {split} split: give another --split."
        )
    return pairs


def as_file(array: np.ndarray, file_format: str) -> bytes:
    """The content of a .bin (the numbers alone, in C order) or .npy file."""
    if file_format == "bin":
        return array.tobytes()
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
