"""Names and colours of labels: read from people's files, and made up where there are none."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.contracts.labels import IGNORED, LONGEST_LABEL, Label
from shared.errors import InputError
from shared.files.documents import read_document

TABLES = Path(__file__).parent / "label_tables"  # ready-made
FIELDS = ("id", "name", "colour")
COLOUR = "three whole numbers of 0 to 255, or '#rrggbb' in quotes"


# From files.


def ready_made() -> list[str]:
    """Names of the tables that come with the project."""
    return sorted(path.stem for path in TABLES.glob("*.yaml"))


def read_labels(source: str) -> list[Label]:
    """The labels of a ready-made table, by its name, or of a .yaml or .json file, sorted by id.

    Raises InputError, which names --labels, the file and the entry.
    """
    if source in ready_made():
        return _labels_in(source, _parse(source, TABLES / f"{source}.yaml"))
    path = Path(source)
    if not path.is_file() or path.suffix.lower() not in (".yaml", ".yml", ".json"):
        found = "is no .yaml or .json file" if path.is_file() else "is not there"
        raise InputError(
            f"--labels {source} {found}: give a file of labels, or one of "
            f"{', '.join(ready_made())}."
        )
    labels = _labels_in(source, _parse(source, path))
    _refuse_same_colour(source, labels)  # published tables have some
    return labels


def _parse(source: str, path: Path) -> Any:
    """What the file says. Raises InputError with the line that cannot be read."""
    try:
        return read_document(path)
    except OSError as error:
        found = f"cannot be read ({error.strerror})"
    except ValueError as error:
        found = str(error)
    raise InputError(f"--labels {source} {found}: mend the file.") from None


def _labels_in(source: str, content: Any) -> list[Label]:
    """The labels that the content of a file lists."""
    entries = content.get("labels") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f"--labels {source} holds no list of labels: write entries such as "
            "`- {id: 0, name: sky, colour: [70, 130, 180]}`."
        )
    labels = [_label(source, number, entry) for number, entry in enumerate(entries, 1)]

    # Ids and names are of one label each.
    by_id: dict[int, Label] = {}
    by_name: dict[str, Label] = {}
    for label in labels:
        if label.id != IGNORED and label.id in by_id:
            raise InputError(
                f"--labels {source}: {by_id[label.id].name!r} and {label.name!r} both have id "
                f"{label.id}: give each label its own."
            )
        if (other := by_name.setdefault(label.name, label)).id != label.id:
            raise InputError(
                f"--labels {source}: labels {other.id} and {label.id} are both called "
                f"{label.name!r}: give each its own name."
            )
        by_id[label.id] = label
    return sorted(labels, key=lambda label: label.id)


def _label(source: str, number: int, entry: Any) -> Label:
    """One label of the list; `number` counts from 1."""
    where = f"--labels {source}, entry {number}"
    if not isinstance(entry, dict):
        raise InputError(
            f"{where} is {entry!r}: write a label such as {{id: 0, name: sky, colour: [70, 130, "
            "180]}."
        )
    where += f" ({', '.join(f'{key}: {_shown(entry[key])}' for key in FIELDS[:2] if key in entry)})"
    where = where.removesuffix(" ()")
    if unknown := [key for key in entry if key not in FIELDS]:
        raise InputError(f"{where} has a field {unknown[0]!r}: a label has id, name and colour.")
    if missing := [key for key in FIELDS if entry.get(key) is None]:
        hint = (
            " (in YAML '#rrggbb' needs quotes)" if "colour" in missing and "colour" in entry else ""
        )
        raise InputError(f"{where} has no {missing[0]}: add it{hint}.")

    label, name, colour = (entry[key] for key in FIELDS)
    if type(label) is not int or not 0 <= label <= IGNORED:
        raise InputError(f"{where} has id {label!r}: give a whole number of 0 to {IGNORED}.")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"{where} has name {name!r}: give a line of text, in quotes.")
    if len(name) > LONGEST_LABEL:
        raise InputError(
            f"{where[:300]} has a name of {len(name)} letters: give {LONGEST_LABEL} at most."
        )
    levels = colour
    if isinstance(colour, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        levels = list(bytes.fromhex(colour[1:]))
    if not _are_levels(levels):
        raise InputError(f"{where} has colour {colour!r}: give {COLOUR}.")
    return Label(id=label, name=name.strip(), colour=tuple(levels))


def _shown(value: Any) -> str:
    """A value in a sentence, on one line."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def _are_levels(levels: Any) -> bool:
    return (
        isinstance(levels, list)
        and len(levels) == 3
        and all(type(level) is int and 0 <= level <= 255 for level in levels)
    )


def _refuse_same_colour(source: str, labels: Sequence[Label]) -> None:
    """Raises InputError where two labels cannot be told apart in a picture."""
    by_colour: dict[tuple[int, int, int], Label] = {}
    for label in labels:
        other = by_colour.setdefault(label.colour, label)
        if other.id != label.id:
            raise InputError(
                f"--labels {source}: labels {other.id} ({other.name}) and {label.id} "
                f"({label.name}) both have colour {list(label.colour)}: give each its own."
            )


# For tables and pictures.


def name_of(labels: Sequence[Label], label: int) -> str:
    """What people call a label: its name, else the id as text; "ignored" for IGNORED."""
    if label == IGNORED:
        return "ignored"
    return next((one.name for one in labels if one.id == label), str(label))


def find_label(labels: Sequence[Label], name: str) -> int | None:
    """The id of the label with this name, in any case; None where none has it."""
    named = {one.name.casefold(): one.id for one in labels if one.id != IGNORED}
    return named.get(name.casefold())


def colours_of(labels: Sequence[Label]) -> np.ndarray:
    """(256, 3) uint8: the colour of every id. Ids that no label names get colours that are easily
    told apart, from each other and from those of the labels; IGNORED without a label is black."""
    colours = np.zeros((256, 3), np.uint8)
    given = {}
    for label in labels:
        given.setdefault(label.id, label.colour)  # of several names of IGNORED the first
    for label, colour in given.items():
        colours[label] = colour
    free = [label for label in range(IGNORED) if label not in given]
    colours[free] = _distinct(len(free), taken=list(given.values()))
    return colours


def _distinct(count: int, taken: list[tuple[int, int, int]]) -> np.ndarray:
    """(count, 3) uint8 colours: each is, of a grid, the one farthest from black, grey, white,
    `taken` and those before it, to the eye."""
    levels = np.linspace(0, 255, 9).round()
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.max(axis=1) >= 96]
    seen = _to_oklab(grid)  # (702, 3)
    greys = [(0, 0, 0), (128, 128, 128), (255, 255, 255)]
    others = _to_oklab(np.array([*greys, *taken], float))
    distances = np.linalg.norm(seen[:, None] - others, axis=-1).min(axis=1)
    chosen = np.zeros(count, int)
    for number in range(count):
        chosen[number] = best = int(distances.argmax())
        distances = np.minimum(distances, np.linalg.norm(seen - seen[best], axis=-1))
    return grid[chosen].astype(np.uint8)


def _to_oklab(colours: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB levels 0..255 -> (N, 3) in Oklab, where distances are as seen (Ottosson 2020)."""
    x = colours / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_cones = np.array(
        [[0.4122214708, 0.5363325363, 0.0514459929],
         [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]
    )  # fmt: skip
    to_lab = np.array(
        [[0.2104542553, 0.7936177850, -0.0040720468],
         [1.9779984951, -2.4285922050, 0.4505937099],
         [0.0259040371, 0.7827717662, -0.8086757660]]
    )  # fmt: skip
    return np.cbrt(linear @ to_cones.T) @ to_lab.T
