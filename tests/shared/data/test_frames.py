"""The cache gives back what was packed, and is used for no other data."""

import os
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.contracts.dataset import DatasetManifest, Pair
from shared.data.frames import CacheKey, FrameCache, cache_file, pack, record_bytes, seal
from shared.data.maps import Sample, dense_type
from shared.data.reader import PairReader
from shared.files.writing import write_atomically
from tests import tiny

ON_TMP = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 2**32 - 1)


def manifest_of(pairs: list[Pair], input_nc: int, has_instances: bool) -> DatasetManifest:
    numbers = dict(num_labels=0 if input_nc else 35, input_nc=input_nc, has_instances=has_instances)
    about = dict(source="", source_digest="", config={}, digest="d")
    return DatasetManifest(**numbers, **about, instance_suffix=".tif", train=pairs, test=[])


def frame_and_pair(
    rng, height, width, num_ids, input_nc, has_photo, has_instances
) -> tuple[Sample, Pair]:
    """A random frame with num_ids distinct ids, or as many as there are pixels."""
    ids = dense_ids = None
    if has_instances:
        num_ids = min(num_ids, height * width)
        ids = np.sort(rng.choice(1 << 21, num_ids, replace=False)).astype(np.int32) - (1 << 20)
        every = np.arange(height * width) % num_ids
        dense_ids = rng.permutation(every).reshape(height, width).astype(dense_type(num_ids))
    shape = (input_nc, height, width) if input_nc else (height, width)
    photo = rng.integers(0, 256, (3, height, width), np.uint8) if has_photo else None
    frame = Sample("x", rng.integers(0, 256, shape, np.uint8), photo, ids, dense_ids)
    return frame, Pair("x", height, width, has_photo, 0 if ids is None else len(ids))


def write_cache(folder, manifest: DatasetManifest, frames: list[Sample]) -> None:
    both = zip(manifest.train, frames, strict=True)
    records = [pack(manifest, pair, frame) for pair, frame in both]
    write_atomically(cache_file(folder, "train"), b"".join(records))
    seal(folder, manifest, {"train": [zlib.crc32(record) for record in records]})


@settings(max_examples=40, **ON_TMP)
@given(
    seed=SEEDS,
    shapes=st.lists(
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 400), st.booleans()),
        max_size=4,
    ),
    input_nc=st.sampled_from([0, 1, 3, 5]),
    has_instances=st.booleans(),
)
def test_what_is_packed_is_read(tmp_path, seed, shapes, input_nc, has_instances):
    rng = np.random.default_rng(seed)
    shapes = [*shapes, (3, 100, 257, True)]  # a frame of 16-bit positions always
    both = [
        frame_and_pair(rng, h, w, k, input_nc, photo, has_instances) for h, w, k, photo in shapes
    ]
    frames, pairs = zip(*both, strict=True)
    manifest = manifest_of(list(pairs), input_nc, has_instances)
    write_cache(tmp_path, manifest, frames)
    lengths = [record_bytes(manifest, pair) for pair in pairs]
    assert cache_file(tmp_path, "train").stat().st_size == sum(lengths)
    assert all(length % 64 == 0 for length in lengths)
    cache = FrameCache.open(tmp_path, manifest, "train")
    for index in rng.permutation(len(frames)):
        tiny.assert_same(cache.read(index), frames[index])


def test_the_file_is_closed_with_its_last_reader(tmp_path):
    cache = FrameCache.open(tmp_path, tiny.dataset(tmp_path, cache=True), "train")
    file = cache.file
    cache.read(0)
    assert not file.closed
    del cache
    assert file.closed


def test_what_the_system_reads_in_parts_is_read_whole(tmp_path, monkeypatch):
    """One call of preadv gives 2 GB at most, and a network's disk may give less."""
    rng = np.random.default_rng(0)
    frame, pair = frame_and_pair(rng, 30, 40, 5, 3, True, True)
    manifest = manifest_of([pair], 3, True)
    write_cache(tmp_path, manifest, [frame])
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, parts, at: read(fd, [parts[0][:1000]], at))
    cache = FrameCache.open(tmp_path, manifest, "train")
    tiny.assert_same(cache.read(0), frame)
    assert np.array_equal(cache.read(0, slice(3, 20)).photo, frame.photo[:, 3:20])


@pytest.mark.parametrize(
    ("num_ids", "dtype"),
    [
        (1, np.uint8),
        (256, np.uint8),
        (257, np.int16),
        (32768, np.int16),
        (32769, np.int32),
        (65536, np.int32),
    ],
)
def test_positions_take_the_smallest_type_that_torch_has(tmp_path, num_ids, dtype):
    frame, pair = frame_and_pair(np.random.default_rng(0), 256, 256, num_ids, 3, True, True)
    assert dense_type(num_ids) == frame.dense_ids.dtype == dtype
    assert frame.dense_ids.max() == num_ids - 1
    assert torch.from_numpy(frame.dense_ids).dtype.itemsize == dtype().itemsize
    manifest = manifest_of([pair], 3, True)
    write_cache(tmp_path, manifest, [frame])
    tiny.assert_same(FrameCache.open(tmp_path, manifest, "train").read(0), frame)


def test_records_are_a_format_on_disk(tmp_path):
    """Byte for byte, by hand: ids, positions, input, photo, then zeros up to 64."""
    frame = Sample(
        "x",
        np.array([[7, 8]], np.uint8),
        np.array([[[1, 2]], [[3, 4]], [[5, 6]]], np.uint8),
        np.array([-2, 258], np.int32),
        np.array([[1, 0]], np.uint8),
    )
    pair = Pair("x", 1, 2, True, 2)
    record = pack(manifest_of([pair], 0, True), pair, frame)
    assert record == bytes.fromhex("feffffff 02010000 0100 0708 010203040506").ljust(64, b"\0")


def test_a_frame_that_does_not_fit_its_pair_is_a_mistake():
    frame, pair = frame_and_pair(np.random.default_rng(0), 4, 6, 3, 0, True, True)
    with pytest.raises(AssertionError, match="inputs"):
        pack(manifest_of([pair], 3, True), pair, frame)


NOT_USED = "belongs to other data and is not used: prepare the data set again"


def other_data(folder, manifest):
    return manifest.model_copy(update={"digest": "another"})


def another_format(folder, manifest):
    key = CacheKey(format=2, digest=manifest.digest)
    (folder / "cache" / "cache.json").write_text(key.model_dump_json())


def truncated(folder, manifest):
    file = cache_file(folder, "train")
    file.write_bytes(file.read_bytes()[:-1])


def one_pair_more(folder, manifest):
    return manifest.model_copy(update={"train": [*manifest.train, manifest.train[0]]})


def without_a_file(folder, manifest):
    cache_file(folder, "train").unlink()


@pytest.mark.parametrize(
    "change", [other_data, another_format, truncated, one_pair_more, without_a_file]
)
def test_a_cache_that_does_not_fit_is_not_used_and_says_so(tmp_path, capsys, change):
    manifest = tiny.dataset(tmp_path, cache=True)
    assert FrameCache.open(tmp_path, manifest, "train") and capsys.readouterr().out == ""
    manifest = change(tmp_path, manifest) or manifest
    assert FrameCache.open(tmp_path, manifest, "train") is None
    assert capsys.readouterr().out == f"the cache in {tmp_path / 'cache'} {NOT_USED}\n"


def test_without_a_key_there_is_no_cache(tmp_path, capsys):
    """As a prepare step that was killed leaves it; the image files are read then."""
    manifest = tiny.dataset(tmp_path, cache=True)
    wanted = PairReader(tmp_path, manifest, "train").read(1)
    (tmp_path / "cache" / "cache.json").unlink()
    reader = PairReader(tmp_path, manifest, "train")
    assert reader.cache is None and capsys.readouterr().out == ""
    tiny.assert_same(reader.read(1), wanted)


def test_a_split_without_pairs_has_no_cache(tmp_path):
    manifest = tiny.dataset(tmp_path, test=0, cache=True)
    assert FrameCache.open(tmp_path, manifest, "test") is None
    assert len(PairReader(tmp_path, manifest, "test")) == 0
