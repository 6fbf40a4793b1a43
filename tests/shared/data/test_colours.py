"""Labels by colour, each against its slow twin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.labels import Label
from shared.data.colours import ColourTable, Runs, of_other_label, says_colours
from tests.asking import refusal

LEVELS = st.sampled_from([0, 1, 2, 3, 4, 5, 9, 10, 11, 254, 255])
COLOURS = st.tuples(LEVELS, LEVELS, LEVELS)
LABELS = [
    Label(id=0, name="black", colour=(0, 0, 0)),
    Label(id=1, name="red", colour=(10, 0, 0)),
    Label(id=2, name="white", colour=(255, 255, 255)),
    Label(id=255, name="edge", colour=(5, 5, 5)),
    Label(id=255, name="border", colour=(4, 5, 5)),  # near the other, which means the same
]


def code(red, green, blue, alpha=255):
    return red | green << 8 | blue << 16 | alpha << 24


def label_by_hand(colour, tolerance):
    """The label of the colours that are near enough, None without one."""
    near = {
        label.id
        for label in LABELS
        if max(abs(one - other) for one, other in zip(colour, label.colour, strict=True))
        <= tolerance
    }
    assert len(near) <= 1
    return near.pop() if near else None


@given(st.lists(COLOURS, min_size=1, max_size=40), st.integers(0, 1))
def test_each_pixel_has_the_label_of_the_only_colour_that_is_near(colours, tolerance):
    pixels = np.array([[code(*colour) for colour in colours]], np.uint32)
    labels, unknown = ColourTable.of(LABELS, tolerance, -1).translate(pixels)
    by_hand = [label_by_hand(colour, tolerance) for colour in colours]
    assert labels.tolist() == [[255 if label is None else label for label in by_hand]]
    lost = sum(label is None for label in by_hand)
    assert sum(unknown.values()) == pytest.approx(lost / len(colours))
    assert len(unknown) <= 9  # eight, and one line for the others
    shares = list(unknown.values())[:8]
    assert shares == sorted(shares, reverse=True)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_runs_hold_all_pixels(values):
    pixels = np.array([values], np.uint32)
    runs = Runs.of(pixels)
    assert np.repeat(runs.codes[runs.positions], runs.lengths).tolist() == values
    counts = dict(zip(runs.codes.tolist(), runs.pixels.tolist(), strict=True))
    assert counts == {value: values.count(value) for value in values}


def test_alpha():
    """Transparent pixels have the label that was said, whatever colour lies below; half
    transparent ones none."""
    pixels = np.array([[code(0, 0, 0, 0), code(7, 7, 7, 0), code(0, 0, 0, 254)]], np.uint32)
    labels, unknown = ColourTable.of(LABELS, 0, 2).translate(pixels)
    assert labels.tolist() == [[2, 2, 255]]
    assert unknown == {"[0, 0, 0] under alpha 254": 1 / 3}
    _, unknown = ColourTable.of(LABELS, 0, -1).translate(pixels)
    assert set(unknown) == {
        "[0, 0, 0] under alpha 0",
        "[7, 7, 7] under alpha 0",
        "[0, 0, 0] under alpha 254",
    }


def test_a_table_that_leaves_a_colour_open_is_refused():
    """black and edge are 5 apart: within 3 of both is (2, 2, 3), within 2 nothing."""
    assert refusal(ColourTable.of, LABELS, 3, -1) == (
        "--colour-tolerance 3: a colour may be within it of both labels 0 (black) and 255 "
        "(edge), which are 5 apart: give 2 or less."
    )
    ColourTable.of(LABELS, 2, -1)
    twice = [*LABELS, Label(id=7, name="ink", colour=(0, 0, 0))]
    assert "labels 0 (black) and 7 (ink) both have colour [0, 0, 0]" in refusal(
        ColourTable.of, twice, 0, -1
    )


def test_a_colour_of_another_label():
    black, red = LABELS[:2]
    assert of_other_label([(0, (0, 0, 0)), (1, (9, 9, 9)), (255, (4, 5, 5))], LABELS) is None
    assert of_other_label([(1, (0, 0, 0))], LABELS) == (1, (0, 0, 0), black)
    assert of_other_label([(0, (10, 0, 0))], LABELS) == (0, (10, 0, 0), red)


def test_a_palette_of_greys_in_order_says_nothing():
    ramp = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    assert not says_colours(None) and not says_colours(ramp) and not says_colours(ramp[:5])
    assert says_colours(ramp[::-1]) and says_colours(np.zeros((2, 3), np.uint8))
