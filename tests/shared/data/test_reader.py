"""Samples are the same from files and from the cache; resizing for networks equals Pillow's within
2/255."""

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.data.reader import PairReader, resize_fast
from tests import tiny

SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("input_nc", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [None, (32, 64), (16, 24), (50, 33), (2, 3)])
def test_cache_and_files_are_the_same_samples(tmp_path, input_nc, size):
    manifest = tiny.dataset(tmp_path, train=2, test=2, input_nc=input_nc, cache=True)
    for split in ("train", "test"):
        files = PairReader(tmp_path, manifest, split, use_cache=False)
        cache = PairReader(tmp_path, manifest, split)
        assert files.cache is None and cache.cache is not None and len(files) == len(cache) == 2
        for index in range(2):
            a, b = files.read(index, size), cache.read(index, size)
            assert a.name == b.name == f"{split}_{index}"
            assert a.instances.dtype == b.instances.dtype == np.int32
            assert np.array_equal(a.instances, b.instances)
            shape = size or (32, 64)
            assert a.inputs.shape == ((input_nc, *shape) if input_nc else shape)
            # Ids without a pixel: the cache knows those of the frame, the files those left.
            if size == (2, 3):
                assert set(a.ids) == set(np.unique(b.instances)) < set(b.ids)
                b = replace(b, ids=a.ids, dense_ids=a.dense_ids)
            tiny.assert_same(a, b)
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


def test_grey_photos_are_the_luma_of_what_is_stored(tmp_path):
    """ITU-R 601-2 in fixed point, from files and from the cache, before they are resized."""
    manifest = tiny.dataset(tmp_path, train=1, cache=True)
    red, green, blue = PairReader(tmp_path, manifest, "train").read(0).photo.astype(np.uint32)
    luma = ((19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16).astype(np.uint8)[None]
    for use_cache in (False, True):
        reader = PairReader(tmp_path, manifest, "train", use_cache, photo_channels=1)
        assert np.array_equal(reader.read(0).photo, luma)
        assert np.array_equal(reader.read(0, (20, 50)).photo, resize_fast(luma, 20, 50))
        assert reader.read(0, with_photo=False).photo is None


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
    """Of read-only arrays torch warns when it is handed one."""
    manifest = tiny.dataset(tmp_path, train=1, input_nc=3, cache=True)
    with tiny.warnings_are_errors():
        sample = PairReader(tmp_path, manifest, "train").read(0)
        sample.photo.flags.writeable = False
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
