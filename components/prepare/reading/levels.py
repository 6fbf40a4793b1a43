"""Pictures that would come out black, since their numbers use a small part of their range: of
cameras of 12 bits, or label ids that were given as photos."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from components.prepare.layouts.sources import RawPair
from components.prepare.problems import Problem
from components.prepare.reading.pairs import Header
from shared.data.images import highest_level
from shared.errors import InputError

DARK_SHARE = 4  # what stays below a 4th of white in a whole data set is no photography
WHITE_LEVELS = (255, 1023, 4095, 16383)  # of 8, 10, 12 and 14 bits in files of 16


@dataclass
class Levels:
    """The pictures of a data set by what they are for, and by the number that means white."""

    files: dict[tuple[str, int], list[str]] = field(default_factory=dict)

    def add(self, raw: RawPair, header: Header) -> None:
        """Take in the pictures of a pair."""
        for role, white in header.whites.items():
            self.files.setdefault((role, white), []).append(getattr(raw, role))

    def problems(self) -> list[Problem]:
        """Those of which none is bright. Decodes pictures up to the first that is."""
        found = (_dark(role, white, files) for (role, white), files in self.files.items())
        return [problem for problem in found if problem]


def _dark(role: str, white: int, files: Iterable[str]) -> Problem | None:
    """The problem of pictures that are all dark."""
    levels = {}
    for file in files:
        with contextlib.suppress(InputError):  # said of the file itself
            levels[file] = highest_level(file)
            if DARK_SHARE * levels[file] >= white:
                return None
    if not any(levels.values()):
        return None  # black in any program, and by any white
    file, level = max(levels.items(), key=lambda item: item[1])

    # What it looks like.
    noun = {"photo": "photos", "input": "input pictures"}[role]
    found = f"has {level} as its highest number, of {white}, and no other of {len(levels)} {noun} "
    found = f"{found}a higher one"
    keep = f"--white-level {white} takes them as they are"
    fits = [usual for usual in WHITE_LEVELS if level <= usual < white]
    if DARK_SHARE * level < WHITE_LEVELS[0]:
        found += ", which looks like label ids"
        remedy = f"give {noun}, maybe with another --direction, or --num-labels for ids; {keep}"
    else:
        usual = fits[0] if fits else level
        remedy = f"say --white-level {usual} if that is white; {keep}"
    return Problem("dark pictures", file, found, remedy)
