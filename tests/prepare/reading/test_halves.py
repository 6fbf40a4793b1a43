"""Whether pictures in one folder are halves side by side is asked of their pixels, where the layout
was guessed."""

import numpy as np
import pytest
from PIL import Image

from components.prepare.__main__ import main
from components.prepare.layouts.pairing import RawPair
from components.prepare.reading.halves import doubt_halves
from tests.asking import refusal_of_command
from tests.prepare.files import noise, save

SIZE = 96  # of a half


def scene(seed, width=SIZE):
    """(H, W, 3) of soft blobs, as photographs are."""
    blobs = Image.fromarray(noise(seed, 9, 9 * width // SIZE, 3))
    return np.asarray(blobs.resize((width, SIZE), Image.BICUBIC))


def pairs_of(folder, pictures):
    for number, picture in enumerate(pictures):
        save(folder / f"{number}.png", picture)
    paths = [str(folder / f"{number}.png") for number in range(len(pictures))]
    return [RawPair(path, path, path, None) for path in paths]


def beside(*halves):
    return np.concatenate(halves, axis=1)


def test_single_pictures_are_doubted(tmp_path):
    wide = [scene(number, 2 * SIZE) for number in range(5)]
    [problem] = doubt_halves(pairs_of(tmp_path, wide))
    assert (problem.kind, problem.file) == ("doubtful layout", str(tmp_path / "0.png"))
    # A panorama of 3 to 2 as well.
    assert len(doubt_halves(pairs_of(tmp_path / "3 to 2", [one[:, :144] for one in wide]))) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda photo: photo // 64 * 64,  # a map of levels
        lambda photo: 255 - photo,
        lambda photo: np.repeat(photo.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2),
    ],
    ids=["map", "negative", "grey"],
)
def test_halves_of_one_scene_are_not(tmp_path, other):
    photos = [scene(number) for number in range(5)]
    assert doubt_halves(pairs_of(tmp_path, [beside(other(photo), photo) for photo in photos])) == []


def test_outlines_beside_things_on_white_are_not(tmp_path):
    """Nothing shows where one ends and the other begins, as with edges2shoes."""
    pictures = []
    for number in range(5):
        thing, outline = np.full((2, SIZE, SIZE), 255, np.uint8)
        top, left = 10 + 5 * number, 40 - 5 * number
        thing[top : top + 40, left : left + 30] = 90
        outline[top : top + 40, left : left + 30] = 0
        outline[top + 2 : top + 38, left + 2 : left + 28] = 255
        pictures.append(beside(outline, thing))
    assert doubt_halves(pairs_of(tmp_path, pictures)) == []


def test_of_tiny_and_broken_ones_nothing_is_said(tmp_path):
    tiny = [one[:16, :32] for one in (scene(0, 2 * SIZE), scene(1, 2 * SIZE))]
    assert doubt_halves(pairs_of(tmp_path, tiny)) == []
    (tmp_path / "0.png").write_bytes(b"no picture")
    assert doubt_halves(pairs_of(tmp_path, [])) == []
    assert doubt_halves([RawPair("0", str(tmp_path / "0.png"), None, None)]) == []


def test_prepare_asks_before_it_cuts_what_nobody_called_halves(tmp_path, capsys):
    for split in ("train", "val"):
        pairs_of(tmp_path / "raw" / split, [scene(number, 2 * SIZE) for number in range(2)])
    flags = ["--raw-data", tmp_path / "raw", "--num-labels", "0", "--instances", "none"]
    sentence = refusal_of_command(capsys, main, *flags, "--dataset", tmp_path / "dataset")
    assert f"{tmp_path}/raw/train/0.png looks like one picture, not like an input and" in sentence
    assert "say --layout side_by_side if each is a pair of halves" in sentence
    main([*map(str, flags), "--layout", "side_by_side", "--dataset", str(tmp_path / "dataset")])
    assert (tmp_path / "dataset" / "manifest.json").exists()
