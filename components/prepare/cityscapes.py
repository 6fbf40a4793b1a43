"""Finds the pairs in Cityscapes' raw layout and checks them, without decoding a single pixel.

leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png                      photo
gtFine/<split>/<city>/<stem>_gtFine_{labelIds,instanceIds}.png         label map, instance map
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from shared.errors import InputError

SPLITS = {"train": "train", "test": "val"}  # ours -> Cityscapes'; the labels of its own `test` are dummies
PHOTO_MODES = ("RGB", "RGBA", "L", "LA", "P", "1")  # 8 bits a channel: deeper ones would be clipped to white
ID_MODES = ("L", "P", "I;16", "I;16B", "I")


@dataclass(frozen=True)
class RawPair:
    """One sample and its files; `photo` may be None in the test split, `instance` is None where none is wanted."""

    name: str
    label: Path
    photo: Path | None
    instance: Path | None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.label, self.photo, self.instance) if path]


def find_pairs(raw_data: Path, use_instances: bool, max_images: int) -> dict[str, list[RawPair]]:
    """The first `max_images` pairs (0 = all) of the train and of the test split, by name. Refuses what has no partner.

    Both splits are needed: training reads the one, the benchmark the other.
    """
    if not raw_data.is_dir():
        raise InputError(f"--raw-data {raw_data} is no folder: give the one that holds leftImg8bit/ and gtFine/.")
    if not any(raw_data.iterdir()):
        raise InputError(f"--raw-data {raw_data} is empty: give the folder that holds leftImg8bit/ and gtFine/.")
    return {
        split: _find_split(raw_data, split, raw_split, use_instances)[: max_images or None]
        for split, raw_split in SPLITS.items()
    }


def _find_split(raw_data: Path, split: str, raw_split: str, use_instances: bool) -> list[RawPair]:
    labels = _by_name(raw_data, "gtFine", raw_split, "_gtFine_labelIds.png")
    photos = _by_name(raw_data, "leftImg8bit", raw_split, "_leftImg8bit.png")
    instances = _by_name(raw_data, "gtFine", raw_split, "_gtFine_instanceIds.png") if use_instances else {}

    if not labels and not photos:
        raise InputError(
            f"--raw-data {raw_data} has no gtFine/{raw_split}/<city>/*_gtFine_labelIds.png: "
            f"give Cityscapes' raw layout with its train and val splits."
        )
    _refuse_if_any(photos, photos.keys() - labels.keys(), "without label map", "add the labelIds or remove the photos")
    if split == "train":
        _refuse_if_any(labels, labels.keys() - photos.keys(), "without photo", "add the photos or remove the labels")
    if use_instances:
        _refuse_if_any(
            labels, labels.keys() - instances.keys(), "without instance map", "add them or say --no-use-instances"
        )
    return [RawPair(name, labels[name], photos.get(name), instances.get(name)) for name in sorted(labels)]


def _by_name(raw_data: Path, kind: str, raw_split: str, ending: str) -> dict[str, Path]:
    """Name -> file. Names must be unique over the cities, since they all go into one folder."""
    files: dict[str, Path] = {}
    for path in sorted((raw_data / kind / raw_split).glob(f"*/*{ending}")):
        name = path.name.removesuffix(ending)
        if name.startswith("."):  # macOS leaves ._* files on foreign disks
            continue
        if name in files:
            raise InputError(f"--raw-data: {path} and {files[name]} have the same name: rename one of them.")
        files[name] = path
    return files


def _refuse_if_any(files: dict[str, Path], names: Iterable[str], what: str, remedy: str) -> None:
    if names := sorted(names):
        raise InputError(f"--raw-data: {files[names[0]]} is {what} ({_count(names)}): {remedy}.")


def check_headers(pairs: list[RawPair]) -> None:
    """Refuses unreadable files, pictures where ids are wanted, and pairs of unequal sizes. Reads headers only."""
    mismatches = []
    for pair in pairs:
        sizes = {path: _check_header(path, PHOTO_MODES if path == pair.photo else ID_MODES) for path in pair.files}
        for path, size in sizes.items():
            if size != sizes[pair.label]:
                mismatches.append((path, size, pair.label, sizes[pair.label]))
    if mismatches:
        path, size, label, label_size = mismatches[0]
        raise InputError(
            f"--raw-data: {path} is {size} but {label.name} is {label_size} ({_count(mismatches)}): "
            f"photo, label and instance map of a pair need one size."
        )


def _check_header(path: Path, modes: tuple[str, ...]) -> str:
    """'HEIGHTxWIDTH' of an image file."""
    try:
        with Image.open(path) as image:
            mode, size = image.mode, f"{image.height}x{image.width}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"--raw-data: {path} cannot be read as an image ({error}): replace the file.") from None
    if mode not in modes:
        wanted = "an 8-bit picture" if modes == PHOTO_MODES else "one grey or palette channel of 8 or 16 bits"
        raise InputError(f"--raw-data: {path} has Pillow's mode {mode}: give {wanted}.")
    return size


def _count(items: list) -> str:
    return f"{len(items)} such file{'s' * (len(items) > 1)}"
