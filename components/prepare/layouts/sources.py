"""Finds pairs of input, photo and instance map in the layouts that raw data come in, without
opening a file."""

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from components.prepare.layouts.detection import detect, doubts, one_sided_splits
from components.prepare.layouts.known import LAYOUTS, ROLES
from components.prepare.layouts.listing import RawFolder, entries
from components.prepare.layouts.names import RawFile, pair_name
from components.prepare.layouts.pairing import RawPair, pair_up
from components.prepare.layouts.roles import (
    Files,
    Roles,
    find_cityscapes,
    find_flat,
    find_folders,
    find_side_by_side,
)
from components.prepare.problems import Problem
from shared.data.names import is_image, is_unread_image
from shared.errors import InputError

MOST_LISTED = 1_000_000  # files in folders that are not looked at


@dataclass(frozen=True)
class Source:
    """What was found below --raw-data."""

    root: str  # the folder, as it was given
    layout: str  # a key of LAYOUTS
    # By the source's own split, "" for what lies in none; sorted by name, never empty.
    pairs: dict[str, list[RawPair]]
    problems: list[Problem]  # all of them, sorted by kind and file
    notes: list[str] = field(default_factory=list)  # what people should know of it, line by line
    is_guess: bool = False  # the layout, by what is in the folder


@dataclass(frozen=True)
class Naming:
    """Where the files of each role lie, and how they are named."""

    folders: tuple[str, str, str] = ("", "", "")  # input, photo, instance; '' takes the usual
    patterns: tuple[str, str, str] = ("", "", "")  # such as {}_mask; '' is the pair's name itself


def find_source(
    root: Path,
    layout: str,
    direction: str,
    want_instances: bool,
    naming: Naming,
    stays_inside: bool = False,
    needed: Roles = ("input", "photo"),
) -> Source:
    """All pairs below `root` by split, and everything that has no partner. Raises InputError where
    there are no pairs.

    Args:
        layout: 'auto' or a key of LAYOUTS.
        direction: 'AtoB', or 'BtoA' where B is the input and A the photo; layout side_by_side
            leaves it to the reader.
        naming: Folders of layout 'folders' below `root`, and how files are named.
        stays_inside: Whether links out of `root` are problems: of archives and copies.
        needed: Roles that layout folders must have a folder for.
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
    raw = RawFolder(top, stays_inside)
    is_guess = layout == "auto" and not any(naming.folders)
    layout, why = _choose_layout(top, layout, naming, needed)
    match layout:
        case "cityscapes":
            files, told = find_cityscapes(raw, direction)
        case "flat":
            files, told = find_flat(raw, direction)
        case "folders":
            files, told = find_folders(raw, direction, naming.folders, needed)
        case "side_by_side":
            files, told = find_side_by_side(raw, direction)
    _refuse_missing_roles(root, layout, files, want_instances)

    # Files of one name are a pair; what has no partner is a problem.
    problems = {*raw.problems, *one_sided_splits(raw, files)}
    if is_guess:
        problems |= {*doubts(layout, files)}
    loose: Counter[str] = Counter()
    noun = "label map" if layout == "cityscapes" else "label map or input picture"
    named = _name_all(files, naming.patterns)
    pairs = {
        split: pair_up(roles, want_instances, noun, problems, loose)
        for split, roles in named.items()
    }
    pairs = {split: found for split, found in pairs.items() if found}
    notes = [f"layout {layout} ({why}): {told}", *_told_of_case(loose)]
    if unused := _unused(raw, pairs):
        notes.append(unused)
    return Source(
        str(root),
        layout,
        pairs,
        sorted(problems, key=lambda problem: (problem.kind, problem.file)),
        notes,
        is_guess,
    )


def _choose_layout(root: str, layout: str, naming: Naming, needed: Roles) -> tuple[str, str]:
    """The layout and why it is this one. Raises InputError for names that it cannot have."""
    if any(naming.folders) and layout not in ("auto", "folders"):
        raise InputError(
            f"--layout {layout} has folders of fixed names: leave out --input-folder and its like."
        )
    if layout == "auto" and any(naming.folders):
        layout, why = "folders", "by --input-folder and its like"
    elif layout == "auto":
        layout, why = detect(root, needed)
    else:
        why = "by --layout"
    assert layout in LAYOUTS, layout
    if any(naming.patterns) and layout in ("cityscapes", "side_by_side"):
        raise InputError(
            f"--input-name and its like are for layouts flat and folders, but {root} has layout "
            f"{layout} ({why}): leave them out, or say which with --layout."
        )
    return layout, why


def _refuse_missing_roles(root: Path, layout: str, files: Files, want_instances: bool) -> None:
    """Refuse a layout that is there, but not with what is wanted."""
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


# Names


# split -> role -> (name, file) of each
Named = dict[str, dict[str, list[tuple[str, RawFile]]]]


def _name_all(files: Files, patterns: tuple[str, str, str]) -> Named:
    """The files of each role by the pair's name. A file that fits the pattern of a role belongs to
    no role without one: they may lie in one folder.

    Raises InputError for a pattern that fits no file.
    """
    # Those with a pattern,
    pattern_of = dict(zip(ROLES, patterns, strict=True))
    named: Named = {split: {role: [] for role in ROLES} for split in files}
    taken: set[str] = set()
    for role, pattern in pattern_of.items():
        for split, roles in files.items() if pattern else ():
            for file in roles[role]:
                if name := pair_name(file.relative, pattern):
                    named[split][role].append((name, file))
                    taken.add(file.path)
        there = [file for roles in files.values() for file in roles[role]]
        if pattern and there and not any(roles[role] for roles in named.values()):
            raise InputError(
                f"--{role}-name {pattern} fits no file, for example not {there[0].path}: "
                "write {} for the pair's name and what stands before and behind it."
            )

    # and the others.
    for split, roles in files.items():
        for role in (role for role, pattern in pattern_of.items() if not pattern):
            for file in roles[role]:
                if file.path not in taken:
                    named[split][role].append((pair_name(file.relative) or "", file))
    return named


# What people should know


def _told_of_case(loose: Counter[str]) -> list[str]:
    """A line for names that differ in case alone."""
    count = loose.total()
    if not count:
        return []
    return [
        f"{count} pair{'s' * (count > 1)} of files whose names differ in upper and lower case: "
        f"{next(iter(loose))}"
    ]


def _unused(raw: RawFolder, pairs: dict[str, list[RawPair]]) -> str:
    """A line for the files that no pair has; '' where there are none."""
    used = {
        path
        for found in pairs.values()
        for pair in found
        for path in (pair.input, pair.photo, pair.instance)
    }
    looked_at = (
        os.path.normpath(os.path.join(raw.root, folder, file))
        for folder, files in raw.files.items()
        for file in files
    )
    kinds: dict[str, list[str]] = {"": [], " of formats that are not read": []}
    others = 0
    for path in chain({*looked_at} - used, raw.passed_over, islice(raw.elsewhere(), MOST_LISTED)):
        name = os.path.basename(path)
        if is_image(name):
            kinds[""].append(path)
        elif is_unread_image(name):
            kinds[" of formats that are not read"].append(path)
        else:
            others += 1
    parts = [
        f"{len(files)} picture{'s' * (len(files) > 1)}{kind} (such as "
        f"{os.path.relpath(min(files), raw.root)})"
        for kind, files in kinds.items()
        if files
    ]
    if others:
        parts.append(f"{others} other file{'s' * (others > 1)}")
    return f"not used: {', '.join(parts)}" if parts else ""
