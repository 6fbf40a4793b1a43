"""The demo data: deterministic street scenes in Cityscapes' raw layout; the photo follows labels
and instances."""

import numpy as np
import pytest

from components.prepare.__main__ import main
from components.prepare.demo.scenes import generate
from components.prepare.demo.street import draw_scene
from components.prepare.layouts.sources import Naming, find_source
from shared.data.images import read_ids, read_picture
from shared.errors import InputError

THINGS = {24, 25, 26, 33}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "raw"
    generate(out, train=4, test=2, height=128, width=256, seed=0)
    return out


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


def test_the_layout_is_cityscapes(scenes):
    pairs = find_source(scenes, "auto", "AtoB", True, Naming()).pairs
    assert {split: len(found) for split, found in pairs.items()} == {"train": 4, "val": 2}
    for pair in pairs["train"] + pairs["val"]:
        assert read_picture(pair.photo).shape == (3, 128, 256)
        assert read_ids(pair.input).shape == read_ids(pair.instance).shape == (128, 256)


def test_a_seed_gives_the_same_scenes_and_another_seed_others(scenes, tmp_path):
    generate(tmp_path / "again", train=4, test=2, height=128, width=256, seed=0)
    generate(tmp_path / "other", train=4, test=2, height=128, width=256, seed=1)
    assert contents(tmp_path / "again") == contents(scenes)
    other = contents(tmp_path / "other")
    assert all(other[name] != content for name, content in contents(scenes).items())


def test_scenes_of_train_and_test_differ(scenes):
    photos = [path.read_bytes() for path in (scenes / "leftImg8bit").rglob("*.png")]
    assert len(set(photos)) == 6


def test_labels_and_instances_agree(scenes):
    highest, labels_seen = 0, set()
    for pair in sum(find_source(scenes, "auto", "AtoB", True, Naming()).pairs.values(), []):
        labels, instances = read_ids(pair.input), read_ids(pair.instance)
        is_thing = instances >= 1000
        assert np.array_equal(labels[is_thing], instances[is_thing] // 1000)
        assert np.array_equal(labels[~is_thing], instances[~is_thing])
        assert set(labels[is_thing]) <= THINGS
        assert not set(labels[~is_thing]) & THINGS
        highest = max(highest, instances.max())
        labels_seen |= set(labels.ravel().tolist())
    assert highest > 32767  # beyond a signed 16-bit number
    assert {7, 8, 11, 17, 20, 21, 23, 24, 26, 33} <= labels_seen <= set(range(35))


def test_every_car_has_its_own_colour():
    """Cars look alike in the label map; their paints spread far, while one car is mostly one
    colour."""
    means, scatter = [], []
    for seed in range(6):
        photo, labels, instances = draw_scene(128, 256, np.random.default_rng(seed))
        for car in np.unique(instances[labels == 26]):
            pixels = photo[:, instances == car].astype(float)  # (3, N)
            if pixels.shape[1] > 150:
                means.append(np.median(pixels, axis=1))
                scatter.append(np.median(np.abs(pixels.T - means[-1])))
    assert len(means) > 8
    assert np.std(means, axis=0).min() > 2 * np.median(scatter)


def test_stuff_has_one_look_per_scene_and_things_stand_out_from_the_road():
    photo, labels, _ = draw_scene(128, 256, np.random.default_rng(0))
    assert photo[:, labels == 7].std() < photo.std() / 1.5
    stuff = (7, 8, 11, 21, 23)
    looks = {tuple(np.median(photo[:, labels == label], axis=1)) for label in stuff}
    assert len(looks) == len(stuff)


def test_the_same_command_again_changes_nothing(scenes, capsys):
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob("*")}
    generate(scenes, train=4, test=2, height=128, width=256, seed=0)
    assert "already generated" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in scenes.rglob("*")} == before


def test_a_folder_with_other_data_is_refused_and_kept(scenes, tmp_path):
    with pytest.raises(InputError, match="--out .* is not empty and holds other data"):
        generate(scenes, train=4, test=2, height=128, width=256, seed=7)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="--out"):
        generate(tmp_path, train=1, test=1, height=64, width=128, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--train", "0"], "--train 0: should be greater than or equal to 1."),
        (["--test", "0"], "--test 0: should be greater than or equal to 1."),
        (["--seed", "-1"], "--seed -1: should be greater than or equal to 0."),
        (["--size", "wide"], "--size 'wide' is not HEIGHTxWIDTH: write for example 128x256."),
        (["--size", "8x8"], "--size 8x8 is too small for a street: give 32x32 or more."),
    ],
)
def test_bad_flags_are_refused_in_one_sentence(tmp_path, capsys, flags, sentence):
    with pytest.raises(SystemExit) as refused:
        main(["demo", "--out", str(tmp_path / "out"), *flags])
    assert refused.value.code == 2
    assert capsys.readouterr().err == f"demo refused: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_the_command_line_writes_the_scenes(tmp_path, capsys):
    main(["demo", "--out", str(tmp_path / "out"), *"--train 2 --test 1 --size 64x128".split()])
    assert "wrote 2 + 1 scenes of 64x128" in capsys.readouterr().out
    assert len(contents(tmp_path / "out")) == 9
