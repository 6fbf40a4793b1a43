"""Finds pairs of input, photo and instance map in the layouts that raw data come in, without
opening a file."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components.prepare.layouts.listing import entries, has_images, image_files, subfolders
from components.prepare.problems import Problem
from shared.data.names import CITYSCAPES_ENDINGS
from shared.errors import InputError


@dataclass(frozen=True, slots=True)
class RawPair:
    """One sample: absolute paths of its files."""

    name: str  # unique in its split and fit for a file name
    input: str  # label map or input picture
    photo: str | None  # target picture; with layout side_by_side the same file as `input`
    instance: str | None  # instance map; None where none is wanted


@dataclass(frozen=True)
class Source:
    """What was found below --raw-data."""

    root: str  # the folder, as it was given
    layout: str  # a key of LAYOUTS
    # By the source's own split, "" for what lies in none; sorted by name, never empty.
    pairs: dict[str, list[RawPair]]
    problems: list[Problem]  # all of them, sorted by kind and file


# Each layout, and what shows it.
LAYOUTS = {
    "cityscapes": "gtFine/<split>/<city>/*_gtFine_labelIds.png and leftImg8bit/",
    "flat": "train_label/ and train_img/, train_A/ and train_B/, or trainA/ and trainB/",
    "folders": "A/ and B/, label/ and image/, or other usual names",
    "side_by_side": "pictures of two halves in train/, val/, test/, or in the folder itself",
}
SOURCE_SPLITS = ("train", "val", "test")
# NVIDIA's folders for maps and for pictures, and CycleGAN's.
FLAT = (("{}_label", "{}_img"), ("{}_A", "{}_B"), ("{}A", "{}B"))
FOLDERS = {
    "input": ("A", "label", "labels", "mask", "masks", "annotations", "input", "inputs"),
    "photo": ("B", "image", "images", "img", "photo", "photos", "target", "targets"),
    "instance": ("instance", "instances", "inst"),
}
FLAT_NAMES = {
    name.format(split) for split in SOURCE_SPLITS for spelling in FLAT for name in spelling
}
# Every name that a folder directly in some layout's root may have.
LAYOUT_FOLDERS = (
    {"leftImg8bit", "gtFine", *SOURCE_SPLITS, *FLAT_NAMES}
    | {f"{split}_inst" for split in SOURCE_SPLITS}
    | {name for names in FOLDERS.values() for name in names}
)

# split -> role ("input", "photo", "instance") -> (name, path) of each file
Files = dict[str, dict[str, list[tuple[str, str]]]]


def find_source(
    root: Path, layout: str, direction: str, want_instances: bool, folders: tuple[str, str, str]
) -> Source:
    """All pairs below `root` by split, and everything that has no partner. Raises InputError where
    there are no pairs.

    Args:
        layout: 'auto' or a key of LAYOUTS.
        direction: 'AtoB', or 'BtoA' where B is the input and A the photo; layout side_by_side
            leaves it to the reader.
        folders: Input, photo and instance folder of layout 'folders', below `root`; '' takes the
            usual names.
    """
    # A folder with something in it.
    top = os.path.realpath(root)
    if os.path.isfile(top):
        raise InputError(
            f"--raw-data {root} is a file but no archive: "
            "give a folder, .zip, .tar, .tar.gz or .tgz."
        )
    if not os.path.isdir(top):
        raise InputError(f"--raw-data {root} is no folder: give the one that holds the pictures.")
    if not entries(top):
        raise InputError(f"--raw-data {root} is empty: give the folder that holds the pictures.")

    # Its layout, and in it the files of each split and role.
    if any(folders) and layout not in ("auto", "folders"):
        raise InputError(
            f"--layout {layout} has folders of fixed names: leave out --input-folder and its like."
        )
    if layout == "auto":
        layout = "folders" if any(folders) else _detect(top)
    assert layout in LAYOUTS, layout
    match layout:
        case "cityscapes":
            _refuse_direction(direction, layout)
            files = _find_cityscapes(top)
        case "flat":
            files = _find_flat(top, direction)
        case "folders":
            files = _find_folders(top, direction, folders)
        case "side_by_side":
            files = _find_side_by_side(top)

    # Layouts that are there, but not with what is wanted.
    if not any(roles["input"] for roles in files.values()):
        raise InputError(
            f"--raw-data {root} has no label map or input picture where layout {layout} keeps them "
            f"({LAYOUTS[layout]}): give the folder that holds them, or another --layout."
        )
    if want_instances and not any(roles["instance"] for roles in files.values()):
        where = "layout side_by_side" if layout == "side_by_side" else root
        raise InputError(
            f"--instances files: {where} has no instance maps: "
            "say --instances none or --instances components."
        )

    # Files of one name are a pair; what has no partner is a problem.
    problems: set[Problem] = set()
    noun = "label map" if layout == "cityscapes" else "label map or input picture"
    pairs = {
        split: _pair_up(roles, want_instances, noun, problems) for split, roles in files.items()
    }
    return Source(
        str(root),
        layout,
        {split: found for split, found in pairs.items() if found},
        sorted(problems, key=lambda problem: (problem.kind, problem.file)),
    )


def _detect(root: str) -> str:
    """The one layout whose signs are in the folder. Raises InputError for several and for none."""
    names = subfolders(root)
    fits = {
        "cityscapes": names & {"gtFine", "leftImg8bit"},
        "flat": names & FLAT_NAMES,
        "folders": names & {*FOLDERS["input"]} and names & {*FOLDERS["photo"]},
        # Not what lies deeper: train/A and train/B would be cut in halves too.
        "side_by_side": {
            split for split in names & {*SOURCE_SPLITS} if has_images(f"{root}/{split}")
        },
    }
    fitting = [layout for layout, shown_by in fits.items() if shown_by]
    if len(fitting) > 1:
        raise InputError(
            f"--raw-data {root} fits layout {' and layout '.join(fitting)}: "
            "say which with --layout."
        )
    if fitting:
        return fitting[0]
    if has_images(root):  # the weakest sign: a picture may lie beside any other layout
        return "side_by_side"
    looked_for = "; ".join(f"{layout}: {shown_by}" for layout, shown_by in LAYOUTS.items())
    raise InputError(
        f"--raw-data {root} has no known layout (looked for {looked_for}): "
        "give the folder that holds one of them, or name it with --layout."
    )


def _refuse_direction(direction: str, where: str) -> None:
    """Refuse --direction BtoA for what has no A and B."""
    if direction == "BtoA":
        raise InputError(
            f"--direction BtoA swaps A and B, which {where} does not have: leave it out."
        )


def _find_cityscapes(root: str) -> Files:
    """Find leftImg8bit/<split>/<city>/<name>_leftImg8bit.png and
    gtFine/<split>/<city>/<name>_gtFine_{labelIds,instanceIds}.png.

    The splits are those of gtFine: leftImg8bit may hold more, since train_extra has coarse labels
    only.
    """
    files: Files = {}
    for folder in ("gtFine", "leftImg8bit"):
        for file in image_files(root, folder):
            split, _, rest = file.partition("/")
            stem = os.path.splitext(os.path.basename(rest))[0]
            for role, ending in CITYSCAPES_ENDINGS.items():
                if stem.endswith(ending) and (folder == "gtFine" or split in files):
                    roles = files.setdefault(split, {role: [] for role in CITYSCAPES_ENDINGS})
                    roles[role].append((stem.removesuffix(ending), f"{root}/{folder}/{file}"))
    return files


def _find_flat(root: str, direction: str) -> Files:
    """Find <split>_label, <split>_img, <split>_inst; or <split>_A, <split>_B, <split>_inst; or
    <split>A, <split>B."""
    # One of the three spellings.
    names = subfolders(root)
    spellings = [
        spelling
        for spelling in FLAT
        if any(name.format(split) in names for name in spelling for split in SOURCE_SPLITS)
    ]
    if len(spellings) > 1:
        held = ", ".join(sorted(names & FLAT_NAMES))
        raise InputError(
            f"--raw-data {root} holds folders of several kinds ({held}): keep one kind."
        )
    if not spellings:
        return {}

    # A and B may be swapped; labels are always the input.
    input_folder, photo_folder = spellings[0]
    if spellings[0] == FLAT[0]:
        _refuse_direction(direction, root)
    elif direction == "BtoA":
        input_folder, photo_folder = photo_folder, input_folder

    return {
        split: {
            "input": _named_files(root, input_folder.format(split)),
            "photo": _named_files(root, photo_folder.format(split)),
            "instance": _named_files(root, f"{split}_inst"),
        }
        for split in SOURCE_SPLITS
    }


def _find_folders(root: str, direction: str, folders: tuple[str, str, str]) -> Files:
    """Find A/[<split>/]<name>.png, B/[<split>/]<name>.png, and the like."""
    # A folder per role.
    chosen = {
        role: _choose_folder(root, role, given)
        for role, given in zip(FOLDERS, folders, strict=True)
    }
    if direction == "BtoA":
        if (chosen["input"], chosen["photo"]) != ("A", "B"):
            _refuse_direction(direction, root)
        chosen["input"], chosen["photo"] = chosen["photo"], chosen["input"]

    # Splits are folders in it; what lies elsewhere is in none.
    files: Files = {split: {role: [] for role in FOLDERS} for split in (*SOURCE_SPLITS, "")}
    for role, folder in chosen.items():
        for file in image_files(root, folder) if folder else ():
            split, slash, rest = file.partition("/")
            if not slash or split not in SOURCE_SPLITS:
                split, rest = "", file
            files[split][role].append((_name(rest), f"{root}/{folder}/{file}"))
    return files


def _choose_folder(root: str, role: str, given: str) -> str | None:
    """Name of a role's folder in `root`, `given` or a usual one; None for instance maps without
    one."""
    if given:
        folder = os.path.normpath(given)
        leads_out = os.path.isabs(folder) or folder.split("/")[0] == ".."
        if leads_out or not os.path.isdir(f"{root}/{folder}"):
            raise InputError(
                f"--{role}-folder {given} is no folder in {root}: give its name below --raw-data."
            )
        return folder

    names = subfolders(root)
    found = [name for name in FOLDERS[role] if name in names]
    if len(found) > 1:
        raise InputError(
            f"--raw-data {root} holds {' and '.join(found)}: say which with --{role}-folder."
        )
    if not found and role != "instance":
        usual = ", ".join(FOLDERS[role])
        raise InputError(
            f"--raw-data {root} has no folder for the {role} ({usual}): "
            f"name it with --{role}-folder."
        )
    return found[0] if found else None


def _find_side_by_side(root: str) -> Files:
    """Find <split>/<name>.jpg, or pictures in the root itself; both halves are in one file."""
    names = subfolders(root)
    files = {}
    for split in [split for split in SOURCE_SPLITS if split in names] or [""]:
        pictures = _named_files(root, split)
        files[split] = {"input": pictures, "photo": pictures, "instance": []}
    return files


def _named_files(root: str, folder: str) -> list[tuple[str, str]]:
    """(Name, path) of each image below `root`/`folder`."""
    return [(_name(file), os.path.join(root, folder, file)) for file in image_files(root, folder)]


def _name(file: str) -> str:
    """The pair's name by a file's: 'aachen/1_leftImg8bit.png' -> 'aachen_1'."""
    stem = os.path.splitext(file)[0]
    for ending in CITYSCAPES_ENDINGS.values():
        stem = stem.removesuffix(ending)
    return stem.replace("/", "_")


def _pair_up(
    roles: dict[str, list[tuple[str, str]]], want_instances: bool, noun: str, problems: set[Problem]
) -> list[RawPair]:
    """The pairs of one split, by name; adds to `problems`."""
    inputs, photos = _by_name(roles["input"], problems), _by_name(roles["photo"], problems)
    instances = _by_name(roles["instance"], problems) if want_instances else {}

    for name in photos.keys() - inputs.keys():
        problems.add(Problem("photo without input", photos[name], f"is without {noun}"))
    for name in instances.keys() - inputs.keys():
        problems.add(Problem("instance map without input", instances[name], f"is without {noun}"))
    if want_instances:
        for name in inputs.keys() - instances.keys():
            problems.add(Problem("missing instance map", inputs[name], "is without instance map"))
    return [
        RawPair(name, inputs[name], photos.get(name), instances.get(name))
        for name in sorted(inputs)
    ]


def _by_name(files: Iterable[tuple[str, str]], problems: set[Problem]) -> dict[str, str]:
    """Files by name, of several with one name the first; adds to `problems`.

    Files that no name can be made of are left out.
    """
    by_name: dict[str, str] = {}
    for name, path in files:
        # The name goes into file names (".<name>.png.partial" has 255 bytes at most), JSON and
        # printed lines.
        if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name) or not 0 < len(name.encode()) <= 240:
            shown = path.encode(errors="backslashreplace").decode()
            unusable = "gives no name of 1..240 bytes of printable UTF-8"
            problems.add(Problem("unusable name", shown, unusable))
        elif (first := by_name.setdefault(name, path)) != path:
            problems.add(Problem("duplicate name", path, f"has the same name as {first}"))
    return by_name
