"""`python -m components.prepare --check`: reads everything, writes nothing, lists all that is wrong
at once."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from components.prepare.checks import refuse_contradictions
from components.prepare.config import PrepareConfig
from components.prepare.layouts.sources import RawPair
from components.prepare.problems import ACCEPTED, REMEDIES, Problem
from components.prepare.raw_data import find_pairs, local_folder, reading_for
from components.prepare.reading.pairs import RawFrame, Reading, read_pair
from components.prepare.writing.parallel import parallel_map
from shared.contracts.dataset import IGNORED
from shared.data.maps import densify, label_counts
from shared.progress import progress

SHOWN_FILES = 5  # per kind of problem; the JSON line has all
# Share of an instance's pixels that may lie in other labels than most: soft edges are no mistake.
MINORITY = 0.01


@dataclass
class Found:
    """What one pair looks like."""

    problems: list[Problem]
    size: tuple[int, int] | None = None  # (height, width)
    label_pixels: dict[int, int] = field(default_factory=dict)  # after remapping
    num_instances: int = 0
    content: str = ""  # digest of the picture, to find it twice


def check(raw_data: str, config: PrepareConfig) -> list[Problem]:
    """Print a report of all problems as a table, and as JSON in the last line; returns them."""
    # What names tell: the pairs, and what has no partner.
    refuse_contradictions(config)
    source, pairs, problems = find_pairs(local_folder(raw_data, config), config)
    reading = reading_for(config, source)

    # What headers and pixels tell: every pair is decoded once.
    everything = pairs["train"] + pairs["test"]
    first_with: dict[str, str] = {}
    sizes: Counter[str] = Counter()
    pixels: Counter[int] = Counter()  # by label, as are images
    images: Counter[int] = Counter()
    num_instances = 0
    results = parallel_map(partial(examine, reading=reading), everything, len(everything))
    results = progress(results, "prepare: checked:", len(everything), "pairs")
    for raw, found in zip(everything, results, strict=True):
        problems += found.problems
        num_instances += found.num_instances
        if found.size:
            sizes["{}x{}".format(*found.size)] += 1
        pixels.update(found.label_pixels)
        images.update(found.label_pixels.keys())
        picture = raw.photo or raw.input
        if found.content and (first := first_with.setdefault(found.content, picture)) != picture:
            same = f"is the same picture as {first}"
            problems.append(Problem("duplicate picture", picture, same))

    # The same report for people and for programs.
    report = {
        "layout": source.layout,
        "train_pairs": len(pairs["train"]),
        "test_pairs": len(pairs["test"]),
        "sizes": dict(sizes.most_common()),
        "labels": {
            label: dict(pixels=pixels[label], images=images[label]) for label in sorted(pixels)
        },
        "instances": num_instances,
        "problems": [{**asdict(problem), "remedy": REMEDIES[problem.kind]} for problem in problems],
    }
    print(table(report, problems))
    print(json.dumps(report), flush=True)
    return problems


def examine(raw: RawPair, reading: Reading) -> Found:
    """Decode one pair and count what is in it."""
    frame, problems = read_pair(raw, reading)
    if frame is None:
        return Found(problems)
    found = Found(problems, frame.input.shape[-2:])
    if reading.labels:
        counts = np.bincount(frame.input.ravel(), minlength=256)
        found.label_pixels = {int(label): int(counts[label]) for label in np.flatnonzero(counts)}
    if frame.instances is not None:
        found.num_instances = _check_instances(raw, frame, reading, problems)
    picture = Path(raw.photo or raw.input).read_bytes()
    found.content = hashlib.blake2b(picture, digest_size=16).hexdigest()
    return found


def _check_instances(
    raw: RawPair, frame: RawFrame, reading: Reading, problems: list[Problem]
) -> int:
    """Number of instances; adds the problem of those that lie in several labels."""
    ids, dense_ids = densify(frame.instances)  # (K,), (H, W)
    if reading.labels and reading.instances == "files":
        # The pixels of each instance by label.
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


def table(report: dict, problems: list[Problem]) -> str:
    """The report for people."""
    # What there is, the commonest sizes first.
    sizes = [f"{size} ({count})" for size, count in report["sizes"].items()]
    lines = [
        f"layout {report['layout']}: {report['train_pairs']} train pairs, "
        f"{report['test_pairs']} test pairs, {report['instances']} instances",
        f"sizes: {', '.join(sizes[:8]) or 'none'}",
    ]

    # The share of each label.
    if report["labels"]:
        total = sum(of["pixels"] for of in report["labels"].values())
        lines += ["", f"{'label':>7}  {'pixels':>8}  {'images':>6}"]
        for label, of in report["labels"].items():
            name = "ignored" if label == IGNORED else label
            lines.append(f"{name:>7}  {100 * of['pixels'] / total:7.3f}%  {of['images']:6d}")
    lines.append("")

    # What is wrong, by kind.
    if not problems:
        return "\n".join([*lines, "no problems"])
    by_kind: dict[str, list[Problem]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, of_kind in by_kind.items():
        verdict = "prepare accepts it" if kind in ACCEPTED else "prepare refuses it"
        lines.append(f"{kind}: {len(of_kind)} ({verdict}). What to do: {REMEDIES[kind]}.")
        lines += [f"    {problem.file} {problem.found}" for problem in of_kind[:SHOWN_FILES]]
        if len(of_kind) > SHOWN_FILES:
            lines.append(f"    ... and {len(of_kind) - SHOWN_FILES} more, all in the JSON line")
    return "\n".join([*lines, "", f"{len(problems)} problem{'s' * (len(problems) > 1)}"])
