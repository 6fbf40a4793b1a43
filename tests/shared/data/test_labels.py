"""Label files and ready-made tables, and the colours that are made up where there are none."""

import json

import numpy as np
import pytest

from shared.contracts.labels import IGNORED, Label
from shared.data.labels import (
    colours_of,
    find_label,
    name_of,
    read_labels,
    ready_made,
)
from shared.errors import InputError

OWN = """
- {id: 1, name: house, colour: [200, 10, 20]}
- {id: 0, name: sky, colour: '#4682B4'}
- {id: 255, name: border, colour: [0, 0, 0]}
- {id: 255, name: unsure, colour: [9, 9, 9]}
"""
OWN_LABELS = [
    Label(id=0, name="sky", colour=(70, 130, 180)),
    Label(id=1, name="house", colour=(200, 10, 20)),
    Label(id=255, name="border", colour=(0, 0, 0)),
    Label(id=255, name="unsure", colour=(9, 9, 9)),
]


def test_a_file_is_a_list_or_has_one_as_yaml_or_json(tmp_path):
    entries = [label.model_dump() for label in OWN_LABELS]
    contents = {
        "list.yaml": OWN,
        "object.yml": "labels:" + OWN.replace("\n-", "\n  -"),
        "list.json": json.dumps(entries),
        "object.json": "\ufeff" + json.dumps({"labels": entries}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_labels(str(tmp_path / name)) == OWN_LABELS, name


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "holds no list of labels"),
        ("[]", "holds no list of labels"),
        ("classes: []", "holds no list of labels"),
        ("- sky", "entry 1 is 'sky'"),
        ("- {id: 0, name: sky}", "entry 1 (id: 0, name: sky) has no colour: add it."),
        ("- {name: sky, colour: [1, 2, 3]}", "entry 1 (name: sky) has no id: add it."),
        ('- {name: "s\\nky", colour: [1, 2, 3]}', "entry 1 (name: 's\\nky') has no id: add it."),
        ("- id: 0\n  name: sky\n  colour: #010203", "'#rrggbb' needs quotes"),
        ("- {id: 0, name: sky, color: [1, 2, 3]}", "has a field 'color': a label has id, name"),
        ("- {id: 256, name: sky, colour: [1, 2, 3]}", "has id 256: give a whole number of 0 to"),
        ("- {id: -1, name: sky, colour: [1, 2, 3]}", "has id -1"),
        ("- {id: yes, name: sky, colour: [1, 2, 3]}", "has id True"),
        ("- {id: '0', name: sky, colour: [1, 2, 3]}", "has id '0'"),
        ("- {id: 0, name: no, colour: [1, 2, 3]}", "has name False"),
        ("- {id: 0, name: ' ', colour: [1, 2, 3]}", "has name ' '"),
        ("- {id: 0, name: sky, colour: [1, 2, 256]}", "has colour [1, 2, 256]: give three whole"),
        ("- {id: 0, name: sky, colour: [1, 2]}", "has colour [1, 2]"),
        ("- {id: 0, name: sky, colour: [0.1, 0.2, 0.3]}", "has colour [0.1, 0.2, 0.3]"),
        ("- {id: 0, name: sky, colour: blue}", "has colour 'blue'"),
        ("- {id: 0, name: sky, colour: '#12345'}", "has colour '#12345'"),
        (OWN + "- {id: 1, name: roof, colour: [1, 2, 3]}", "'house' and 'roof' both have id 1"),
        (OWN + "- {id: 2, name: sky, colour: [1, 2, 3]}", "labels 0 and 2 are both called 'sky'"),
        (OWN + "- {id: 2, name: roof, colour: [9, 9, 9]}", "labels 2 (roof) and 255 (unsure) both"),
        ("- {id: 0,\n  name: [}", "line 2: is no YAML"),
        ("- {id: 0, name: 2024-13-45, colour: [1, 2, 3]}", "is no YAML (month must be in 1..12)"),
    ],
)
def test_faults_are_named_with_flag_file_and_entry(tmp_path, content, sentence):
    file = tmp_path / "own.yaml"
    file.write_text(content)
    with pytest.raises(InputError) as refusal:
        read_labels(str(file))
    said = str(refusal.value)
    assert said.startswith(f"--labels {file}") and sentence in said
    assert "\n" not in said and said.endswith(".")


def test_json_faults_and_what_is_no_file(tmp_path):
    (tmp_path / "own.json").write_text('[{"id": 0,\n"name" "sky"}]')
    with pytest.raises(InputError, match="own.json line 2: is no JSON"):
        read_labels(str(tmp_path / "own.json"))
    (tmp_path / "latin.yaml").write_bytes("- {id: 0, name: Straße}".encode("latin-1"))
    with pytest.raises(InputError, match="latin.yaml is no text in UTF-8"):
        read_labels(str(tmp_path / "latin.yaml"))
    (tmp_path / "own.csv").touch()
    for found, name in (("is no .yaml or .json file", "own.csv"), ("is not there", "cityscape")):
        with pytest.raises(InputError, match=f"{name} {found}: .* one of .*cityscapes"):
            read_labels(str(tmp_path / name))


def test_cityscapes_has_its_publishers_names_and_colours():
    labels, trained = read_labels("cityscapes"), read_labels("cityscapes_train_ids")
    assert [label.id for label in labels] == [*range(35)]
    assert (labels[26].name, labels[26].colour) == ("car", (0, 0, 142))
    assert (trained[13].name, trained[13].colour) == ("car", (0, 0, 142))
    assert [label.id for label in trained if label.id != IGNORED] == [*range(19)]


@pytest.mark.parametrize(
    ("name", "ids", "known"),
    [
        ("cityscapes", range(35), {7: ("road", (128, 64, 128)), 23: ("sky", (70, 130, 180))}),
        ("cityscapes_train_ids", range(19), {0: ("road", (128, 64, 128)), 18: ("bicycle", None)}),
        ("cmp_facades", range(1, 13), {2: ("facade", (0, 0, 255)), 12: ("shop", (170, 0, 0))}),
        (
            "ade20k",
            range(151),
            {
                1: ("wall", (120, 120, 120)),
                13: ("person", (150, 5, 61)),
                150: ("flag", (92, 0, 255)),
            },
        ),
        ("coco_stuff", range(182), {0: ("person", None), 148: ("road", None), 181: ("wood", None)}),
    ],
)
def test_ready_made_tables_say_what_their_publishers_do(name, ids, known):
    """Their files are held to the rules of all files by the reading itself."""
    assert name in ready_made()
    labels = read_labels(name)
    assert [label.id for label in labels if label.id != IGNORED] == [*ids]
    by_id = {label.id: label for label in labels}
    for label, (called, colour) in known.items():
        assert by_id[label].name == called
        assert colour is None or by_id[label].colour == colour


def test_labels_are_found_by_name_in_any_case_and_ignored_ones_are_not():
    assert find_label(OWN_LABELS, "House") == 1
    assert find_label(OWN_LABELS, "border") is None and find_label(OWN_LABELS, "roof") is None


def test_names_and_colours_of_what_is_named_and_what_is_not():
    assert [name_of(OWN_LABELS, id) for id in (0, 1, 2, 255)] == ["sky", "house", "2", "ignored"]
    colours = colours_of(OWN_LABELS)
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    assert colours[[0, 1]].tolist() == [[70, 130, 180], [200, 10, 20]]
    assert colours_of([])[IGNORED].tolist() == [0, 0, 0]
    unsure = Label(id=255, name="void", colour=(1, 2, 3))
    assert colours_of([unsure])[IGNORED].tolist() == [1, 2, 3]


def test_made_up_colours_are_told_apart_and_never_black():
    """By the largest difference of a channel: of the first ten, and of them all and the given."""
    for labels in ([], OWN_LABELS):
        colours = colours_of(labels)[:IGNORED].astype(int)
        apart = np.abs(colours[:, None] - colours).max(axis=-1) + 999 * np.eye(IGNORED, dtype=int)
        made_up = slice(len(labels) and 2, None)
        assert apart[:10, :10].min() >= 64 and apart[made_up].min() >= 16
        assert colours[made_up].max(axis=1).min() >= 64
        assert np.array_equal(colours, colours_of(labels)[:IGNORED])
