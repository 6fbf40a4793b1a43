"""Label ids of people's files, regions of one label: each against its slow twin."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare.config import PrepareConfig
from shared.data.raw_maps import IdTable, connected_components, parse_ids
from shared.errors import InputError
from tests.asking import refusal

# --- label ids


def translate(ids, num_labels=35, remap="", ignore=""):
    """The new labels of a list of ids; those without label with their shares."""
    labels, unknown = IdTable.of(num_labels, remap, ignore).translate(np.array([ids]))
    assert labels.dtype == np.uint8
    return labels[0].tolist(), {int(id): share for id, share in unknown.items()}


def table(folder, content):
    path = folder / "table.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_ids_below_num_labels_stay_and_others_are_named_with_their_shares():
    assert translate([0, 34, 7, 7]) == ([0, 34, 7, 7], {})
    assert translate([0, 34, 35, 35, 255, 1, 1, 1]) == (
        [0, 34, 255, 255, 255, 1, 1, 1],
        {35: 2 / 8, 255: 1 / 8},
    )
    assert translate([255, 0], num_labels=256) == ([255, 0], {})


def test_the_19_classes_of_cityscapes():
    """road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation,
    terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle, in this order in
    Cityscapes' own table."""
    evaluated = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert translate(evaluated, 19, "cityscapes_train_ids") == ([*range(19)], {})
    others = [id for id in [*range(35), 255, 65535] if id not in evaluated]
    assert translate(others, 19, "cityscapes_train_ids") == ([255] * len(others), {})


def test_a_table_in_a_file(tmp_path):
    some = table(tmp_path, {"7": 0, "5000": 1})
    assert translate([7, 5000, 2, 0], 3, some) == ([0, 1, 2, 0], {})  # what is not named stays
    assert translate([7, 3], 3, some) == ([0, 255], {3: 0.5})
    assert translate([7, 8, 65535], 3, table(tmp_path, {"7": 0, "others": 2})) == ([0, 2, 2], {})
    assert translate([7, 8, 65535], 3, table(tmp_path, {"7": 0, "others": 255})) == (
        [0, 255, 255],
        {},
    )
    assert translate([7, 8], 3, table(tmp_path, {"7": 255, "8": 0, "others": None})) == (
        [255, 0],
        {},
    )


def test_ignored_ids_are_those_of_the_source(tmp_path):
    assert translate([3, 255, 9999], ignore="255,9999") == ([3, 255, 255], {})
    some = table(tmp_path, {"7": 0, "0": 7})
    assert translate([7, 0], 8, some, ignore="7") == ([255, 7], {})


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_label_maps_of_any_type(dtype):
    ids = np.array([[0, 34], [255, np.iinfo(dtype).max]]).astype(dtype)
    labels, unknown = IdTable.of(35, "", "255").translate(ids)
    assert labels.tolist() == [[0, 34], [255, 255]]
    assert unknown == ({} if dtype == np.uint8 else {str(np.iinfo(dtype).max): 0.25})


def test_ids_of_32_bits_are_never_wrapped(tmp_path):
    everything = table(tmp_path, {"others": 1})
    assert translate([-1, 65536 + 7, 7], remap=everything) == (
        [255, 255, 1],
        {-1: 1 / 3, 65543: 1 / 3},
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[7]", "it should be an object"),
        ({"road": 7}, "'road'"),
        ({"7": "0"}, "ids should be whole numbers of 0 to 255"),
        ({"7": 1.0}, "ids should be whole numbers of 0 to 255"),
        ({"7": True}, "ids should be whole numbers of 0 to 255"),
        ({"7": 256}, "ids should be whole numbers of 0 to 255"),
        ({"others": -1}, "ids should be whole numbers of 0 to 255"),
        ({"-1": 0}, "ids of the source should be 0 to 65535"),
        ({"65536": 0}, "ids of the source should be 0 to 65535"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, reason):
    path = table(tmp_path, content)
    sentence = refusal(IdTable.of, 35, path, "")
    assert sentence.startswith(f'--remap {path} is no table such as {{"7": 0, "others": 255}}: ')
    assert reason in sentence


def test_tables_that_lead_nowhere_are_refused(tmp_path):
    assert "--remap trainIds is no file: give a JSON file, or cityscapes_train_ids." == refusal(
        IdTable.of, 35, "trainIds", ""
    )
    path = table(tmp_path, {"7": 19, "8": 3, "others": 255})
    assert (
        f"--remap {path} leads to label 19 but --num-labels is 19: give --num-labels 20 or"
        in refusal(IdTable.of, 19, path, "")
    )
    path = table(tmp_path, {"others": 40})
    assert (
        f"--remap {path} leads to label 40 but --num-labels is 35: give --num-labels 41 or"
        in refusal(IdTable.of, 35, path, "")
    )
    assert "leads to label 18 but --num-labels is 2: give --num-labels 19" in refusal(
        IdTable.of, 2, "cityscapes_train_ids", ""
    )


def test_lists_of_ids():
    assert parse_ids("") == parse_ids("  ") == []
    assert parse_ids("0, 255,65535") == [0, 255, 65535]
    assert PrepareConfig(ignore_labels=" 0, 255").ignore_labels == "0,255"
    for text in ("255;0", "1,,2", "-1", "1.0", "65536", "road"):
        with pytest.raises(InputError) as refused:
            PrepareConfig.check({"ignore_labels": text})
        assert str(refused.value) == (
            f"--ignore-labels {text!r}: should be label ids with commas between, for example 0,255."
        )


# --- regions of one label


def flood_fill(labels):
    """(H, W) -> regions numbered by their first pixels in reading order, from 1."""
    regions, number = np.zeros(labels.shape, int), 0
    for start in np.ndindex(labels.shape):
        if regions[start]:
            continue
        number += 1
        waiting = [start]
        while waiting:
            y, x = waiting.pop()
            if regions[y, x]:
                continue
            regions[y, x] = number
            for there in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= there[0] < labels.shape[0] and 0 <= there[1] < labels.shape[1]
                if inside and labels[there] == labels[start]:
                    waiting.append(there)
    return regions


@st.composite
def label_maps(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    few = st.sampled_from([0, 1, 34, 255])  # 0 and the ignored are labels like others
    pixels = draw(st.lists(few, min_size=height * width, max_size=height * width))
    return np.array(pixels, np.uint8).reshape(height, width)


@settings(deadline=None)  # the first call imports scikit-image
@given(label_maps())
def test_connected_components(labels):
    found, regions = connected_components(labels), flood_fill(labels)
    assert found.dtype == np.int32 and found.min() == 1
    both = {*zip(found.ravel().tolist(), regions.ravel().tolist(), strict=True)}
    assert len(both) == found.max() == regions.max()  # one to one


def test_a_ring_has_an_inside_and_an_outside_and_corners_do_not_touch():
    ring = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]], np.uint8)
    assert connected_components(ring).tolist() == [[1, 2, 2, 3], [4, 5, 5, 6], [7, 8, 8, 9]]
