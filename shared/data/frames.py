"""Decoded frames of a prepared data set in one memory-mapped file per split: `cache/<split>.bin`.

A record holds what a sample needs, as bytes of its arrays one after the other; where it starts
follows from the manifest, so that there is no index to read or to fall out of step."""

from pathlib import Path

import numpy as np

from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.folder import Record
from shared.contracts.model import PhotoChannels
from shared.data.maps import Sample, dense_type
from shared.files.writing import write_atomically

CACHE = "cache"
KEY = "cache.json"  # written last: without it there is no cache
ALIGNMENT = 64  # bytes


class CacheKey(Record):
    """What the cache was made from."""

    format: int = 1
    digest: str  # of the data set


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


def seal(dataset: Path, manifest: DatasetManifest) -> None:
    """Declare the cache files of this data set complete."""
    write_atomically(Path(dataset) / CACHE / KEY, _key(manifest))


def _key(manifest: DatasetManifest) -> bytes:
    """The content of the file KEY."""
    return CacheKey(digest=manifest.digest).model_dump_json().encode()


class FrameCache:
    """The pairs of one split as views of the mapped file: nothing is read before it is looked
    at."""

    def __init__(self, dataset: Path, manifest: DatasetManifest, split: str):
        self.manifest, self.pairs = manifest, getattr(manifest, split)
        self.start = np.cumsum([0] + [record_bytes(manifest, pair) for pair in self.pairs])
        self.bytes = np.memmap(cache_file(dataset, split), np.uint8, mode="r")

    @classmethod
    def open(cls, dataset: Path, manifest: DatasetManifest, split: str) -> "FrameCache | None":
        """None where there is no cache, or one of other data (then it says so)."""
        key, file = Path(dataset) / CACHE / KEY, cache_file(dataset, split)
        if not key.is_file() or not getattr(manifest, split):
            return None
        wanted = sum(record_bytes(manifest, pair) for pair in getattr(manifest, split))
        same = key.read_bytes() == _key(manifest)
        if not same or not file.is_file() or file.stat().st_size != wanted:
            print(
                f"the cache in {key.parent} belongs to other data and is not used: prepare the "
                "data set again"
            )
            return None
        return cls(dataset, manifest, split)

    def read(self, index: int) -> Sample:
        """One pair, at the size of the data set."""
        pair, at = self.pairs[index], int(self.start[index])
        arrays = {"photo": None, "ids": None, "dense_ids": None}
        for name, (dtype, shape) in _parts(self.manifest, pair).items():
            end = at + dtype.itemsize * int(np.prod(shape))
            arrays[name] = np.frombuffer(self.bytes[at:end], dtype).reshape(shape)
            at = end
        return Sample(pair.name, **arrays)
