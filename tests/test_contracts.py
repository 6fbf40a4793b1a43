"""Folders read back what was written, and say what is wrong with one that does not fit."""

import json
import os

import pytest

from shared.contracts import DatasetManifest, digest_files, parse_size, write_atomically
from shared.errors import InputError
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
        ({"height": None}, ["height", "field required"]),
        ({"colour": "blue"}, ["colour", "extra inputs are not permitted"]),
        ({"format": 2}, ["format", "should be 1"]),
        ({"width": "wide"}, ["width", "valid integer"]),
    ],
)
def test_read_names_missing_unknown_and_wrong_fields(tmp_path, changes, words):
    tiny.dataset(tmp_path, train=1, test=1)
    change(tmp_path, **changes)
    with pytest.raises(InputError) as refusal:
        DatasetManifest.read(tmp_path)
    for word in [*words, str(tmp_path), "make it again with `python -m components.prepare`"]:
        assert word in str(refusal.value)


def test_a_folder_of_something_else_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"--dataset .* holds no manifest.json: give the folder that"):
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
