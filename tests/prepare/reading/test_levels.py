"""Pictures that are all dark over a data set: refused with what they look like, by `--check` and by
`prepare` alike, until a white level is said."""

import zipfile

import numpy as np
import pytest

from components.prepare.check import check
from components.prepare.config import PrepareConfig
from components.prepare.run import run
from shared.contracts.dataset import DatasetManifest
from tests.asking import refusal
from tests.pictures import png
from tests.prepare.files import load, noise, save

PICTURES = dict(size="keep", num_labels=0, instances="none")


def raw_data(folder, photos, inputs=None):
    """Pairs of pictures, the last one for testing."""
    for number, photo in enumerate(photos):
        split = "train" if number < len(photos) - 1 else "test"
        save(folder / f"{split}_B" / f"{number}.png", photo)
        input = inputs[number] if inputs else noise(number, 6, 8, 3)
        save(folder / f"{split}_A" / f"{number}.png", input)
    return folder


def with_highest(highest, dtype=np.uint16):
    """A photo of up to that number, which is there."""
    photo = noise(highest, 6, 8, high=highest + 1, dtype=dtype)
    photo[0, 0] = highest
    return photo


@pytest.mark.parametrize(
    ("highest", "white_level"),
    [(4095, 4095), (4080, 4095), (1023, 1023), (200, 255), (9000, 16383), (16383, 16383)],
)
def test_the_white_level_of_a_camera_is_named(tmp_path, highest, white_level):
    raw = raw_data(tmp_path / "raw", [with_highest(level) for level in (70, highest, 80)])
    sentence = refusal(run, str(raw), tmp_path / "dataset", PrepareConfig(**PICTURES))
    assert f"{raw}/train_B/1.png has {highest} as its highest number, of 65535, and " in sentence
    assert f": say --white-level {white_level} if that is white; --white-level 65535" in sentence
    assert not (tmp_path / "dataset").exists()
    assert [problem.kind for problem in check(str(raw), PrepareConfig(**PICTURES))] == [
        "dark pictures"
    ]

    config = PrepareConfig(**PICTURES, white_level=white_level)
    assert check(str(raw), config) == []
    run(str(raw), tmp_path / "dataset", config)
    found = load(tmp_path / "dataset" / "train_B" / "1.png")[:, :, 0].astype(int)
    stored = load(raw / "train_B" / "1.png").astype(int)
    assert np.abs(found - stored * 255 / white_level).max() <= 0.5
    assert DatasetManifest.read(tmp_path / "dataset").raw.white_level == white_level


def test_dark_pictures_are_taken_as_they_are_where_that_is_said(tmp_path):
    raw = raw_data(tmp_path / "raw", [with_highest(level) for level in (70, 4095, 80)])
    run(str(raw), tmp_path / "dataset", PrepareConfig(**PICTURES, white_level=65535))
    assert load(tmp_path / "dataset" / "train_B" / "1.png").max() == round(4095 / 257)


@pytest.mark.parametrize("role", ["photos", "input pictures"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_ids_as_pictures_are_named(tmp_path, role, dtype):
    ids = [with_highest(level, dtype) for level in (3, 13, 7)]
    photos = [noise(number, 6, 8, 3) for number in range(3)]
    raw = raw_data(tmp_path / "raw", *((ids, photos) if role == "photos" else (photos, ids)))
    sentence = refusal(run, str(raw), tmp_path / "dataset", PrepareConfig(**PICTURES))
    assert f"no other of 3 {role} a higher one, which looks like label ids: give {role}" in sentence
    run(str(raw), tmp_path / "dataset", PrepareConfig(**PICTURES, white_level=65535))


def test_one_bright_picture_shows_that_the_others_are_dark(tmp_path):
    raw = raw_data(tmp_path / "raw", [with_highest(level) for level in (70, 80, 16384)])
    assert check(str(raw), PrepareConfig(**PICTURES)) == []
    run(str(raw), tmp_path / "dataset", PrepareConfig(**PICTURES))


def test_a_huge_picture_that_takes_no_bytes_is_read_of_ones_own_folder_alone(tmp_path):
    """Of an archive it is a bomb. Of a folder it is tried: here it ends early."""
    raw = raw_data(tmp_path / "raw", [noise(number, 6, 8, 3) for number in range(3)])
    (raw / "train_B" / "1.png").write_bytes(png(noise(0, 6, 8), size=(13500, 13500)))
    (raw / "train_A" / "1.png").write_bytes(png(noise(0, 6, 8), size=(13500, 13500)))
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in sorted(raw.rglob("*.png")):
            archive.write(path, path.relative_to(raw))
    config = PrepareConfig(**PICTURES, copies=str(tmp_path / "copies"))
    sentence = refusal(run, str(tmp_path / "raw.zip"), tmp_path / "dataset", config)
    assert "1.png is 13500x13500 in " in sentence and ", as decompression bombs are" in sentence
    assert "cannot be read as an image (" in refusal(run, str(raw), tmp_path / "dataset", config)
