"""Raw data of any usual layout as pairs of files of this machine. Nothing in them is opened yet."""

import os
from pathlib import Path

from components.prepare.config import PrepareConfig
from components.prepare.fetch.archives import archives_in, extract, unpacked_before
from components.prepare.fetch.remote import fetch, is_remote
from components.prepare.kinds import Decision, Kinds, decide
from components.prepare.layouts.listing import subfolders
from components.prepare.layouts.sources import LAYOUT_FOLDERS, RawPair, Source, find_source
from components.prepare.layouts.splits import choose_splits
from components.prepare.problems import Problem
from components.prepare.reading.geometry import Resize
from components.prepare.reading.pairs import Reading
from shared.data.labels import read_labels
from shared.data.raw_maps import IdTable, LabelReader
from shared.errors import InputError


def local_folder(raw_data: str, config: PrepareConfig) -> Path:
    """The folder of the images, copied or unpacked where that is needed."""
    copies = copies_folder(config)
    root = fetch(raw_data, copies) if is_remote(raw_data) else Path(raw_data).resolve()
    if archives := packed_in(root):
        root = extract(archives, copies)
    return root


def folder_at_hand(raw_data: str, config: PrepareConfig) -> Path | None:
    """The same without copying or unpacking; None where the images are not here yet."""
    if is_remote(raw_data):
        return None
    root = Path(raw_data).resolve()
    archives = packed_in(root)
    return unpacked_before(archives, copies_folder(config)) if archives else root


def copies_folder(config: PrepareConfig) -> Path:
    """Where copies of remote sources and unpacked archives lie."""
    user_cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(config.copies or f"{user_cache}/pix2pix-pipeline").expanduser()


def packed_in(root: Path) -> list[Path]:
    """The archives that hold the layout: none where it lies unpacked in the folder, perhaps beside
    the archives that it came in."""
    unpacked = root.is_dir() and bool(subfolders(str(root)) & LAYOUT_FOLDERS)
    return [] if unpacked else archives_in(root)


def find_pairs(
    root: Path, config: PrepareConfig
) -> tuple[Source, dict[str, list[RawPair]], list[Problem]]:
    """The source in a folder; its pairs by our splits; what has no partner."""
    source = find_source(
        root,
        config.layout,
        config.direction,
        want_instances=config.instances == "files",
        folders=(config.input_folder, config.photo_folder, config.instance_folder),
    )
    pairs, problems = choose_splits(
        source,
        config.train_splits,
        config.test_splits,
        config.test_fraction,
        config.seed,
        config.max_images,
    )
    return source, pairs, source.problems + problems


def reading_for(config: PrepareConfig, source: Source) -> Reading:
    """How the files of this source are read. Raises InputError for a --remap that cannot be."""
    return Reading(
        labels=labels_for(config),
        are_colours_named=bool(config.labels),
        colour_tolerance=config.colour_tolerance,
        transparent_label=config.transparent_label,
        input_nc=config.input_nc,
        instances=config.instances,
        side_by_side=source.layout == "side_by_side",
        input_half="left" if config.direction == "AtoB" else "right",
        white_level=config.white_level,
        resize=Resize.parse(config.size),
    )


def labels_for(config: PrepareConfig) -> LabelReader | None:
    """What becomes of label ids; None where the input is a picture. Raises InputError for a --remap
    that cannot be."""
    if not config.num_labels:
        return None
    return LabelReader(IdTable.of(config.num_labels, config.remap, config.ignore_labels))


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
