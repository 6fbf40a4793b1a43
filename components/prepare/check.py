"""`python -m components.prepare --check`: reads everything, writes nothing, lists all that is wrong
at once."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from components.prepare.check_report import CheckReport
from components.prepare.checks import refuse_contradictions
from components.prepare.config import PrepareConfig
from components.prepare.kinds import Kinds
from components.prepare.labels import (
    grey_levels,
    known_labels,
    told_num_labels,
    usual_num_labels,
)
from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import Problem, refused
from components.prepare.raw_data import decide_kind, find_pairs, local_folder, reading_for
from components.prepare.reading.edges import invented_ids
from components.prepare.reading.found_colours import FoundColours, count_colours
from components.prepare.reading.levels import Levels
from components.prepare.reading.pairs import RawFrame, Reading, half, read_header, read_pair
from components.prepare.writing.parallel import parallel_map
from shared.contracts.dataset import SPLITS
from shared.contracts.labels import IGNORED
from shared.data.images import read_ids, resize_ids
from shared.data.maps import densify, label_counts
from shared.errors import InputError
from shared.files.owned import refuse_unwritable
from shared.files.writing import write_atomically
from shared.terminal.progress import progress

# Share of an instance's pixels that may lie in other labels than most: soft edges are no mistake.
MINORITY = 0.01


@dataclass
class Found:
    """What one pair looks like."""

    problems: list[Problem]
    size: tuple[int, int] | None = None  # (height, width) of its input
    label_pixels: dict[int, int] = field(default_factory=dict)  # after remapping
    num_instances: int = 0
    colours: dict[int, int] = field(default_factory=dict)  # pixels of each, where they are listed
    content: str = ""  # digest of the picture, to find it twice


def check(raw_data: str, config: PrepareConfig, report_file: Path | None = None) -> list[Problem]:
    """Print what is there and all that is wrong with it, a line for each kind; returns all
    problems.

    Args:
        report_file: Where to write the whole of it as JSON; None writes nothing.
    """
    # What names tell: the pairs, and what has no partner. With splits that cannot be chosen, all
    # pairs are looked at.
    refuse_contradictions(config)
    if report_file:
        if not report_file.absolute().parent.is_dir():
            raise InputError(
                f"--check-report {report_file}: its folder is not there: make it first."
            )
        refuse_unwritable(report_file, "--check-report")
    source, pairs, problems = find_pairs(local_folder(raw_data, config), config)
    reading = reading_for(config, source)
    report = CheckReport(
        source.layout, source.notes, {split: len(pairs[split]) for split in SPLITS}, problems
    )
    splits = pairs
    if any(problem.kind == "splits" for problem in problems):
        splits = {
            split: found[: config.max_images or None] for split, found in source.pairs.items()
        }
    everything = [(split, raw) for split, found in splits.items() for raw in found]

    # What all headers tell together: whether numbers or colours say the labels, and how bright
    # pictures are.
    kinds, levels, raws = Kinds(), Levels(), [raw for _, raw in everything]
    headers = parallel_map(partial(read_header, reading=reading), raws, len(raws))
    for raw, header in zip(raws, headers, strict=True):
        kinds.note(raw, header)
        levels.add(raw, header)
    if config.white_level == "auto":
        report.problems += levels.problems()
    decision = decide_kind(kinds, raws, reading, config)
    report.problems += decision.problems
    lists_colours = decision.by_colour and not config.labels
    colours = FoundColours()

    # What headers and pixels tell: every pair is decoded once.
    same_content: dict[str, dict[str, str]] = {}  # digest -> the files that have it, with splits
    work = partial(examine, reading=decision.reading, lists_colours=lists_colours)
    results = parallel_map(work, raws, len(raws))
    results = progress(results, "prepare: checked:", len(everything), "pairs")
    for (split, raw), found in zip(everything, results, strict=True):
        report.add(found.problems, found.size, found.label_pixels, found.num_instances)
        colours.add(found.colours)
        if found.content:
            same_content.setdefault(found.content, {})[raw.photo or raw.input] = split
    report.problems += _pictures_twice(same_content.values())
    told = told_num_labels(config, usual_num_labels(source))
    report.labels = known_labels(config, source.layout, IGNORED if told is None else told)
    report.labels = report.labels or decision.labels
    if told is None:
        report.problems += grey_levels({*report.label_pixels}, config, source.root)

    # For people, and for programs.
    if lists_colours:
        print(colours.as_text() + "\n")
    print(report.as_text(), flush=True)
    if report_file:
        write_atomically(report_file, report.as_json().encode())
    return report.problems


def examine(raw: RawPair, reading: Reading, lists_colours: bool) -> Found:
    """Decode one pair and count what is in it."""
    # What can be read of it.
    frame, problems = read_pair(raw, reading)
    found = Found(problems, colours=count_colours(raw.input, reading) if lists_colours else {})
    if frame.input is not None:
        found.size = frame.input.shape[-2:]
    if frame.input is not None and reading.labels:
        found.label_pixels = _count_labels(frame.input, problems)
        _check_edges(raw, frame, reading, problems)
    if frame.instances is not None:
        found.num_instances = _check_instances(raw, frame, reading, problems)

    # Whether it is there twice is a question of whole pairs.
    if not refused(problems):
        picture = Path(raw.photo or raw.input).read_bytes()
        found.content = hashlib.blake2b(picture, digest_size=16).hexdigest()
    return found


def _count_labels(labels: np.ndarray, problems: list[Problem]) -> dict[int, int]:
    """Pixels of each label. Ids without label, which became IGNORED, are told in `problems`."""
    counts = np.bincount(labels.ravel(), minlength=256)
    unknown = sum(
        share
        for problem in problems
        if problem.kind in ("unknown label ids", "unknown colours")
        for _, share in problem.shares
    )
    counts[IGNORED] -= round(unknown * labels.size)
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def _check_edges(raw: RawPair, frame: RawFrame, reading: Reading, problems: list[Problem]) -> None:
    """Adds the problem of maps whose edges have ids of their own. Of colours the unknown ones
    tell."""
    maps = {} if reading.instances == "components" else {raw.instance: frame.instances}
    if not reading.labels.colours:
        maps = {raw.input: half(read_ids(raw.input), "input", reading)} | maps
    for file, ids in maps.items():
        if ids is not None and len(invented := invented_ids(ids)):
            some = ", ".join(map(str, invented[:8])) + ", ..." * (len(invented) > 8)
            found = f"has ids on edges alone, as antialiasing makes them: {some}"
            problems.append(Problem("looks resized", file, found))
            return


def _check_instances(
    raw: RawPair, frame: RawFrame, reading: Reading, problems: list[Problem]
) -> int:
    """Number of instances; adds the problem of those that lie in several labels."""
    ids, dense_ids = densify(frame.instances)  # (K,), (H, W)
    if reading.labels and reading.instances == "files" and frame.input is not None:
        # The pixels of each instance by label, at the label map's size.
        if frame.instances.shape != frame.input.shape:
            dense_ids = resize_ids(dense_ids, *frame.input.shape)
        counts = label_counts(dense_ids, frame.input, len(ids))
        counts[:, IGNORED:] = 0

        # Those with more than a few outside of their commonest label.
        other = counts.sum(axis=1) - counts.max(axis=1)
        across = ids[other > MINORITY * counts.sum(axis=1)]
        if len(across):
            some = ", ".join(map(str, across[:8])) + ", ..." * (len(across) > 8)
            shown = f"has instances in several labels: {some}"
            problems.append(Problem("instances across labels", raw.instance, shown))
    return len(ids)


def _pictures_twice(same_content: Iterable[dict[str, str]]) -> list[Problem]:
    """A problem for each picture that is there more than once.

    Args:
        same_content: For each picture its files, with their splits.
    """
    problems = []
    for splits in same_content:
        first, *others = splits
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            leak = ", in training and in testing" if {*SPLITS} <= {*splits.values()} else ""
            found = f"is the same picture as {first}{more}{leak}"
            problems.append(Problem("duplicate picture", others[0], found))
    return problems
