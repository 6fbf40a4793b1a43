"""Label maps as people have them -> labels of a data set."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.contracts.labels import IGNORED, Label, RawReading
from shared.data.colours import UNKNOWN, ColourTable
from shared.data.headers import ImageHeader
from shared.data.images import read_colours, read_ids
from shared.errors import InputError
from shared.files.documents import parse_json, read_text

# Cityscapes' own table of the 19 evaluated classes (labels.py of cityscapesScripts); all others are
# ignored.
CITYSCAPES_TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9,
    23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip
MOST_IDS = 1 << 16  # label maps have up to 16 bits
_GREY, _BLACK = 0x010101, 0xFF000000  # as colours: one level of grey, opaque black
MOST_NAMED = 8  # ids without label
LOSSY_KINDS = {
    "JPEG": "a JPEG",
    "MPO": "a JPEG",
    "TIFF": "a TIFF of lossy compression",
    "WEBP": "a lossy WebP",
    "JPEG2000": "a lossy JPEG 2000",
    "AVIF": "an AVIF",
}


def parse_ids(text: str) -> list[int]:
    """Read '0, 255' as [0, 255]. Raises ValueError for anything else."""
    ids = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(part.isdecimal() and int(part) < MOST_IDS for part in ids):
        raise ValueError("should be label ids with commas between, for example 0,255")
    return [int(part) for part in ids]


def read_table(remap: str) -> tuple[dict[int, int], int | None]:
    """The new id of each id that --remap names, and that of all others (None: they stay). The table
    is a name, a file, or spelled out.

    Raises InputError for what is no table.
    """
    if not remap:
        return {}, None
    if remap == "cityscapes_train_ids":
        return CITYSCAPES_TRAIN_IDS, IGNORED
    is_spelled_out = remap.lstrip().startswith("{")
    if not is_spelled_out and not Path(remap).is_file():
        raise InputError(f"--remap {remap} is no file: give a JSON file, or cityscapes_train_ids.")
    try:
        content = parse_json(os.fsencode(remap) if is_spelled_out else read_text(Path(remap)))
        if not isinstance(content, dict):
            raise ValueError("it should be an object")
        others = content.pop("others", None)
        table = {int(source): target for source, target in content.items()}
        targets = [*table.values(), *([] if others is None else [others])]
        if not all(type(target) is int and 0 <= target <= IGNORED for target in targets):
            raise ValueError("ids should be whole numbers of 0 to 255")
        if not all(0 <= source < MOST_IDS for source in table):
            raise ValueError(f"ids of the source should be 0 to {MOST_IDS - 1}")
    except (ValueError, OSError) as error:
        raise InputError(
            f'--remap {remap[:200]} is no table such as {{"7": 0, "others": 255}}: {error}.'
        ) from None
    return table, others


@dataclass(frozen=True)
class IdTable:
    """`new[id]`: the label in the data set of an id of the source, UNKNOWN where it has none."""

    num_labels: int
    new: np.ndarray  # (MOST_IDS,) int16

    @classmethod
    def of(cls, num_labels: int, remap: str, ignore_labels: str) -> "IdTable":
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

    def translate(self, ids: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """(H, W) ids of the source -> (H, W) uint8 labels, and the ids without label, which become
        IGNORED, with their shares of the pixels."""
        inside = ids if ids.dtype in (np.uint8, np.uint16) else ids.clip(0, MOST_IDS - 1)
        labels = self.new[inside]
        is_unknown = (labels == UNKNOWN) | (inside != ids)
        if not is_unknown.any():
            return labels.astype(np.uint8), {}
        values, counts = np.unique(ids[is_unknown], return_counts=True)
        shares = (counts / ids.size).tolist()
        unknown = dict(zip(map(str, values.tolist()), shares, strict=True))
        return np.where(is_unknown, IGNORED, labels).astype(np.uint8), unknown


@dataclass(frozen=True)
class LabelReader:
    """How label maps as people have them become labels of a data set."""

    ids: IdTable
    colours: ColourTable | None = None  # None: the numbers in the files are ids

    @classmethod
    def of(cls, raw: RawReading, labels: list[Label], num_labels: int) -> "LabelReader":
        """The reader of a data set's maps, by what its manifest or a card says. Raises InputError
        where the tables contradict themselves."""
        ids = IdTable.of(num_labels, raw.remap, raw.ignore_labels)
        if not raw.coloured:
            return cls(ids)
        return cls(ids, ColourTable.of(labels, raw.colour_tolerance, raw.transparent_label))

    def as_greys(self, ids: np.ndarray) -> np.ndarray:
        """What `pixels` gives of a grey map of these ids, 0..255."""
        return (ids * _GREY | _BLACK).astype(np.uint32) if self.colours else ids

    def pixels(self, path: Path) -> np.ndarray:
        """(H, W) ids, or colours, as the file has them. Raises InputError for other files."""
        return read_colours(path) if self.colours else read_ids(path)

    def translate(self, pixels: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
        """(H, W) of `pixels` -> (H, W) uint8 labels, and in words what has no label, which becomes
        IGNORED, with its shares of the pixels."""
        return (self.colours or self.ids).translate(pixels)


def lossy_kind(header: ImageHeader) -> str:
    """What a file is whose compression changed the ids in it, in words; "" where none did."""
    return LOSSY_KINDS.get(header.format, header.format) if header.lossy else ""


def in_words(unknown: dict[str, float]) -> str:
    """Some of what has no label, with its shares of the pixels."""
    some = [f"{what} ({100 * share:.3g}% of the pixels)" for what, share in unknown.items()]
    if len(some) > MOST_NAMED + 1:
        some[MOST_NAMED:] = ["..."]
    return ", ".join(some)


def connected_components(labels: np.ndarray) -> np.ndarray:
    """(H, W) labels -> (H, W) instance ids from 1: each region of one label, joined over four
    neighbours, is one."""
    from skimage.measure import label  # half a second to import

    return label(labels.astype(np.int16), background=-1, connectivity=1).astype(np.int32)
