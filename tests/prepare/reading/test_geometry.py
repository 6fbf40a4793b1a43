"""Sizes of prepared images, each against its slow twin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.prepare.config import PrepareConfig
from components.prepare.reading.geometry import FORMS, Resize, have_one_shape
from shared.errors import InputError

SIDES = st.integers(1, 10_000)


def size_of(text, height, width):
    return Resize.parse(text).size_of(height, width)


# --- sizes


@given(SIDES, SIDES, SIDES)
def test_one_side_given_keeps_the_proportion(side, height, width):
    """The reference's scale_width, int(w * oh / ow), in whole numbers; its twin for the other
    side."""
    assert size_of(f"x{side}", height, width) == (max(1, side * height // width), side)
    assert size_of(f"{side}x", height, width) == (side, max(1, side * width // height))


@given(SIDES, SIDES, SIDES, SIDES)
def test_both_sides_or_none_given(height, width, old_height, old_width):
    assert size_of(f"{height}x{width}", old_height, old_width) == (height, width)
    assert size_of("keep", old_height, old_width) == (old_height, old_width)


@given(st.integers(1, 600), st.integers(1, 2000), st.integers(1, 2000))
def test_rounding_takes_the_nearest_multiple_the_even_one_of_two_but_never_0(
    multiple, height, width
):
    def nearest(side):
        below, rest = divmod(side, multiple)
        up = 2 * rest > multiple or (2 * rest == multiple and below % 2 == 1)
        return max(1, below + up) * multiple

    assert size_of(f"round{multiple}", height, width) == (nearest(height), nearest(width))


@pytest.mark.parametrize(
    ("text", "size"),  # of 1024x2048 and of 375x1242
    [
        ("x1024", [(512, 1024), (309, 1024)]),  # 309.2
        ("x999", [(499, 999), (301, 999)]),  # 499.5 and 301.6 are cut
        ("100x", [(100, 200), (100, 331)]),
        ("round32", [(1024, 2048), (384, 1248)]),  # 11.7 and 38.8 times 32
        ("round16", [(1024, 2048), (368, 1248)]),  # 23.4 and 77.6 times 16
        ("round250", [(1000, 2000), (500, 1250)]),  # 375 is 1.5 times 250: the even multiple
        ("round4096", [(4096, 4096), (4096, 4096)]),  # half of it, and less, would be 0
        ("round32max512", [(256, 512), (160, 512)]),  # 154.6 is 4.8 times 32
        ("round32max1300", [(640, 1312), (384, 1248)]),  # 650 is 20.3 times 32, 1300 40.6 times
    ],
)
def test_sizes_by_hand(text, size):
    assert [size_of(text, 1024, 2048), size_of(text, 375, 1242)] == size


@given(
    st.one_of(
        st.just("keep"),
        st.builds("x{}".format, SIDES),
        st.builds("{}x".format, SIDES),
        st.builds("{}x{}".format, SIDES, SIDES),
        st.builds("round{}".format, SIDES),
        st.builds(lambda side: f"round{side}max{2 * side}", SIDES),
    )
)
def test_what_is_parsed_is_written_alike(text):
    assert str(Resize.parse(text)) == text
    assert PrepareConfig(size=text).size == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "32",
        "0x64",
        "64x0",
        "x0",
        "0x",
        "round",
        "round0",
        "round32max",
        "round32max31",
        "-1x5",
        "1.5x2",
        "1x2x3",
        "KEEP",
        "x32 ",
        "32x\n",
    ],
)
def test_other_sizes_are_refused(text):
    with pytest.raises(ValueError, match="should be"):
        Resize.parse(text)
    with pytest.raises(InputError) as refused:
        PrepareConfig.check({"size": text})
    assert str(refused.value) == f"--size {text!r}: {FORMS}."


@pytest.mark.parametrize(
    ("size", "other", "agree"),
    [
        ((1024, 2048), (512, 1024), True),
        ((1080, 1920), (512, 910), True),  # 910.2, cut
        ((1080, 1920), (512, 911), True),  # or rounded up: within a pixel
        ((1080, 1920), (512, 912), False),
        ((600, 400), (300, 200), True),
        ((600, 400), (200, 300), False),  # turned
        ((512, 512), (512, 1024), False),
        ((7, 7), (7, 7), True),
    ],
)
def test_sizes_of_one_shape(size, other, agree):
    assert have_one_shape(size, other) == have_one_shape(other, size) == agree
