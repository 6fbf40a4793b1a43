"""What image files say beside their pixels: of what format, size and numbers they are, and what
makes them look other than their bytes."""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import psutil
from PIL import ExifTags, Image

from shared.data.formats import jpeg2000, netpbm, png, tiff
from shared.data.formats.refusals import WrongContent, refused, unreadable
from shared.data.formats.srgb import ADOBE_GAMMA, ADOBE_RGB, ColourSpace
from shared.data.names import FORMATS, FORMATS_BY_SUFFIX
from shared.errors import InputError
from shared.files.arrays import BrokenArray, read_npy, read_npy_header

# Ours is the memory that there is: Pillow refuses satellite pictures of 180 megapixels.
Image.MAX_IMAGE_PIXELS = None
BIG_PIXELS = 1 << 26
UNSPECIFIED = (2, 2)  # code points that say nothing
COPIES = 4  # of a picture in RGB that stand in memory while it is decoded and resized: 3.6
WHITE_16_BIT = 65535
GREY_STEPS = {"1": 255, "L;2": 85, "L;4": 17}  # libpng stretches grey of 1, 2, 4 bits to 0..255
BEGINNING = 64  # bytes by which a file is told

# What decoders raise for content that they do not understand.
BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError,
    struct.error, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image file says."""

    format: str  # Pillow's name of it, whatever the suffix; or "npy"
    mode: str  # Pillow's, or "npy", or "bands" where Pillow has none
    height: int  # upright, as it is shown
    width: int
    channels: int
    lossy: bool = False  # other numbers come back than were stored: no home for ids
    palette: np.ndarray | None = None  # (K, 3) uint8, the colours of its indices
    orientation: int = 1  # EXIF's: how what is stored is turned to be shown
    numbers: Literal["unsigned", "signed", "float"] = "unsigned"
    white: int = 255  # the number that means white
    step: int = 1  # what the decoder multiplies ids of few bits by
    is_negative: bool = False  # 0 is white
    alpha: Literal["", "straight", "premultiplied"] = ""
    colours: ColourSpace = ColourSpace()

    @property
    def holds_ids(self) -> bool:
        """Whether its numbers may be ids: whole, one per pixel, and meant as they are."""
        if self.format == "npy":
            return True
        one = self.channels == 1 or self.mode == "PA"
        upside_down = self.is_negative and self.white > 1
        return one and self.numbers != "float" and not upside_down

    @property
    def holds_levels(self) -> bool:
        """Whether its numbers are brightness or colours of up to 16 bits."""
        return self.format == "npy" or (
            self.numbers == "unsigned" and self.white <= WHITE_16_BIT and self.mode != "F"
        )

    @property
    def description(self) -> str:
        """What its numbers are, for people: '3 channels of 8 bits'."""
        bits = self.white.bit_length()
        kind = "" if self.numbers == "unsigned" else f", {self.numbers}"
        plural = "s" * (self.channels > 1)
        upside_down = ", 0 is white" * self.is_negative
        return f"{self.channels} channel{plural} of {bits} bits{kind}{upside_down}"


@dataclass(frozen=True)
class OpenedImage:
    """A file whose header was read."""

    path: Path
    header: ImageHeader
    file: BinaryIO | None = None
    image: Image.Image | None = None  # where Pillow reads it
    page: tiff.Page | None = None  # where it is a TIFF


def probe(path: Path) -> ImageHeader:
    """Read the header alone. Raises InputError for no image, and for one that nothing reads."""
    with open_image(path) as opened:
        return opened.header


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[OpenedImage]:
    """Open a file by its content, as one of the formats that are read: nothing else is tried, so
    that nothing starts a program. Raises InputError."""
    path = Path(path)
    if path.suffix.lower() == ".npy":
        yield OpenedImage(path, _header_of_array(path))
        return
    beginning = b""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise unreadable(path, ValueError("it is no file"))
    try:
        with open(path, "rb") as file:
            beginning = file.read(BEGINNING)
            opened = (
                _open_tiff(path, file) if tiff.is_tiff(beginning) else _open_by_pillow(path, file)
            )
            _refuse_too_large(path, opened.header)
            yield opened
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except BROKEN as error:
        raise unreadable(path, _reason(path, error), beginning) from None


def _reason(path: Path, error: Exception) -> Exception:
    """The error itself, or what the one reader says that knew the format but not this file."""
    if not path.is_file() or not path.stat().st_size:
        return ValueError("it is empty") if path.is_file() else error
    if not isinstance(error, Image.UnidentifiedImageError):
        return error
    with open(path, "rb") as file:
        beginning = file.read(16)
        for name in FORMATS:
            read, accepts = Image.OPEN.get(name, (None, None))
            if accepts and accepts(beginning) is True:
                file.seek(0)
                try:
                    read(file, "")
                except Exception as reason:  # whatever it says
                    return reason
    return ValueError("of no known format")


# By format.


def load_npy(path: Path) -> np.ndarray:
    """The array of a file. Raises InputError."""
    with _refused_if_broken(path):
        return read_npy(path)


@contextlib.contextmanager
def _refused_if_broken(path: Path) -> Iterator[None]:
    """Raises the InputError about a .npy file that is missing or damaged."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing.") from None
    except BrokenArray as error:
        raise unreadable(path, ValueError(f"it {error.found}")) from None
    except OSError as error:
        raise unreadable(path, error) from None


def _header_of_array(path: Path) -> ImageHeader:
    with _refused_if_broken(path):
        array = read_npy_header(path)
    if len(array.shape) not in (2, 3):
        raise WrongContent(
            f"{path} holds {array.dtype} of shape {array.shape}: give (height, width) or (height, "
            "width, C)."
        )
    channels = array.shape[2] if len(array.shape) == 3 else 1
    white = WHITE_16_BIT if array.dtype == np.uint16 else 255
    return ImageHeader("npy", "npy", *array.shape[:2], channels, white=white)


def _open_tiff(path: Path, file: BinaryIO) -> OpenedImage:
    page = tiff.read_page(file)
    if page.is_preview:
        raise refused(path, "unread format", "begins with a preview, as raw data of a camera do")
    if page.several:
        raise refused(path, "several pictures", "holds several pages")

    # Pillow's image is taken where the numbers are ink, or brightness and hue.
    image = None
    if not tiff.decodes(page):
        if page.extras:
            found = "holds samples beyond ink, or beyond brightness and hue"
            raise refused(path, "colour space", found)
        file.seek(0)
        image = Image.open(file, formats=["TIFF"])

    # How it is shown.
    is_turned = page.orientation in (5, 6, 7, 8)
    header = ImageHeader(
        "TIFF",
        image.mode if image else page.mode,
        *((page.width, page.height) if is_turned else (page.height, page.width)),
        len(image.getbands()) if image else page.samples,
        page.compression in tiff.LOSSY_COMPRESSIONS,
        page.palette,
        1 if image else page.orientation,  # Pillow turns them itself
        {tiff.SIGNED: "signed", tiff.FLOAT: "float"}.get(page.numbers, "unsigned"),
        255 if image or page.palette is not None else 2**page.bits - 1,
        is_negative=page.photometric == tiff.GREY_WHITE_IS_0,
        alpha={tiff.PREMULTIPLIED: "premultiplied", tiff.STRAIGHT: "straight"}.get(page.alpha, ""),
        colours=ColourSpace(page.profile),
    )
    return OpenedImage(path, header, file, image, page)


def _open_by_pillow(path: Path, file: BinaryIO) -> OpenedImage:
    file.seek(0)
    formats = (*FORMATS, *FORMATS_BY_SUFFIX.get(path.suffix.lower(), ()))
    image = Image.open(file, formats=formats)
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise refused(path, "several pictures", "holds several frames")  # a phone's MPO: the first
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        ink = "is CMYK without the mark that says whether 0 is ink or paper"
        raise refused(path, "colour space", ink)

    # What each format knows for itself.
    own, profile, chunks = {}, b"", {}
    match image.format:
        case "JPEG" | "MPO" | "AVIF":
            own = dict(lossy=True)
        case "WEBP":
            own = dict(lossy=_is_lossy_webp(file))
        case "PNG":
            chunks, stored = png.chunks(file), image.tile[0][3]
            white = WHITE_16_BIT if ";16" in f"{image.mode}{stored}" else 255
            own = dict(white=white, step=GREY_STEPS.get(stored, 1))
        case "PPM" if image.mode == "F":
            own = dict(numbers="float")
        case "PPM":
            own = dict(white=netpbm.highest_level(image))
        case "JPEG2000":
            file.seek(0)
            stream = jpeg2000.read_codestream(file.read(jpeg2000.BEGINNING))
            own = dict(lossy=stream.lossy, numbers="signed" if stream.signed else "unsigned")
            own["white"] = 255 if image.palette else 2**stream.bits - 1
            profile = stream.profile

    # How it is shown.
    orientation = _orientation(image, chunks.get(b"eXIf"))
    size = (image.height, image.width)
    has_alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if image.mode == "P" and image.palette is None:
        raise ValueError("it has numbers of colours but no palette")
    has_alpha |= image.mode == "P" and image.palette.mode.endswith("A")
    header = ImageHeader(
        image.format,
        "I;16" if image.format == "PPM" and image.mode == "I" else image.mode,
        *(size[::-1] if orientation in (5, 6, 7, 8) else size),
        len(image.getbands()),
        palette=_palette(image),
        orientation=orientation,
        alpha="straight" if has_alpha else "",
        colours=_colour_space(path, file, image, profile, chunks.get(b"cICP")),
        **own,
    )
    return OpenedImage(path, header, file, image)


# What they say.


def _palette(image: Image.Image) -> np.ndarray | None:
    """(K, 3) uint8, without decoding a pixel, as Pillow's `getpalette` would."""
    if image.mode not in ("P", "PA") or image.palette is None:
        return None
    rawmode, colours = image.palette.rawmode or image.palette.mode, image.palette.palette
    holder = Image.new("P", (1, 1))
    holder.putpalette(bytes(colours), rawmode)
    return np.array(holder.getpalette(), np.uint8).reshape(-1, 3)


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Whether one of its chunks is VP8, not VP8L."""
    place = 12
    while True:
        file.seek(place)
        head = file.read(8)
        if head[:4] in (b"VP8 ", b"VP8L") or len(head) < 8:
            return head[:4] == b"VP8 "
        length = int.from_bytes(head[4:], "little")
        place += 8 + length + length % 2


def _orientation(image: Image.Image, late_exif: bytes | None) -> int:
    """1..8. Not by the method of a PNG, which would decode it to find EXIF data behind the
    pixels."""
    with contextlib.suppress(*BROKEN):  # viewers leave out EXIF data that are broken
        if late_exif is not None and "exif" not in image.info:
            exif = Image.Exif()
            exif.load(b"Exif\0\0" + late_exif)
        else:
            exif = Image.Image.getexif(image)
        found = exif.get(ExifTags.Base.Orientation, 1)
        return found if found in range(1, 9) else 1
    return 1


def _colour_space(
    path: Path, file: BinaryIO, image: Image.Image, profile: bytes, code_points: bytes | None
) -> ColourSpace:
    """By the mark that goes before others: code points, profile, PNG's sRGB, gamma and primaries,
    a camera's note."""
    # Code points of ITU-T H.273: in a PNG a byte each; in an AVIF two, where no profile is.
    points = struct.unpack("BB", code_points[:2]) if code_points else None
    profile = profile or image.info.get("icc_profile") or b""
    if image.format == "AVIF" and not profile:
        file.seek(0)
        content = file.read(1 << 16)
        place = content.find(b"colrnclx") + 8
        points = struct.unpack(">HH", content[place : place + 4]) if place > 8 else None
    if points and points != UNSPECIFIED:
        space = ColourSpace.of_code_points(*points)
        if space is None:
            shown = f"has colours of a wide range (primaries {points[0]}, transfer {points[1]})"
            raise refused(path, "colour space", shown)
        return space
    if profile:
        return ColourSpace(profile)

    # What has no profile.
    if image.format == "PNG" and "srgb" not in image.info:
        return ColourSpace.of_png(image.info.get("gamma"), image.info.get("chromaticity"))
    if image.format in ("JPEG", "MPO") and b"R03" in image.info.get("exif", b""):
        with contextlib.suppress(*BROKEN):
            # The mark of cameras that are set to Adobe RGB.
            if image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03":
                return ColourSpace(gamma=ADOBE_GAMMA, primaries=ADOBE_RGB)
    return ColourSpace()


# Memory.


def _refuse_too_large(path: Path, header: ImageHeader) -> None:
    """Refuse what cannot be decoded in the memory that is free; small pictures are not asked."""
    pixels = header.height * header.width
    if pixels < BIG_PIXELS:
        return
    needed = COPIES * pixels * max(header.channels, 3)
    if needed > psutil.virtual_memory().available:
        size = f"{header.height}x{header.width}"
        found = f"is {size} and would take {needed / 2**30:.1f} GiB of memory, more than is free"
        raise refused(path, "too large", found)
