"""What the ids of a data set mean, and how its maps were made of people's files."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.folder import Record

IGNORED = 255  # label id of pixels without a label: no channel of a one-hot map
Level = Annotated[int, Field(ge=0, le=255)]


class Label(Record):
    """One label. Several may have the id IGNORED: what means nothing has many names."""

    id: Level  # in the data set: after --remap
    name: str
    colour: tuple[Level, Level, Level]  # red, green, blue


class RawReading(Record):
    """How files as people have them become the maps of a data set: options of prepare."""

    coloured: bool = False  # label maps are RGB(A) pictures: colours become ids
    colour_tolerance: int = 0  # grey levels that each channel of a colour may be off
    transparent_label: int = -1  # of pixels of alpha 0 in coloured maps; -1: refused
    remap: str = ""  # the table, or cityscapes_train_ids
    ignore_labels: str = ""
    instances: Literal["files", "components", "none"] = "files"
    white_level: int = 65535  # the highest number of pictures of over 8 bits
    transparency: Literal["refuse", "white", "black", "drop"] = "refuse"  # of pictures
