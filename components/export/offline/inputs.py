"""A prepared data set, or new maps, as the input files of ais_bench.

They take the place of what the seed's pix2pixhd_preprocess.py wrote."""

import io
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from components.export.synthesise.config import SceneOptions
from components.export.synthesise.map_reading import reading_for
from components.export.synthesise.scenes import SceneFiles, find_scenes
from shared.command import StepConfig
from shared.contracts.dataset import DatasetManifest, Pair, parse_size
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.model import GeneratorInput
from shared.data.maps import Sample
from shared.data.reader import PairReader, resize_sample
from shared.deployed.form import Feeds, Form
from shared.errors import InputError
from shared.files.exchanged import UNFINISHED
from shared.files.names import inside
from shared.files.owned import LOCK, refuse_unwritable, refused_if_unwritable
from shared.files.writing import partial_of, sync_all, write_atomically

NAME = re.compile(r"[_A-Za-z0-9.-]+")  # of a file, as ais_bench takes it
FILE_MODE, FOLDER_MODE = 0o640, 0o750  # ais_bench reads nothing that group or others can write to


class GivenScenes(SceneOptions, StepConfig):
    """What `offline inputs` is given to read."""

    STEP: ClassVar[str] = "offline"


@dataclass(frozen=True)
class Scenes:
    """What the files are made of."""

    sizes: dict[str, tuple[int, int]]  # (height, width) in pixels by name, in order
    read: Callable[[int, tuple[int, int] | None], Sample]  # by number, of a size or its own


def scenes_of_dataset(dataset: Path, manifest: DatasetManifest, split: str) -> Scenes:
    """The pairs of one split. Raises InputError for names that ais_bench does not take."""
    pairs = list(pairs_by_output(dataset, manifest, split).values())
    for pair in pairs:
        if not NAME.fullmatch(pair.name):
            raise InputError(
                f"--dataset {dataset} has a pair {pair.name!r} but ais_bench takes names of "
                "letters, digits and _.- only: rename its files and prepare the data set again."
            )
    reader = PairReader(dataset, manifest, split)
    sizes = {pair.name: (pair.height, pair.width) for pair in pairs}
    return Scenes(sizes, partial(reader.read, with_photo=False))


def scenes_of_files(options: SceneOptions, exported: Path) -> tuple[Scenes, Form]:
    """New maps, read as those of the data set that the model was trained on, and the form of the
    exported file. Raises InputError for maps that it cannot read."""
    # The file, and what it takes.
    card = ExportCard.read(exported)
    form, named = Form.of_export(card), f"--exported {exported}"
    refuse_style_by_instance(form, named)
    takes_instances = named if form.reads.use_instances else None
    by_components = card.raw.instances == "components"
    files = find_scenes(options, None, form.reads, named, takes_instances, by_components)
    reading = reading_for(options.maps, form.reads, card, [file.input for file in files])

    # Each file once before the first is written: the last one may be a wrong one.
    seen: dict[str, SceneFiles] = {}
    for file in files:
        other = seen.setdefault(file.name.partition(".")[0], file)
        if other is not file or not NAME.fullmatch(file.name):
            raise InputError(
                f"{file.input} gives no name of its own for ais_bench, which takes letters, digits "
                "and _- up to the first dot: rename it."
            )
    sizes = {file.name: file.read(reading, form.least_side).inputs.shape[-2:] for file in files}

    def read(number: int, size: tuple[int, int] | None) -> Sample:
        sample = files[number].read(reading)
        return resize_sample(sample, *size) if size else sample

    return Scenes(sizes, read), form


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
    refuse_style_by_instance(form, f"--exported {exported}")
    return form


def refuse_style_by_instance(form: Form, named: str) -> None:
    """Raises InputError for a file that ais_bench cannot be fed."""
    if form.graph.style == "instance":
        raise InputError(
            f"{named} takes styles by instance, tables of any length, but ais_bench takes one "
            "length: export it with --style label or map."
        )


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


def write_inputs(scenes: Scenes, out: Path, form: Form, file_format: str, in_folders: bool) -> None:
    """Write what a network of this form reads for these scenes: a file per scene and input.

    Args:
        form: Without a size each scene keeps its own.
        file_format: "bin" or "npy".
        in_folders: A folder for each input, with its name; else the files of the only one lie in
            `out` itself.
    """
    # What will be written, and whether there is room for it.
    one_pixel = feed_of_one_pixel(form)
    sizes = [form.size or size for size in scenes.sizes.values()]
    pixels = sum(height * width for height, width in sizes)
    total = sum(
        one.nbytes * (len(sizes) if name == "style" else pixels) for name, one in one_pixel.items()
    )
    folders = {name: out / name if in_folders else out for name in one_pixel}
    files = {
        (name, scene): inside(out, *[name] * in_folders, f"{scene}.{file_format}")
        for name in folders
        for scene in scenes.sizes
    }
    print(
        f"offline: {len(files)} files of {total:,} bytes in all ({total / 1e9:.2f} GB) for {out}",
        flush=True,
    )
    refuse_unwritable(out, "--out", [str(file.relative_to(out)) for file in files.values()])
    check_out(out, set(files.values()), total)

    # The files.
    shapes = {name: set() for name in folders}
    with refused_if_unwritable(out, "--out"):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / UNFINISHED, b"")
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)
        for number, scene in enumerate(scenes.sizes):
            sample = scenes.read(number, form.size)
            for name, array in form.feed(sample).items():
                write_atomically(files[name, scene], as_file(array[0], file_format), synced=False)
                files[name, scene].chmod(FILE_MODE)
                shapes[name].add(array.shape[1:])
        sync_all(out)
        (out / UNFINISHED).unlink()

    # What they are, and how ais_bench is told of them.
    for name, folder in folders.items():
        some = ["x".join(map(str, shape)) for shape in sorted(shapes[name])[:3]]
        some = ", ".join(some) + ", ..." * (len(shapes[name]) > 3)
        print(f"offline: {folder}: {len(sizes)} files of {one_pixel[name].dtype} {some}")
    print(f"--input {','.join(map(str, folders.values()))}")


def feed_of_one_pixel(form: Form) -> Feeds:
    """Inputs for a map of one pixel: their names, types and sizes."""
    channels = form.reads.input_nc
    inputs = np.zeros((channels, 1, 1) if channels else (1, 1), np.uint8)
    return form.feed(Sample.of_maps("", inputs, np.zeros((1, 1), np.int32)))


def check_out(out: Path, files: set[Path], total: int) -> None:
    """Refuses a folder with other than these files, which ais_bench would read too, or a disk
    without `total` bytes."""
    # Also of a killed run, and what is ours.
    known = {*files, out / UNFINISHED}
    known |= {partial_of(file) for file in known} | {out / LOCK}
    for path in out.rglob("*"):
        if not path.is_dir() and path not in known:
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
