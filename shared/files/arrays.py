"""NumPy's files .npy and .npz: read without pickles, and believed only where what their headers
declare is what the file has room for."""

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import psutil
from numpy.lib import format as npy

from shared.errors import InputError

LONGEST_HEADER = 10_000  # bytes; numpy's own bound
MOST_DIMENSIONS, MOST_BYTES = 32, 1 << 60
NUMBERS = "biuf"
TEXTS = "U"
HEADERS = {(1, 0): (2, npy.read_array_header_1_0), (2, 0): (4, npy.read_array_header_2_0)}
LAST_CHARACTER, SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)
ENCRYPTED = 1  # of a zip member's flags

# What zipfile raises: NotImplementedError for versions and patches that it does not know, OSError
# and OverflowError for places that are not in the file.
BROKEN_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError, OSError,
    struct.error, UnicodeDecodeError,
)  # fmt: skip


class Wanted(NamedTuple):
    """What a caller reads of an array."""

    kinds: str  # letters of numpy's dtype.kind
    dimensions: int


class ArrayHeader(NamedTuple):
    """What the header of an array declares."""

    dtype: np.dtype  # in the order of bytes of the file
    shape: tuple[int, ...]
    is_fortran: bool
    num_bytes: int  # of the values


class BrokenArray(InputError):
    """The file is none of NumPy's, or is damaged; `found`: what is wrong with it, in words."""

    def __init__(self, called: str, found: str, remedy: str):
        super().__init__(f"{called} {found}: {remedy}.")
        self.found = found


def read_npy(path: Path, remedy: str = "replace the file") -> np.ndarray:
    """The numbers of a .npy file, in this machine's order of bytes. Raises BrokenArray, and OSError
    for a file that cannot be opened."""
    try:
        with open(path, "rb") as file:
            return _read_values(file, _header_of_file(file))
    except ValueError as error:
        raise BrokenArray(str(path), str(error), remedy) from None


def read_npy_header(path: Path, remedy: str = "replace the file") -> ArrayHeader:
    """What `read_npy` will give, without its values; raises the same."""
    try:
        with open(path, "rb") as file:
            return _header_of_file(file)
    except ValueError as error:
        raise BrokenArray(str(path), str(error), remedy) from None


def read_npz(
    path: Path, wanted: dict[str, Wanted], called: str, remedy: str
) -> dict[str, np.ndarray]:
    """The wanted arrays of a .npz file; others in it are not looked at. Raises BrokenArray, and
    OSError for a file that cannot be opened.

    called, remedy: how the sentence begins, and what it says to do."""
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
                if len(names) > len(set(names)):
                    raise ValueError("holds two arrays of one name")
                return {name: _read_member(archive, name, kind) for name, kind in wanted.items()}
        except BROKEN_ARCHIVE as error:
            found = f"is no whole file of arrays ({str(error).rstrip('.') or type(error).__name__})"
        except ValueError as error:
            found = str(error)
    raise BrokenArray(called, found, remedy)


def _read_member(archive: zipfile.ZipFile, name: str, wanted: Wanted) -> np.ndarray:
    """One array of a .npz. Raises ValueError with what is wrong, and what zipfile raises."""
    # Only what NumPy writes is opened.
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"has no array {name!r}") from None
    if member.flag_bits & ENCRYPTED:
        raise ValueError(f"has an encrypted array {name!r}")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"has an array {name!r} of an unknown compression")

    # Its declared size, which zipfile holds it to, is that of its header and its values; read to
    # its end, where zipfile compares the checksum.
    with archive.open(member) as file:
        try:
            header, start = _read_header(file)
            if start + header.num_bytes != member.file_size:
                raise ValueError("declares another size than it has")
            if header.dtype.kind not in wanted.kinds or len(header.shape) != wanted.dimensions:
                raise ValueError(f"is {header.dtype} of shape {header.shape}")
            array = _read_values(file, header)
            file.read(1)
            return array
        except ValueError as error:
            raise ValueError(f"has an array {name!r} that {error}") from None


def _header_of_file(file: BinaryIO) -> ArrayHeader:
    header, start = _read_header(file)
    size = file.seek(0, io.SEEK_END)
    if start + header.num_bytes != size:
        raise ValueError(
            f"has {size} bytes, where {header.dtype} of shape {header.shape} takes "
            f"{start + header.num_bytes}"
        )
    file.seek(start)
    return header


def _read_header(file: BinaryIO) -> tuple[ArrayHeader, int]:
    """What the beginning of a .npy declares, and the place of the values. Raises ValueError with
    what is wrong with it."""
    # As long as it may be.
    magic = file.read(npy.MAGIC_LEN)
    if not magic.startswith(npy.MAGIC_PREFIX):
        raise ValueError("is no array of NumPy")
    size, read = HEADERS.get(tuple(magic[-2:]), (0, None))
    if read is None:
        raise ValueError("is an array of an unknown version, or of fields")
    length = file.read(size)
    text = file.read(min(int.from_bytes(length, "little"), LONGEST_HEADER))

    # Its three entries.
    try:
        shape, is_fortran, dtype = read(io.BytesIO(length + text))
    except Exception:  # of the parsers of Python and NumPy, of many types
        raise ValueError("has a damaged header") from None
    if dtype.kind not in NUMBERS + TEXTS or not dtype.itemsize or dtype.shape:
        raise ValueError(f"is {dtype}, neither numbers nor texts")
    shape = tuple(map(int, shape))  # which do not overflow
    most = dtype.itemsize * math.prod(max(side, 1) for side in shape)
    if len(shape) > MOST_DIMENSIONS or any(side < 0 for side in shape) or most > MOST_BYTES:
        raise ValueError("has a damaged header")
    num_bytes = dtype.itemsize * math.prod(shape)
    return ArrayHeader(dtype, shape, is_fortran, num_bytes), len(magic) + size + len(text)


def _read_values(file: BinaryIO, header: ArrayHeader) -> np.ndarray:
    """What follows a header, in this machine's order of bytes. Raises ValueError where it does not
    fit into the memory that is free, ends too soon, or is no text."""
    # All bytes.
    too_large = ValueError(
        f"would take {header.num_bytes / 2**30:.1f} GiB of memory, more than is free"
    )
    if header.num_bytes > psutil.virtual_memory().available:
        raise too_large
    try:
        content = np.empty(header.num_bytes, np.uint8)
        if file.readinto(content) != header.num_bytes:
            raise ValueError("ends before its values do")
    except MemoryError:  # of a process that may have less
        raise too_large from None

    # What they mean.
    if header.dtype.kind in TEXTS:
        codes = content.view(np.dtype("u4").newbyteorder(header.dtype.byteorder))
        is_surrogate = (codes >= SURROGATES[0]) & (codes <= SURROGATES[1])
        if is_surrogate.any() or (codes > LAST_CHARACTER).any():
            raise ValueError("holds texts that are none")
    order = "F" if header.is_fortran else "C"
    array = content.view(header.dtype).reshape(header.shape, order=order)
    return array.astype(header.dtype.newbyteorder("="), copy=False)
