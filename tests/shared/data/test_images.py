"""shared/data/images.py: files <-> integer arrays. What is written is read back, and resizing
equals Pillow's."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from shared.data.headers import ImageHeader, probe
from shared.data.images import (
    read_ids,
    read_picture,
    resize_ids,
    resize_picture,
    to_chw,
    to_grey,
    write_ids,
    write_picture,
)
from shared.errors import InputError
from tests.asking import refusal

WHAT_ARRAYS_HOLD = "give (height, width) or (height, width, C)."
SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
SIZES = [
    ((1024, 2048), (512, 1024)),
    ((256, 512), (64, 128)),
    ((100, 75), (32, 96)),
    ((48, 31), (96, 64)),
    ((7, 5), (3, 2)),
]
ON_TMP = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain_png(path: Path, rows: np.ndarray, bits: int, colour_type: int) -> None:
    """A PNG by its specification, for depths that Pillow does not write; rows (H, W) or (H, W, C)
    of `bits` each."""
    height, width = rows.shape[:2]
    samples = rows.reshape(height, -1).astype(np.uint16)
    both_bytes = samples.astype(">u2").view(np.uint8).reshape(*samples.shape, 2)
    bit = np.unpackbits(both_bytes, axis=2)[:, :, 16 - bits :]
    lines = np.packbits(bit.reshape(height, -1), axis=1)  # each row fills up whole bytes
    content = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in chunks:
            check = zlib.crc32(kind + body)
            file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check))


# Ids.


@settings(max_examples=40, **ON_TMP)
@given(
    ids=st.sampled_from([np.uint8, np.uint16, np.int32]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            SHAPES,
            elements=st.integers(0, np.iinfo(dtype).max if dtype != np.int32 else 65535),
        )
    )
)
def test_ids_come_back_as_they_were_written(tmp_path, ids):
    write_ids(tmp_path / "ids.png", ids)
    assert np.array_equal(read_ids(tmp_path / "ids.png"), ids)


@settings(max_examples=30, **ON_TMP)
@given(ids=arrays.arrays(np.int32, SHAPES))
def test_a_tiff_holds_ids_of_32_bits(tmp_path, ids):
    write_ids(tmp_path / "ids.tif", ids)
    back = read_ids(tmp_path / "ids.tif")
    assert back.dtype == np.int32 and np.array_equal(back, ids)


INTEGERS = st.sampled_from(["|u1", "<u2", ">u2", "<u4", ">u8", "|i1", "<i2", "<i4", ">i4", "<i8"])


@settings(max_examples=40, **ON_TMP)
@given(
    ids=INTEGERS.map(np.dtype).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            SHAPES,
            elements=st.integers(
                max(-(2**31), np.iinfo(dtype).min), min(2**31 - 1, np.iinfo(dtype).max)
            ),
        )
    )
)
def test_ids_of_an_array_file_of_any_integer_type(tmp_path, ids):
    np.save(tmp_path / "ids.npy", ids)
    back = read_ids(tmp_path / "ids.npy")
    assert back.dtype in (np.uint8, np.uint16, np.int32) and np.array_equal(back, ids)


@pytest.mark.parametrize(
    "ids",
    [
        np.array([[0, 2**31]], np.uint32),
        np.array([[0, 2**31]], np.int64),
        np.array([[-(2**31) - 1]], np.int64),
        np.array([[2**63]], np.uint64),
        np.array([[1.0]]),
        np.array([[True]]),
        np.zeros((2, 3, 1), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_array_files_that_are_no_map_of_ids_are_refused(tmp_path, ids):
    np.save(tmp_path / "ids.npy", ids)
    with pytest.raises(InputError) as refusal:
        read_ids(tmp_path / "ids.npy")
    assert str(refusal.value) == (
        f"{tmp_path}/ids.npy holds {ids.dtype} of shape {ids.shape}: give (height, width) ids of "
        "up to 32 bits, signed."
    )


@settings(max_examples=30, **ON_TMP)
@given(bits=st.sampled_from([1, 2, 4]), shape=SHAPES, seed=st.integers(0, 99))
def test_grey_of_few_bits_is_not_stretched_as_ids_but_is_as_a_picture(tmp_path, bits, shape, seed):
    """Every decoder makes 0, 85, 170, 255 of the levels of 2 bits: right for a picture, wrong for
    ids."""
    highest = 2**bits - 1
    levels = np.random.default_rng(seed).integers(0, highest, shape, endpoint=True)
    plain_png(tmp_path / "grey.png", levels, bits, colour_type=0)
    ids = read_ids(tmp_path / "grey.png")
    assert ids.dtype == np.uint8 and np.array_equal(ids, levels)
    assert np.array_equal(read_picture(tmp_path / "grey.png", 1)[0], levels * 255 // highest)


def test_masks_of_one_bit_as_pillow_writes_them(tmp_path):
    mask = np.array([[True, False, True]])
    for suffix in (".png", ".tif", ".bmp"):
        Image.fromarray(mask).save(tmp_path / f"mask{suffix}")
        ids = read_ids(tmp_path / f"mask{suffix}")
        assert ids.dtype == np.uint8 and ids.tolist() == [[1, 0, 1]]
        assert read_picture(tmp_path / f"mask{suffix}").tolist() == 3 * [[[255, 0, 255]]]


@pytest.mark.parametrize(
    ("highest", "mode"), [(0, "L"), (255, "L"), (256, "I;16"), (33001, "I;16"), (65535, "I;16")]
)
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


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("options", [dict(), dict(transparency=1)])
def test_palette_maps_are_read_as_indices(tmp_path, bits, options):
    indices = np.random.default_rng(0).integers(0, 2**bits, (9, 7), np.uint8)
    image = Image.fromarray(indices, "P")
    colours = np.array([[255 - i, i // 2, 7 * i % 256] for i in range(256)], np.uint8)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "palette.png", bits=bits, **options)
    assert np.array_equal(read_ids(tmp_path / "palette.png"), indices)
    picture = read_picture(tmp_path / "palette.png", transparency="drop")
    assert np.array_equal(picture, to_chw(colours[indices]))


# Pictures.


@settings(max_examples=60, **ON_TMP)
@given(
    mode=st.sampled_from(["L", "LA", "RGB", "RGBA", "I;16"]), shape=SHAPES, seed=st.integers(0, 99)
)
def test_the_fast_decoder_reads_what_pillow_reads(tmp_path, mode, shape, seed):
    rng = np.random.default_rng(seed)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    pixels = rng.integers(0, 65536, shape, np.uint16)
    if mode != "I;16":
        pixels = rng.integers(0, 256, shape if channels == 1 else (*shape, channels), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        assert image.mode == mode
        theirs = np.asarray(image)
    if mode == "I;16":
        assert np.array_equal(read_ids(tmp_path / "picture.png"), theirs)
    else:
        ours = read_picture(tmp_path / "picture.png", channels)
        assert np.array_equal(ours, to_chw(theirs.reshape(*shape, channels)))


@pytest.mark.parametrize("white_level", [65535, 4095, 1023])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pictures_of_16_bits_are_scaled_by_their_white_level(tmp_path, channels, white_level):
    """All 65536 levels: to the nearest of 255 * level / white, and white for what is brighter; no
    level is a tie. Alpha is no level: all of it is 65535."""
    levels = np.random.default_rng(0).permutation(np.arange(65536 * channels) % 65536)
    levels = levels.reshape(256, 256, channels)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    plain_png(tmp_path / "deep.png", levels, 16, colour_type)
    nearest = np.minimum((2 * 255 * levels + white_level) // (2 * white_level), 255)
    alpha = (2 * 255 * levels[:, :, -1:] + 65535) // (2 * 65535)
    of_png = nearest if channels % 2 else np.dstack([nearest[:, :, :-1], alpha])
    picture = read_picture(tmp_path / "deep.png", channels, white_level)
    assert picture.dtype == np.uint8 and np.array_equal(picture, to_chw(of_png))
    np.save(tmp_path / "deep.npy", levels.astype(np.uint16))
    picture = read_picture(tmp_path / "deep.npy", channels, white_level)
    assert np.array_equal(picture, to_chw(nearest))


def test_grey_tiffs_of_16_bits_of_either_byte_order(tmp_path):
    levels = np.array([[0, 257, 33001, 65535]], np.uint16)
    for name, dtype, order in (("little", "<u2", "<"), ("big", ">u2", ">")):
        (tmp_path / f"{name}.tif").write_bytes(grey_tiff(levels.astype(dtype), order))
        assert np.array_equal(read_ids(tmp_path / f"{name}.tif"), levels)
        assert read_picture(tmp_path / f"{name}.tif", 1).tolist() == [[[0, 1, 128, 255]]]


def grey_tiff(levels: np.ndarray, order: str) -> bytes:
    """An uncompressed grey TIFF of 16 bits by its specification."""
    height, width = levels.shape
    tags = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags[279] = levels.nbytes
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + levels.nbytes)
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    count, end = struct.pack(f"{order}H", len(tags)), struct.pack(f"{order}I", 0)
    return b"".join([head, levels.tobytes(), count, *entries, end])


@settings(max_examples=40, **ON_TMP)
@given(shape=SHAPES, channels=st.integers(1, 6), seed=st.integers(0, 99))
def test_pictures_of_any_channels_come_back_as_they_were_written(tmp_path, shape, channels, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (channels, *shape), np.uint8)
    path = tmp_path / ("picture.png" if channels <= 4 else "picture.npy")
    write_picture(path, picture)
    assert np.array_equal(read_picture(path, channels), picture)
    header = probe(path)
    assert (header.height, header.width, header.channels) == (*shape, channels)


@pytest.mark.parametrize("found", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 5, 6])
def test_channels_are_those_wanted_or_the_file_is_refused(tmp_path, found, wanted):
    """Grey <-> colour, opaque alpha dropped; nothing else is made up."""
    picture = np.random.default_rng(0).integers(0, 256, (found, 4, 6), np.uint8)
    if found in (2, 4):
        picture[-1] = 255
    path = tmp_path / ("picture.png" if found <= 4 else "picture.npy")
    write_picture(path, picture)
    grey = np.tensordot([0.299, 0.587, 0.114], picture[:3], 1) if found >= 3 else None
    if found == wanted:
        assert np.array_equal(read_picture(path, wanted), picture)
    elif (found, wanted) in ((1, 3), (2, 3)):
        assert np.array_equal(read_picture(path, wanted), picture[:1].repeat(3, axis=0))
    elif (found, wanted) in ((2, 1), (4, 3)):
        assert np.array_equal(read_picture(path, wanted), picture[:wanted])
    elif (found, wanted) in ((3, 1), (4, 1)):
        assert np.abs(read_picture(path, wanted)[0] - grey).max() <= 0.51
    else:
        assert refusal(read_picture, path, wanted) == (
            f"{path} has {found} channels where {wanted} are wanted: give files of one kind."
        )


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 3), np.float32), np.zeros((3, 4), np.int32), np.zeros(3, np.uint8)]
)
def test_numbers_that_are_no_grey_levels_are_refused(tmp_path, array):
    np.save(tmp_path / "picture.npy", array)
    with pytest.raises(InputError) as refusal:
        read_picture(tmp_path / "picture.npy")
    assert str(refusal.value) == (
        f"{tmp_path}/picture.npy holds {array.dtype} of shape {array.shape}: "
        + ("give a picture of 8 or 16 bits a channel." if array.ndim > 1 else WHAT_ARRAYS_HOLD)
    )


def test_probe_reads_the_header_alone(tmp_path):
    """Of a file that ends after 60 bytes."""
    channels_of = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1, "1": 1, "P": 1}
    for mode, channels in channels_of.items():
        Image.fromarray(np.zeros((3, 4, 3), np.uint8)).convert(mode).save(tmp_path / "picture.png")
        header = probe(tmp_path / "picture.png")
        assert (header.format, header.mode, header.lossy) == ("PNG", mode, False)
        assert (header.height, header.width, header.channels) == (3, 4, channels)
    noise = np.random.default_rng(0).integers(0, 256, (3, 30, 40), np.uint8)
    write_picture(tmp_path / "noise.png", noise)
    (tmp_path / "noise.png").write_bytes((tmp_path / "noise.png").read_bytes()[:60])
    assert probe(tmp_path / "noise.png") == ImageHeader("PNG", "RGB", 30, 40, 3)
    np.save(tmp_path / "array.npy", np.zeros((3, 4, 7), np.uint8))
    assert probe(tmp_path / "array.npy") == ImageHeader("npy", "npy", 3, 4, 7)
    np.save(tmp_path / "line.npy", np.zeros(3, np.uint8))
    assert refusal(probe, tmp_path / "line.npy").endswith(f"of shape (3,): {WHAT_ARRAYS_HOLD}")


@pytest.mark.parametrize(
    ("name", "mode", "options", "lossy"),
    [
        ("a.png", "RGB", {}, False),
        ("a.jpg", "L", {}, True),
        ("a.jfif", "RGB", dict(format="JPEG"), True),
        ("jpeg_as.png", "L", dict(format="JPEG"), True),
        ("a.bmp", "P", {}, False),
        ("a.dib", "L", {}, False),
        ("a.tga", "P", {}, False),
        ("a.gif", "P", {}, False),
        ("a.qoi", "RGB", {}, False),
        ("a.pgm", "L", {}, False),
        ("a.tif", "P", {}, False),
        ("zip.tif", "L", dict(compression="tiff_adobe_deflate"), False),
        ("jpeg.tif", "L", dict(compression="jpeg"), True),
        ("a.webp", "RGB", {}, True),
        ("exact.webp", "RGB", dict(lossless=True), False),
        ("a.jp2", "L", {}, False),
        ("rounded.jp2", "L", dict(irreversible=True), True),
        ("rounded.j2k", "L", dict(irreversible=True), True),
        ("a.avif", "RGB", {}, True),
    ],
)
def test_a_header_says_what_becomes_of_ids(tmp_path, name, mode, options, lossy):
    """By the content, not the suffix; the palette as it was given, without decoding."""
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert(mode)
    if mode == "P":
        image.putpalette(colours.tobytes())
    image.save(tmp_path / name, **options)
    header = probe(tmp_path / name)
    assert (header.height, header.width, header.lossy) == (6, 8, lossy)
    assert (header.palette is None) == (mode != "P")
    if mode == "P":
        assert np.array_equal(header.palette[:48], colours[:48])


@settings(max_examples=20, **ON_TMP)
@given(photo=arrays.arrays(np.uint8, SHAPES.map(lambda shape: (3, *shape))))
def test_photos_come_back_as_they_were_written(tmp_path, photo):
    write_picture(tmp_path / "photo.png", photo)
    assert np.array_equal(read_picture(tmp_path / "photo.png"), photo)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA"])
def test_other_pictures_become_rgb(tmp_path, mode):
    Image.new("RGB", (4, 3), (102, 102, 102)).convert(mode).save(tmp_path / "photo.png")
    photo = read_picture(tmp_path / "photo.png")
    assert photo.shape == (3, 3, 4) and (photo == 102).all()


@pytest.mark.parametrize("read", [read_ids, read_picture])
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


def files_of_every_kind() -> dict[str, bytes]:
    """Contents of small pictures, by file name."""
    rng, files = np.random.default_rng(0), {}
    noise = Image.fromarray(rng.integers(0, 256, (19, 17, 3), np.uint8))
    for name, mode, options in (
        ("grey.png", "L", {}),
        ("colour.png", "RGB", {}),
        ("palette.png", "P", {}),
        ("seen_through.png", "P", dict(transparency=3)),
        ("mask.png", "1", {}),
        ("photo.jpg", "RGB", {}),
        ("print.jpg", "CMYK", {}),
        ("picture.bmp", "RGB", {}),
        ("ids.tif", "I", {}),
    ):
        buffer = io.BytesIO()
        noise.convert(mode).save(
            buffer, Image.registered_extensions()[Path(name).suffix], **options
        )
        files[name] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(noise))
    return files | {"array.npy": buffer.getvalue()}


FILES = files_of_every_kind()


def is_refused(read, path: Path) -> None:
    other_kind = (
        r"is CMYK|not a map of ids|has \d channels where|holds \w+ of shape|several|\d bits"
    )
    unread = r"cannot be read as an image \(.+\): replace|is transparent|GiB of memory|is not read"
    sentence = refusal(read, path)
    assert re.search(rf"^{re.escape(str(path))} .*({other_kind}|{unread})", sentence)


@pytest.mark.filterwarnings("ignore")  # Pillow's, of headers
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, **ON_TMP)
@given(kept=st.floats(0, 1))
def test_files_that_end_early_are_refused(tmp_path, name, kept):
    """From no byte at all on; the last 26 of a PNG are checksums and its end, without pixels."""
    path = tmp_path / name
    path.write_bytes(FILES[name][: int(kept * (len(FILES[name]) - 26))])
    is_refused(read_picture, path)
    is_refused(read_ids, path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in FILES if name != "ids.tif"])
@settings(max_examples=25, **ON_TMP)
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_damaged_files_are_read_or_refused_but_raise_nothing_else(tmp_path, name, changes):
    content = bytearray(FILES[name])
    for place, value in changes:
        content[int(place * len(content))] = value
    (tmp_path / name).write_bytes(content)
    for read in (probe, read_picture, read_ids):
        try:
            read(tmp_path / name)
        except InputError:
            is_refused(read, tmp_path / name)


def test_a_folder_is_no_picture(tmp_path):
    for name in ("folder.png", "folder.npy"):
        (tmp_path / name).mkdir()
        is_refused(read_picture, tmp_path / name)


def test_a_colour_picture_is_no_map_of_ids(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "color.png")
    found = "color.png is a picture of 3 channels of 8 bits, not a map of ids"
    assert found in refusal(read_ids, tmp_path / "color.png")


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
    assert np.array_equal(resize_picture(to_chw(photo), *new), to_chw(np.asarray(expected)))


@settings(max_examples=60, deadline=None)
@given(
    old=SHAPES, new=SHAPES, seed=st.integers(0, 99), channels=st.integers(1, 5), flat=st.booleans()
)
def test_resized_pictures_are_pillows(old, new, seed, channels, flat):
    """As they come from a file, channels last in memory, and as they come from the cache."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*old, channels), np.uint8)
    pixels = pixels // 128 * 255 if flat else pixels  # black and white: the largest overshoots
    picture, size = to_chw(pixels), new[::-1]
    wanted = [Image.fromarray(channel).resize(size, Image.BICUBIC) for channel in picture]
    for given_picture in (picture, np.ascontiguousarray(picture)):
        assert np.array_equal(resize_picture(given_picture, *new), np.stack(wanted))


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_channels_are_resized_each_for_itself(channels):
    """As masks and depths are no colours: Pillow itself would weight the others with the fourth as
    alpha."""
    photo = np.random.default_rng(0).integers(0, 256, (channels, 20, 30), np.uint8)
    resized = resize_picture(photo, 13, 41)
    assert resized.shape == (channels, 13, 41)
    for channel in range(channels):
        expected = Image.fromarray(photo[channel]).resize((41, 13), Image.Resampling.BICUBIC)
        assert np.array_equal(resized[channel], np.asarray(expected))


def test_grey_is_luma_in_fixed_point():
    """The formula of ITU-R 601-2 as pix2pix' Pillow has it; equal channels stay as they are."""
    picture = np.random.default_rng(0).integers(0, 256, (3, 512, 512), np.uint8)
    red, green, blue = picture.astype(np.int64)
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536
    assert np.array_equal(to_grey(picture), luma[None].astype(np.uint8))
    greys = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert np.array_equal(to_grey(greys.repeat(3, axis=0)), greys)


def test_the_same_size_is_left_alone():
    ids = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert resize_ids(ids, 3, 4) is ids
    photo = np.zeros((3, 3, 4), np.uint8)
    assert resize_picture(photo, 3, 4) is photo
