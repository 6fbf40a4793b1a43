"""Label ids of the source -> label ids of the data set."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.contracts.labels import IGNORED
from shared.errors import InputError

# Cityscapes' own table of the 19 evaluated classes (labels.py of cityscapesScripts); all others are
# ignored.
CITYSCAPES_TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9,
    23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
UNKNOWN = -1
MOST_IDS = 1 << 16  # label maps have up to 16 bits


def parse_ids(text: str) -> list[int]:
    """Read '0, 255' as [0, 255]. Raises ValueError for anything else."""
    ids = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and int(part) < MOST_IDS for part in ids):
        raise ValueError("should be label ids with commas between, for example 0,255")
    return [int(part) for part in ids]


def read_table(remap: str) -> tuple[dict[int, int], int | None]:
    """The new id of each id that --remap names, and that of all others (None: they stay).

    Raises InputError for what is no table.
    """
    if not remap:
        return {}, None
    if remap == "cityscapes_train_ids":
        return CITYSCAPES_TRAIN_IDS, IGNORED
    if not Path(remap).is_file():
        raise InputError(f"--remap {remap} is no file: give a JSON file, or cityscapes_train_ids.")
    try:
        content = json.loads(Path(remap).read_text())
        if not isinstance(content, dict):
            raise ValueError("it should be an object")
        others = content.pop("others", None)
        table = {int(source): target for source, target in content.items()}
        targets = [*table.values(), *([] if others is None else [others])]
        if not all(type(target) is int and 0 <= target <= IGNORED for target in targets):
            raise ValueError("ids should be whole numbers of 0 to 255")
        if not all(0 <= source < MOST_IDS for source in table):
            raise ValueError(f"ids of the source should be 0 to {MOST_IDS - 1}")
    except ValueError as error:
        raise InputError(
            f'--remap {remap} is no table such as {{"7": 0, "others": 255}}: {error}.'
        ) from None
    return table, others


def spell_out(remap: str) -> str:
    """--remap with the table itself in place of a file's name: the file may change."""
    if remap in ("", "cityscapes_train_ids"):
        return remap
    table, others = read_table(remap)
    return json.dumps(table | ({} if others is None else {"others": others}))


@dataclass(frozen=True)
class Labels:
    """`new[id]`: the label in the data set of an id of the source, UNKNOWN where it has none."""

    num_labels: int
    new: np.ndarray  # (MOST_IDS,) int16

    @classmethod
    def of(cls, num_labels: int, remap: str, ignore_labels: str) -> "Labels":
        """Make the table of all ids. Raises InputError where --remap leads to ids that are no
        label."""
        table, others = read_table(remap)
        targets = {*table.values()} | ({others} - {None})
        beyond = sorted(target for target in targets if num_labels <= target < IGNORED)
        if beyond:
            raise InputError(
                f"--remap {remap} leads to label {beyond[-1]} but --num-labels is {num_labels}: "
                f"give --num-labels {beyond[-1] + 1} or another table."
            )

        # Ids that are not named stay, or become `others`; ignored ones win.
        new = np.full(MOST_IDS, UNKNOWN, np.int16)
        if others is None:
            new[:num_labels] = np.arange(num_labels)
        else:
            new[:] = others
        for source, target in table.items():
            new[source] = target
        new[parse_ids(ignore_labels)] = IGNORED
        return cls(num_labels, new)

    def translate(self, ids: np.ndarray) -> tuple[np.ndarray, dict[int, float]]:
        """(H, W) ids of the source -> (H, W) uint8 labels, and the ids without label with their
        shares of the pixels, where the labels are IGNORED."""
        inside = ids if ids.dtype in (np.uint8, np.uint16) else ids.clip(0, MOST_IDS - 1)
        labels = self.new[inside]
        is_unknown = (labels == UNKNOWN) | (inside != ids)
        if not is_unknown.any():
            return labels.astype(np.uint8), {}
        values, counts = np.unique(ids[is_unknown], return_counts=True)
        unknown = dict(zip(values.tolist(), (counts / ids.size).tolist(), strict=True))
        return np.where(is_unknown, IGNORED, labels).astype(np.uint8), unknown


def connected_components(labels: np.ndarray) -> np.ndarray:
    """(H, W) labels -> (H, W) instance ids from 1: each region of one label, joined over four
    neighbours, is one."""
    from skimage.measure import label  # half a second to import

    return label(labels.astype(np.int16), background=-1, connectivity=1).astype(np.int32)
