"""Which layout a folder has, by what shows it, and what speaks against that."""

import os
import re

from components.prepare.layouts.known import FLAT_NAMES, LAYOUTS, ROLE_OF_FOLDER, SPLIT_NAMES
from components.prepare.layouts.listing import RawFolder, has_pictures, subfolders
from components.prepare.layouts.names import Difference, RawFile, difference, name_flags
from components.prepare.layouts.roles import Files, Roles, split_folders
from components.prepare.problems import Problem
from shared.errors import InputError

# What the names of maps, and of photos, end or begin with.
WORD_OF_A_MAP = re.compile("mask|label|seg|annotation|gt|inst|map|input")
WORD_OF_A_ROLE = re.compile(
    r"|mask|masks|label|labels|labelids|seg|segmentation|annotation|gt|inst|map|photo|img|image|rgb"
    r"|input|output|target|source|real|a|b"
)


def detect(root: str, needed: Roles) -> tuple[str, str]:
    """The one layout whose signs are in the folder, and these signs: of layout folders, one for
    each role that is needed. Raises InputError for several and for none."""
    # What shows each of them.
    names = subfolders(root)
    roles = {role: _folders_of(role, names) for role in ("input", "photo")}
    splits = {name for name in names if name.casefold() in SPLIT_NAMES}
    fits = {
        "cityscapes": names & {"gtFine", "leftImg8bit"},
        "flat": names & FLAT_NAMES,
        "folders": (
            roles["input"] | roles["photo"]
            if all(roles[role] for role in needed)
            else {
                f"{place}/{name}"
                for place in split_folders(root, needed).values()
                for role in roles
                for name in _folders_of(role, subfolders(f"{root}/{place}"))
            }
        ),
        # Not what lies deeper: train/A and train/B would be cut in halves too.
        "side_by_side": {split for split in splits if has_pictures(f"{root}/{split}")},
    }

    # Exactly one.
    fitting = [layout for layout, shown_by in fits.items() if shown_by]
    if len(fitting) > 1:
        raise InputError(
            f"--raw-data {root} fits layout {' and layout '.join(fitting)}: "
            "say which with --layout."
        )
    if fitting:
        shown_by = ", ".join(f"{name}/" for name in sorted(fits[fitting[0]]))
        pictures = "pictures in " if fitting[0] == "side_by_side" else ""
        return fitting[0], f"found {pictures}{shown_by}"
    if has_pictures(root) and "photo" not in needed:
        raise InputError(
            f"--raw-data {root} holds pictures in the folder itself: with --test-only say "
            "--input-folder '.' where they are maps alone, or --layout side_by_side where each has "
            "two halves."
        )
    if has_pictures(root):  # the weakest sign: a picture may lie beside any other layout
        return "side_by_side", "found pictures in the folder itself"
    looked_for = "; ".join(f"{layout}: {shown_by}" for layout, shown_by in LAYOUTS.items())
    held = f"; it holds {', '.join(f'{name}/' for name in sorted(names)[:8])}" if names else ""
    raise InputError(
        f"--raw-data {root} has no known layout (looked for {looked_for}{held}): "
        "give the folder that holds one of them, or name it with --layout."
    )


def _folders_of(role: str, names: set[str]) -> set[str]:
    return {name for name in names if ROLE_OF_FOLDER.get(name.casefold()) == role}


def doubts(layout: str, files: Files) -> list[Problem]:
    """What in the folder contradicts a layout that was guessed."""
    if layout != "side_by_side":
        return []
    remedy = (
        "say --layout side_by_side if every picture is a pair of halves, or name the folders with "
        "--input-folder and --photo-folder"
    )
    problems = []
    for split, roles in files.items():
        # Folders in it: of another role, or in the root, where the guess is weak.
        for folder in sorted({os.path.dirname(file.relative) for file in roles["input"]} - {""}):
            # A and B alone are no sign: both together are another layout.
            parts = [part for part in folder.casefold().split("/") if part not in ("a", "b")]
            is_role = any(part in ROLE_OF_FOLDER for part in parts)
            if is_role or not split:
                example = next(
                    file.path for file in roles["input"] if os.path.dirname(file.relative) == folder
                )
                found = f"would be cut into halves, but lies in the folder {folder}/"
                problems.append(Problem("doubtful layout", example, found, remedy))

        # Names of which one is the other's with an ending.
        named = {file.relative: file for file in roles["input"]}
        if apart := _two_kinds(named):
            one, other = next(iter(apart.pairs.items()))
            flags = name_flags(dict(zip(("input", "photo"), apart.patterns, strict=True)))
            found = (
                f"is named like {named[other].path}: each seems to be a picture by itself, "
                "no pair of halves"
            )
            remedy = (
                "say --layout side_by_side if every picture is a pair of halves, or else "
                f"--input-folder and --photo-folder (. where they lie together) and {flags}"
            )
            problems.append(Problem("doubtful layout", named[one].path, found, remedy))
    return problems


def _two_kinds(files: dict[str, RawFile]) -> Difference | None:
    """How the maps of one folder differ in name from its photos, where it holds both."""
    apart = difference(files, files, likely=0.4)
    if apart is None:
        return None
    words = [re.sub(r"[\W_\d]+", "", pattern).lower() for pattern in apart.patterns]
    if not all(WORD_OF_A_ROLE.fullmatch(word) for word in words):
        return None
    if WORD_OF_A_MAP.match(words[1]) or words == ["b", "a"]:
        swapped = {other: one for one, other in apart.pairs.items()}
        return Difference(apart.patterns[::-1], swapped)
    return apart


def one_sided_splits(raw: RawFolder, files: Files) -> list[Problem]:
    """Splits that one role has and the other has not, where that leaves no pair at all."""
    splits = {
        role: {split for split, roles in files.items() if roles[role]}
        for role in ("input", "photo")
    }
    if not all(splits.values()) or splits["input"] & splits["photo"]:
        return []
    told = {
        role: ", ".join(sorted(found - {""})) or "no folders of splits"
        for role, found in splits.items()
    }
    found = f"has {told['input']} for the input but {told['photo']} for the photos"
    return [Problem("doubtful layout", raw.root, found, "lay both out alike")]
