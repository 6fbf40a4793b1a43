"""The files of each split and role in each layout."""

import os
from collections.abc import Iterable

from components.prepare.layouts.known import (
    FLAT,
    FLAT_NAMES,
    FOLDERS,
    ROLE_OF_FOLDER,
    ROLES,
    SOURCE_SPLITS,
    SPLIT_NAMES,
)
from components.prepare.layouts.listing import RawFolder, subfolders
from components.prepare.layouts.names import RawFile
from shared.data.names import CITYSCAPES_ENDINGS
from shared.errors import InputError

Roles = tuple[str, ...]  # of ROLES
# split -> role ("input", "photo", "instance") -> its files
Files = dict[str, dict[str, list[RawFile]]]


def find_cityscapes(raw: RawFolder, direction: str) -> tuple[Files, str]:
    """Find leftImg8bit/<split>/<city>/<name>_leftImg8bit.png and
    gtFine/<split>/<city>/<name>_gtFine_{labelIds,instanceIds}.png.

    The splits are those of gtFine: leftImg8bit may hold more, since train_extra has coarse labels
    only. Returns the files, and what each folder is taken for.
    """
    _refuse_direction(direction, "cityscapes")
    files: Files = {}
    for folder in ("gtFine", "leftImg8bit"):
        for file in raw.pictures(folder):
            split, _, rest = file.partition("/")
            stem = os.path.splitext(os.path.basename(rest))[0]
            for role, ending in CITYSCAPES_ENDINGS.items():
                if stem.endswith(ending) and (folder == "gtFine" or split in files):
                    roles = files.setdefault(split, {role: [] for role in ROLES})
                    path = f"{raw.root}/{folder}/{file}"
                    roles[role].append(RawFile(os.path.basename(rest), path))
    return files, "gtFine/ holds the label maps, leftImg8bit/ the photos"


def find_flat(raw: RawFolder, direction: str) -> tuple[Files, str]:
    """Find <split>_label, <split>_img, <split>_inst; or <split>_A, <split>_B, <split>_inst; or
    <split>A, <split>B."""
    # One of the three spellings.
    names = subfolders(raw.root)
    spellings = [
        spelling
        for spelling in FLAT
        if any(name.format(split) in names for name in spelling for split in SOURCE_SPLITS)
    ]
    if len(spellings) > 1:
        held = ", ".join(sorted(names & FLAT_NAMES))
        raise InputError(
            f"--raw-data {raw.root} holds folders of several kinds ({held}): keep one kind."
        )
    if not spellings:
        return {}, ""

    # A and B may be swapped; labels are always the input.
    input_folder, photo_folder = spellings[0]
    if spellings[0] == FLAT[0]:
        _refuse_direction(direction, raw.root)
    elif direction == "BtoA":
        input_folder, photo_folder = photo_folder, input_folder

    folders = {
        split: {
            "input": input_folder.format(split),
            "photo": photo_folder.format(split),
            "instance": f"{split}_inst",
        }
        for split in SOURCE_SPLITS
    }
    files = {
        split: {role: _files_in(raw, folder) for role, folder in of_roles.items()}
        for split, of_roles in folders.items()
    }
    return files, _told(raw, folders.values())


def find_folders(
    raw: RawFolder, direction: str, given: tuple[str, str, str], needed: Roles
) -> tuple[Files, str]:
    """Find A/[<split>/]<name>.png, B/[<split>/]<name>.png, and the like; or <split>/A/<name>.png,
    <split>/B/<name>.png. Of the roles some are needed."""
    # A folder per role, in the root or in each split.
    in_root = _has_roles(raw.root, given, needed)
    places = {} if in_root else split_folders(raw.root, needed, given)
    folders = {
        split: _folders_of_roles(raw, place, direction, given, needed)
        for split, place in (places or {"": ""}).items()
    }

    # Else splits are folders in it; what lies elsewhere is in none.
    files: Files = {split: {role: [] for role in ROLES} for split in (*SOURCE_SPLITS, "")}
    for of_split, of_roles in folders.items():
        for role, folder in of_roles.items():
            for file in raw.pictures(folder) if folder else ():
                first, slash, rest = file.partition("/")
                split = of_split or (SPLIT_NAMES.get(first.casefold(), "") if slash else "")
                relative = rest if split and not of_split else file
                path = os.path.normpath(f"{raw.root}/{folder}/{file}")
                files[split][role].append(RawFile(relative, path))
    return files, _told(raw, folders.values())


def split_folders(
    root: str, needed: Roles, given: tuple[str, str, str] = ("", "", "")
) -> dict[str, str]:
    """split -> the folder of that name in the root which holds folders of roles."""
    found = {}
    for name in sorted(subfolders(root)):
        split = SPLIT_NAMES.get(name.casefold())
        if split and _has_roles(os.path.join(root, name), given, needed):
            found.setdefault(split, name)
    return found


def _has_roles(folder: str, given: tuple[str, str, str], needed: Roles) -> bool:
    """Whether the folders that are needed are there, by the names given or by usual ones."""
    roles = {ROLE_OF_FOLDER.get(name.casefold()) for name in subfolders(folder)}
    return all(
        os.path.isdir(os.path.join(folder, name)) if name else role in roles
        for role, name in zip(ROLES, given, strict=True)
        if role in needed
    )


def _folders_of_roles(
    raw: RawFolder, place: str, direction: str, given: tuple[str, str, str], needed: Roles
) -> dict[str, str | None]:
    """The folder of each role below a place in the root."""
    chosen = {
        role: _choose_folder(os.path.join(raw.root, place), role, name, role in needed)
        for role, name in zip(ROLES, given, strict=True)
    }
    if direction == "BtoA":
        if (chosen["input"], chosen["photo"]) != ("A", "B"):
            _refuse_direction(direction, raw.root)
        chosen["input"], chosen["photo"] = chosen["photo"], chosen["input"]
    return {role: name and os.path.join(place, name) for role, name in chosen.items()}


def _choose_folder(root: str, role: str, given: str, is_needed: bool) -> str | None:
    """Name of a role's folder in `root`, `given` or a usual one; None where there is none and none
    is needed."""
    if given:
        folder = os.path.normpath(given)
        leads_out = os.path.isabs(folder) or folder.split("/")[0] == ".."
        if leads_out or not os.path.isdir(f"{root}/{folder}"):
            raise InputError(
                f"--{role}-folder {given} is no folder in {root}: give its name below --raw-data."
            )
        return folder

    names = subfolders(root)
    found = [
        name
        for usual in FOLDERS[role]
        for name in sorted(names)
        if name.casefold() == usual.casefold()
    ]
    if len(found) > 1:
        raise InputError(
            f"--raw-data {root} holds {' and '.join(found)}: say which with --{role}-folder."
        )
    if not found and is_needed:
        usual = ", ".join(FOLDERS[role])
        raise InputError(
            f"--raw-data {root} has no folder for the {role} ({usual}): "
            f"name it with --{role}-folder."
        )
    return found[0] if found else None


def find_side_by_side(raw: RawFolder, direction: str) -> tuple[Files, str]:
    """Find <split>/<name>.jpg, or pictures in the root itself; both halves are in one file."""
    folders = {
        SPLIT_NAMES[name.casefold()]: name
        for name in sorted(subfolders(raw.root))
        if name.casefold() in SPLIT_NAMES
    }
    files = {}
    for split, folder in (folders or {"": ""}).items():
        pictures = _files_in(raw, folder)
        files[split] = {"input": pictures, "photo": pictures, "instance": []}
    halves = ("left", "right") if direction == "AtoB" else ("right", "left")
    return files, "the {} half of each picture is the input, the {} half the photo".format(*halves)


def _files_in(raw: RawFolder, folder: str) -> list[RawFile]:
    return [RawFile(file, os.path.join(raw.root, folder, file)) for file in raw.pictures(folder)]


def _told(raw: RawFolder, folders: Iterable[dict[str, str | None]]) -> str:
    """What the folders of each role are taken for; those that are not there are left out."""
    nouns = {"input": "the input", "photo": "the photos", "instance": "the instance maps"}
    parts = []
    for role, noun in nouns.items():
        there = [
            f"{roles[role]}/"
            for roles in folders
            if roles[role] and os.path.isdir(os.path.join(raw.root, roles[role]))
        ]
        if there:
            verb = "" if parts else " holds" if len(there) == 1 else " hold"
            parts.append(f"{' and '.join(there)}{verb} {noun}")
    return ", ".join(parts)


def _refuse_direction(direction: str, where: str) -> None:
    """Refuse --direction BtoA for what has no A and B."""
    if direction == "BtoA":
        raise InputError(
            f"--direction BtoA swaps A and B, which {where} does not have: leave it out."
        )
