"""The prepare step: Cityscapes' raw layout -> a checked data set, or one sentence that says why not."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.prepare.config import PrepareConfig
from components.prepare.run import run
from shared.contracts import DatasetManifest
from shared.errors import InputError
from shared.images import read_ids, read_photo, write_ids, write_photo
from shared.step import execute, main

ROOT = Path(__file__).parent.parent
EXCERPT = ROOT.parent / "shared" / "data" / "cityscapes_samples"

HEIGHT, WIDTH = 64, 128  # of the raw images
SMALL = PrepareConfig(size="32x64")


def photo_path(raw, split, name):
    return raw / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png"


def label_path(raw, split, name):
    return raw / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_labelIds.png"


def instance_path(raw, split, name):
    return raw / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_instanceIds.png"


def add_pair(raw, split, name, number, photo=True):
    """A pair whose files all say `number`: grey level of the photo, label id, and instance id 33000 + number."""
    if photo:
        write_photo(photo_path(raw, split, name), np.full((HEIGHT, WIDTH, 3), number, np.uint8))
    write_ids(label_path(raw, split, name), np.full((HEIGHT, WIDTH), number))
    write_ids(instance_path(raw, split, name), np.full((HEIGHT, WIDTH), 33000 + number))


@pytest.fixture
def raw(tmp_path):
    """Three train pairs in two cities, two val pairs of which one has no photo."""
    raw = tmp_path / "raw"
    add_pair(raw, "train", "ulm_000000_000019", 1)
    add_pair(raw, "train", "aachen_000001_000019", 2)
    add_pair(raw, "train", "aachen_000000_000019", 3)
    add_pair(raw, "val", "lindau_000000_000019", 4)
    add_pair(raw, "val", "lindau_000001_000019", 5, photo=False)
    return raw


def refusal(raw, dataset, **values):
    """The sentence of a refusal; nothing may be left behind by it."""
    before = sorted(dataset.parent.rglob("*"))
    with pytest.raises(InputError) as refused:
        run(raw, dataset, PrepareConfig.check({"size": "32x64", **values}))
    assert sorted(dataset.parent.rglob("*")) == before
    sentence = str(refused.value)
    assert "\n" not in sentence and sentence.endswith(".") and ". " not in sentence
    return sentence


# --- what it writes


def test_pairs_go_by_name_into_the_flat_layout(raw, tmp_path):
    figures = run(raw, tmp_path / "dataset", SMALL)

    assert figures.pop("images_per_second") > 0
    assert figures == {"train_pairs": 3, "test_pairs": 2, "test_photos": 1}
    numbers = {
        "train": {"aachen_000000_000019": 3, "aachen_000001_000019": 2, "ulm_000000_000019": 1},
        "test": {"lindau_000000_000019": 4, "lindau_000001_000019": 5},
    }
    for split, names in numbers.items():
        for name, number in names.items():
            label = read_ids(tmp_path / "dataset" / f"{split}_label" / f"{name}.png")
            instance = read_ids(tmp_path / "dataset" / f"{split}_inst" / f"{name}.png")
            assert label.shape == instance.shape == (32, 64)
            assert (label == number).all() and (instance == 33000 + number).all()
            photo = tmp_path / "dataset" / f"{split}_img" / f"{name}.png"
            if name == "lindau_000001_000019":
                assert not photo.exists()
            else:
                assert read_photo(photo).shape == (32, 64, 3) and (read_photo(photo) == number).all()
    assert len(list((tmp_path / "dataset").rglob("*.png"))) == 3 * 3 + 3 + 2


def test_the_manifest_says_what_is_there(raw, tmp_path):
    run(raw, tmp_path / "dataset", SMALL)
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    assert len(manifest.pop("digest")) == 16
    assert manifest == {
        "format": 1,
        "height": 32,
        "width": 64,
        "num_labels": 35,
        "has_instances": True,
        "train": [
            {"name": "aachen_000000_000019", "has_photo": True},
            {"name": "aachen_000001_000019", "has_photo": True},
            {"name": "ulm_000000_000019", "has_photo": True},
        ],
        "test": [
            {"name": "lindau_000000_000019", "has_photo": True},
            {"name": "lindau_000001_000019", "has_photo": False},
        ],
        "source": str(raw),
    }


def test_a_map_keeps_its_ids_and_the_photo_is_averaged(raw, tmp_path):
    """A board of 2x2 squares halved: nearest takes every second pixel, so ids are never mixed."""
    name = "ulm_000000_000019"
    board = np.add.outer(np.arange(HEIGHT) // 2, np.arange(WIDTH) // 2) % 2  # (H, W)
    write_ids(label_path(raw, "train", name), np.where(board, 33, 7))
    write_ids(instance_path(raw, "train", name), np.where(board, 33001, 7))
    write_photo(photo_path(raw, "train", name), np.repeat(np.uint8(255 * board)[:, :, None], 3, axis=2))
    run(raw, tmp_path / "dataset", SMALL)

    halved = np.add.outer(np.arange(32), np.arange(64)) % 2
    assert np.array_equal(read_ids(tmp_path / "dataset/train_label" / f"{name}.png"), np.where(halved, 33, 7))
    assert np.array_equal(read_ids(tmp_path / "dataset/train_inst" / f"{name}.png"), np.where(halved, 33001, 7))
    with Image.open(photo_path(raw, "train", name)) as image:
        expected = image.resize((64, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(read_photo(tmp_path / "dataset/train_img" / f"{name}.png"), np.asarray(expected))


def test_the_digest_depends_on_the_images_alone(raw, tmp_path):
    def digest(dataset, config=SMALL):
        run(raw, tmp_path / dataset, config)
        return DatasetManifest.read(tmp_path / dataset).digest

    first = digest("first")
    assert digest("second") == first
    assert digest("larger", PrepareConfig(size="64x64")) != first
    add_pair(raw, "train", "ulm_000000_000019", 30)
    assert digest("other") != first


def test_max_images_counts_per_split_and_by_name(raw, tmp_path):
    figures = run(raw, tmp_path / "dataset", PrepareConfig(size="32x64", max_images=1))
    assert (figures["train_pairs"], figures["test_pairs"]) == (1, 1)
    assert [pair.name for pair in DatasetManifest.read(tmp_path / "dataset").train] == ["aachen_000000_000019"]


def test_without_instances_no_instance_map_is_needed(raw, tmp_path):
    for path in raw.rglob("*instanceIds.png"):
        path.unlink()
    run(raw, tmp_path / "dataset", PrepareConfig(size="32x64", use_instances=False))
    assert not DatasetManifest.read(tmp_path / "dataset").has_instances
    assert {path.name for path in (tmp_path / "dataset").iterdir()} == {
        "train_img", "train_label", "test_img", "test_label", "manifest.json",
    }  # fmt: skip


def test_cityscapes_own_test_split_and_foreign_files_are_left_alone(raw, tmp_path):
    add_pair(raw, "test", "berlin_000000_000019", 9)
    label_path(raw, "train", "ulm_000000_000019").with_name("ulm_000000_000019_gtFine_color.png").write_text("unused")
    photo_path(raw, "train", "ulm_000000_000019").with_name("._ulm_000000_000019_leftImg8bit.png").write_text("macOS")
    figures = run(raw, tmp_path / "dataset", SMALL)
    assert (figures["train_pairs"], figures["test_pairs"]) == (3, 2)


# --- the same command again


def test_the_same_command_again_does_nothing(raw, tmp_path, capsys):
    run(raw, tmp_path / "dataset", SMALL)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").rglob("*")}
    capsys.readouterr()
    figures = run(raw, tmp_path / "dataset", SMALL)
    assert figures == {"train_pairs": 3, "test_pairs": 2, "test_photos": 1}
    assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset").rglob("*")} == before


def test_an_empty_output_folder_and_the_rest_of_a_killed_run_are_taken_over(raw, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / ".dataset.partial" / "train_img").mkdir(parents=True)
    (tmp_path / ".dataset.partial" / "train_img" / "half.png").write_text("half")
    run(raw, tmp_path / "dataset", SMALL)
    assert not list((tmp_path / "dataset").rglob("half.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "raw"]


def test_a_data_set_made_otherwise_is_refused(raw, tmp_path):
    run(raw, tmp_path / "dataset", SMALL)
    assert "--dataset" in refusal(raw, tmp_path / "dataset", size="64x64", num_labels=40)
    assert "was prepared with other height, num_labels" in refusal(
        raw, tmp_path / "dataset", size="64x64", num_labels=40
    )
    assert "was prepared with other train, test" in refusal(raw, tmp_path / "dataset", max_images=1)


def test_a_data_set_older_than_its_source_is_refused(raw, tmp_path):
    run(raw, tmp_path / "dataset", SMALL)
    add_pair(raw, "train", "ulm_000000_000019", 30)
    os.utime(label_path(raw, "train", "ulm_000000_000019"), (0, 0))  # as an archive would set it
    assert "is older than" in refusal(raw, tmp_path / "dataset")


def test_a_damaged_data_set_is_refused(raw, tmp_path):
    run(raw, tmp_path / "dataset", SMALL)
    write_ids(tmp_path / "dataset/train_label/ulm_000000_000019.png", np.zeros((32, 64), int))
    assert "was changed after it was prepared" in refusal(raw, tmp_path / "dataset")
    (tmp_path / "dataset/train_label/ulm_000000_000019.png").unlink()
    assert "was changed after it was prepared" in refusal(raw, tmp_path / "dataset")


def test_a_folder_with_other_files_is_refused_and_kept(raw, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "thesis.txt").write_text("mine")
    assert "is not empty and holds no data set" in refusal(raw, tmp_path / "dataset")
    assert "is a file" in refusal(raw, tmp_path / "dataset" / "thesis.txt")
    (tmp_path / "dataset" / "manifest.json").write_text('{"format": 99}')
    assert "is not empty and holds no data set" in refusal(raw, tmp_path / "dataset")


# --- refusals


def test_a_missing_or_empty_folder_is_refused(raw, tmp_path):
    assert f"--raw-data {tmp_path / 'nowhere'} is no folder" in refusal(tmp_path / "nowhere", tmp_path / "dataset")
    (tmp_path / "empty").mkdir()
    assert f"--raw-data {tmp_path / 'empty'} is empty" in refusal(tmp_path / "empty", tmp_path / "dataset")


def test_another_layout_and_a_missing_split_are_refused(raw, tmp_path):
    assert "has no gtFine/train/<city>/*_gtFine_labelIds.png" in refusal(raw / "gtFine", tmp_path / "dataset")
    shutil.rmtree(raw / "leftImg8bit" / "val")
    shutil.rmtree(raw / "gtFine" / "val")
    assert "has no gtFine/val/<city>/*_gtFine_labelIds.png" in refusal(raw, tmp_path / "dataset")


@pytest.mark.parametrize(("split", "name"), [("train", "aachen_000000_000019"), ("val", "lindau_000000_000019")])
def test_a_photo_without_label_is_refused(raw, tmp_path, split, name):
    label_path(raw, split, name).unlink()
    sentence = refusal(raw, tmp_path / "dataset")
    assert f"{photo_path(raw, split, name)} is without label map (1 such file)" in sentence


def test_a_train_label_without_photo_is_refused(raw, tmp_path):
    photo_path(raw, "train", "aachen_000000_000019").unlink()
    photo_path(raw, "train", "aachen_000001_000019").unlink()
    sentence = refusal(raw, tmp_path / "dataset")
    assert f"{label_path(raw, 'train', 'aachen_000000_000019')} is without photo (2 such files)" in sentence


def test_equal_counts_do_not_hide_a_pair_that_does_not_match(raw, tmp_path):
    """One photo renamed: as many photos as labels, so pairing by sorted order would go wrong in silence."""
    photo_path(raw, "train", "aachen_000000_000019").rename(photo_path(raw, "train", "aachen_000009_000019"))
    assert "aachen_000009_000019_leftImg8bit.png is without label map" in refusal(raw, tmp_path / "dataset")


def test_a_missing_instance_map_is_refused(raw, tmp_path):
    instance_path(raw, "val", "lindau_000001_000019").unlink()
    sentence = refusal(raw, tmp_path / "dataset")
    assert f"{label_path(raw, 'val', 'lindau_000001_000019')} is without instance map (1 such file)" in sentence
    assert "--no-use-instances" in sentence


def test_one_name_in_two_cities_is_refused(raw, tmp_path):
    path = label_path(raw, "train", "ulm_000000_000019")
    shutil.copy(path, raw / "gtFine" / "train" / "aachen" / path.name)
    assert "have the same name: rename one" in refusal(raw, tmp_path / "dataset")


def test_label_ids_without_a_channel_are_refused(raw, tmp_path):
    labels = np.full((HEIGHT, WIDTH), 7)
    labels[5, 6], labels[0, 0] = 255, 35
    write_ids(label_path(raw, "train", "ulm_000000_000019"), labels)
    sentence = refusal(raw, tmp_path / "dataset")
    assert "--num-labels 35 allows label ids 0..34" in sentence
    assert f"{label_path(raw, 'train', 'ulm_000000_000019')} has 35, 255: raise --num-labels above 255" in sentence
    assert run(raw, tmp_path / "dataset", PrepareConfig(size="32x64", num_labels=256))["train_pairs"] == 3


def test_the_highest_label_id_is_num_labels_minus_one(raw, tmp_path):
    assert run(raw, tmp_path / "six", PrepareConfig(size="32x64", num_labels=6))["test_pairs"] == 2  # ids 1..5
    assert "--num-labels 5 allows label ids 0..4" in refusal(raw, tmp_path / "dataset", num_labels=5)


@pytest.mark.parametrize("path", [photo_path, instance_path])
def test_sizes_that_differ_within_a_pair_are_refused(raw, tmp_path, path):
    odd = path(raw, "train", "ulm_000000_000019")
    write_ids(odd, np.zeros((HEIGHT, WIDTH + 1), int))
    assert f"{odd} is 64x129 but ulm_000000_000019_gtFine_labelIds.png is 64x128" in refusal(raw, tmp_path / "dataset")


def test_unreadable_files_are_refused(raw, tmp_path):
    """Both a file with a broken header and one whose pixels stop halfway."""
    label = label_path(raw, "val", "lindau_000001_000019")
    noise = np.random.default_rng(0).integers(0, 30, (HEIGHT, WIDTH))
    write_ids(label, noise)
    whole = label.read_bytes()
    label.write_bytes(b"no picture")
    assert f"{label} cannot be read as an image" in refusal(raw, tmp_path / "dataset")
    label.write_bytes(whole[: len(whole) // 2])
    assert f"{label} cannot be read as an image" in refusal(raw, tmp_path / "dataset")


def test_a_picture_instead_of_ids_and_a_16_bit_photo_are_refused(raw, tmp_path):
    photo = photo_path(raw, "train", "ulm_000000_000019")
    before = photo.read_bytes()
    write_ids(photo, np.full((HEIGHT, WIDTH), 40000))
    assert f"{photo} has Pillow's mode I;16: give an 8-bit picture" in refusal(raw, tmp_path / "dataset")
    photo.write_bytes(before)
    label = label_path(raw, "train", "ulm_000000_000019")
    label.write_bytes(before)
    assert f"{label} has Pillow's mode RGB" in refusal(raw, tmp_path / "dataset")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"size": "100x200"}, "--size '100x200': both sides should be multiples of 32"),
        ({"size": "32"}, "--size '32': should be HEIGHTxWIDTH, for example 128x256."),
        ({"size": "0x64"}, "--size '0x64': should be HEIGHTxWIDTH"),
        ({"num_labels": 0}, "--num-labels 0: should be greater than or equal to 1."),
        ({"num_labels": 257}, "--num-labels 257: should be less than or equal to 256."),
        ({"num_labels": 35.5}, "--num-labels 35.5: "),
        ({"max_images": -1}, "--max-images -1: should be greater than or equal to 0."),
        ({"sise": "32x64"}, "prepare has no option --sise"),
    ],
)
def test_bad_options_are_refused(values, sentence):
    with pytest.raises(InputError) as refused:
        PrepareConfig.check(values)
    assert str(refused.value).startswith(sentence)


def test_numbers_from_json_may_be_floats():
    config = PrepareConfig.check({"num_labels": 40.0, "max_images": 3.0})
    assert (config.num_labels, config.max_images) == (40, 3)


# --- as a user runs it


def command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "components.prepare", *map(str, flags)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_command_line_prepares_and_refuses(raw, tmp_path):
    done = command("--raw-data", raw, "--dataset", tmp_path / "dataset", "--size", "32x64", "--no-use-instances")
    assert done.returncode == 0, done.stderr
    assert "5 of 5 pairs" in done.stdout
    assert DatasetManifest.read(tmp_path / "dataset").has_instances is False

    refused = command("--raw-data", tmp_path / "nowhere", "--dataset", tmp_path / "other")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("prepare") and refused.stderr.count("\n") == 1
    assert f"--raw-data {tmp_path / 'nowhere'} is no folder" in refused.stderr


def test_main_and_execute_exit_with_2_on_refusal(raw, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(run, PrepareConfig, ["--raw-data", str(raw), "--dataset", str(tmp_path / "d"), "--size", "33x64"])
    assert refused.value.code == 2
    with pytest.raises(SystemExit) as refused:
        execute(run, PrepareConfig, {"num_labels": 3}, raw_data=str(raw), dataset=str(tmp_path / "d"))
    assert refused.value.code == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "d").exists()


def test_the_kfp_face_runs_the_step_and_logs_its_figures(raw, tmp_path):
    dsl = pytest.importorskip("kfp.dsl")
    from components.prepare.component import prepare

    dataset, metrics = dsl.Dataset(uri=str(tmp_path / "dataset")), dsl.Metrics(uri=str(tmp_path / "metrics"))
    prepare.python_func(
        raw_data=str(raw), dataset=dataset, metrics=metrics, config={"size": "32x64", "num_labels": 35.0}
    )
    assert DatasetManifest.read(tmp_path / "dataset").height == 32
    assert (metrics.metadata["train_pairs"], metrics.metadata["test_pairs"]) == (3, 2)


@pytest.mark.skipif(not EXCERPT.is_dir(), reason=f"the real excerpt of Cityscapes is not at {EXCERPT}")
def test_the_real_excerpt(tmp_path):
    figures = run(EXCERPT, tmp_path / "dataset", PrepareConfig(size="64x128"))
    assert (figures["train_pairs"], figures["test_pairs"], figures["test_photos"]) == (5, 8, 0)
    manifest = DatasetManifest.read(tmp_path / "dataset")
    assert not any(pair.has_photo for pair in manifest.test)
    highest = 0
    for split in ("train", "test"):
        for pair in getattr(manifest, split):
            labels = read_ids(manifest.path(tmp_path / "dataset", split, "label", pair.name)).astype(int)
            instances = read_ids(manifest.path(tmp_path / "dataset", split, "instance", pair.name)).astype(int)
            assert np.array_equal(labels, np.where(instances < 1000, instances, instances // 1000))
            highest = max(highest, instances.max())
    assert highest > 32767
