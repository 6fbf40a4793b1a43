"""Raw data of any usual layout as pairs of files of this machine. Nothing is opened yet but a few
pictures of a layout that was guessed."""

import os
from dataclasses import replace
from pathlib import Path

from components.prepare.config import PrepareConfig
from components.prepare.fetch.archives import (
    archives_in,
    extract,
    not_unpacked,
    unpacked_before,
)
from components.prepare.fetch.remote import fetch, is_remote
from components.prepare.kinds import Decision, Kinds, decide
from components.prepare.labels import label_reader, usual_num_labels
from components.prepare.layouts.known import belongs_to_a_layout
from components.prepare.layouts.listing import subfolders
from components.prepare.layouts.pairing import RawPair
from components.prepare.layouts.sources import Naming, Source, find_source
from components.prepare.layouts.splits import choose_splits
from components.prepare.problems import Problem
from components.prepare.reading.geometry import Resize
from components.prepare.reading.halves import doubt_halves
from components.prepare.reading.pairs import Reading
from shared.data.headers import WHITE_16_BIT
from shared.data.labels import read_labels
from shared.errors import InputError


def local_folder(raw_data: str, config: PrepareConfig) -> Path:
    """The folder of the images, copied or unpacked where that is needed.

    A link keeps its name, which may be an archive's while the file's is none.
    """
    copies = copies_folder(config)
    root = fetch(raw_data, copies) if is_remote(raw_data) else Path(raw_data).absolute()
    if archives := packed_in(root, config):
        if root not in archives:
            _tell_of_archives(root, archives)
        root = extract(archives, copies)
    return root


def folder_at_hand(raw_data: str, config: PrepareConfig) -> Path | None:
    """The same without copying or unpacking; None where the images are not here yet."""
    if is_remote(raw_data):
        return None
    root = Path(raw_data).absolute()
    archives = packed_in(root, config)
    return unpacked_before(archives, copies_folder(config)) if archives else root


def _tell_of_archives(root: Path, archives: list[Path]) -> None:
    """Say what is taken where archives lie in a folder, and what is not."""
    beside = sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in root.iterdir()
        if path not in archives and not path.name.startswith(".")
    )
    names = ", ".join(path.name for path in archives)
    rest = f"; not looked at: {', '.join(beside[:8])}" + ", ..." * (len(beside) > 8)
    print(f"prepare: taken from {names}{rest if beside else ''}", flush=True)


def copies_folder(config: PrepareConfig) -> Path:
    """Where copies of remote sources and unpacked archives lie."""
    user_cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(config.copies or f"{user_cache}/pix2pix-pipeline").expanduser()


def packed_in(root: Path, config: PrepareConfig) -> list[Path]:
    """The archives that hold the layout: none where it lies unpacked in the folder, perhaps beside
    the archives that it came in."""
    given = (config.input_folder, config.photo_folder)
    unpacked = root.is_dir() and (
        any(belongs_to_a_layout(name) for name in subfolders(str(root)))
        or any(name and (root / name).is_dir() for name in given)
    )
    return [] if unpacked else archives_in(root)


def find_pairs(
    root: Path, config: PrepareConfig
) -> tuple[Source, dict[str, list[RawPair]], list[Problem]]:
    """The source in a folder; its pairs by our splits; what has no partner."""
    # Its pairs. What came in an archive or from a store may not lead out of it.
    copies = os.path.realpath(copies_folder(config))
    is_copy = Path(os.path.realpath(root)).is_relative_to(copies)
    source = find_source(
        root,
        config.layout,
        config.direction,
        want_instances=config.instances == "files",
        naming=Naming(
            (config.input_folder, config.photo_folder, config.instance_folder),
            (config.input_name, config.photo_name, config.instance_name),
        ),
        stays_inside=is_copy,
        needed=("input",) if config.test_only else ("input", "photo"),
    )
    pairs, of_splits = choose_splits(
        source,
        config.train_splits,
        config.test_splits,
        config.test_fraction,
        config.seed,
        config.max_images,
        config.test_only,
    )

    # A photo that is there under another name is not missing.
    explained = {problem.file for problem in source.problems if problem.kind == "names differ"}
    problems = source.problems + [
        problem
        for problem in of_splits
        if problem.kind != "missing photo" or problem.file not in explained
    ]

    # Halves of what is one picture would be wrong in every pair.
    if source.is_guess and source.layout == "side_by_side":
        problems = doubt_halves(sum(source.pairs.values(), [])) + problems

    # What else people should know.
    notes = [*source.notes, not_unpacked(root) if is_copy else "", _splits_left(source, pairs)]
    if without := sum(pair.photo is None for pair in pairs["test"]):
        notes.append(f"{without} of {len(pairs['test'])} test pairs have no photo")
    return replace(source, notes=[note for note in notes if note]), pairs, problems


def _splits_left(source: Source, pairs: dict[str, list[RawPair]]) -> str:
    """A line for the splits that are neither trained nor tested on; '' where there are none."""
    taken = {pair.input for chosen in pairs.values() for pair in chosen}
    left = [
        f"{split or 'what is in none'} ({len(found)} pairs)"
        for split, found in source.pairs.items()
        if not any(pair.input in taken for pair in found)
    ]
    return f"splits that are not used: {', '.join(left)}" if left else ""


def reading_for(config: PrepareConfig, source: Source) -> Reading:
    """How the files of this source are read. Raises InputError for a --remap that cannot be."""
    return Reading(
        labels=label_reader(config, usual_num_labels(source)),
        are_colours_named=bool(config.labels),
        colour_tolerance=config.colour_tolerance,
        transparent_label=config.transparent_label,
        input_nc=config.input_nc,
        instances=config.instances,
        side_by_side=source.layout == "side_by_side",
        input_half="left" if config.direction == "AtoB" else "right",
        white_level=highest_white(config),
        transparency=config.transparency,
        resize=Resize.parse(config.size),
        copies=os.path.realpath(copies_folder(config)),
    )


def highest_white(config: PrepareConfig) -> int:
    """What is said by --white-level; the whole range where nothing is."""
    return WHITE_16_BIT if config.white_level == "auto" else config.white_level


def decide_kind(
    kinds: Kinds, pairs: list[RawPair], reading: Reading, config: PrepareConfig
) -> Decision:
    """Whether numbers or colours say the labels. Raises InputError for options that are not for
    what was found."""
    flags = (("--remap", config.remap), ("--ignore-labels", config.ignore_labels))
    of_ids = " and ".join(flag for flag, value in flags if value)
    labels = read_labels(config.labels) if config.labels else []
    decision = decide(kinds, pairs, reading, labels, of_ids)
    flags = (
        ("--colour-tolerance", config.colour_tolerance > 0),
        ("--transparent-label", config.transparent_label >= 0),
    )
    of_colours = [flag for flag, is_given in flags if is_given]
    if of_colours and not decision.by_colour:
        raise InputError(
            f"{of_colours[0]} is for label maps that are read by colour, but these hold ids: leave "
            "it out."
        )
    return decision
