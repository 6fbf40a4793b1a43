import io
import resource
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from shared.errors import InputError
from shared.files.arrays import Wanted, read_npy, read_npy_header, read_npz

NUMBERS = np.arange(6, dtype="<f4").reshape(2, 3)


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def declared(shape: str, dtype: str = "'<f4'", values: bytes = b"", version: int = 1) -> bytes:
    """A .npy whose header says what it is told to."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + values


BROKEN = {
    "empty": (b"", "is no array of NumPy"),
    "text": (b"P5 2 2 255 abcd", "is no array of NumPy"),
    "cut": (npy(NUMBERS)[:-1], "has 151 bytes, where float32 of shape .2, 3. takes 152"),
    "longer": (npy(NUMBERS) + b"\0", "has 153 bytes, where"),
    "a cut header": (npy(NUMBERS)[:40], "has a damaged header"),
    "10^15 elements": (declared("(10**15,)"), "has a damaged header"),
    "as many, spelled out": (declared(f"({10**15},)"), "has 8. bytes, where .* takes 4000000000"),
    "more than 64 bits count": (declared(f"({2**33}, {2**33})"), "has a damaged header"),
    "more than a side counts": (declared(f"(0, {2**70})"), "has a damaged header"),
    "negative": (declared("(-2, -3)", values=bytes(24)), "has a damaged header"),
    "forty dimensions": (declared("(" + "1, " * 40 + ")", values=bytes(4)), "damaged header"),
    "4 GB of header": (b"\x93NUMPY\2\0\xff\xff\xff\xff{", "has a damaged header"),
    "nested": (b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"(" * 9000, "has a damaged header"),
    "signs": (b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"-" * 9000, "has a damaged header"),
    "objects": (npy(np.array([print], object)), "is object, neither numbers nor texts"),
    "fields": (npy(np.zeros(2, "f4, i4")), "neither numbers nor texts"),
    "complex": (npy(np.zeros(2, "c8")), "is complex64, neither numbers nor texts"),
    "arrays in arrays": (declared("(2,)", "('<f4', (2,))", bytes(16)), "damaged header|neither"),
    "of no size": (declared(f"({10**9},)", "'<U0'"), "neither numbers nor texts"),
    "no characters": (declared("(1,)", "'<U1'", b"\xff\xff\xff\xff"), "holds texts that are none"),
    "half a character": (declared("(1,)", "'<U1'", b"\0\xd8\0\0"), "holds texts that are none"),
    "version 9": (b"\x93NUMPY\x09\0" + bytes(100), "is an array of an unknown version"),
}


@pytest.mark.parametrize("content, found", BROKEN.values(), ids=BROKEN)
def test_a_broken_npy_is_refused_in_one_sentence(content, found, tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found) as refusal:
        read_npy(path)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{path} ") and sentence.endswith(": replace the file.")
    assert "\n" not in sentence and "pickle" not in sentence


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">u2", "|u1", "<i8", "|b1", "<U3", ">U3"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_writes_is_read(dtype, order, tmp_path):
    expected = np.asarray(NUMBERS.astype(dtype), order=order)
    np.save(tmp_path / "a.npy", expected)
    found = read_npy(tmp_path / "a.npy")
    assert np.array_equal(found, expected) and found.dtype == expected.dtype.newbyteorder("=")
    assert found.dtype.isnative and found.flags.writeable
    header = read_npy_header(tmp_path / "a.npy")
    assert header.shape == (2, 3) and header.dtype == expected.dtype


def test_versions_and_empty_arrays(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(declared("(2, )", values=NUMBERS[0, :2].tobytes(), version=2))
    assert read_npy(path).tolist() == [0, 1]
    path.write_bytes(declared("(0, 3)"))
    assert read_npy(path).shape == (0, 3)


# Archives.


def npz(path, members: dict[str, bytes], compression=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def read(path, **wanted) -> dict[str, np.ndarray]:
    kinds = {name: Wanted(*kind) for name, kind in wanted.items()} or {"a": Wanted("f", 2)}
    return read_npz(path, kinds, "--clusters x: features.npz", "make it again")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_wanted_arrays_are_read_and_no_others(save, tmp_path):
    path = tmp_path / "a.npz"
    save(path, a=NUMBERS, names=np.array(["b", "ü"]), other=np.array([print], object))
    found = read(path, a=("f", 2), names=("U", 1))
    assert np.array_equal(found["a"], NUMBERS) and found["names"].tolist() == ["b", "ü"]
    assert set(found) == {"a", "names"}


def refused(path, found: str) -> None:
    with pytest.raises(InputError, match=found) as refusal:
        read(path)
    sentence = str(refusal.value)
    assert sentence.startswith("--clusters x: features.npz ")
    assert sentence.endswith(": make it again.") and "\n" not in sentence


def test_archives_that_hold_something_else_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    cases = {
        "has no array 'a'": {"b.npy": npy(NUMBERS)},
        "has an array 'a' that is int64 of shape .2, 3.": {"a.npy": npy(NUMBERS.astype("<i8"))},
        "that is float32 of shape .6,.": {"a.npy": npy(NUMBERS.ravel())},
        "that is object, neither": {"a.npy": npy(np.array([[print]], object))},
        "that declares another size than it has": {"a.npy": npy(NUMBERS) + b"\0"},
        "that is no array of NumPy": {"a.npy": b"text"},
    }
    for found, members in cases.items():
        npz(path, members)
        refused(path, found)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for number in range(2):
            archive.writestr("a.npy", npy(NUMBERS + number))
    refused(path, "holds two arrays of one name")
    npz(path, {"a.npy": npy(NUMBERS)}, zipfile.ZIP_BZIP2)
    refused(path, "has an array 'a' of an unknown compression")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_byte_that_is_flipped_or_cut_is_refused_or_changes_nothing(compression, tmp_path):
    path = tmp_path / "a.npz"
    npz(path, {"a.npy": npy(NUMBERS)}, compression)
    whole, refusals = path.read_bytes(), 0
    broken = [whole[:place] for place in range(len(whole))]
    for place in range(len(whole)):
        for flipped in (0x01, 0x80):
            broken.append(
                whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :],
            )
    for content in broken:
        path.write_bytes(content)
        try:
            assert np.array_equal(read(path)["a"], NUMBERS)
        except InputError:
            refusals += 1
    assert refusals > len(broken) // 2


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path):
    """16 GB that compress to 16 MB, a header that goes on for 4 GB: in a process of 2 GB."""
    path, zeros = tmp_path / "a.npz", bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("a.npy", "w", force_zip64=True) as file:
            file.write(declared(f"({1 << 12}, {1 << 20})"))
            for _ in range(64):
                file.write(zeros)
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY\2\0\xff\xff\xff\xff" + zeros)
    code = (
        "import sys; from shared.files.arrays import *\n"
        "for read in (lambda: read_npz(sys.argv[1], {'a': Wanted('f', 2)}, 'x', 'y'),"
        " lambda: read_npy(sys.argv[2])):\n"
        "    try: read()\n"
        "    except InputError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "b.npy")]
    limit = 2 << 30
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "declares another size than it has" in first and "has a damaged header" in second
