"""The cache holds what the files hold, and is used for no other data; resizing equals Pillow's
within 2/255."""

import os
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.folder import write_atomically
from shared.data.frames import (
    CacheKey,
    FrameCache,
    cache_file,
    pack,
    record_bytes,
    seal,
)
from shared.data.maps import Sample, dense_type, densify
from shared.data.reader import PairReader, resize_fast
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


def assert_same(one: Sample, other: Sample) -> None:
    assert one.name == other.name
    for field in fields(Sample)[1:]:
        a, b = getattr(one, field.name), getattr(other, field.name)
        if a is None or b is None:
            assert a is b is None, field.name
        else:
            assert a.dtype == b.dtype and np.array_equal(a, b), field.name


def write_cache(folder, manifest: DatasetManifest, frames: list[Sample]) -> None:
    records = [
        pack(manifest, pair, frame) for pair, frame in zip(manifest.train, frames, strict=True)
    ]
    write_atomically(cache_file(folder, "train"), b"".join(records))
    seal(folder, manifest)


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
    assert cache_file(tmp_path, "train").stat().st_size == sum(
        record_bytes(manifest, pair) for pair in pairs
    )
    assert all(record_bytes(manifest, pair) % 64 == 0 for pair in pairs)
    cache = FrameCache.open(tmp_path, manifest, "train")
    for index in rng.permutation(len(frames)):
        assert_same(cache.read(index), frames[index])


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
    assert (
        frame.dense_ids.max() == num_ids - 1
        and torch.from_numpy(frame.dense_ids).dtype.itemsize == dtype().itemsize
    )
    manifest = manifest_of([pair], 3, True)
    write_cache(tmp_path, manifest, [frame])
    assert_same(FrameCache.open(tmp_path, manifest, "train").read(0), frame)


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
    (folder / "cache" / "cache.json").write_text(
        CacheKey(format=2, digest=manifest.digest).model_dump_json()
    )


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
    assert_same(reader.read(1), wanted)


def test_a_split_without_pairs_has_no_cache(tmp_path):
    manifest = tiny.dataset(tmp_path, test=0, cache=True)
    assert (
        FrameCache.open(tmp_path, manifest, "test") is None
        and len(PairReader(tmp_path, manifest, "test")) == 0
    )


def is_densified(instances: np.ndarray) -> None:
    ids, positions = densify(instances)
    wanted, inverse = np.unique(instances, return_inverse=True)
    assert ids.dtype == np.int32 and np.array_equal(ids, wanted)
    assert positions.dtype == dense_type(len(wanted)) and positions.shape == instances.shape
    assert np.array_equal(positions, inverse.reshape(instances.shape))


@settings(max_examples=60, deadline=None)
@given(
    seed=SEEDS,
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32]),
    pool=st.integers(1, 500),
    near=st.booleans(),
)
def test_densify_equals_unique(seed, dtype, pool, near):
    """Ids of the whole range of each type that read_ids gives, close together or far apart."""
    rng, limits = np.random.default_rng(seed), np.iinfo(dtype)
    low = rng.integers(limits.min, limits.max, endpoint=True) if near else limits.min
    high = min(low + 1000, limits.max) if near else limits.max
    values = rng.integers(low, high, pool, dtype, endpoint=True)
    is_densified(rng.choice(values, (13, 17)))


@pytest.mark.parametrize(
    "values",
    [
        [-(2**31), 2**31 - 1],
        [-(2**31), -(2**31) + 1],
        [2**31 - 2, 2**31 - 1],
        [-5, 0, 5],
        [0, 2**20 - 1],
        [0, 2**20],  # one more than the table of `densify` has
        [-7],
    ],
)
def test_densify_at_the_ends_of_32_bits(values):
    is_densified(np.resize(np.array(values, np.int32), (3, 5)))


def test_densify_of_16_bit_ids_above_32767():
    is_densified(np.array([[32767, 32768], [65535, 33001]], np.uint16))
    is_densified(np.arange(2**16, dtype=np.uint16).reshape(256, 256))


@pytest.mark.parametrize("input_nc", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [None, (32, 64), (16, 24), (50, 33), (2, 3)])
def test_cache_and_files_are_the_same_samples(tmp_path, input_nc, size):
    manifest = tiny.dataset(tmp_path, train=2, test=2, input_nc=input_nc, cache=True)
    for split in ("train", "test"):
        files, cache = (
            PairReader(tmp_path, manifest, split, use_cache) for use_cache in (False, True)
        )
        assert files.cache is None and cache.cache is not None and len(files) == len(cache) == 2
        for index in range(2):
            a, b = files.read(index, size), cache.read(index, size)
            assert a.name == b.name == f"{split}_{index}"
            assert a.instances.dtype == b.instances.dtype == np.int32 and np.array_equal(
                a.instances, b.instances
            )
            shape = size or (32, 64)
            assert a.inputs.shape == ((input_nc, *shape) if input_nc else shape)
            if (
                size == (2, 3)
                # ids without a pixel: the cache knows those of the frame, the files those that are
                # left
            ):
                assert set(a.ids) == set(np.unique(b.instances)) < set(b.ids)
                b = replace(b, ids=a.ids, dense_ids=a.dense_ids)
            assert_same(a, b)
            assert (a.photo is None) == (split == "test" and index == 1)


def test_a_sample_holds_what_the_files_hold(tmp_path):
    """16-bit ids above 32767 and a 32-bit TIFF, without a cache."""
    rng = np.random.default_rng(0)
    content = tiny.sample(rng, 16, 24)
    for suffix, ids in ((".png", [0, 33001, 65535]), (".tif", [-7, 26001, 2**31 - 1])):
        content["instance"] = rng.choice(np.array(ids, np.int64), (16, 24))
        manifest = tiny.write(tmp_path / suffix, {"train": {"a": content}}, instance_suffix=suffix)
        sample = PairReader(tmp_path / suffix, manifest, "train").read(0)
        assert np.array_equal(sample.inputs, content["input"]) and np.array_equal(sample.ids, ids)
        assert np.array_equal(sample.instances, content["instance"])
        assert np.array_equal(sample.photo, content["photo"])


def test_a_sample_is_read_without_listing_a_folder(tmp_path, monkeypatch):
    """With 100,000 files in a folder on a network drive, a listing takes longer than an epoch."""
    manifest = tiny.dataset(tmp_path, train=2, cache=True)

    def listing(*_):
        raise AssertionError("a folder was listed")

    for name in ("listdir", "scandir", "walk"):
        monkeypatch.setattr(os, name, listing)
    for use_cache in (False, True):
        PairReader(tmp_path, manifest, "train", use_cache).read(1)


def test_samples_of_the_cache_are_resized_without_a_warning(tmp_path):
    """They are read-only views of the file, of which torch warns when it is handed one."""
    manifest = tiny.dataset(tmp_path, train=1, input_nc=3, cache=True)
    with tiny.warnings_are_errors():
        sample = PairReader(tmp_path, manifest, "train").read(0)
        assert not sample.photo.flags.writeable
        assert resize_fast(sample.photo, 8, 8).shape == (3, 8, 8)


def pillow(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    resize = lambda image: image.resize((width, height), Image.Resampling.BICUBIC)  # noqa: E731
    return np.stack([np.asarray(resize(Image.fromarray(channel))) for channel in picture])


SIDES = st.integers(2, 60)
SIZES = st.tuples(SIDES, SIDES)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, old=SIZES, new=SIZES, channels=st.integers(1, 5), flat=st.booleans())
def test_resized_pictures_are_pillows_within_two(seed, old, new, channels, flat):
    """Each axis is rounded by itself: one level of the first grows to at most 1.3 in the second,
    and one is added."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (channels, *old), np.uint8)
    picture = picture // 128 * 255 if flat else picture  # black and white: the largest overshoots
    resized = resize_fast(picture, *new)
    assert resized.dtype == np.uint8 and resized.shape == (channels, *new)
    assert np.abs(resized.astype(int) - pillow(picture, *new)).max() <= 2


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, old=SIDES, new=SIDES)
def test_along_one_axis_they_are_pillows_within_one(seed, old, new):
    picture = np.random.default_rng(seed).integers(0, 256, (3, 20, old), np.uint8)
    assert np.abs(resize_fast(picture, 20, new).astype(int) - pillow(picture, 20, new)).max() <= 1


@pytest.mark.parametrize(
    ("old", "new"), [((256, 512), (128, 256)), ((75, 100), (300, 200)), ((500, 3), (7, 300))]
)
def test_a_picture_that_lies_channels_last_is_resized_alike(old, new):
    """As it comes from a file, and as it comes from the cache."""
    photo = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8).transpose(2, 0, 1)
    resized = resize_fast(photo, *new)
    assert np.array_equal(resized, resize_fast(np.ascontiguousarray(photo), *new))
    assert np.abs(resized.astype(int) - pillow(photo, *new)).max() <= 2
