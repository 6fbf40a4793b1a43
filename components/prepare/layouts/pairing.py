"""Files of one name are a pair; what is without partner is a problem, with what explains it."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from components.prepare.layouts.known import ROLES
from components.prepare.layouts.names import (
    RawFile,
    difference,
    match_loosely,
    name_flags,
    split_name,
    without_zeros,
)
from components.prepare.problems import Problem
from shared.data.names import is_image, is_unread_image
from shared.files.names import why_no_name


@dataclass(frozen=True, slots=True)
class RawPair:
    """One sample: absolute paths of its files."""

    name: str  # unique in its split and fit for a file name
    input: str  # label map or input picture
    photo: str | None  # target picture; with layout side_by_side the same file as `input`
    instance: str | None  # instance map; None where none is wanted


def pair_up(
    roles: dict[str, list[tuple[str, RawFile]]],
    want_instances: bool,
    noun: str,
    problems: set[Problem],
    loose: Counter[str],
) -> list[RawPair]:
    """The pairs of one split, by name; adds to `problems`, and to `loose` those of which names
    differ in case alone, with an example."""
    # What is read of each role, and what is not.
    wanted = [role for role in ROLES if role != "instance" or want_instances]
    by_name = {role: _by_name(roles[role], problems) for role in wanted}
    inputs, photos = by_name["input"], by_name["photo"]
    instances = by_name.get("instance", {})
    _refuse_unread(roles, by_name, problems)

    # Partners whose names differ in case, then what hints at a partner.
    explained: set[str] = set()
    for role, others in (("photo", photos), ("instance", instances)):
        without, left = inputs.keys() - others.keys(), others.keys() - inputs.keys()
        for name, other in match_loosely(without, left, str.casefold).items():
            loose[f"{inputs[name].path} and {others[other].path}"] += 1
            others[name] = others.pop(other)
        explained |= _explain(role, inputs, others, problems)

    # What has none.
    for role, others in (("photo", photos), ("instance", instances)):
        for name in others.keys() - inputs.keys():
            if others[name].path not in explained:
                kind = "photo without input" if role == "photo" else "instance map without input"
                problems.add(Problem(kind, others[name].path, f"is without {noun}"))
    for name in inputs.keys() - instances.keys() if want_instances else ():
        if inputs[name].path not in explained:
            found = "is without instance map"
            problems.add(Problem("missing instance map", inputs[name].path, found))

    def path(files: dict[str, RawFile], name: str) -> str | None:
        return files[name].path if name in files else None

    return [
        RawPair(name, file.path, path(photos, name), path(instances, name))
        for name, file in sorted(inputs.items())
    ]


def _refuse_unread(
    roles: dict[str, list[tuple[str, RawFile]]],
    by_name: dict[str, dict[str, RawFile]],
    problems: set[Problem],
) -> None:
    """Add the problem of each file that is not read although it has a partner."""
    names = {role: {name for name, _ in roles[role]} for role in by_name}
    for role, readable in by_name.items():
        partners = set().union(*(names[other] for other in names if other != role))
        for name, file in roles[role]:
            if is_unread_image(file.path) and name in partners and name not in readable:
                suffix = os.path.splitext(file.path)[1]
                found = f"is a {suffix} file, which is not read"
                problems.add(Problem("unread format", file.path, found))


def _explain(
    role: str, inputs: dict[str, RawFile], others: dict[str, RawFile], problems: set[Problem]
) -> set[str]:
    """Say why inputs have no photo, or no instance map, although one looks like theirs: adds to
    `problems`, returns the files that this explains."""
    without = {name: inputs[name] for name in sorted(inputs.keys() - others.keys())}
    left = {name: others[name] for name in sorted(others.keys() - inputs.keys())}
    if not without or not left:
        return set()

    # An ending or a beginning; zeros before a number; a folder.
    if apart := difference(without, left):
        pairs = apart.pairs
        flags = name_flags(dict(zip(("input", role), apart.patterns, strict=True)))
        affixes = " and ".join(
            f"`{pattern.replace('{}', '')}`" for pattern in apart.patterns if pattern != "{}"
        )
        how = f"but {{}} differs by {affixes}"
        remedy = f"say {flags}"
    elif pairs := match_loosely(without, left, without_zeros):
        how, remedy = "but {} has other zeros before its number", "rename one of them"
    elif pairs := match_loosely(
        without, left, lambda name: split_name((without.get(name) or left[name]).relative)[1]
    ):
        how = "but {} has it in another folder"
        remedy = "lay both out alike, or give the folders with --input-folder and --photo-folder"
    else:
        return set()

    noun = "photo" if role == "photo" else "instance map"
    for name, other in pairs.items():
        found = f"has no {noun} of its name, {how.replace('{}', others[other].path, 1)}"
        problems.add(Problem("names differ", inputs[name].path, found, remedy))
    return {inputs[name].path for name in pairs} | {others[other].path for other in pairs.values()}


def _by_name(files: Iterable[tuple[str, RawFile]], problems: set[Problem]) -> dict[str, RawFile]:
    """Files that are read by name, of several with one name the first; adds to `problems`.

    Files that no name can be made of are left out.
    """
    by_name: dict[str, RawFile] = {}
    for name, file in files:
        if not is_image(os.path.basename(file.path)):
            continue
        if reason := why_no_name(name):
            shown = file.path.encode(errors="backslashreplace").decode()
            problems.add(Problem("unusable name", shown, f"gives no name to a pair: it {reason}"))
        elif (first := by_name.setdefault(name, file)).path != file.path:
            same = f"has the same name as {first.path}"
            problems.add(Problem("duplicate name", file.path, same))
    return by_name
