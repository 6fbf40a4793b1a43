"""Folders read back what was written, and say what is wrong with one that does not fit."""

import json
import os
from dataclasses import asdict

import pytest

from shared.contracts.dataset import DatasetManifest, Pair, parse_size
from shared.contracts.model import ModelCard, describe_input
from shared.errors import InputError
from shared.files.digests import digest_files
from shared.files.writing import write_atomically
from tests import tiny


def test_write_then_read_is_identity(tmp_path):
    manifest = tiny.dataset(tmp_path, train=2, test=1)
    assert DatasetManifest.read(tmp_path) == manifest
    assert not list(tmp_path.glob("*.partial"))


def change(folder, **changes):
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"input_nc": None}, ["input_nc", "field required"]),
        ({"colour": "blue"}, ["colour", "extra inputs are not permitted"]),
        ({"format": 1}, ["format", "should be 2"]),
        ({"num_labels": "many"}, ["num_labels", "valid integer"]),
    ],
)
def test_read_names_missing_unknown_and_wrong_fields(tmp_path, changes, words):
    tiny.dataset(tmp_path, train=1, test=1)
    change(tmp_path, **changes)
    with pytest.raises(InputError) as refusal:
        DatasetManifest.read(tmp_path)
    for word in [*words, str(tmp_path), "make it again with `python -m components.prepare`"]:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"width": None}, ["train.1.width", "field required"]),
        ({"colour": "blue"}, ["train.1.colour", "unexpected keyword argument"]),
        ({"num_instances": "many"}, ["train.1.num_instances", "valid integer"]),
    ],
)
def test_so_does_a_pair(tmp_path, changes, words):
    manifest = tiny.dataset(tmp_path, train=2, test=1)
    first, second = map(asdict, manifest.train)
    second = {key: value for key, value in (second | changes).items() if value is not None}
    change(tmp_path, train=[first, second])
    with pytest.raises(InputError) as refusal:
        DatasetManifest.read(tmp_path)
    assert all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        (dict(num_labels=35), ["test_img/a.png", "test_label/a.png", "test_inst/a.png"]),
        (
            dict(num_labels=35, instance_suffix=".tif"),
            ["test_img/a.png", "test_label/a.png", "test_inst/a.tif"],
        ),
        (dict(input_nc=1), ["test_B/a.png", "test_A/a.png", "test_inst/a.png"]),
        (dict(input_nc=4), ["test_B/a.png", "test_A/a.png", "test_inst/a.png"]),
        (dict(input_nc=5), ["test_B/a.png", "test_A/a.npy", "test_inst/a.png"]),
    ],
)
def test_files_lie_where_the_references_look_for_them(tmp_path, fields, files):
    values = dict(num_labels=0, input_nc=0, has_instances=True, instance_suffix=".png") | fields
    about = dict(train=[], test=[], source="", source_digest="", config={}, digest="")
    manifest = DatasetManifest(**values, **about)
    kinds = ("photo", "input", "instance")
    found = [manifest.path(tmp_path, "test", kind, "a") for kind in kinds]
    assert found == [tmp_path / file for file in files]


def test_the_common_size_is_that_of_most_training_pairs(tmp_path):
    manifest = tiny.dataset(tmp_path, train=0, test=0)
    sizes = [(8, 9), (7, 5), (7, 5), (5, 7)]
    pairs = [Pair(str(i), *size, True, 0) for i, size in enumerate(sizes)]
    manifest = manifest.model_copy(update={"train": pairs, "test": [pairs[0]] * 9})
    assert manifest.common_size() == (7, 5)


def test_names_and_channels_of_an_input():
    labels = tiny.architecture()
    assert (labels.input_name, labels.condition_channels) == ("labels", 36)
    assert describe_input(labels) == "maps of 35 labels"
    picture = tiny.architecture(num_labels=0, input_nc=5, use_instances=False)
    assert (picture.input_name, picture.condition_channels) == ("image", 5)
    assert describe_input(picture) == "pictures of 5 channels"


def test_a_folder_of_something_else_is_one_sentence(tmp_path):
    with pytest.raises(
        InputError, match="--dataset .* holds no manifest.json: give the folder that"
    ):
        DatasetManifest.read(tmp_path)


def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_digest_depends_on_names_contents_and_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    first = digest_files([a, b])
    assert first == digest_files([a, b]) and first != digest_files([b, a])
    b.write_bytes(b"3")
    assert first != digest_files([a, b])


def test_size_is_height_then_width():
    assert parse_size("128x256") == (128, 256)
    for text in ("128", "x", "128x", "128x-1", "0x5", "1e2x5", "128x256x3"):
        with pytest.raises(InputError, match="is not HEIGHTxWIDTH"):
            parse_size(text)


@pytest.mark.parametrize("content", ["[]", "5", '{"config": null}', '{"config": 5}', "{"])
def test_a_file_that_holds_no_card_is_refused_too(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(InputError, match="model.json does not fit this version: "):
        ModelCard.read(tmp_path)


@pytest.mark.parametrize(("size", "wanted"), [("16x32", (16, 32)), ("", None)])
def test_a_card_written_before_it_knew_the_size_of_its_frames_tells_it_by_its_config(
    tmp_path, size, wanted
):
    card = tiny.model(tmp_path, tiny.architecture(), height=16, width=32, config={"size": size})
    written = card.model_dump()
    del written["one_size"]
    (tmp_path / "model.json").write_text(json.dumps(written))
    assert ModelCard.read(tmp_path).frame_size == wanted
