"""Decoded frames of a prepared data set in one file per split: `cache/<split>.bin`.

A record holds what a sample needs, as bytes of its arrays one after the other; where it starts
follows from the manifest, so that there is no index to read or to fall out of step. Its checksum
stands in `cache/<split>.crc32`."""

import hashlib
import os
import weakref
from pathlib import Path

import imagecodecs
import numpy as np
from pydantic import ValidationError

from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.folder import Record
from shared.contracts.model import PhotoChannels
from shared.data.maps import Sample, dense_type
from shared.data.written import NotAsPrepared
from shared.files.writing import write_atomically

CACHE = "cache"
KEY = "cache.json"  # written last: without it there is no cache
ALIGNMENT = 64  # bytes
CHECKSUM = np.dtype("<u4")
ALL_ROWS = slice(None)


class CacheKey(Record):
    """What the cache was made from."""

    format: int = 1
    digest: str  # of the data set
    files: dict[str, str] = {}  # SHA-256 of the checksums; {} = an earlier version made none


def _parts(
    manifest: DatasetManifest, pair: Pair, photo_channels: PhotoChannels = 3
) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape of each array of a record, in their order on disk: wide types first, so that
    all are aligned."""
    size = (pair.height, pair.width)
    parts = {}
    if manifest.has_instances:
        parts["ids"] = np.dtype(np.int32), (pair.num_instances,)
        parts["dense_ids"] = dense_type(pair.num_instances), size
    parts["inputs"] = np.dtype(np.uint8), (manifest.input_nc, *size) if manifest.input_nc else size
    if pair.has_photo:
        parts["photo"] = np.dtype(np.uint8), (photo_channels, *size)
    return parts


def record_bytes(manifest: DatasetManifest, pair: Pair, photo_channels: PhotoChannels = 3) -> int:
    """Length of a record, a multiple of ALIGNMENT. In files photos have three channels, in memory
    those that they are trained with."""
    parts = _parts(manifest, pair, photo_channels).values()
    length = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in parts)
    return -(-length // ALIGNMENT) * ALIGNMENT


def pack(manifest: DatasetManifest, pair: Pair, sample: Sample) -> bytes:
    """The record of a sample: the inverse of `FrameCache.read`."""
    arrays = []
    for name, (dtype, shape) in _parts(manifest, pair).items():
        array = getattr(sample, name)
        assert array.dtype == dtype and array.shape == shape, (name, array.dtype, array.shape)
        arrays.append(np.ascontiguousarray(array).tobytes())
    record = b"".join(arrays)
    return record + bytes(record_bytes(manifest, pair) - len(record))


def cache_file(dataset: Path, split: str) -> Path:
    return Path(dataset) / CACHE / f"{split}.bin"


def checksum(record: bytes | np.ndarray) -> int:
    """CRC-32, as of zlib, at ten times its speed."""
    return imagecodecs.deflate_crc32(record)


def seal(dataset: Path, manifest: DatasetManifest, checksums: dict[str, list[int]]) -> None:
    """Declare the cache files of this data set complete.

    checksums: of all records of each split, in their order."""
    folder, files = Path(dataset) / CACHE, {}
    for split, of_split in checksums.items():
        content = np.array(of_split, CHECKSUM).tobytes()
        write_atomically(folder / f"{split}.crc32", content)
        files[f"{split}.crc32"] = hashlib.sha256(content).hexdigest()
    key = CacheKey(digest=manifest.digest, files=files)
    write_atomically(folder / KEY, key.model_dump_json().encode())


class FrameCache:
    """The pairs of one split. Reads, and no mapped file: one that shrinks would end the process."""

    def __init__(self, dataset: Path, manifest: DatasetManifest, split: str, key: CacheKey):
        """Raises NotAsPrepared where the checksums are damaged."""
        self.manifest, self.pairs = manifest, getattr(manifest, split)
        self.start = np.cumsum([0] + [record_bytes(manifest, pair) for pair in self.pairs])
        self.path = cache_file(dataset, split)
        self.file = open(self.path, "rb", buffering=0)  # stays there when it is replaced or removed
        weakref.finalize(self, self.file.close)

        # Which records are still to be looked at; none where an earlier version made no checksums.
        self.stamp, self.checksums = self._stamp_now(), None
        self.is_new = np.full(len(self.pairs), bool(key.files))
        if key.files:
            place = self.path.with_suffix(".crc32")
            content = place.read_bytes() if place.is_file() else b""
            if hashlib.sha256(content).hexdigest() != key.files.get(place.name):
                raise _remove_it(place.parent, f"{place} is not the file that prepare wrote")
            self.checksums = np.frombuffer(content, CHECKSUM)

    @classmethod
    def open(cls, dataset: Path, manifest: DatasetManifest, split: str) -> "FrameCache | None":
        """None where there is no cache, or one of other data (then it says so). Raises
        NotAsPrepared for one that is damaged."""
        path, file = Path(dataset) / CACHE / KEY, cache_file(dataset, split)
        if not path.is_file() or not getattr(manifest, split):
            return None
        try:
            key = CacheKey.model_validate_json(path.read_bytes())
        except ValidationError:
            key = CacheKey(format=0, digest="")
        wanted = sum(record_bytes(manifest, pair) for pair in getattr(manifest, split))
        same = (key.format, key.digest) == (1, manifest.digest)
        if not same or not file.is_file() or file.stat().st_size != wanted:
            print(
                f"the cache in {path.parent} belongs to other data and is not used: prepare the "
                "data set again"
            )
            return None
        if not key.files:
            print(
                f"the cache in {path.parent} is of an earlier version, without checksums: damage "
                "to it would go unnoticed"
            )
        return cls(dataset, manifest, split, key)

    def read(self, index: int, rows: slice = ALL_ROWS) -> Sample:
        """One pair, at the size of the data set, of whose maps only these rows are wanted. Raises
        NotAsPrepared."""
        if rows != ALL_ROWS and not self.is_new[index]:
            arrays = self._rows_of(index, rows)
            if not self._was_changed():
                return self._sample(index, arrays)
        record, at, arrays = self.bytes_of(index), 0, {}
        for name, (dtype, shape) in _parts(self.manifest, self.pairs[index]).items():
            end = at + dtype.itemsize * int(np.prod(shape))
            array = record[at:end].view(dtype).reshape(shape)
            arrays[name] = array if name == "ids" else array[..., rows, :]
            at = end
        return self._sample(index, arrays)

    def bytes_of(self, index: int) -> np.ndarray:
        """The record of a pair, uint8. Its checksum is compared when it is read first, and again
        after the file was changed. Raises NotAsPrepared."""
        start, end = self.start[index : index + 2].tolist()
        record = np.empty(end - start, np.uint8)
        self._fill(record, start, index)
        if self._was_changed() or self.is_new[index]:
            if checksum(record) != self.checksums[index]:
                raise self._damaged(index)
            self.is_new[index] = False
        return record

    def _rows_of(self, index: int, rows: slice) -> dict[str, np.ndarray]:
        """Of a large frame a small crop needs a small part."""
        pair, at, arrays = self.pairs[index], int(self.start[index]), {}
        top, bottom, _ = rows.indices(pair.height)
        for name, (dtype, shape) in _parts(self.manifest, pair).items():
            if name == "ids":
                arrays[name] = np.empty(shape, dtype)
                self._fill(arrays[name], at, index)
            else:
                line = pair.width * dtype.itemsize
                arrays[name] = np.empty((*shape[:-2], bottom - top, pair.width), dtype)
                planes = arrays[name].reshape(-1, bottom - top, pair.width)
                for channel, plane in enumerate(planes):
                    self._fill(plane, at + (channel * pair.height + top) * line, index)
            at += dtype.itemsize * int(np.prod(shape))
        return arrays

    def _fill(self, array: np.ndarray, start: int, index: int) -> None:
        """Read an array from its place; one call gives 2 GB at most."""
        left = array.reshape(-1).view(np.uint8)
        while left.size:
            try:
                count = os.preadv(self.file.fileno(), [left], start)
            except OSError:
                count = 0
            if not count:
                raise self._damaged(index)
            left, start = left[count:], start + count

    def _was_changed(self) -> bool:
        """Whether the file was since the last call; then all records are new."""
        before, self.stamp = self.stamp, self._stamp_now()
        if self.stamp == before or self.checksums is None:
            return False
        self.is_new[:] = True
        return True

    def _stamp_now(self) -> tuple[int, int]:
        status = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns

    def _sample(self, index: int, arrays: dict[str, np.ndarray]) -> Sample:
        empty = {"photo": None, "ids": None, "dense_ids": None}
        return Sample(self.pairs[index].name, **empty | arrays)

    def _damaged(self, index: int) -> NotAsPrepared:
        name = self.pairs[index].name
        return _remove_it(self.path.parent, f"{self.path} is damaged where {name} stands")


def _remove_it(cache: Path, found: str) -> NotAsPrepared:
    return NotAsPrepared(
        f"{found}: remove the folder {cache}, and image files are read, or prepare the data set "
        "again."
    )
