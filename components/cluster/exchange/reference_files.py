"""features.npy and features_clustered_010.npy of pix2pixHD's encode_features.py: pickled dicts of
arrays by label.

A pickle is a program. The reader here gives it nothing to call but functions of its own that make
arrays out of bytes; not NumPy's either, whose arrays take their state on trust."""

import io
import pickle
import re
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.lib import format as npy

from components.cluster.features import InstanceFeatures
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.errors import InputError

AREA_UNIT = 32  # the last column of features.npy counts pixels in units of height * width // 32

Table = dict[int, np.ndarray]  # rows of each label


FEATURES = "features.npy"


def centres_file(n_clusters: int) -> str:
    """The name of the file of centres."""
    return f"features_clustered_{n_clusters:03d}.npy"


def reference_files(
    features: InstanceFeatures, table: ClusterTable, manifest: DatasetManifest
) -> dict[str, bytes]:
    """The content of both files by name. Instances without a label are left out: the layout has
    labels 0 .. num_labels - 1.

    A label without large instances has no centre in the references' file, and garbage in pictures;
    here it has its fallback."""
    # Rows of features and area, of every label, with or without instances.
    of_image = np.array([pair.height * pair.width for pair in manifest.train])
    pixels = of_image.repeat(np.diff(features.start))  # of the image of each instance
    areas = np.round(features.areas * pixels) / (pixels // AREA_UNIT)
    rows = np.column_stack([features.features.astype(np.float64), areas])
    by_label = {label: rows[features.labels == label] for label in range(manifest.num_labels)}

    # Centres of the labels that have any.
    centres = {
        label: np.array(found.centres)
        for label, found in table.labels.items()
        if label < manifest.num_labels
    }
    names = FEATURES, centres_file(table.n_clusters)
    return dict(zip(names, map(encode_table, (by_label, centres)), strict=True))


def encode_table(table: Table) -> bytes:
    """The content of a .npy file as np.save(path, table) writes it where NumPy is as old as the
    references."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    holder = np.empty((), object)
    holder[()] = table
    content = pickle.dumps(holder, protocol=2)
    # NumPy 2 has another name for its module.
    content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
    buffer.write(content)
    return buffer.getvalue()


def read_table(path: Path) -> Table:
    """Rows (n, columns) float64 of each label. Raises InputError for what is no such file, or would
    run code."""
    # The pickle, with nothing in it but arrays.
    try:
        with open(path, "rb") as file:
            _skip_header(path, file)
            content = _ArrayUnpickler(path, file).load()
    except FileNotFoundError:
        refuse(path, "is missing")
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises errors of many types
        refuse(path, f"cannot be read ({type(error).__name__})")

    # A dict of tables by label, alone or in an array without axes.
    table = content.value if isinstance(content, _Array) else content
    if not isinstance(table, dict):
        refuse(path, "holds no dict")
    for label, rows in table.items():
        is_array = isinstance(rows, _Array) and isinstance(rows.value, np.ndarray)
        if type(label) is not int or not is_array:
            refuse(path, "holds other things than arrays by label")
        if rows.value.ndim != 2 or not np.isfinite(rows.value).all():
            refuse(path, f"has for label {label} no table of finite numbers")
    return {label: rows.value.astype(np.float64) for label, rows in table.items()}


def refuse(path: Path, found: str) -> NoReturn:
    """Raise InputError for a file that is none of encode_features.py's."""
    raise InputError(f"{path} {found}: give a file of pix2pixHD's encode_features.py.")


def _skip_header(path: Path, file: io.BufferedReader) -> None:
    """Leave `file` where the pickle of a single object begins."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, _, dtype = readers[npy.read_magic(file)](file)
    if not dtype.hasobject or shape != ():
        refuse(path, f"holds an array of {dtype} and no dict")


class _Type:
    """What a pickle makes of numpy.dtype: a letter and a size, then the order of bytes."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_):
        if not re.fullmatch(r"[fiu][1248]|O[48]?", code):
            raise ValueError(code)
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if self.dtype != object and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])

    def numbers(self, data: bytes | str) -> np.ndarray:
        if self.dtype == object:
            raise ValueError("bytes are no objects")
        return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, self.dtype)


class _Array:
    """What a pickle makes of numpy.ndarray: numbers from bytes, or the one object of an array
    without axes."""

    __slots__ = ("value",)

    def __init__(self, *_):
        self.value: object = None

    def __setstate__(self, state: tuple) -> None:
        shape, kind, is_fortran, data = state[-4:]
        if kind.dtype == object:
            (self.value,) = data
        else:
            self.value = kind.numbers(data).reshape(shape, order="F" if is_fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names that pickled arrays use, of all versions of Python and NumPy, and refuses all
    others."""

    def __init__(self, path: Path, file: io.BufferedReader):
        super().__init__(file, encoding="latin1")  # strings of Python 2 are bytes
        self.path = path

    def find_class(self, module: str, name: str) -> object:
        match module.replace("numpy._core", "numpy.core"), name:
            case "numpy.core.multiarray", "_reconstruct":
                return self.new_array
            case "numpy.core.multiarray", "scalar":
                return self.scalar
            case "numpy.core.numeric", "_frombuffer":
                return self.array_of_bytes
            case "numpy", "dtype":
                return self.new_type
            case "numpy", "ndarray":
                return "numpy.ndarray"  # the first argument of _reconstruct: nothing to call
            case "_codecs", "encode":
                return self.latin1
            case (("__builtin__" | "builtins"), "bytes"):
                return self.no_bytes
        called = ascii(f"{module}.{name}"[:80])
        raise InputError(
            f"{self.path} would call {called} when it is read, which is refused: do not use this "
            "file."
        )

    def new_array(self, *_) -> _Array:
        return _Array()

    def new_type(self, code: str, *_) -> _Type:
        return _Type(code)

    def scalar(self, kind: _Type, data: bytes | str) -> int | float:
        return kind.numbers(data)[0].item()

    def array_of_bytes(self, data: bytes, kind: _Type, shape: tuple, order: str) -> _Array:
        array = _Array()
        array.value = kind.numbers(data).reshape(shape, order="F" if order == "F" else "C")
        return array

    def latin1(self, text: str, _encoding: str) -> bytes:
        return text.encode("latin1")

    def no_bytes(self) -> bytes:
        return b""
