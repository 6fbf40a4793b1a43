"""What image files are refused for, and what to do about it: one sentence each."""

from pathlib import Path

from shared.errors import InputError

REMEDIES = {
    "unreadable": "replace the file",
    "unread format": "save it as PNG, or as JPEG where it is a photo",
    "several pictures": "save the one that is meant as a file of its own",
    "too large": "cut it into tiles, or use a machine with more memory",
    "colour space": "save it as sRGB",
    "transparent picture": (
        "show them on a colour or drop the transparency, in prepare by --transparency white, black "
        "or drop"
    ),
}

# How files begin that people take for pictures, from a byte on, and what they are.
BEGINNINGS = (
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypcrx", "raw data of a camera"),
    (0, b"FUJIFILMCCD-RAW", "raw data of a camera"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?R", "Radiance HDR"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML, maybe SVG"),
    (0, b"PK\x03\x04", "a zip file, maybe of .npz arrays"),
)
NO_IMAGES = (
    (b"version https://git-lfs", "is a pointer of Git LFS, without its picture (`git lfs pull`)"),
    (b"<!DOCTYPE", "is a web page, not the picture that was to be fetched"),
    (b"<html", "is a web page, not the picture that was to be fetched"),
)


class WrongContent(InputError):
    """The file can be read, but holds something else than is wanted."""


def refused(path: Path, kind: str, found: str) -> InputError:
    """The sentence about a file; also its parts `kind` and `found`, for a list of many."""
    error = InputError(f"{path} {found}: {REMEDIES[kind]}.")
    error.kind, error.found = kind, found
    return error


def unreadable(path: Path, error: Exception, beginning: bytes = b"") -> InputError:
    """What to say of a file that no decoder takes, by its first bytes where they are known."""
    if found := next((is_a for start, is_a in NO_IMAGES if beginning.startswith(start)), ""):
        return refused(path, "unreadable", found)
    for place, start, name in BEGINNINGS:
        if beginning[place:].startswith(start):
            return refused(path, "unread format", f"is {name}, which is not read")
    reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
    return refused(path, "unreadable", f"cannot be read as an image ({reason})")
