"""prepare --test-only: maps without photos, and folders without anything to train on."""

import numpy as np
import pytest

from components.export.__main__ import main as export
from components.prepare.__main__ import main
from components.train.__main__ import main as train
from shared.contracts.dataset import DatasetManifest
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.prepare.files import noise, save

OPTIONS = dict(num_labels=3, instances="none", size="keep")


def write(folder, count=3):
    for number in range(count):
        save(folder / f"{number}.png", noise(number, 16, 24, high=3))


def prepare(raw, *flags) -> DatasetManifest:
    dataset = raw.parent / "dataset"
    main([*as_flags(raw_data=raw, dataset=dataset, **OPTIONS), "--test-only", *flags])
    return DatasetManifest.read(dataset)


def refused(capsys, raw, *flags) -> str:
    places = as_flags(raw_data=raw, dataset=raw.parent / "dataset", **OPTIONS)
    return refusal_of_command(capsys, main, *places, *flags)


@pytest.mark.parametrize(
    ("folder", "flags"),
    [
        ("labels", []),
        ("test_label", []),
        ("test/labels", []),
        ("labels/train", []),
        (".", ["--input-folder", "."]),
        ("my maps", ["--input-folder", "my maps"]),
    ],
)
def test_maps_without_photos(tmp_path, folder, flags):
    write(tmp_path / "raw" / folder)
    manifest = prepare(tmp_path / "raw", *flags)
    assert manifest.train == []
    assert [(pair.name, pair.has_photo) for pair in manifest.test] == [
        (str(number), False) for number in range(3)
    ]


def test_of_several_splits_the_usual_one_is_taken(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / "raw" / f"{split}_label", count=1 + (split == "train"))
    assert len(prepare(tmp_path / "raw").test) == 1
    assert len(DatasetManifest.read(tmp_path / "dataset").train) == 0


def test_what_has_nothing_to_train_on_names_the_flag(tmp_path, capsys):
    write(tmp_path / "raw" / "test_label")
    sentence = refused(capsys, tmp_path / "raw")
    assert "has no split train (found test): name one with --train-splits, or say --test-only" in (
        sentence
    )
    for number in range(3):
        save(tmp_path / "own" / "labels" / f"{number}.png", noise(number, 16, 24, high=3))
        save(tmp_path / "own" / "images" / "other" / f"{number}.png", noise(number, 16, 24, 3))
    # Their photos belong to other maps: without them the same maps have none.
    (tmp_path / "own" / "images").rename(tmp_path / "elsewhere")
    sentence = refused(capsys, tmp_path / "own", "--test-fraction", "0.3")
    assert "has no known layout" in sentence


def test_flags_that_contradict_it(tmp_path, capsys):
    write(tmp_path / "raw" / "labels")
    assert refused(capsys, tmp_path / "raw", "--test-only", "--test-fraction", "0.5") == (
        "--test-only leaves nothing for training: leave --test-fraction out."
    )
    write(tmp_path / "loose")
    sentence = refused(capsys, tmp_path / "loose", "--test-only")
    assert (
        "holds pictures in the folder itself: with --test-only say --input-folder '.' " in sentence
    )


def test_what_takes_it_and_what_does_not(tmp_path, capsys):
    """It is painted and an export is proven on it; there is nothing to train on."""
    write(tmp_path / "raw" / "labels")
    manifest = prepare(tmp_path / "raw")
    a = tiny.architecture(num_labels=3, use_instances=False)
    tiny.model(tmp_path / "model", a, labels=manifest.labels, raw=manifest.raw)
    places = dict(model=tmp_path / "model", dataset=tmp_path / "dataset")
    export(["synthesise", *as_flags(**places, out=tmp_path / "out")])
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "0.png",
        "1.png",
        "2.png",
    ]
    export(as_flags(**places, exported=tmp_path / "exported"))
    assert (tmp_path / "exported" / "export.json").is_file()
    options = tiny.TRAIN | dict(epochs=1, epochs_decay=0, device="cpu", lambda_vgg=0)
    places = as_flags(dataset=tmp_path / "dataset", model=tmp_path / "trained")
    assert refusal_of_command(capsys, train, *places, *as_flags(**options)) == (
        "--dataset has no training pairs, as prepare --test-only makes it: give one with some."
    )


def test_pairs_are_measured_with_their_photos(tmp_path):
    write(tmp_path / "raw" / "labels")
    for number in range(2):
        save(tmp_path / "raw" / "images" / f"{number}.png", noise(number, 16, 24, 3))
    manifest = prepare(tmp_path / "raw")
    assert [pair.has_photo for pair in manifest.test] == [True, True, False]
    np.testing.assert_equal(manifest.common_size(), (16, 24))
