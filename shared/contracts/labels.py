"""What the ids of a data set mean, and how its maps were made of people's files."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shared.contracts.folder import Record

IGNORED = 255  # label id of pixels without a label: no channel of a one-hot map
Level = Annotated[int, Field(ge=0, le=255)]
NumLabels = Annotated[int, Field(ge=0, le=256)]
PictureChannels = Annotated[int, Field(ge=0, le=256)]


def one_input(num_labels: int, input_nc: int) -> None:
    """Raises ValueError unless the input is either a map of labels or a picture."""
    if (num_labels > 0) == (input_nc > 0):
        raise ValueError(
            f"the input has {num_labels} labels and {input_nc} channels: one should be 0"
        )


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("should be a line of text")
    return name


LONGEST_LABEL = 1000  # letters
LabelName = Annotated[str, AfterValidator(_printable), Field(max_length=LONGEST_LABEL)]


class Label(Record):
    """One label. Several may have the id IGNORED: what means nothing has many names."""

    id: Level  # in the data set: after --remap
    name: LabelName
    colour: tuple[Level, Level, Level]  # red, green, blue


class RawReading(Record):
    """How files as people have them become the maps of a data set: options of prepare."""

    coloured: bool = False  # label maps are RGB(A) pictures: colours become ids
    # Grey levels that each channel of a colour may be off.
    colour_tolerance: Annotated[int, Field(ge=0, le=127)] = 0
    # Of pixels of alpha 0 in coloured maps; -1: refused.
    transparent_label: Annotated[int, Field(ge=-1, le=255)] = -1
    remap: str = ""  # the table, or cityscapes_train_ids
    ignore_labels: str = ""
    instances: Literal["files", "components", "none"] = "files"
    # The highest number of pictures of over 8 bits.
    white_level: Annotated[int, Field(ge=1, le=65535)] = 65535
    transparency: Literal["refuse", "white", "black", "drop"] = "refuse"  # of pictures
