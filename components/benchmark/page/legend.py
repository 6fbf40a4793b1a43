"""Which colour of a label map is which label."""

from collections.abc import Iterable
from dataclasses import dataclass

from shared.contracts.labels import Label
from shared.data.labels import colours_of, name_of


@dataclass(frozen=True)
class Entry:
    """A label as a legend has it."""

    name: str
    colour: str  # as CSS has it


def legend_of(ids: Iterable[int], labels: list[Label]) -> list[Entry]:
    """The labels of some ids, in the order of these."""
    colours = colours_of(labels)
    return [Entry(name_of(labels, i), f"#{colours[i].tobytes().hex()}") for i in sorted(set(ids))]
