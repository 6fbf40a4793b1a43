"""The labels of a data set: how many there are, what they are called, and their colours."""

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from components.prepare.config import PrepareConfig
from components.prepare.layouts.pairing import RawPair
from components.prepare.layouts.sources import Source
from components.prepare.problems import Problem, refuse_first
from components.prepare.reading.pairs import Reading, read_pair
from components.prepare.writing.parallel import parallel_map
from shared.contracts.labels import IGNORED, Label
from shared.data.labels import read_labels, ready_made
from shared.data.raw_maps import IdTable, LabelReader, read_table
from shared.errors import InputError
from shared.terminal.progress import progress

NVIDIA_LABELS = 35  # pix2pixHD's default: of Cityscapes, and of its folders train_label


# Their number.


def usual_num_labels(source: Source) -> int | None:
    """Number of labels in this layout where nobody says another; None: it may be any."""
    root = Path(source.root).resolve()
    is_nvidia = source.layout == "flat" and any(
        Path(pair.input).relative_to(root).parts[0].endswith("_label")
        for pairs in source.pairs.values()
        for pair in pairs[:1]
    )
    return NVIDIA_LABELS if source.layout == "cityscapes" or is_nvidia else None


def told_num_labels(config: PrepareConfig, usual: int | None) -> int | None:
    """Number of labels by the options, or as usual in the layout; None: the maps tell it. Raises
    InputError for a --labels or --remap that cannot be read."""
    if config.num_labels != "auto":
        return config.num_labels
    if config.labels:
        return highest(label.id for label in read_labels(config.labels)) + 1
    table, others = read_table(config.remap)
    if others is not None:
        return highest([*table.values(), others]) + 1
    return usual


def highest(ids: Iterable[int]) -> int:
    """The highest that is not IGNORED, 0 where there is none."""
    return max((label for label in ids if label != IGNORED), default=0)


def label_reader(config: PrepareConfig, usual: int | None) -> LabelReader | None:
    """What becomes of label ids; None where the input is a picture. Raises InputError for options
    that contradict each other."""
    num_labels = told_num_labels(config, usual)
    if num_labels == 0:
        return None
    last = highest(label.id for label in _named(config))
    if num_labels is not None and last >= num_labels:
        raise InputError(
            f"--labels {config.labels} names label {last} but --num-labels is {num_labels}: "
            f"give --num-labels {last + 1}, or a file of fewer labels."
        )
    # Any id may be a label where the maps tell their number.
    ignored = ignored_labels(config, usual)
    return LabelReader(IdTable.of(num_labels or IGNORED, config.remap, ignored))


def ignored_labels(config: PrepareConfig, usual: int | None) -> str:
    """--ignore-labels, and 255 too where a label of that id or the maps say what it is."""
    table, others = read_table(config.remap)
    is_unsaid = IGNORED not in table and others is None
    names_it = any(label.id == IGNORED for label in _named(config))
    if is_unsaid and (names_it or told_num_labels(config, usual) is None):
        given = config.ignore_labels.split(",") if config.ignore_labels else []
        return ",".join(dict.fromkeys([*given, str(IGNORED)]))
    return config.ignore_labels


def _named(config: PrepareConfig) -> list[Label]:
    return read_labels(config.labels) if config.labels else []


def num_labels_of_maps(
    pairs: list[RawPair], reading: Reading, config: PrepareConfig, root: str
) -> int:
    """The highest id in all label maps, plus 1; says what it is. Raises InputError for maps that
    cannot be read, and for ids that look like levels of grey."""
    # Every map is decoded, without its photo.
    ids: set[int] = set()
    results = parallel_map(partial(ids_in, reading=reading), pairs, len(pairs))
    for found, problems in progress(results, "prepare: looked at:", len(pairs), "label maps"):
        refuse_first(problems)
        ids |= found
    refuse_first(grey_levels(ids, config, root))

    # Also what a table leads to, though no map has it.
    num_labels = highest([*ids, *read_table(config.remap)[0].values()]) + 1
    occur = len(ids - {IGNORED})
    there = f", of which {occur} occur" if occur < num_labels else ""
    ignored = f"; {IGNORED} means no label" if IGNORED in ids else ""
    print(f"prepare: {num_labels} labels by the highest id of the maps{there}{ignored}", flush=True)
    return num_labels


def ids_in(raw: RawPair, reading: Reading) -> tuple[set[int], list[Problem]]:
    """The label ids of one pair, and what is wrong with its label map."""
    alone = replace(raw, photo=None, instance=None)
    frame, problems = read_pair(alone, replace(reading, instances="none"))
    if frame.input is None:
        return set(), problems
    return {*np.flatnonzero(np.bincount(frame.input.ravel())).tolist()}, problems


def grey_levels(ids: set[int], config: PrepareConfig, root: str) -> list[Problem]:
    """A problem where 255 is a level of grey such as white, and no mark of pixels without label: no
    two of the other ids follow each other. None where the options say what 255 is."""
    others = sorted(ids - {IGNORED})
    is_said = "255" in config.ignore_labels.split(",") or IGNORED in read_table(config.remap)[0]
    if IGNORED not in ids or is_said or any(label + 1 in ids for label in others[:-1]):
        return []
    some = others[:8]
    alone = " alone" if len(others) < 2 else ""
    found = f"has label maps of the ids {', '.join(map(str, [*some, IGNORED]))}{alone}"
    table = {str(label): new for new, label in enumerate([*some, IGNORED]) if label != new}
    remedy = (
        f"say --remap with a JSON file of {json.dumps(table)} where 255 is a label (white), or "
        "--ignore-labels 255 where it means no label"
    )
    return [Problem("levels of grey", root, found, remedy)]


# Their names and colours.


def known_labels(config: PrepareConfig, layout: str, num_labels: int) -> list[Label]:
    """The names and colours of --labels, else what the layout or --remap tells; [] where nothing is
    known. Raises InputError for a --labels that cannot be read."""
    if config.labels or num_labels == 0:
        return _named(config)
    match layout, config.remap:
        case _, "cityscapes_train_ids":
            known = read_labels("cityscapes_train_ids")
        case "cityscapes", "":
            known = read_labels("cityscapes")
        case _:
            return []
    return [label for label in known if label.id < num_labels or label.id == IGNORED]


def spell_out(remap: str) -> str:
    """--remap with the table itself in place of a file's name: the file may change."""
    if remap in ("", "cityscapes_train_ids"):
        return remap
    table, others = read_table(remap)
    return json.dumps(table | ({} if others is None else {"others": others}))


def spell_out_labels(labels: str) -> str:
    """--labels with the labels themselves in place of a file's name: the file may change."""
    if labels in ("", *ready_made()):
        return labels
    return json.dumps([label.model_dump() for label in read_labels(labels)])
