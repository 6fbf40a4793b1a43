"""One raw pair -> its arrays, with everything that is wrong about it."""

import os
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from components.prepare.layouts.pairing import RawPair
from components.prepare.problems import Problem, refused
from components.prepare.reading.geometry import Resize, have_one_shape
from shared.data.colours import says_colours
from shared.data.headers import ImageHeader, probe
from shared.data.images import WrongContent, read_ids, read_picture
from shared.data.raw_maps import LabelReader, connected_components, in_words, lossy_kind
from shared.errors import InputError

TRUSTED_PIXELS = 178_956_970  # Pillow's own limit
MAX_RATIO = 100  # bytes of pixels to bytes of the file, of honest photographs
WIDE_MODES = ("I", "npy")  # ids of up to 32 bits
COLOURED_MODES = ("RGB", "RGBA", "LA")  # of label maps whose colours say their labels


@dataclass(frozen=True)
class Reading:
    """How raw files become the maps of a data set."""

    labels: LabelReader | None  # None: the input is a picture
    are_colours_named: bool  # by --labels: label maps may be coloured
    colour_tolerance: int
    transparent_label: int
    input_nc: int  # channels of the input picture
    instances: Literal["files", "components", "none"]
    side_by_side: bool  # input and photo are halves of one file
    input_half: Literal["left", "right"]
    white_level: int
    transparency: Literal["refuse", "white", "black", "drop"]
    resize: Resize
    copies: str  # what lies below this folder comes from archives and stores


@dataclass(slots=True)
class RawFrame:
    """The maps of a pair at the size of its files; None for what cannot be read or is not there."""

    input: np.ndarray | None  # labels (H, W) uint8, or a picture (C, H, W) uint8
    photo: np.ndarray | None  # (3, H, W) uint8
    instances: np.ndarray | None  # (H, W) uint8, uint16 or int32

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of its largest map."""
        maps = (self.input, self.photo, self.instances)
        return largest([map.shape[-2:] for map in maps if map is not None])


@dataclass(slots=True)
class Header:
    """What the headers of a pair's files say; the size is its largest map's."""

    height: int = 0
    width: int = 0
    wide_ids: bool = False  # its instance ids may need 32 bits
    is_coloured: bool = False  # its label map
    palette: bytes = b""  # of its label map: red, green and blue of each number
    # The number that means white in its "photo" and, where that is a picture, its "input".
    whites: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def read_header(pair: RawPair, reading: Reading) -> Header:
    """Read sizes and modes, without a look at the pixels."""
    header = Header()
    sizes, turned = {}, set()  # (height, width) of each map, by its file; those stored on a side

    # Each file by itself. The input comes last into the table: side by side it is the photo's file.
    is_ids = {pair.instance: True, pair.photo: False, pair.input: reading.labels is not None}
    for file in dict.fromkeys(filter(None, (pair.input, pair.photo, pair.instance))):
        try:
            found = probe(file)
        except InputError as error:
            header.problems.append(problem_of(error, file))
            continue

        # Whether it holds what it is for.
        if file.startswith(f"{reading.copies}/"):
            header.problems += _bomb(file, found)
        if is_ids[file]:
            wrong = _wrong_with_ids(file, found, reading, is_label=file == pair.input)
            header.problems += wrong
        elif not found.holds_levels:
            header.problems.append(
                Problem("wrong mode of picture", file, f"has {found.description}")
            )
        else:
            header.whites |= {
                role: found.white for role in ("photo", "input") if getattr(pair, role) == file
            }

        # What is to be known of it beside its pixels.
        width = found.width // 2 if reading.side_by_side else found.width
        sizes[file] = found.height, width
        turned |= {file} if found.orientation > 4 else set()
        if reading.side_by_side and found.width % 2:
            header.problems.append(Problem("odd width", file, f"is {found.width} pixels wide"))
        if file == pair.instance:
            header.wide_ids = found.mode in WIDE_MODES
        if file == pair.input and reading.labels:
            header.is_coloured = is_coloured(found)
            header.palette = found.palette.tobytes() if says_colours(found.palette) else b""

    # All of them together.
    if pair.input in sizes:
        header.height, header.width = largest([sizes[pair.input], *sizes.values()])
        header.problems += _sizes_that_differ(pair.input, sizes, turned, reading.resize)
    return header


def largest(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The first of the (height, width) that have the most pixels."""
    return max(sizes, key=lambda size: size[0] * size[1])


def _sizes_that_differ(
    input: str, sizes: dict[str, tuple[int, int]], turned: set[str], resize: Resize
) -> list[Problem]:
    """The problems of files whose (height, width) is not the input's: of one shape they are none
    where all are scaled to one size."""
    problems = []
    height, width = sizes[input]
    for file, other in sizes.items():
        if other == (height, width):
            continue
        how = ", turned by its EXIF orientation," if file in turned else ""
        found = f"is {other[0]}x{other[1]}{how} but {input} is {height}x{width}"
        if not have_one_shape((height, width), other):
            problems.append(Problem("sizes differ", file, found))
        elif resize.scales:
            problems.append(Problem("several scales", file, found))
        else:
            remedy = f"say a --size that all are scaled to, such as --size x{width}"
            problems.append(Problem("sizes differ", file, found, remedy))
    return problems


def is_coloured(header: ImageHeader) -> bool:
    """Whether a label map has colours where others have ids."""
    return header.mode in COLOURED_MODES or (header.mode == "npy" and header.channels in (3, 4))


def _wrong_with_ids(
    file: str, header: ImageHeader, reading: Reading, is_label: bool
) -> list[Problem]:
    """What a header says against a map of ids, or of colours that stand for them."""
    if kind := lossy_kind(header):
        return [Problem("lossy ids", file, f"is {kind}")]
    if header.holds_ids and not (is_label and is_coloured(header)):
        return []
    if not is_label or not is_coloured(header):
        return [Problem("wrong mode of ids", file, f"has {header.description}")]
    if reading.are_colours_named:
        return []
    return [Problem("coloured label map", file, f"holds colours ({header.mode}), not label ids")]


def _bomb(file: str, header: ImageHeader) -> list[Problem]:
    """The problem of a file of strangers that is huge and hardly takes a byte."""
    packed, pixels = os.path.getsize(file), header.height * header.width
    if pixels <= TRUSTED_PIXELS or pixels * header.channels <= MAX_RATIO * packed:
        return []
    found = f"is {header.height}x{header.width} in {packed:,} bytes, as decompression bombs are"
    remedy = "unpack it yourself if you trust it, and give the folder"
    return [Problem("too large", file, found, remedy)]


def read_pair(pair: RawPair, reading: Reading) -> tuple[RawFrame, list[Problem]]:
    """Decode and check the pixels: what can be read, and all that is wrong."""
    # The pixels of each file, or what is wrong with it.
    problems = read_header(pair, reading).problems
    maps = {}
    wrong = {
        "input": "wrong mode of ids" if reading.labels else "wrong channels",
        "photo": "wrong mode of picture",
        "instances": "wrong mode of ids",
    }
    skipped = {problem.file for problem in refused(problems)}
    for name, file in (("input", pair.input), ("photo", pair.photo), ("instances", pair.instance)):
        try:
            if file and file not in skipped:
                maps[name] = _read(name, file, reading)
        except InputError as error:
            problems.append(problem_of(error, file, wrong[name]))

    # The source's ids or colours become labels.
    if reading.labels and "input" in maps:
        maps["input"], unknown = reading.labels.translate(maps["input"])
        if unknown:
            problems.append(_without_label(pair.input, unknown, reading.labels))

    # Instances that no file has.
    if reading.instances == "components" and "input" in maps:
        maps["instances"] = connected_components(maps["input"])
        if maps["instances"].max() > 65535:
            found = f"falls into {maps['instances'].max()} regions of one label"
            problems.append(Problem("too many components", pair.input, found))
    return RawFrame(maps.get("input"), maps.get("photo"), maps.get("instances")), problems


def _read(name: str, file: str, reading: Reading) -> np.ndarray:
    """One map, "input", "photo" or "instances": ids (H, W), or a picture (C, H, W) uint8."""
    if name == "instances":
        pixels = read_ids(file)  # (H, W)
    elif name == "input" and reading.labels:
        pixels = reading.labels.pixels(file)  # (H, W)
    else:
        channels = reading.input_nc if name == "input" else 3
        levels = reading.white_level, reading.transparency
        pixels = read_picture(file, channels, *levels)  # (C, H, W)
    return half(pixels, name, reading)


def half(pixels: np.ndarray, name: str, reading: Reading) -> np.ndarray:
    """What of a file's pixels (..., W) belongs to one map: half of them, where two lie side by
    side."""
    if not reading.side_by_side:
        return pixels
    middle = pixels.shape[-1] // 2
    left = (name == "input") == (reading.input_half == "left")
    return pixels[..., :middle] if left else pixels[..., middle:]


def _without_label(file: str, unknown: dict[str, float], labels: LabelReader) -> Problem:
    """The problem of ids or colours that have no label."""
    kind, one = (
        ("unknown colours", "colour") if labels.colours else ("unknown label ids", "label id")
    )
    found = f"has {'colours' if labels.colours else 'ids'} without label: {in_words(unknown)}"
    shares = tuple((f"{one} {what}", share) for what, share in unknown.items())
    return Problem(kind, file, found, shares=shares)


def problem_of(error: InputError, file: str, wrong_content: str = "unreadable") -> Problem:
    """What is wrong with a file, of the kind that the error names, or else of content that can be
    read but is not what is wanted."""
    if kind := getattr(error, "kind", ""):
        return Problem(kind, file, error.found)
    text = str(error).removeprefix(file)
    found = (text.rpartition(": ")[0] or text).strip().removesuffix(".")
    return Problem(wrong_content if isinstance(error, WrongContent) else "unreadable", file, found)
