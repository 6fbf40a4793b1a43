"""prepare -> all: a checked data set."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.bounds import LONGEST_SIDE, MOST_PIXELS, Count
from shared.contracts.folder import FolderOfFiles
from shared.contracts.labels import Label, NumLabels, PictureChannels, RawReading, one_input
from shared.errors import InputError
from shared.files.names import Name

SPLITS = ("train", "test")
Split = Literal["train", "test"]
Kind = Literal["input", "photo", "instance"]
SUMS = "SHA256SUMS"  # of all image files, as `sha256sum --check` reads it; what `files` names


def parse_size(text: str) -> tuple[int, int]:
    """'128x256' -> (height, width) in pixels. Raises InputError for anything else."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height[:9]) and int(width[:9])):
        raise InputError(f"--size {text[:80]!r} is not HEIGHTxWIDTH: write for example 128x256.")
    sides = int(height[:9]), int(width[:9])
    if max(sides) > LONGEST_SIDE or sides[0] * sides[1] > MOST_PIXELS:
        raise InputError(
            f"--size {text[:80]} is too large: give sides of {LONGEST_SIDE} pixels at most, and "
            f"{MOST_PIXELS:,} pixels in all."
        )
    return sides


PairSide = Annotated[int, Field(ge=1, lt=2**31)]  # what PNG holds; files say what they are


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample; a plain dataclass, since a data set may have 100,000 of them."""

    name: Name
    height: PairSide  # of all its maps, in pixels
    width: PairSide
    has_photo: bool
    num_instances: Count  # distinct ids in its instance map, 0 without one


class DatasetManifest(FolderOfFiles):
    """A checked data set in the seeds' flat layout: {train,test}_{img,label,inst}/<name>.png.

    With pictures as input it is {train,test}_{A,B,inst}, as the references have it for label_nc 0.
    """

    FILE: ClassVar[str] = "manifest.json"
    FLAG: ClassVar[str] = "--dataset"
    MADE_BY: ClassVar[str] = "python -m components.prepare"
    format: Literal[2] = 2

    # Label ids are 0 .. num_labels - 1, and IGNORED; 0 = the input is a picture.
    num_labels: NumLabels
    input_nc: PictureChannels  # channels of the input picture, 0 = the input is a label map
    has_instances: bool
    instance_suffix: Literal[".png", ".tif"]  # .tif where ids need 32 bits
    train: list[Pair]
    test: list[Pair]
    source: str  # where it was prepared from
    source_digest: str  # of names, sizes and times of the source files
    config: dict  # of the prepare step
    digest: str  # of all image files
    test_digest: str = ""  # of those of the test pairs alone, '' = an earlier version prepared it
    labels: list[Label] = []  # names and colours, as far as they are known
    raw: RawReading = RawReading()  # how its maps were made of the files of the source

    @model_validator(mode="after")
    def _has_one_input(self) -> Self:
        one_input(self.num_labels, self.input_nc)
        return self

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises InputError where the file is missing, is not as it was written, does not fit this
        version, or names a pair twice."""
        manifest = super().read(folder)
        for split in SPLITS:
            names = Counter(pair.name for pair in getattr(manifest, split))
            if len(names) < names.total():
                raise InputError(
                    f"{Path(folder) / cls.FILE} names {names.most_common(1)[0][0]} twice in its "
                    f"{split} split: prepare the data set again."
                )
        return manifest

    @property
    def name(self) -> str:
        """What people call it: the last part of where it comes from."""
        return self.source.rstrip("/").rpartition("/")[2] or self.source

    def kinds_of(self, pair: Pair) -> list[Kind]:
        """What files it has, in the order of digests."""
        photo, instance = ["photo"] * pair.has_photo, ["instance"] * self.has_instances
        return ["input", *photo, *instance]

    def path(self, folder: Path, split: str, kind: Kind, name: str) -> Path:
        """The file of one map or photo."""
        match kind:
            case "photo":
                place, suffix = "img" if self.num_labels else "B", ".png"
            case "input":
                place = "label" if self.num_labels else "A"
                suffix = ".png" if self.input_nc <= 4 else ".npy"
            case "instance":
                place, suffix = "inst", self.instance_suffix
        return Path(folder) / f"{split}_{place}" / f"{name}{suffix}"

    def common_size(self) -> tuple[int, int]:
        """(height, width) that most training pairs have: the size that models are made for. Where
        there are none, that of the test pairs."""
        pairs = self.train or self.test
        return Counter((pair.height, pair.width) for pair in pairs).most_common(1)[0][0]
