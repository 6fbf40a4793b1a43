"""Whether numbers or colours of label maps say their labels: decided once for the whole data set,
by headers, and by pixels where these leave it open.

A palette map holds numbers whose colours are in its header. Tools that write the palette by use
give the same number another meaning in every file."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import Problem
from components.prepare.reading.pairs import Header, Reading, half, read_header
from components.prepare.writing.parallel import parallel_map
from shared.contracts.labels import IGNORED, Label
from shared.data.colours import UNKNOWN, Colour, ColourTable, of_other_label, says_colours
from shared.data.headers import probe
from shared.data.images import read_ids
from shared.data.raw_maps import IdTable
from shared.errors import InputError

MOST_NAMED = 8  # problems of palettes that are listed
Meanings = dict[int, dict[Colour, str]]  # palette index -> its colours -> the first file with each


@dataclass
class Decision:
    """How the label maps of a data set are to be read."""

    reading: Reading
    by_colour: bool = False
    labels: list[Label] = field(default_factory=list)  # that palettes tell of, without names
    problems: list[Problem] = field(default_factory=list)
    said: str = ""  # what says the labels, where that is no matter of course


@dataclass
class Kinds:
    """What the headers of all label maps say together."""

    coloured: str = ""  # the first file of colours
    palettes: set[bytes] = field(default_factory=set)
    meanings: Meanings = field(default_factory=dict)  # of all numbers, also of those not used

    def note(self, raw: RawPair, header: Header) -> None:
        """Add what one header says."""
        self.coloured = self.coloured or (raw.input if header.is_coloured else "")
        if header.palette and header.palette not in self.palettes:
            self.palettes.add(header.palette)
            colours = np.frombuffer(header.palette, np.uint8).reshape(-1, 3)
            _note(self.meanings, raw.input, enumerate(colours.tolist()))


def decide(
    kinds: Kinds, pairs: list[RawPair], reading: Reading, labels: list[Label], options: str
) -> Decision:
    """Decide by headers, or where those leave it open by the pixels of `pairs`.

    Args:
        labels: Of --labels; [] where that was not given.
        options: Those that were given for ids alone, in words, "" for none.

    Raises InputError where these contradict what the maps are, and for colours of two labels.
    """
    # Colours, or ids as usual.
    if kinds.coloured and labels:
        return _by_colour(reading, labels, options, kinds.coloured)
    if not kinds.palettes:
        return Decision(reading, by_colour=bool(kinds.coloured))

    # What is used of palettes that differ, or that have colours of other labels.
    ids, meanings = reading.labels.ids, kinds.meanings
    if differing(meanings) or moved(meanings, ids, labels):
        meanings = {}
        work = partial(read_used, reading=reading)
        for raw, used in zip(pairs, parallel_map(work, pairs, len(pairs)), strict=True):
            _note(meanings, raw.input, used)
    file = next((next(iter(files.values())) for files in meanings.values()), "")
    if labels and (differing(meanings) or moved(meanings, ids, labels)):
        return _by_colour(reading, labels, options, file)
    if problems := differing(meanings):
        return Decision(reading, by_colour=True, problems=problems[:MOST_NAMED])
    if kinds.coloured:
        return Decision(reading, by_colour=True)  # each file is a problem of its own

    # One palette for all: its numbers are ids, and its colours are theirs.
    return Decision(reading, labels=_labels_in(meanings, ids), said="ids, the palettes' numbers")


def _by_colour(reading: Reading, labels: list[Label], options: str, file: str) -> Decision:
    """The decision for colours. Raises InputError for options of ids."""
    if options:
        raise InputError(
            f"{options} changes label ids, but label maps are read by their colours, such as "
            f"{file}: leave it out, and say in --labels what each colour becomes."
        )
    table = ColourTable.of(labels, reading.colour_tolerance, reading.transparent_label)
    by_colour = replace(reading, labels=replace(reading.labels, colours=table))
    return Decision(by_colour, by_colour=True, said="colours, as --labels names them")


def read_used(raw: RawPair, reading: Reading) -> list[tuple[int, Colour]]:
    """Numbers and colours that the pixels of a palette map use; [] for others."""
    try:
        header = probe(raw.input)
        if not says_colours(header.palette) or read_header(raw, reading).problems:
            return []
        ids = np.unique(half(read_ids(raw.input), "input", reading))
    except InputError:
        return []
    ids = ids[ids < len(header.palette)]
    return [(int(i), tuple(header.palette[i].tolist())) for i in ids]


def _note(meanings: Meanings, file: str, colours: Iterable[tuple[int, Colour]]) -> None:
    for number, colour in colours:
        meanings.setdefault(number, {}).setdefault(tuple(map(int, colour)), file)


def differing(meanings: Meanings) -> list[Problem]:
    """Numbers of several colours, as problems."""
    problems = []
    for number, files in sorted(meanings.items()):
        if len(files) > 1:
            (colour, file), (other_colour, other) = list(files.items())[:2]
            found = (
                f"has colour {list(other_colour)} as number {number} of its palette, but {file} "
                f"has {list(colour)}"
            )
            problems.append(Problem("palettes differ", other, found))
    return problems


def moved(meanings: Meanings, ids: IdTable, labels: list[Label]) -> bool:
    """Whether a number has the colour of other labels than its own."""
    meant = [
        (int(ids.new[number]), colour) for number, files in meanings.items() for colour in files
    ]
    return of_other_label(meant, labels) is not None


def _labels_in(meanings: Meanings, ids: IdTable) -> list[Label]:
    """The labels that one palette tells of; [] for one of greys, which says nothing."""
    colours = {number: next(iter(files)) for number, files in meanings.items()}
    if all(len({*colour}) == 1 for colour in colours.values()):
        return []
    labels = {}
    for number, colour in sorted(colours.items()):
        label = int(ids.new[number])
        if label not in (UNKNOWN, IGNORED):
            labels.setdefault(label, Label(id=label, name=str(label), colour=colour))
    return [labels[label] for label in sorted(labels)]
