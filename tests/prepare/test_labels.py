"""How many labels a data set has, what they are called, and their colours, by the command line."""

import json
import re

import numpy as np
import pytest

from components.prepare.__main__ import main
from components.prepare.checks import preflight
from components.prepare.config import PrepareConfig
from shared.contracts.dataset import DatasetManifest
from tests.asking import as_flags, refusal_of_command
from tests.prepare.files import noise, save

OWN = """
- {id: 0, name: sky, colour: [70, 130, 180]}
- {id: 1, name: wall, colour: '#aa5500'}
- {id: 2, name: door, colour: [200, 0, 0]}
- {id: 3, name: window, colour: [0, 200, 200]}
"""


def folders(raw, *ids):
    """Two pairs for training and one for testing in masks/ and images/; the last has these ids, the
    others the first of them alone."""
    pairs = ("train", "a", ids[:1]), ("train", "b", ids[:1]), ("val", "c", ids)
    for split, name, values in pairs:
        stripes = np.resize(np.repeat(np.array(values, np.uint8), 2), 16)
        save(raw / "masks" / split / f"{name}.png", np.tile(stripes, (8, 1)))
        save(raw / "images" / split / f"{name}.png", noise(ord(name), 8, 16, 3))
    return raw


def words(raw, **options):
    common = dict(raw_data=raw, dataset=raw.parent / "dataset", size="keep", instances="none")
    return as_flags(**common | options)


def prepare(raw, **options):
    """The manifest that the command leaves."""
    main(words(raw, **options))
    return DatasetManifest.read(options.get("dataset", raw.parent / "dataset"))


def refused(capsys, raw, **options):
    sentence = refusal_of_command(capsys, main, *words(raw, **options))
    assert not (raw.parent / "dataset").exists()
    return sentence


def test_without_a_word_the_highest_id_of_all_maps_tells_the_number(tmp_path, capsys):
    manifest = prepare(folders(tmp_path / "raw", 1, 0, 5))
    assert (manifest.num_labels, manifest.labels) == (6, [])
    said = "prepare: 6 labels by the highest id of the maps, of which 3 occur\n"
    assert said in capsys.readouterr().out


def test_255_beside_ids_that_follow_each_other_means_no_label_and_that_is_said(tmp_path, capsys):
    manifest = prepare(folders(tmp_path / "raw", 0, 1, 2, 255))
    assert manifest.num_labels == 3
    assert "3 labels by the highest id of the maps; 255 means no label\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ids", "found", "table"),
    [
        ((0, 255), "0, 255 alone", {"255": 1}),
        ((255,), "255 alone", {"255": 0}),
        ((0, 128, 255), "0, 128, 255", {"128": 1, "255": 2}),
    ],
)
def test_levels_of_grey_are_refused_until_255_is_explained(tmp_path, capsys, ids, found, table):
    raw = folders(tmp_path / "raw", *ids)
    sentence = refused(capsys, raw)
    assert sentence.startswith(f"--raw-data: {raw} has label maps of the ids {found}: say --remap ")
    assert json.dumps(table) in sentence and "--ignore-labels 255 where" in sentence
    with pytest.raises(SystemExit) as stop:
        main(["--check", *as_flags(raw_data=raw, instances="none")])
    assert stop.value.code == 2
    assert f"{raw} has label maps of the ids {found}" in capsys.readouterr().out

    # What the sentence says to do helps, one and the other.
    (tmp_path / "table.json").write_text(json.dumps(table))
    assert prepare(raw, remap=tmp_path / "table.json").num_labels == len(ids)
    ignored = prepare(raw, ignore_labels=255, dataset=tmp_path / "other")
    assert ignored.num_labels == max((*ids[:-1], 0)) + 1


def test_a_labels_file_tells_names_colours_and_the_number(tmp_path, capsys):
    raw, file = folders(tmp_path / "raw", 0, 1, 2), tmp_path / "own.yaml"
    file.write_text(OWN)
    manifest = prepare(raw, labels=file)
    assert manifest.num_labels == 4
    found = [(label.id, label.name, label.colour) for label in manifest.labels]
    assert found == [
        (0, "sky", (70, 130, 180)),
        (1, "wall", (170, 85, 0)),
        (2, "door", (200, 0, 0)),
        (3, "window", (0, 200, 200)),
    ]

    # --check calls them by these names.
    with pytest.raises(SystemExit) as stop:
        main(["--check", *as_flags(raw_data=raw, instances="none", labels=file)])
    assert stop.value.code == 0
    table = capsys.readouterr().out
    assert re.search(r"^ +label +pixels +images  name$", table, re.MULTILINE)
    assert re.search(r"^ +1 +[0-9.]+% +1  wall$", table, re.MULTILINE)

    # Found again, as long as the file says the same.
    prepare(raw, labels=file)
    assert "already prepared" in capsys.readouterr().out
    file.write_text(OWN.replace("door", "gate"))
    sentence = refusal_of_command(capsys, main, *words(raw, labels=file))
    assert "was prepared with other --labels" in sentence


def test_more_labels_than_names_are_fine_and_fewer_are_refused(tmp_path, capsys):
    raw, file = folders(tmp_path / "raw", 0, 1, 2), tmp_path / "own.yaml"
    file.write_text(OWN)
    sentence = refused(capsys, raw, labels=file, num_labels=3)
    assert sentence == (
        f"--labels {file} names label 3 but --num-labels is 3: give --num-labels 4, or a file of "
        "fewer labels."
    )
    assert "--num-labels is 0: leave it out" in refused(capsys, raw, labels=file, num_labels=0)
    assert "entry 1 is 'sky'" in refused(capsys, raw, labels=_write(tmp_path / "x.yaml", "- sky"))
    assert prepare(raw, labels=file, num_labels=7).num_labels == 7


def test_ids_that_no_label_names_are_refused_and_255_where_it_is_none(tmp_path, capsys):
    raw, file = folders(tmp_path / "raw", 0, 1, 255), tmp_path / "own.yaml"
    file.write_text(OWN)
    assert "ids without label: 255 (" in refused(capsys, raw, labels=file)
    file.write_text(OWN + "- {id: 255, name: unsure, colour: [0, 0, 0]}")
    assert prepare(raw, labels=file).num_labels == 4


def test_a_table_tells_the_number_and_where_ids_stay_the_maps_do(tmp_path):
    raw = folders(tmp_path / "raw", 7, 8, 26, 0)
    trained = prepare(raw, remap="cityscapes_train_ids")
    assert trained.num_labels == 19
    car = next(label for label in trained.labels if label.name == "car")
    assert (car.id, car.colour) == (13, (0, 0, 142))

    table = _write(tmp_path / "all.json", '{"7": 0, "8": 4, "others": 255}')
    assert prepare(raw, remap=table, dataset=tmp_path / "all").num_labels == 5
    table = _write(tmp_path / "some.json", '{"26": 3}')
    assert prepare(raw, remap=table, dataset=tmp_path / "some").num_labels == 9


def test_cityscapes_and_its_default_folders_have_35_labels_and_only_the_former_names(tmp_path):
    cityscapes, flat = tmp_path / "cityscapes", tmp_path / "flat"
    for split, city in (("train", "ulm"), ("val", "bonn")):
        stem = f"{city}_000000_000000"
        labels, photo = np.full((8, 16), 26, np.uint8), noise(ord(city[0]), 8, 16, 3)
        save(cityscapes / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", labels)
        save(cityscapes / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", photo)
        save(flat / f"{split}_label" / f"{stem}.png", labels)
        save(flat / f"{split}_img" / f"{stem}.png", photo)
    named, bare = prepare(cityscapes), prepare(flat, dataset=tmp_path / "bare")
    assert (named.num_labels, bare.num_labels) == (35, 35)
    assert named.labels[26].name == "car" and bare.labels == []


def test_the_preflight_knows_the_number_where_no_pixel_has_to_be_read(tmp_path):
    raw, file = folders(tmp_path / "raw", 0, 1, 2), tmp_path / "own.yaml"
    file.write_text(OWN)
    unknown = "how many labels there are, which the maps tell"
    for options, number in (({}, None), ({"labels": str(file)}, 4), ({"num_labels": 9}, 9)):
        config = PrepareConfig.check({"instances": "none"} | options)
        forecast = preflight(str(raw), tmp_path / "dataset", config)
        assert forecast.refusals == []
        assert forecast.gives.knows_num_labels == (number is not None)
        assert forecast.unknown == ([] if number else [unknown])
        if number:
            assert forecast.gives.manifest.num_labels == number
    config = PrepareConfig.check({"labels": str(tmp_path / "nix.yaml")})
    assert "nix.yaml is not there" in preflight(str(raw), tmp_path / "d", config).refusals[0]
    assert preflight(str(raw), tmp_path / "d", config, here=False).refusals == []


def _write(path, text):
    path.write_text(text)
    return path
