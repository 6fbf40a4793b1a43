"""shared/images.py: files <-> integer arrays. What is written is read back, and resizing equals Pillow's."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from shared.errors import InputError
from shared.images import read_ids, read_photo, resize_ids, resize_photo, write_ids, write_photo

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
SIZES = [
    ((1024, 2048), (512, 1024)),
    ((256, 512), (64, 128)),
    ((100, 75), (32, 96)),
    ((48, 31), (96, 64)),
    ((7, 5), (3, 2)),
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.sampled_from([np.uint8, np.uint16, np.int32]).flatmap(
        lambda dtype: arrays.arrays(
            dtype, SHAPES, elements=st.integers(0, np.iinfo(dtype).max if dtype != np.int32 else 65535)
        )
    )
)
def test_ids_come_back_as_they_were_written(tmp_path, ids):
    write_ids(tmp_path / "ids.png", ids)
    assert np.array_equal(read_ids(tmp_path / "ids.png"), ids)


@pytest.mark.parametrize(("highest", "mode"), [(0, "L"), (255, "L"), (256, "I;16"), (33001, "I;16"), (65535, "I;16")])
def test_ids_take_8_bits_where_they_fit_and_16_otherwise(tmp_path, highest, mode):
    write_ids(tmp_path / "ids.png", np.array([[0, highest]]))
    with Image.open(tmp_path / "ids.png") as image:
        assert image.mode == mode
        assert image.getpixel((1, 0)) == highest


@pytest.mark.parametrize("ids", [[[-1, 5]], [[0, 65536]]])
def test_ids_that_no_png_can_hold_are_refused(tmp_path, ids):
    with pytest.raises(InputError, match="do not fit a 16-bit PNG"):
        write_ids(tmp_path / "ids.png", np.array(ids))
    assert not (tmp_path / "ids.png").exists()


def test_palette_maps_are_read_as_indices(tmp_path):
    indices = np.array([[0, 1], [2, 254]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([255 - i // 3 for i in range(768)])
    image.save(tmp_path / "palette.png")
    assert np.array_equal(read_ids(tmp_path / "palette.png"), indices)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(photo=arrays.arrays(np.uint8, SHAPES.map(lambda shape: (*shape, 3))))
def test_photos_come_back_as_they_were_written(tmp_path, photo):
    write_photo(tmp_path / "photo.png", photo)
    assert np.array_equal(read_photo(tmp_path / "photo.png"), photo)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA"])
def test_other_pictures_become_rgb(tmp_path, mode):
    Image.new("RGB", (4, 3), (102, 102, 102)).convert(mode).save(tmp_path / "photo.png")
    photo = read_photo(tmp_path / "photo.png")
    assert photo.shape == (3, 4, 3) and (photo == 102).all()


@pytest.mark.parametrize("read", [read_ids, read_photo])
def test_missing_and_broken_files_are_refused(tmp_path, read):
    with pytest.raises(InputError, match="nothing.png is missing"):
        read(tmp_path / "nothing.png")
    write_ids(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 65536, (64, 64)))
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    with pytest.raises(InputError, match="half.png cannot be read as an image"):
        read(tmp_path / "half.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="text.png cannot be read as an image"):
        read(tmp_path / "text.png")


def test_a_colour_picture_is_no_map_of_ids(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "color.png")
    with pytest.raises(InputError, match="color.png is a RGB picture, not a map of ids"):
        read_ids(tmp_path / "color.png")


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ids_are_resized_as_pillow_does_by_nearest(old, new, dtype):
    ids = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, old, dtype, endpoint=True)
    expected = Image.fromarray(ids).resize(new[::-1], Image.Resampling.NEAREST)
    resized = resize_ids(ids, *new)
    assert resized.dtype == dtype
    assert np.array_equal(resized, np.asarray(expected))


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_photos_are_resized_as_pillow_does_bicubically(old, new):
    photo = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    expected = Image.fromarray(photo).resize(new[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(resize_photo(photo, *new), np.asarray(expected))


def test_the_same_size_is_left_alone():
    ids = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert resize_ids(ids, 3, 4) is ids
    photo = np.zeros((3, 4, 3), np.uint8)
    assert resize_photo(photo, 3, 4) is photo
