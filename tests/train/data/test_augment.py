"""One window per sample, the same for all its maps, and the same whatever reads the frames."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.train.data.batches import Augmentation, Batch, EpochLoader, Window
from shared.condition import edges, one_hot
from tests import tiny


def test_a_window_follows_from_seed_epoch_and_index_alone():
    def windows(seed, epoch, indices):
        augment = Augmentation((8, 8), True, seed)  # made anew: nothing is remembered
        return {index: augment.window(epoch, index, 32, 64) for index in indices}

    forward, backward = windows(1, 2, range(50)), windows(1, 2, reversed(range(50)))
    assert forward == backward and len(set(forward.values())) > 40
    for other in (windows(0, 2, range(50)), windows(1, 3, range(50))):
        assert sum(other[index] == forward[index] for index in range(50)) < 5


def test_corners_are_uniform_over_all_places_where_the_crop_fits():
    """x in 0 .. width - crop, y in 0 .. height - crop, both ends included, as get_params of the
    references."""
    augment = Augmentation((3, 4), True, 0)
    windows = [augment.window(epoch, index, 5, 7) for epoch in range(1, 5) for index in range(600)]
    assert {(window.height, window.width) for window in windows} == {(3, 4)}
    places = Counter((window.top, window.left, window.mirrored) for window in windows)
    assert set(places) == {
        (top, left, flip) for top in range(3) for left in range(4) for flip in (False, True)
    }
    # 2400 draws of 24 equal chances: 100 each, with a standard deviation of 9.8.
    assert all(abs(count - 100) < 45 for count in places.values())


def test_without_crop_and_flip_the_window_is_the_frame():
    assert Augmentation(None, False, 3).window(1, 2, 5, 7) == Window(0, 0, 5, 7, False)
    flips = [Augmentation(None, True, 3).window(1, index, 5, 7) for index in range(400)]
    assert all(
        (window.top, window.left, window.height, window.width) == (0, 0, 5, 7) for window in flips
    )
    assert abs(sum(window.mirrored for window in flips) - 200) < 50  # five standard deviations


@pytest.mark.parametrize(
    ("crop", "height", "width"),
    [((9, 4), 5, 4), ((9, 9), 5, 7), ((5, 7), 5, 7), ((5, 99), 5, 7), ((99, 2), 5, 2)],
)
def test_a_crop_that_does_not_fit_takes_the_side_whole(crop, height, width):
    windows = [Augmentation(crop, False, 0).window(1, index, 5, 7) for index in range(50)]
    assert {(window.height, window.width) for window in windows} == {(height, width)}
    assert {(window.top, window.left) for window in windows} == {
        (top, left) for top in range(6 - height) for left in range(8 - width)
    }


SIDE = st.integers(1, 12)


@st.composite
def frames_and_windows(draw):
    """Random maps of one frame by name, and the window of a random sample in them."""
    height, width = draw(SIDE), draw(SIDE)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    augment = Augmentation(
        draw(st.none() | st.tuples(SIDE, SIDE)), draw(st.booleans()), draw(st.integers(0, 9))
    )
    window = augment.window(draw(st.integers(1, 9)), draw(st.integers(0, 99)), height, width)
    picture = torch.from_numpy(rng.integers(0, 256, (3, height, width), np.uint8))
    labels = torch.from_numpy(rng.choice(np.array([0, 1, 2, 255], np.uint8), (height, width)))
    ids = torch.from_numpy(rng.integers(0, 3, (height, width)).astype(np.int16))
    return picture, labels, ids, window


def by_hand(array: np.ndarray, window: Window) -> np.ndarray:
    """Pixel by pixel."""
    result = np.empty((*array.shape[:-2], window.height, window.width), array.dtype)
    for y in range(window.height):
        for x in range(window.width):
            from_left = window.width - 1 - x if window.mirrored else x
            result[..., y, x] = array[..., window.top + y, window.left + from_left]
    return result


@settings(max_examples=100, deadline=None)
@given(frames_and_windows())
def test_all_maps_are_cut_alike_and_channels_commute(case):
    picture, labels, ids, window = case
    for tensor in (picture, labels, ids):
        assert np.array_equal(window.cut(tensor), by_hand(tensor.numpy(), window))
    assert torch.equal(
        one_hot(window.cut(labels)[None], 3)[0], window.cut(one_hot(labels[None], 3)[0])
    )


@settings(max_examples=150, deadline=None)
@given(frames_and_windows())
def test_edges_of_a_crop_lack_exactly_those_to_pixels_outside(case):
    """An edge of the frame is missing in the crop where all the neighbours that differ lie outside
    of the window."""
    *_, ids, window = case
    frame = ids.numpy()
    height, width = frame.shape
    inside, outside = np.zeros(frame.shape, bool), np.zeros(frame.shape, bool)
    rows, columns = (
        range(window.top, window.top + window.height),
        range(window.left, window.left + window.width),
    )
    for y in rows:
        for x in columns:
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and frame[v, u] != frame[y, x]:
                    (inside if v in rows and u in columns else outside)[y, x] = True

    of_crop = edges(window.cut(ids)[None])[0, 0].numpy()
    cut = window.cut(edges(ids[None])[0, 0]).numpy()
    assert np.array_equal(of_crop, by_hand(inside, window))
    assert np.array_equal(cut != of_crop, by_hand(outside & ~inside, window))
    assert np.array_equal(of_crop[1:-1, 1:-1], cut[1:-1, 1:-1])


@settings(max_examples=50, deadline=None)
@given(frames_and_windows())
def test_edges_of_a_mirrored_frame_are_the_mirrored_edges(case):
    ids = case[2][None]
    assert torch.equal(edges(ids.flip(-1)), edges(ids).flip(-1))


def assert_same(batches: list[Batch], others: list[Batch]) -> None:
    assert len(batches) == len(others) > 0
    for a, b in zip(batches, others, strict=True):
        for name in (field.name for field in fields(Batch)):
            one, other = getattr(a, name), getattr(b, name)
            assert type(one) is type(other), name
            assert (
                torch.equal(one, other) and one.dtype == other.dtype
                if torch.is_tensor(one)
                else one == other
            ), name


def batches(pairs, workers=0, epoch=3) -> list[Batch]:
    return list(EpochLoader(pairs, 2, workers, pin_memory=False).epoch(epoch))


@pytest.mark.parametrize("input_nc", [0, 5])
def test_workers_change_nothing(tmp_path, input_nc):
    tiny.dataset(tmp_path, train=5, input_nc=input_nc)
    options = dict(crop=(20, 30), flip=True, seed=7)
    assert_same(
        batches(tiny.pairs(tmp_path, **options)),
        batches(tiny.pairs(tmp_path, **options), workers=2),
    )


@pytest.mark.parametrize("input_nc", [0, 3])
@pytest.mark.parametrize("size", [None, (48, 40)])
def test_cached_and_kept_frames_give_the_same_batches(tmp_path, input_nc, size):
    tiny.dataset(tmp_path, train=5, input_nc=input_nc, cache=True)
    options = dict(size=size, crop=(20, 30), flip=True, seed=7)
    files, cached, kept = (
        tiny.pairs(tmp_path, **options, use_cache=cache) for cache in (False, True, True)
    )
    kept.keep(torch.device("cpu"))
    before = [{name: tensor.clone() for name, tensor in frame.items()} for frame in kept.kept]
    for epoch in (1, 2):
        assert_same(batches(files, epoch=epoch), batches(cached, epoch=epoch))
        assert_same(batches(files, epoch=epoch), batches(kept, epoch=epoch))
    for frame, old in zip(kept.kept, before, strict=True):
        assert all(torch.equal(frame[name], old[name]) for name in old), (
            "an epoch changed the frames that are held"
        )


def test_features_of_a_crop_are_those_of_the_whole_frame(tmp_path):
    """The table stays that of the frame: a crop paints the features of its pixels."""
    manifest = tiny.dataset(tmp_path, train=2, cache=True)
    whole = tiny.pairs(tmp_path)
    ids = {pair.name: whole.reader.read(i).ids for i, pair in enumerate(manifest.train)}
    features = {name: (known, np.stack([known * 1.0, -known])) for name, known in ids.items()}
    cropped = tiny.pairs(tmp_path, crop=(8, 8), seed=1, features=features)
    for index in range(2):
        item, frame = cropped[index], whole.reader.read(index)
        window = cropped.augment.window(1, index, 32, 64)
        assert item["features"].shape == (2, len(frame.ids)) and item["num_regions"] == len(
            frame.ids
        )
        painted = item["features"][:, item["dense_ids"].long()]
        wanted = torch.from_numpy(frame.instances)[
            window.top : window.top + 8, window.left : window.left + 8
        ]
        assert torch.equal(painted[0], wanted.double()) and torch.equal(
            painted[1], -wanted.double()
        )


def test_frames_of_different_positions_types_make_one_batch(tmp_path):
    """300 instances need 16 bits, the others 8."""
    rng = np.random.default_rng(0)
    contents = {name: tiny.sample(rng, 16, 24) for name in "ab"}
    contents["b"]["instance"] = np.arange(384).reshape(16, 24) % 300
    tiny.write(tmp_path, {"train": contents}, cache=True)
    pairs = tiny.pairs(tmp_path)
    pairs.keep(torch.device("cpu"))
    (batch,) = batches(pairs)
    assert batch.dense_ids.dtype == torch.int32 and batch.num_regions == 320
    assert {int(ids.max()) for ids in batch.dense_ids} == {int(pairs[0]["dense_ids"].max()), 299}
    assert pairs[0]["dense_ids"].dtype == torch.uint8 and pairs[1]["dense_ids"].dtype == torch.int16
