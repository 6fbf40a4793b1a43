"""The names by which files are pairs, and why some that look alike are none."""

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from shared.data.names import CITYSCAPES_ENDINGS

# How many names are compared with each other to find out what they differ by.
SAMPLE_NAMES, SAMPLE_OTHERS = 5, 400
MOST_WAYS = 8  # in which names might differ, that are tried on all of them
LIKELY = 0.5  # share of the names that a difference should make pairs of


class RawFile(NamedTuple):
    """An image file of some role."""

    relative: str  # its path below the role's folder
    path: str


class Difference(NamedTuple):
    """What two sets of names differ by."""

    patterns: tuple[str, str]  # such as {}_mask and {}
    pairs: dict[str, str]  # name of the first set -> that of the second


def pair_name(relative: str, pattern: str = "") -> str | None:
    """The pair's name by a file's: 'aachen/1_leftImg8bit.png' -> 'aachen_1'; with '{}_mask'
    'a/1_mask.png' -> 'a_1', and None where the pattern does not fit.

    Letters are compared as composed (NFC): a Mac writes them decomposed."""
    folder, stem = split_name(relative)
    if pattern:
        core = _core(stem, pattern)
        if core is None:
            return None
        stem = core
    else:
        for ending in CITYSCAPES_ENDINGS.values():
            stem = stem.removesuffix(ending)
    return (folder + stem).replace("/", "_")


def split_name(relative: str) -> tuple[str, str]:
    """'a/1.png' -> ('a/', '1'), in Unicode's composed form."""
    folder, slash, base = unicodedata.normalize("NFC", relative).rpartition("/")
    return folder + slash, os.path.splitext(base)[0]


def _core(stem: str, pattern: str) -> str | None:
    """What stands for {} in the pattern; None where it does not fit."""
    before, _, after = pattern.partition("{}")
    fits = stem.startswith(before) and stem.endswith(after)
    core = stem[len(before) : len(stem) - len(after)]
    return core if fits and core and len(before) + len(after) < len(stem) else None


def match_loosely(
    names: Iterable[str], others: Iterable[str], key: Callable[[str], str]
) -> dict[str, str]:
    """Those of both that have the same key, which nobody else has."""
    ours, theirs = (_by_key(some, key) for some in (names, others))
    return {
        ours[key][0]: theirs[key][0]
        for key in ours.keys() & theirs.keys()
        if len(ours[key]) == len(theirs[key]) == 1
    }


def _by_key(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found


def without_zeros(name: str) -> str:
    """A name with its numbers as they are counted: 0007 is 7."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)


def difference(
    files: dict[str, RawFile], others: dict[str, RawFile], likely: float = LIKELY
) -> Difference | None:
    """The beginning and ending by which most names of two sets differ, or of one set with itself;
    None where there is no such thing.

    Args:
        likely: Share of the smaller set that it should make pairs of.
    """
    # How a few of them differ from each of the others.
    stems, other_stems = (
        {name: split_name(file.relative) for name, file in some.items()} for some in (files, others)
    )
    by_numbers: dict[tuple[str, ...], list[str]] = {}
    for _, other in other_stems.values():
        by_numbers.setdefault(_numbers(other), []).append(other)
    first_others = [other for _, other in islice(other_stems.values(), SAMPLE_OTHERS)]
    candidates: Counter[tuple[str, str]] = Counter()
    for _, stem in islice(stems.values(), SAMPLE_NAMES):
        for other in (*by_numbers.get(_numbers(stem), ())[:SAMPLE_OTHERS], *first_others):
            if stem != other and (patterns := _patterns(stem, other)):
                candidates[patterns] += 1

    # The way that makes the most pairs of them, and of these the shortest.
    best, shortest = None, 0
    for patterns, _ in candidates.most_common(MOST_WAYS):
        ours, theirs = (
            {
                (folder, core): name
                for name, (folder, stem) in some.items()
                if (core := _core(stem, pattern))
            }
            for some, pattern in zip((stems, other_stems), patterns, strict=True)
        )
        pairs = {ours[core]: theirs[core] for core in ours.keys() & theirs.keys()}
        length = len("".join(patterns))
        if best is None or (len(pairs), -length) > (len(best.pairs), -shortest):
            best, shortest = Difference(patterns, pairs), length
    if best is None or len(best.pairs) < likely * min(len(files), len(others)):
        return None
    # A single pair may have a number in common by chance.
    return best if len(best.pairs) > 1 or "{}" in best.patterns else None


def _numbers(stem: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\d+", stem))


def name_flags(patterns: dict[str, str]) -> str:
    """The flags that say how the names of each role are made of the pair's."""
    flags = [f"--{role}-name '{pattern}'" for role, pattern in patterns.items() if pattern != "{}"]
    return " and ".join(flags)


def _patterns(stem: str, other: str) -> tuple[str, str] | None:
    """Two names as {} with what stands before and behind it in each; None where they have little in
    common."""
    matcher = difflib.SequenceMatcher(None, stem, other, autojunk=False)
    start, other_start, length = matcher.find_longest_match()

    # A number is common as a whole or not at all.
    def cuts_number(text: str, position: int) -> bool:
        return 0 < position < len(text) and text[position - 1 : position + 1].isdigit()

    while length and (cuts_number(stem, start) or cuts_number(other, other_start)):
        start, other_start, length = start + 1, other_start + 1, length - 1
    while length and (
        cuts_number(stem, start + length) or cuts_number(other, other_start + length)
    ):
        length -= 1

    # A word that all names have is no name: what is common should be a number or one name whole.
    core = stem[start : start + length]
    if not core or not (re.search(r"\d", core) or core in (stem, other)):
        return None
    return tuple(
        text[:begin] + "{}" + text[begin + length :]
        for text, begin in ((stem, start), (other, other_start))
    )
