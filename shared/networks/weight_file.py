"""Weight files: bytes -> tensors; and of a file that holds none, what it is instead.

Reading runs no code: a file that needs a class of somebody's is refused, whatever torch advises.
"""

import functools
import os
import pickletools
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import imagecodecs
import torch
from psutil import virtual_memory
from torch import Tensor

from shared.errors import InputError
from shared.files.digests import refused_if_unreadable
from shared.machine import threads

AGAIN = "copy or download it again"
SAVE = "torch.save(network.state_dict(), PATH)"
GIVE = f"give the file that {SAVE} wrote"

# Kinds of files by their first bytes.
LFS = b"version https://git-lfs"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of torch.save's old number
BEGINNINGS = {
    b"\x93NUMPY": f"is an array of NumPy: {GIVE}.",
    b"\x89HDF": f"is an HDF5 file, as Keras and MATLAB write: {GIVE}.",
    b"\x1f\x8b": "is compressed with gzip: unpack it with gunzip.",
    b"BZh": "is compressed with bzip2: unpack it with bunzip2.",
    b"\xfd7zXZ": "is compressed with xz: unpack it with unxz.",
    b"7z\xbc\xaf": "is a 7z archive: unpack it.",
    b"Rar!": "is a RAR archive: unpack it.",
    b"<?xml": f"is an answer of a web server in XML: {AGAIN}.",
    b"\x89PNG": f"is a picture: {GIVE}.",
    b"\xff\xd8\xff": f"is a picture: {GIVE}.",
}
SAFETENSORS = re.compile(rb".{8}\{\s*\"", re.DOTALL)
ONNX = re.compile(rb"\x08[\x01-\x1f][\x12:B]")  # ir_version, then producer, graph or opset
# protobuf: Value {tag, tensor {dims ..}}; in a graph of TensorFlow a name stands in place of dims.
MINDSPORE = re.compile(
    rb"\n[\x80-\xff]*[\0-\x7f]\n[\x01-\x7f][\w./-]+\x12[\x80-\xff]*[\0-\x7f]\x08"
)
TENSORFLOW_INDEX_END = bytes.fromhex("57fb808b247547db")

# Of modules that tensors are pickled by; a class of any other is somebody's.
OF_TENSORS = ("torch", "torch._utils", "torch.nn.parameter", "torch.serialization", "collections")

LONGEST_CLASS = 1000  # letters
MOST_PICKLE_BYTES = 1 << 26  # of names, shapes and numbers beside the tensors' values
LOCAL_HEADER = struct.Struct("<26x2H")  # of a part of a zip file: lengths of name and extra
BLOCK_BYTES = 1 << 22
LEGACY_PICKLES = 5  # a number, its protocol, where it was saved, the object, the names of tensors

# What zip files and pickles are refused with by the parsers of Python: RuntimeError for encrypted
# members, MemoryError and OverflowError for texts whose length is more than any file has.
BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, IndexError,
    NotImplementedError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


def load_tensors(path: Path, mmap: bool = False) -> object:
    """What a .pth file holds, tensors on the CPU. Raises InputError when it is missing, or holds
    other things than tensors, numbers and texts.

    mmap: leave tensors on the disk until they are used."""
    if not path.exists():
        raise InputError(
            f"--model {path.parent} has no {path.name}: give a folder that `python -m "
            "components.train` wrote."
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder: {GIVE}.")
    try:
        with refused_if_unreadable(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about files that are then refused
            _refuse_long_names(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except InputError:
        raise
    except Exception as error:  # unpickling errors come in many types
        # Of torch's allocator, unless a damaged file asks for more than it holds.
        if "allocate memory" in str(error) and path.stat().st_size > virtual_memory().available:
            raise
        raise InputError(f"{path} {what_it_is(path)}") from None


def _refuse_long_names(path: Path) -> None:
    """Raises one of BROKEN for a class that has a name of no class, and for what is no file of
    torch: it searches the names that it refuses by expressions which take hours for long ones."""
    if tarfile.is_tarfile(path):
        raise ValueError("a tar archive")
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                _refuse_long_names_in(file)
            return
    with zipfile.ZipFile(path) as archive:
        for member in _pickles(archive):
            if member.file_size > MOST_PICKLE_BYTES:
                raise ValueError("tensors take less")
            with archive.open(member) as pickled:
                _refuse_long_names_in(pickled)


def _pickles(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The pickles in a file of torch, to be opened; torch may have left their checksum out (0),
    which zipfile then is not to compare."""
    found = [one for one in archive.infolist() if one.filename.rpartition("/")[2] == "data.pkl"]
    for member in found:
        member.CRC = member.CRC or None
    return found


def _refuse_long_names_in(pickled: IO[bytes]) -> None:
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name == "GLOBAL" and len(argument) > LONGEST_CLASS:
            raise ValueError("no class is called so")


def load_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file as they were saved, where no card tells which file it is. Raises
    InputError where it is missing, is damaged or holds other things."""
    with ThreadPoolExecutor(1, "checksums") as pool:
        is_damaged = pool.submit(is_not_as_saved, path)
        content = load_tensors(path)
        if is_damaged.result():
            raise InputError(f"{path} is damaged, it does not hold what was saved: {AGAIN}.")
    return state_in(content, path)[0]


def is_not_as_saved(path: Path, tensors: bool = True) -> bool:
    """Whether a file of torch.save has other content than the checksums in it say, which torch does
    not compare; files of its old form have none, and others may be saved without.

    tensors: whether their values are compared too, else only what is saved beside them."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [part for part in archive.infolist() if part.CRC]
        if not tensors:
            parts = [part for part in parts if "/data/" not in part.filename]
        with ThreadPoolExecutor(min(8, threads.usable_cpus()), "checksums") as pool:
            return not all(pool.map(functools.partial(_is_as_saved, path), parts))
    except BROKEN:
        return True  # of bytes that zipfile does not understand, though torch does


def _is_as_saved(path: Path, part: zipfile.ZipInfo) -> bool:
    """Whether a part of a zip file has its checksum. Raises one of BROKEN."""
    # zipfile computes it at a fifth of imagecodecs' speed, on one core.
    if part.compress_type != zipfile.ZIP_STORED:
        with zipfile.ZipFile(path) as archive, archive.open(part) as content:
            while content.read(BLOCK_BYTES):
                pass
        return True  # it has been compared
    checksum, left = 0, part.file_size
    with path.open("rb", buffering=0) as file:
        file.seek(part.header_offset)
        *_, name_bytes, extra_bytes = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        while left and (block := file.read(min(left, BLOCK_BYTES))):
            checksum = imagecodecs.deflate_crc32(block, checksum)
            left -= len(block)
    return not left and checksum == part.CRC


def state_in(content: object, path: Path) -> tuple[dict[str, Tensor], str]:
    """The one state dict in what a file holds, and the keys that lead to it as one writes them; ""
    where there are none. Raises InputError where there is none, or several."""
    found = dict(_state_dicts(content))
    if len(found) == 1:
        ((place, state),) = found.items()
        return state, place
    if found:
        raise InputError(
            f"{path} holds several state dicts ({', '.join(found)}): save the one that is meant, "
            f"such as torch.save(torch.load({path.name!r}){next(iter(found))}, PATH)."
        )
    if isinstance(content, dict) and any(isinstance(v, Tensor) for v in content.values()):
        other = next(key for key, value in content.items() if not isinstance(value, Tensor))
        what = f"{other!r}, which is no tensor, among its tensors: save these alone"
    else:
        is_full = isinstance(content, dict) and content
        keys = f" of {', '.join(map(repr, content))}" if is_full else ""
        what = f"a {type(content).__name__}{keys} and no state dict: save it again"
    raise InputError(f"{path} holds {what} with {SAVE}.")


def _state_dicts(content: object, place: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each dict of names and tensors, with the keys that lead to it."""
    if not isinstance(content, dict) or not content:
        return
    if all(isinstance(value, Tensor) for value in content.values()):
        if all(isinstance(key, str) for key in content):
            yield place, content
        return
    for key, value in content.items():
        if isinstance(key, str):  # an optimiser's tensors stand under numbers
            yield from _state_dicts(value, f"{place}[{key!r}]")


# What tensors a network computes with.


def check_values(state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    """Raises InputError where a tensor of a file, of those that are wanted, is not one of finite
    floats in rows."""
    wanted_here = {key: value for key, value in state.items() if key in wanted}
    for key, value in wanted_here.items():
        if value.is_meta:
            what = "without values (on PyTorch's device meta)"
        elif value.is_quantized or value.layout != torch.strided:
            what = "quantised" if value.is_quantized else "sparse"
        elif wanted[key].is_floating_point() and not value.is_floating_point():
            what = f"of {value.dtype}".replace("torch.", "")
        else:
            continue
        raise InputError(f"{path}: {key} is {what}, not of floats: save plain floats with {SAVE}.")
    if found := not_finite(wanted_here):
        raise InputError(
            f"{path} cannot be used, as {found}: take the weights of an earlier epoch, or train "
            "anew."
        )


def not_finite(tensors: dict[str, Tensor]) -> str:
    """Which tensors hold values that are infinite or not a number, in words; "" where none does."""
    # A sum is finite only where all its terms are, for a tenth of the work: 0.25 s for 720 MB. The
    # others are counted, as the sum of finite ones may overflow.
    floats = {key: value.float() for key, value in tensors.items() if value.is_floating_point()}
    doubtful = {key: value for key, value in floats.items() if not value.sum().isfinite()}
    counts = {key: int((~value.isfinite()).sum()) for key, value in doubtful.items()}
    found = [key for key, count in counts.items() if count]
    if not found:
        return ""
    first, others = found[0], len(found) - 1
    more = f", as of {others} more tensor{'s' * (others > 1)}" if others else ""
    return f"{counts[first]} of {floats[first].numel()} values of {first} are not finite{more}"


# What a file is that torch does not read.


def what_it_is(path: Path) -> str:
    """What a file is that holds no tensors, and what to do, for people: "is empty: copy it
    again."."""
    try:
        return _told_by_content(path)
    except BROKEN:
        return f"is cut or damaged: {AGAIN}."


def _told_by_content(path: Path) -> str:
    """Raises one of BROKEN where what it begins as does not go on."""
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read()

    # Not the file, but what stood in its place.
    text = start.lstrip()
    if not text:
        return f"is empty: {AGAIN}."
    if start.startswith(LFS):
        size = re.search(rb"size (\d+)", start)
        of = f" of {int(size[1]) / 1e6:.0f} MB" if size else ""
        return f"is a Git LFS pointer to a file{of}: say `git lfs pull` where it was cloned."
    if re.match(rb"<!doctype html|<html|<head", text, re.IGNORECASE):
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title", text, re.IGNORECASE | re.DOTALL)
        called = f" called {' '.join(title[1].decode(errors='replace').split())!r}" if title else ""
        return f"is a web page{called}, not the file behind it: download that."

    # Torch's own files.
    if start.startswith(b"PK\x03\x04"):
        return _what_zip_is(path)
    if start.startswith(LEGACY):
        with path.open("rb") as file:
            for _ in range(3):  # the number, its protocol, and where it was saved
                for _ in pickletools.genops(file):
                    pass
            return _what_pickle_is(file)
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return f"is a pickle that is not torch.save's: {GIVE}."

    # Those of others.
    for beginning, what in BEGINNINGS.items():
        if text.startswith(beginning):
            return what
    if start[257:262] == b"ustar":
        return "is a tar archive: unpack it, and give the file of weights inside."
    if SAFETENSORS.match(start):
        return (
            "is a safetensors file: convert it with torch.save("
            f"safetensors.torch.load_file({path.name!r}), PATH)."
        )
    if MINDSPORE.match(start):
        return (
            "is a checkpoint of MindSpore, whose pix2pixHD pads with zeros where PyTorch's "
            "reflects, so that its pictures would differ: give weights of PyTorch, or train anew."
        )
    if ONNX.match(start):
        return "is an ONNX file: give the weights that it was exported from."
    if end == TENSORFLOW_INDEX_END:
        return f"is the index of a TensorFlow checkpoint: {GIVE}."
    if text[:1] in (b"{", b"["):
        return f"is JSON: {GIVE}."
    if text.isascii() and text.decode().isprintable():
        return f"is text, which begins with {text[:40].decode()!r}: {GIVE}."
    return f"is of no known kind: {GIVE}."


def _what_zip_is(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return f"is cut, a zip file without its end: {AGAIN}."
    with zipfile.ZipFile(path) as archive:
        names, pickles = archive.namelist(), _pickles(archive)
        if any(name.endswith("/constants.pkl") for name in names):
            return f"is a program of TorchScript: {GIVE}."
        if pickles:
            with archive.open(pickles[0]) as pickled:
                return _what_pickle_is(pickled)
    if names and all(name.endswith(".npy") for name in names):
        return f"is an archive of NumPy arrays (.npz): {GIVE}."
    return f"is a zip archive of {len(names)} other files: unpack it."


def _what_pickle_is(pickled: IO[bytes]) -> str:
    """What a pickle is that torch.save wrote, by the classes that it needs."""
    is_whole, last = True, ["", ""]  # whether it is one object; the last two texts
    for operation, argument, _ in pickletools.genops(pickled):
        if "UNICODE" in operation.name:
            last = [last[1], argument]
        if operation.name in ("GLOBAL", "STACK_GLOBAL"):
            module, _, name = (argument or " ".join(last)).partition(" ")
            if module not in OF_TENSORS:
                return _what_needs(f"{module}.{name}", is_whole)
        is_whole &= operation.name not in ("GLOBAL", "STACK_GLOBAL", "EMPTY_DICT", "EMPTY_LIST")
    return f"is cut or damaged: {AGAIN}."


def _what_needs(class_name: str, is_whole: bool) -> str:
    class_name = class_name[:80] if class_name.isprintable() else ascii(class_name[:80])
    if is_whole:
        return (
            f"holds one whole object of class {class_name}, as torch.save(network, PATH) writes "
            f"it, and not its tensors: save these with {SAVE} where that class is."
        )
    return f"holds an object of class {class_name} beside its tensors: save these with {SAVE}."
