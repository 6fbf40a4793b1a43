"""The prepare step: raw pictures of any layout -> a checked data set, or one sentence that says why
not.

How layouts are found is in test_sources.py, sizes and label ids by themselves in test_geometry.py,
--check in test_check.py."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from components.prepare.__main__ import main
from components.prepare.config import PrepareConfig
from components.prepare.run import run
from components.prepare.writing import parallel
from components.prepare.writing.journal import JOURNAL
from shared.code_version import code_version
from shared.command import execute, run_tracked
from shared.contracts.dataset import DatasetManifest
from shared.data.images import write_ids, write_picture
from shared.data.reader import PairReader
from shared.errors import InputError
from shared.files.digests import sha256_of
from shared.files.owned import only_writer
from tests.asking import refusal
from tests.places import EXCERPT, ROOT
from tests.prepare.files import load, noise, save

HEIGHT, WIDTH = 64, 128  # of the raw images
SMALL = PrepareConfig(size="32x64")
PICTURES = dict(size="keep", num_labels=0, instances="none")


# --- raw data


def photo_path(raw, split, name):
    return raw / "leftImg8bit" / split / name.split("_")[0] / f"{name}_leftImg8bit.png"


def label_path(raw, split, name):
    return raw / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_labelIds.png"


def instance_path(raw, split, name):
    return raw / "gtFine" / split / name.split("_")[0] / f"{name}_gtFine_instanceIds.png"


def add_pair(raw, split, name, number, photo=True):
    """A pair whose files all say `number`: 255 less the grey level of the photo, label id, and
    instance id 33000 + number."""
    if photo:
        grey = np.full((3, HEIGHT, WIDTH), 255 - number, np.uint8)
        write_picture(photo_path(raw, split, name), grey)
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


def add_flat(raw, split, name, seed, height=8, width=16):
    """A pair of NVIDIA's flat layout, of noise in small blocks."""
    labels = np.kron(noise(seed, height // 4, width // 4, high=35), np.ones((4, 4), np.uint8))
    save(raw / f"{split}_label" / f"{name}.png", labels)
    save(raw / f"{split}_inst" / f"{name}.png", labels.astype(np.uint16) * 1000 + 7)
    save(raw / f"{split}_img" / f"{name}.png", noise(seed, height, width, 3))


def flat(raw, count):
    """`count` training pairs 000, 001, ... and one for testing."""
    for number in range(count):
        add_flat(raw, "train", f"{number:03d}", number)
    add_flat(raw, "test", "one", count)
    return raw


# --- what a run leaves


def make(raw, dataset, config):
    return run_tracked(run, config, raw_data=str(raw), dataset=dataset)


def prepared(raw, dataset, **values):
    make(raw, dataset, PrepareConfig.check(values))
    return DatasetManifest.read(dataset)


def tree(folder):
    """Path -> size and time of all files and folders."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def contents(dataset):
    """Path below the data set -> bytes, of all files."""
    return {
        str(path.relative_to(dataset)): path.read_bytes()
        for path in dataset.rglob("*")
        if path.is_file()
    }


def pixels(dataset):
    """Path below the data set -> array, of all images."""
    images = sorted(path for path in dataset.glob("*_*/*"))
    return {str(path.relative_to(dataset)): load(path) for path in images}


def refused(raw, dataset, **values):
    """The sentence of a refusal; nothing may be left behind by it."""
    before = tree(dataset.parent)
    sentence = refusal(make, raw, dataset, PrepareConfig.check({"size": "32x64", **values}))
    assert tree(dataset.parent).keys() == before.keys()
    return sentence


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]), name


# --- what it writes


def test_pairs_go_by_name_into_the_flat_layout(raw, tmp_path):
    figures = make(raw, tmp_path / "dataset", SMALL)

    assert figures.pop("pairs_per_second") > 0
    # Of five pairs, labels 1 byte a pixel, positions of instances 1 and one id 4; four photos 3
    # bytes a pixel.
    assert figures.pop("cache_gb") == pytest.approx(
        (5 * (2 * 32 * 64 + 64) + 4 * 3 * 32 * 64) / 1e9
    )
    assert figures == {"train_pairs": 3, "test_pairs": 2, "test_photos": 1}
    numbers = {
        "train": {"aachen_000000_000019": 3, "aachen_000001_000019": 2, "ulm_000000_000019": 1},
        "test": {"lindau_000000_000019": 4, "lindau_000001_000019": 5},
    }
    expected = {}
    for split, names in numbers.items():
        for name, number in names.items():
            expected[f"{split}_label/{name}.png"] = np.full((32, 64), number, np.uint8)
            expected[f"{split}_inst/{name}.png"] = np.full((32, 64), 33000 + number, np.uint16)
            expected[f"{split}_img/{name}.png"] = np.full((32, 64, 3), 255 - number, np.uint8)
    del expected["test_img/lindau_000001_000019.png"]
    assert_same(pixels(tmp_path / "dataset"), expected)
    others = {"manifest.json", "SHA256SUMS", "cache/cache.json"}
    others |= {f"cache/{split}.{kind}" for split in ("train", "test") for kind in ("bin", "crc32")}
    assert contents(tmp_path / "dataset").keys() == expected.keys() | others


def test_the_manifest_says_what_is_there(raw, tmp_path):
    config = PrepareConfig(size="32x64", max_images=2, cache_limit_gb=1, copies="/somewhere")
    make(raw, tmp_path / "dataset", config)
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    for digest in ("digest", "test_digest", "source_digest"):
        assert len(manifest.pop(digest)) == 16
    labels = manifest.pop("labels")
    assert [label["id"] for label in labels] == [*range(35)]
    assert labels[26] == {"id": 26, "name": "car", "colour": [0, 0, 142]}
    pair = dict(height=32, width=64, has_photo=True, num_instances=1)
    del manifest["sha256_of_all_above"]
    (sums,) = manifest.pop("files").values()
    assert sums == sha256_of(tmp_path / "dataset" / "SHA256SUMS").hex()
    assert manifest == {
        "format": 2,
        "num_labels": 35,
        "input_nc": 0,
        "has_instances": True,
        "instance_suffix": ".png",
        "train": [
            {"name": "aachen_000000_000019", **pair},
            {"name": "aachen_000001_000019", **pair},
        ],
        "test": [
            {"name": "lindau_000000_000019", **pair},
            {"name": "lindau_000001_000019", **pair, "has_photo": False},
        ],
        "source": str(raw),
        "raw": {
            "coloured": False,
            "colour_tolerance": 0,
            "transparent_label": -1,
            "remap": "",
            "ignore_labels": "",
            "instances": "files",
            "white_level": 65535,
            "transparency": "refuse",
        },
        "config": {
            "size": "32x64",
            "num_labels": "auto",
            "labels": "",
            "input_nc": 3,
            "instances": "files",
            "layout": "auto",
            "direction": "AtoB",
            "input_folder": "",
            "photo_folder": "",
            "instance_folder": "",
            "input_name": "",
            "photo_name": "",
            "instance_name": "",
            "train_splits": "",
            "test_splits": "",
            "test_fraction": 0.0,
            "test_only": False,
            "seed": 0,
            "max_images": 2,
            "remap": "",
            "ignore_labels": "",
            "colour_tolerance": 0,
            "transparent_label": -1,
            "white_level": "auto",
            "transparency": "refuse",
        },
    }


def test_a_map_keeps_its_ids_and_the_photo_is_averaged(raw, tmp_path):
    """A board of 2x2 squares halved: nearest takes every second pixel, so ids are never mixed."""
    name = "ulm_000000_000019"
    board = np.add.outer(np.arange(HEIGHT) // 2, np.arange(WIDTH) // 2) % 2  # (H, W)
    write_ids(label_path(raw, "train", name), np.where(board, 33, 7))
    write_ids(instance_path(raw, "train", name), np.where(board, 33001, 7))
    write_picture(photo_path(raw, "train", name), np.repeat(np.uint8(255 * board)[None], 3, axis=0))
    make(raw, tmp_path / "dataset", SMALL)

    halved = np.add.outer(np.arange(32), np.arange(64)) % 2
    found = pixels(tmp_path / "dataset")
    assert np.array_equal(found[f"train_label/{name}.png"], np.where(halved, 33, 7))
    assert np.array_equal(found[f"train_inst/{name}.png"], np.where(halved, 33001, 7))
    with Image.open(photo_path(raw, "train", name)) as image:
        expected = image.resize((64, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(found[f"train_img/{name}.png"], np.asarray(expected))


def nearest(ids, height, width):
    """The pixel in which the centre of the new pixel lies."""
    rows = [(2 * row + 1) * ids.shape[0] // (2 * height) for row in range(height)]
    columns = [(2 * column + 1) * ids.shape[1] // (2 * width) for column in range(width)]
    return ids[np.ix_(rows, columns)]


SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
GEOMETRIES = {  # and their arithmetic in whole numbers
    "keep": lambda height, width: (height, width),
    "7x5": lambda height, width: (7, 5),
    "x6": lambda height, width: (max(1, 6 * height // width), 6),
    "9x": lambda height, width: (9, max(1, 9 * width // height)),
    "round4": lambda height, width: tuple(
        {1: 4, 2: 4, 3: 4, 6: 8, 10: 8}.get(n, (n + 2) // 4 * 4) for n in (height, width)
    ),
}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(SIZES, min_size=2, max_size=4),
    st.sampled_from([*GEOMETRIES]),
    st.sampled_from([200, 300, 65536]),
    st.booleans(),
    st.integers(0, 1000),
)
def test_files_and_cache_are_the_source_resized_by_hand(sizes, geometry, highest, has_labels, seed):
    """Ids to 65535 and sizes that differ from pair to pair; the first pair is for testing and has
    no photo."""
    with tempfile.TemporaryDirectory() as folder:
        raw, dataset = Path(folder) / "raw", Path(folder) / "dataset"
        expected = {}
        for number, (height, width) in enumerate(sizes):
            split, name = ("train" if number else "test"), f"{number}"
            if has_labels:
                inputs = noise(seed + number, height, width, high=35)
            else:
                inputs = noise(seed + number, height, width, 3)
            instances = noise(3 * seed + number, height, width, high=highest, dtype=np.uint16)
            photo = noise(7 * seed + number, height, width, 3)
            save(raw / f"{split}_{'label' if has_labels else 'A'}" / f"{name}.png", inputs)
            save(raw / f"{split}_inst" / f"{name}.png", instances)
            if number:
                save(raw / f"{split}_{'img' if has_labels else 'B'}" / f"{name}.png", photo)

            size = GEOMETRIES[geometry](height, width)

            def bicubic(image: np.ndarray, size=size) -> np.ndarray:
                return np.asarray(Image.fromarray(image).resize(size[::-1], Image.BICUBIC))

            inputs = nearest(inputs, *size) if has_labels else bicubic(inputs)
            photo = bicubic(photo) if number else None
            expected[split, name] = inputs, photo, nearest(instances, *size)

        manifest = prepared(raw, dataset, size=geometry, num_labels=35 if has_labels else 0)
        assert [pair.name for pair in manifest.train] == [
            str(number) for number in range(1, len(sizes))
        ]
        for split in ("train", "test"):
            cached, decoding = (
                PairReader(dataset, manifest, split, use_cache) for use_cache in (True, False)
            )
            assert cached.cache is not None
            for index, pair in enumerate(getattr(manifest, split)):
                inputs, photo, instances = expected[split, pair.name]
                assert (pair.height, pair.width) == instances.shape
                assert pair.has_photo == (photo is not None)
                assert pair.num_instances == len(np.unique(instances))
                for kind, array in (("input", inputs), ("instance", instances)):
                    found = load(manifest.path(dataset, split, kind, pair.name))
                    assert np.array_equal(found, array)
                planes = inputs if has_labels else inputs.transpose(2, 0, 1)
                for sample in (cached.read(index), decoding.read(index)):
                    assert np.array_equal(sample.inputs, planes)
                    assert np.array_equal(sample.instances, instances)
                    assert (sample.photo is None) == (photo is None)
                    assert photo is None or np.array_equal(sample.photo, photo.transpose(2, 0, 1))


def add_scales(raw, photo=(32, 64), instances=(16, 32), labels=(8, 16)):
    """A pair to train on and one to test on, whose maps have these sizes."""
    maps = {}
    for split in ("train", "test"):
        maps["label"], maps["inst"] = noise(1, *labels, high=35), noise(2, *instances)
        maps["img"] = noise(3, *photo, 3)
        for kind, pixels in maps.items():
            save(raw / f"{split}_{kind}" / "a.png", pixels)
    return maps


@pytest.mark.parametrize(("size", "wanted"), [("6x12", (6, 12)), ("x12", (6, 12)), ("6x", (6, 12))])
def test_maps_of_one_shape_are_resized_each_from_its_own_size(tmp_path, size, wanted):
    maps = add_scales(tmp_path / "raw")
    prepared(tmp_path / "raw", tmp_path / "dataset", size=size)
    found = pixels(tmp_path / "dataset")
    photo = Image.fromarray(maps["img"]).resize(wanted[::-1], Image.BICUBIC)
    for split in ("train", "test"):
        assert np.array_equal(found[f"{split}_img/a.png"], np.asarray(photo))
        assert np.array_equal(found[f"{split}_label/a.png"], nearest(maps["label"], *wanted))
        assert np.array_equal(found[f"{split}_inst/a.png"], nearest(maps["inst"], *wanted))


def test_the_largest_map_says_the_shape(tmp_path, capsys):
    """By the label map, of 10x15, a width of 149 would make a height of 99."""
    add_scales(tmp_path / "raw", photo=(100, 149), instances=(10, 15), labels=(10, 15))
    manifest = prepared(tmp_path / "raw", tmp_path / "dataset", size="x149")
    assert (manifest.train[0].height, manifest.train[0].width) == (100, 149)
    told = f"{tmp_path}/raw/train_img/a.png is 100x149 but {tmp_path}/raw/train_label/a.png is"
    assert f"prepare: several scales: 2 files, e.g. {told} 10x15\n" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["keep", "round4"])
def test_maps_of_one_shape_are_refused_where_nothing_scales_them(tmp_path, size):
    add_scales(tmp_path / "raw")
    sentence = refused(tmp_path / "raw", tmp_path / "dataset", size=size)
    assert "is 32x64 but" in sentence and "(4 such files): say a --size" in sentence
    [remedy] = re.findall(r"such as --size (\S+);", sentence)
    prepared(tmp_path / "raw", tmp_path / "dataset", size=remedy)


def test_maps_of_other_shapes_are_refused_at_any_size(tmp_path):
    add_scales(tmp_path / "raw", photo=(32, 48))
    assert "is 32x48 but" in refused(tmp_path / "raw", tmp_path / "dataset", size="8x16")


def as_links(raw, path):
    """As the hub of Hugging Face keeps a file: the content beside the folder, named by a digest."""
    blobs = raw.parent / "blobs"
    blobs.mkdir(exist_ok=True)
    blob = blobs / f"{len(list(blobs.iterdir())):08x}"
    path.rename(blob)
    path.symlink_to(os.path.relpath(blob, path.parent))


def as_on_a_mac(raw, path):
    """Photos are named in decomposed letters."""
    if path.parent.name.endswith("img"):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))


def with_an_ending(raw, path):
    if path.parent.name.endswith("label"):
        path.rename(path.with_stem(f"{path.stem}_mask"))


def in_folders_of_splits(raw, path):
    split, kind = path.parent.name.split("_")
    place = raw / split / {"label": "masks", "img": "Images"}[kind]
    place.mkdir(parents=True, exist_ok=True)
    path.rename(place / path.name)


def with_photos_in_capitals(raw, path):
    if path.parent.name.endswith("img"):
        path.rename(path.with_name(path.name.upper()))


@pytest.mark.parametrize(
    ("lay_out", "options"),
    [
        (as_links, {}),
        (as_on_a_mac, {}),
        (with_an_ending, {"input_name": "{}_mask"}),
        (in_folders_of_splits, {}),
        (with_photos_in_capitals, {}),
    ],
)
def test_the_same_pairs_are_the_same_data_set_however_they_are_laid_out(tmp_path, lay_out, options):
    for split, name in (("train", "münchen_1"), ("train", "münchen_2"), ("test", "köln_3")):
        add_flat(tmp_path / "raw", split, unicodedata.normalize("NFC", name), len(name))
    shutil.rmtree(tmp_path / "raw" / "train_inst")
    shutil.rmtree(tmp_path / "raw" / "test_inst")
    wanted = dict(size="keep", instances="none")
    plain = prepared(tmp_path / "raw", tmp_path / "plain", **wanted)
    (tmp_path / "linked").symlink_to("raw")
    for path in [*(tmp_path / "raw").rglob("*.png")]:
        lay_out(tmp_path / "raw", path)
    for folder in (tmp_path / "raw").glob("*_*"):
        if not any(folder.iterdir()):
            folder.rmdir()
    other = prepared(tmp_path / "linked", tmp_path / "other", **wanted, **options)
    assert (other.digest, other.train, other.test) == (plain.digest, plain.train, plain.test)


def test_the_digest_depends_on_the_images_alone(raw, tmp_path):
    first = prepared(raw, tmp_path / "first", size="32x64").digest
    assert prepared(raw, tmp_path / "second", size="32x64", cache_limit_gb=0).digest == first
    assert prepared(raw, tmp_path / "larger", size="64x64").digest != first
    add_pair(raw, "train", "ulm_000000_000019", 30)
    assert prepared(raw, tmp_path / "other", size="32x64").digest != first


def test_the_digest_of_the_test_pairs_does_not_depend_on_the_others(raw, tmp_path):
    first = prepared(raw, tmp_path / "first", size="32x64")
    add_pair(raw, "train", "ulm_000001_000019", 6)
    more = prepared(raw, tmp_path / "more", size="32x64")
    assert more.digest != first.digest and more.test_digest == first.test_digest
    add_pair(raw, "val", "lindau_000000_000019", 7)
    assert prepared(raw, tmp_path / "other", size="32x64").test_digest != first.test_digest


def test_in_processes_it_is_the_same_as_in_threads(tmp_path, monkeypatch):
    """From 200 pairs on, `parallel` takes processes."""
    raw = flat(tmp_path / "raw", 20)
    prepared(raw, tmp_path / "threads", size="keep")
    monkeypatch.setattr(parallel, "MANY", 1)
    prepared(raw, tmp_path / "processes", size="keep")
    assert contents(tmp_path / "processes") == contents(tmp_path / "threads")

    (raw / "train_img" / "000.png").write_bytes((raw / "train_img" / "000.png").read_bytes()[:-60])
    assert "000.png cannot be read as an image" in refused(raw, tmp_path / "dataset")


def test_max_images_counts_per_split_and_by_name(raw, tmp_path):
    figures = make(raw, tmp_path / "dataset", PrepareConfig(size="32x64", max_images=1))
    assert (figures["train_pairs"], figures["test_pairs"]) == (1, 1)
    assert [pair.name for pair in DatasetManifest.read(tmp_path / "dataset").train] == [
        "aachen_000000_000019"
    ]


def test_a_share_of_the_training_pairs_is_tested_on(tmp_path):
    for number in range(10):
        add_flat(tmp_path / "raw", "train", f"{number}", number)
    names = lambda pairs: [pair.name for pair in pairs]  # noqa: E731
    manifest = prepared(tmp_path / "raw", tmp_path / "one", size="keep", test_fraction=0.3)
    assert len(manifest.test) == 3 and sorted(names(manifest.train + manifest.test)) == [
        *"0123456789"
    ]
    assert all(pair.has_photo for pair in manifest.test)
    other = prepared(tmp_path / "raw", tmp_path / "two", size="keep", test_fraction=0.3, seed=1)
    assert names(other.test) != names(manifest.test)


def test_cityscapes_own_test_split_and_foreign_files_are_left_alone(raw, tmp_path):
    add_pair(raw, "test", "berlin_000000_000019", 9)
    name = "ulm_000000_000019"
    foreign = [
        label_path(raw, "train", name).with_name(f"{name}_gtFine_color.png"),
        photo_path(raw, "train", name).with_name(f"._{name}_leftImg8bit.png"),  # of macOS
    ]
    for path in foreign:
        path.write_text("unused")
    figures = make(raw, tmp_path / "dataset", SMALL)
    assert (figures["train_pairs"], figures["test_pairs"]) == (3, 2)


def test_sizes_may_differ_from_pair_to_pair(tmp_path, capsys):
    for name, size in {"a": (20, 40), "b": (40, 20), "c": (47, 49)}.items():
        labels, photo = np.zeros(size, np.uint8), np.zeros((*size, 3), np.uint8)
        save(tmp_path / "raw" / "train_label" / f"{name}.png", labels)
        save(tmp_path / "raw" / "train_img" / f"{name}.png", photo)
    save(tmp_path / "raw" / "test_label" / "d.png", np.zeros((5, 5), np.uint8))

    def sizes(geometry):
        manifest = prepared(tmp_path / "raw", tmp_path / geometry, size=geometry, instances="none")
        for pair in manifest.train:
            for kind in ("input", "photo"):
                found = load(manifest.path(tmp_path / geometry, "train", kind, pair.name))
                assert found.shape[:2] == (pair.height, pair.width)
        return [(pair.height, pair.width) for pair in manifest.train + manifest.test]

    assert sizes("keep") == [(20, 40), (40, 20), (47, 49), (5, 5)]
    assert f"wrote {tmp_path / 'keep'} at 4 sizes, digest " in capsys.readouterr().out
    assert sizes("x24") == [(12, 24), (48, 24), (23, 24), (24, 24)]
    assert sizes("24x") == [(24, 48), (24, 12), (24, 25), (24, 24)]
    assert sizes("round32") == [(32, 32), (32, 32), (32, 64), (32, 32)]
    assert sizes("10x30") == [(10, 30)] * 4
    assert f"wrote {tmp_path / '10x30'} at 10x30, digest " in capsys.readouterr().out


# --- labels and instances


def test_without_instances_no_instance_map_is_needed(raw, tmp_path):
    for path in raw.rglob("*instanceIds.png"):
        path.unlink()
    manifest = prepared(raw, tmp_path / "dataset", size="32x64", instances="none")
    assert not manifest.has_instances and {pair.num_instances for pair in manifest.train} == {0}
    assert {path.name for path in (tmp_path / "dataset").iterdir()} == {
        "train_img", "train_label", "test_img", "test_label", "manifest.json", "SHA256SUMS",
        "cache",
    }  # fmt: skip


def test_instances_can_be_the_regions_of_one_label(raw, tmp_path):
    """They are found at full size, then resized."""
    labels = np.full((HEIGHT, WIDTH), 7)
    labels[:32, :32] = labels[:32, 64:96] = 26  # two cars on a road
    write_ids(label_path(raw, "train", "ulm_000000_000019"), labels)
    manifest = prepared(raw, tmp_path / "dataset", size="32x64", instances="components")
    assert [pair.num_instances for pair in manifest.train] == [1, 1, 3]
    expected = np.full((32, 64), 2)
    expected[:16, :16], expected[:16, 32:48] = 1, 3
    assert np.array_equal(
        pixels(tmp_path / "dataset")["train_inst/ulm_000000_000019.png"], expected
    )


def test_instance_ids_of_32_bits_stay_so(tmp_path):
    """A TIFF or .npy in, a TIFF out."""
    ids = {
        "a": np.array([[26_001_000, 1], [2_147_483_647, 70_000]], np.int32),
        "b": np.array([[5, 65535], [65536, -1]], np.int32),
    }
    save(tmp_path / "raw" / "train_inst" / "a.tif", ids["a"])
    save(tmp_path / "raw" / "train_inst" / "b.npy", ids["b"].astype(np.int64))
    save(tmp_path / "raw" / "test_inst" / "a.png", np.full((2, 2), 40000, np.uint16))
    for split, name in (("train", "a"), ("train", "b"), ("test", "a")):
        save(tmp_path / "raw" / f"{split}_label" / f"{name}.png", np.zeros((2, 2), np.uint8))
        save(tmp_path / "raw" / f"{split}_img" / f"{name}.png", np.zeros((2, 2, 3), np.uint8))

    manifest = prepared(tmp_path / "raw", tmp_path / "dataset", size="keep")
    assert manifest.instance_suffix == ".tif"
    found = pixels(tmp_path / "dataset")
    for name, expected in ids.items():
        assert np.array_equal(found[f"train_inst/{name}.tif"], expected)
    assert np.array_equal(found["test_inst/a.tif"], np.full((2, 2), 40000))
    for use_cache in (True, False):
        reader = PairReader(tmp_path / "dataset", manifest, "train", use_cache)
        assert [
            np.array_equal(reader.read(index).instances, ids[name])
            for index, name in enumerate("ab")
        ] == [True] * 2


def test_label_ids_are_changed_by_a_table(tmp_path):
    labels = np.array([[7, 8, 5000, 65535]], np.uint16)
    save(tmp_path / "raw" / "train_label" / "a.png", labels)
    save(tmp_path / "raw" / "test_label" / "a.png", labels[:, ::-1])
    save(tmp_path / "raw" / "train_img" / "a.png", np.zeros((1, 4, 3), np.uint8))
    (tmp_path / "table.json").write_text('{"7": 0, "8": 1, "5000": 2}')
    options = dict(size="keep", num_labels=3, instances="none", remap=str(tmp_path / "table.json"))

    sentence = refused(tmp_path / "raw", tmp_path / "dataset", **options)
    assert "train_label/a.png has ids without label: 65535 (25% of the pixels)" in sentence
    prepared(tmp_path / "raw", tmp_path / "dataset", **options, ignore_labels="65535")
    assert pixels(tmp_path / "dataset")["train_label/a.png"].tolist() == [[0, 1, 2, 255]]
    assert pixels(tmp_path / "dataset")["test_label/a.png"].tolist() == [[255, 2, 1, 0]]

    (tmp_path / "table.json").write_text('{"7": 1, "8": 0, "5000": 2}')
    sentence = refused(tmp_path / "raw", tmp_path / "dataset", **options, ignore_labels="65535")
    assert "was prepared with other --remap: " in sentence


def test_cityscapes_in_its_19_classes(raw, tmp_path):
    """Ids 1 to 5 of the fixture are none of them; 7 and 33 are the first and the last."""
    add_pair(raw, "train", "bochum_000000_000019", 7)
    add_pair(raw, "train", "ulm_000000_000019", 33)
    prepared(raw, tmp_path / "dataset", size="32x64", num_labels=19, remap="cityscapes_train_ids")
    found = pixels(tmp_path / "dataset")
    labels = [
        np.unique(array).tolist() for path, array in found.items() if path.startswith("train_label")
    ]
    assert labels == [[255], [255], [0], [18]]  # two of Aachen, Bochum, Ulm


# --- pictures


@pytest.mark.parametrize(
    ("channels", "suffix", "mode"),
    [(1, "png", "L"), (3, "png", "RGB"), (4, "png", "RGBA"), (5, "npy", None)],
)
def test_pictures_as_input(tmp_path, channels, suffix, mode):
    """Layout train_A, train_B; each channel is resized for itself, so that alpha does not weight
    the colours."""
    pictures = {name: noise(seed, 6, 10, channels) for seed, name in enumerate("ab")}
    for split, (name, picture) in zip(("train", "test"), pictures.items(), strict=True):
        save(
            tmp_path / "raw" / f"{split}_A" / f"{name}.{suffix}",
            picture[:, :, 0] if channels == 1 else picture,
        )
        save(tmp_path / "raw" / f"{split}_B" / f"{name}.jpg", noise(9, 6, 10, 3))
    manifest = prepared(
        tmp_path / "raw", tmp_path / "dataset", **PICTURES | dict(size="3x5", input_nc=channels)
    )

    assert (manifest.num_labels, manifest.input_nc) == (0, channels)
    planes = np.moveaxis(pictures["a"], 2, 0)  # (C, H, W)
    resized = np.stack(
        [np.asarray(Image.fromarray(plane).resize((5, 3), Image.BICUBIC)) for plane in planes]
    )
    file = tmp_path / "dataset" / "train_A" / f"a.{suffix}"
    assert np.array_equal(load(file).reshape(3, 5, channels), np.moveaxis(resized, 0, 2))
    assert mode is None or Image.open(file).mode == mode
    assert load(tmp_path / "dataset" / "train_B" / "a.png").shape == (3, 5, 3)
    for use_cache in (True, False):
        sample = PairReader(tmp_path / "dataset", manifest, "train", use_cache).read(0)
        assert np.array_equal(sample.inputs, resized) and sample.ids is None


def test_pictures_may_be_the_other_way_round(tmp_path):
    pictures = {
        folder: noise(seed, 4, 4, 3)
        for seed, folder in enumerate(("trainA", "trainB", "valA", "valB"))
    }
    for folder, picture in pictures.items():
        save(tmp_path / "raw" / folder / "x.png", picture)
    prepared(tmp_path / "raw", tmp_path / "dataset", **PICTURES, direction="BtoA")
    assert_same(
        pixels(tmp_path / "dataset"),
        {
            "test_A/x.png": pictures["valB"],
            "test_B/x.png": pictures["valA"],
            "train_A/x.png": pictures["trainB"],
            "train_B/x.png": pictures["trainA"],
        },
    )


def test_folders_by_their_names(tmp_path):
    labels, photo = noise(0, 4, 4, high=35), noise(1, 4, 4, 3)
    for split in ("train", "val"):
        save(tmp_path / "raw" / "masks" / split / "deep" / "x.png", labels)
        save(tmp_path / "raw" / "photographs" / split / "deep" / "x.png", photo)
    options = dict(size="keep", instances="none", photo_folder="photographs")
    prepared(tmp_path / "raw", tmp_path / "dataset", **options)
    expected = {
        f"{split}_{kind}/deep_x.png": array
        for split in ("train", "test")
        for kind, array in (("label", labels), ("img", photo))
    }
    assert_same(pixels(tmp_path / "dataset"), expected)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_side_by_side_pictures_are_cut_in_the_middle(tmp_path, direction):
    halves = {
        split: (noise(seed, 6, 5, 3), noise(seed + 9, 6, 5, 3))
        for seed, split in enumerate(("train", "val"))
    }
    for split, both in halves.items():
        save(tmp_path / "raw" / split / "1.png", np.concatenate(both, axis=1))
    prepared(tmp_path / "raw", tmp_path / "dataset", **PICTURES, direction=direction)
    input, photo = (0, 1) if direction == "AtoB" else (1, 0)
    assert_same(
        pixels(tmp_path / "dataset"),
        {
            "test_A/1.png": halves["val"][input],
            "test_B/1.png": halves["val"][photo],
            "train_A/1.png": halves["train"][input],
            "train_B/1.png": halves["train"][photo],
        },
    )
    save(tmp_path / "raw" / "train" / "2.png", noise(0, 6, 11, 3))
    sentence = refused(tmp_path / "raw", tmp_path / "other", **PICTURES, direction=direction)
    assert "train/2.png is 11 pixels wide: give pictures of two equal halves; `--check`" in sentence


def photo_as_prepared(folder, suffix, content, **values):
    """The photo of a data set made of one such file."""
    is_array = isinstance(content, np.ndarray)
    labels = np.zeros(content.shape[:2] if is_array else content.size[::-1], np.uint8)
    for split in ("train", "test"):
        save(folder / "raw" / f"{split}_label" / "a.png", labels)
    photo = folder / "raw" / "train_img" / f"a.{suffix}"
    photo.parent.mkdir(exist_ok=True)
    save(photo, content) if is_array else content.save(photo)
    prepared(folder / "raw", folder / "dataset", size="keep", instances="none", **values)
    return load(folder / "dataset" / "train_img" / "a.png")


def test_photos_of_16_bits_grey(tmp_path):
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    assert photo_as_prepared(tmp_path, "png", levels)[0].tolist() == [
        [level] * 3 for level in (0, 1, 128, 255)
    ]


def test_photos_of_12_bits_in_16(tmp_path):
    """4095 / 255 is 16.06: 100 becomes 6.2, 2000 becomes 124.5 and a bit; what is brighter than
    white is white."""
    levels = np.array([[0, 100, 2000, 4095, 65535]], np.uint16)
    found = photo_as_prepared(tmp_path, "tif", levels, white_level=4095)
    assert found[0].tolist() == [[level] * 3 for level in (0, 6, 125, 255, 255)]


def test_photos_of_16_bits_colour(tmp_path):
    """Pillow would cut these to their high bytes: 1000, which is 3.9 times 257, to 3."""
    import imagecodecs

    colours = np.array([[[0, 65535, 257], [127 * 257 + 200, 1000, 40000]]], np.uint16)
    content = imagecodecs.png_encode(colours)
    for split in ("train", "test"):
        save(tmp_path / "raw" / f"{split}_label" / "a.png", np.zeros((1, 2), np.uint8))
    (tmp_path / "raw" / "train_img").mkdir()
    (tmp_path / "raw" / "train_img" / "a.png").write_bytes(content)
    prepared(tmp_path / "raw", tmp_path / "dataset", size="keep", instances="none")
    assert pixels(tmp_path / "dataset")["train_img/a.png"].tolist() == [
        [[0, 255, 1], [128, 4, 156]]
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_photos_of_other_modes_become_rgb(tmp_path, mode):
    """Alpha is dropped where that is asked for, not blended with."""
    if mode == "RGBA":
        image = Image.fromarray(noise(0, 5, 7, 4))
    else:
        image = Image.fromarray(noise(0, 5, 7, 3)).convert(mode)
    suffix = "tif" if mode == "CMYK" else "png"
    found = photo_as_prepared(tmp_path, suffix, image, transparency="drop")
    expected = np.asarray(image)[:, :, :3] if mode == "RGBA" else np.asarray(image.convert("RGB"))
    assert np.array_equal(found, expected)


# --- archives and URLs


def test_an_archive_is_unpacked_beside(tmp_path):
    raw = flat(tmp_path / "raw", 3)
    digest = prepared(raw, tmp_path / "from_folder", size="keep").digest
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for path in sorted(raw.rglob("*.png")):
            archive.write(path, Path("some") / path.relative_to(raw))
    options = dict(size="keep", copies=str(tmp_path / "copies"))
    assert prepared(tmp_path / "raw.zip", tmp_path / "dataset", **options).digest == digest
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"raw", "raw.zip", "copies", "from_folder", "dataset"}

    before = tree(tmp_path / "copies")
    url = (tmp_path / "raw.zip").as_uri()
    assert prepared(url, tmp_path / "by_url", **options).digest == digest
    assert before.items() <= tree(tmp_path / "copies").items()


def test_a_folder_in_a_store(tmp_path):
    raw = flat(tmp_path / "raw", 3)
    digest = prepared(raw, tmp_path / "from_folder", size="keep").digest
    store = fsspec.filesystem("memory")
    store.put(str(raw), "/bucket/set", recursive=True)
    try:
        options = dict(size="keep", copies=str(tmp_path / "copies"))
        manifest = prepared("memory://bucket/set", tmp_path / "dataset", **options)
        assert (manifest.digest, manifest.source) == (digest, "memory://bucket/set")
        make("memory://bucket/set", tmp_path / "dataset", PrepareConfig(**options))  # again
    finally:
        store.rm("/bucket", recursive=True)


def test_secrets_of_a_url_are_not_kept(raw, tmp_path, monkeypatch, capsys):
    """Nor do they make another source of it: signed addresses change from day to day."""
    monkeypatch.setattr("components.prepare.raw_data.fetch", lambda url, into: raw)
    for token in ("first", "second"):
        figures = run(f"https://me:secret@host/set.zip?token={token}", tmp_path / "dataset", SMALL)
    assert "already prepared" in capsys.readouterr().out and "pairs_per_second" not in figures
    assert DatasetManifest.read(tmp_path / "dataset").source == "https://host/set.zip"
    assert not [
        name for name, content in contents(tmp_path / "dataset").items() if b"secret" in content
    ]


# --- the cache


def test_a_cache_that_is_too_large_is_left_out_and_told_of(raw, tmp_path, capsys):
    figures = make(raw, tmp_path / "dataset", PrepareConfig(size="32x64", cache_limit_gb=1e-6))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == (
        "prepare: no cache: it would take up to 0.0 GB, more than --cache-limit-gb 1e-06; "
        "training will decode image files"
    )
    assert figures["cache_gb"] == 0 and not (tmp_path / "dataset" / "cache").exists()


def test_no_cache_where_none_is_wanted(raw, tmp_path, capsys):
    make(raw, tmp_path / "dataset", PrepareConfig(size="32x64", cache_limit_gb=0))
    assert "no cache" not in capsys.readouterr().out
    assert not (tmp_path / "dataset" / "cache").exists()


def test_a_cache_takes_half_of_the_free_disk_at_most(raw, tmp_path, capsys, monkeypatch):
    def free(bytes):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, bytes)
        )

    # labels, positions in two bytes, as many ids as pixels; photos
    most = 5 * 32 * 64 * (1 + 2 + 4) + 4 * 32 * 64 * 3
    free(2 * most - 1)
    make(raw, tmp_path / "none", SMALL)
    assert (
        f"no cache: it would take up to 0.0 GB, more than half of what is free in {tmp_path}; "
        in capsys.readouterr().out
    )
    assert not (tmp_path / "none" / "cache").exists()
    free(2 * most)
    make(raw, tmp_path / "some", SMALL)
    assert (tmp_path / "some" / "cache" / "cache.json").is_file()


# --- the same command again


def test_the_same_command_again_does_nothing(raw, tmp_path, capsys):
    first = make(raw, tmp_path / "dataset", SMALL)
    before = tree(tmp_path)
    capsys.readouterr()
    for config in (
        SMALL,
        PrepareConfig(size="32x64", cache_limit_gb=0, copies=str(tmp_path / "nowhere")),
    ):
        figures = make(raw, tmp_path / "dataset", config)
        assert figures == {
            name: value for name, value in first.items() if name != "pairs_per_second"
        }
        assert last_line(capsys) == f"prepare: already prepared: {tmp_path / 'dataset'}"
    assert tree(tmp_path) == before


def test_a_data_set_of_before_an_option_was_there_is_the_same(raw, tmp_path, capsys):
    make(raw, tmp_path / "dataset", SMALL)
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    del manifest["config"]["seed"], manifest["sha256_of_all_above"]
    (tmp_path / "dataset" / "manifest.json").write_text(json.dumps(manifest))
    make(raw, tmp_path / "dataset", SMALL)
    assert last_line(capsys) == f"prepare: already prepared: {tmp_path / 'dataset'}"
    with pytest.raises(InputError, match="was prepared with other --seed:"):
        make(raw, tmp_path / "dataset", SMALL.model_copy(update={"seed": 1}))


def test_the_same_source_by_another_path_is_the_same(raw, tmp_path, capsys, monkeypatch):
    make(raw, tmp_path / "dataset", SMALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(raw)
    for spelled in ("raw", "link/../raw/.", "link"):
        capsys.readouterr()
        run(spelled, Path("dataset"), SMALL)
        assert last_line(capsys) == f"prepare: already prepared: {tmp_path / 'dataset'}"


def test_an_empty_output_folder_and_the_rest_of_a_killed_run_are_taken_over(raw, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / ".dataset.partial" / "train_img").mkdir(parents=True)
    (tmp_path / ".dataset.partial" / "train_img" / "half.png").write_text("half")
    (tmp_path / ".dataset.partial" / "train_B").mkdir()
    make(raw, tmp_path / "dataset", SMALL)
    assert not list((tmp_path / "dataset").rglob("half.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "raw"]


def test_a_data_set_made_otherwise_is_refused(raw, tmp_path):
    make(raw, tmp_path / "dataset", SMALL)
    sentence = refused(raw, tmp_path / "dataset", size="64x64", num_labels=40)
    assert sentence == (
        f"--dataset {tmp_path / 'dataset'} was prepared with other --size, --num-labels: "
        "remove it first, or give a new folder."
    )
    assert "was prepared with other --max-images: " in refused(
        raw, tmp_path / "dataset", max_images=1
    )
    assert "was prepared with other --ignore-labels: " in refused(
        raw, tmp_path / "dataset", ignore_labels="255"
    )


def test_a_data_set_whose_source_changed_is_refused(raw, tmp_path):
    make(raw, tmp_path / "dataset", SMALL)
    shutil.copytree(raw, tmp_path / "copy")
    assert f"was prepared from {raw} as it was then, but the files are others now: " in refused(
        tmp_path / "copy", tmp_path / "dataset"
    )
    label = label_path(raw, "train", "ulm_000000_000019")
    os.utime(label, (0, 0))  # as an archive would set it
    assert f"was prepared from {raw} as it was then, but the files are others now: " in refused(
        raw, tmp_path / "dataset"
    )
    add_pair(raw, "train", "zwickau_000000_000019", 3)
    assert "but the files are others now" in refused(raw, tmp_path / "dataset")


def test_a_damaged_data_set_is_refused(raw, tmp_path):
    make(raw, tmp_path / "dataset", SMALL)
    write_ids(tmp_path / "dataset/train_label/ulm_000000_000019.png", np.zeros((32, 64), int))
    assert "was changed after it was prepared: remove it first" in refused(
        raw, tmp_path / "dataset"
    )
    (tmp_path / "dataset/train_label/ulm_000000_000019.png").unlink()
    assert "was changed after it was prepared: remove it first" in refused(
        raw, tmp_path / "dataset"
    )


def test_a_folder_with_other_files_is_refused_and_kept(raw, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "thesis.txt").write_text("mine")
    assert "is not empty and holds no data set of this version: " in refused(
        raw, tmp_path / "dataset"
    )
    assert "thesis.txt is a file): give a place you can write to." in refused(
        raw, tmp_path / "dataset" / "thesis.txt"
    )
    (tmp_path / "dataset" / "manifest.json").write_text('{"format": 99}')
    assert "is not empty and holds no data set of this version: " in refused(
        raw, tmp_path / "dataset"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_refused(raw, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    assert "cannot be written (Permission denied" in refused(raw, tmp_path / "locked" / "dataset")


def test_a_place_below_a_file_is_refused(raw, tmp_path):
    (tmp_path / "file").write_text("mine")
    sentence = refusal(make, raw, tmp_path / "file" / "dataset", SMALL)
    assert sentence.endswith(": give a place you can write to.")


# --- after an interruption

COUNT = 12  # training pairs; the bad one is the tenth


@pytest.fixture
def stopped(tmp_path, capsys):
    """A run that ended at the tenth training pair, whose photo is truncated; then the photo is
    repaired."""
    raw = flat(tmp_path / "raw", COUNT)
    dataset, partial = tmp_path / "dataset", tmp_path / ".dataset.partial"
    photo = raw / "train_img" / "009.png"
    whole = photo.read_bytes()
    photo.write_bytes(whole[:-60])
    sentence = refusal(make, raw, dataset, PrepareConfig(size="keep"))
    assert sentence.startswith(f"--raw-data: {photo} cannot be read as an image (")
    assert sentence.endswith("): replace the file; `--check` lists all problems.")
    told = (
        f"prepare: what is done is kept in {partial}: the same command again goes on from there\n"
    )
    assert capsys.readouterr().out.endswith(told)
    assert not dataset.exists() and len((partial / JOURNAL).read_text().splitlines()) == 9
    photo.write_bytes(whole)
    return raw, dataset, partial


def uninterrupted(raw, dataset):
    """What the same command leaves where nothing is there yet: exactly this, once more."""
    kept = dataset.with_name("kept")
    dataset.rename(kept)
    make(raw, dataset, PrepareConfig(size="keep"))
    assert contents(kept) == contents(dataset)
    assert not dataset.with_name(f".{dataset.name}.partial").exists()


def age(folder):
    """Make all files old, so that what is written anew can be told."""
    for path in folder.rglob("*.png"):
        os.utime(path, (1, 1))


def old(dataset):
    """Names of the training pairs that were not written anew; all their files, or none."""
    names = {
        kind: {
            path.stem for path in (dataset / f"train_{kind}").iterdir() if path.stat().st_mtime == 1
        }
        for kind in ("label", "inst", "img")
    }
    assert names["label"] == names["inst"] == names["img"]
    return sorted(names["label"])


def test_only_the_rest_is_done(stopped, capsys):
    raw, dataset, partial = stopped
    age(partial)
    make(raw, dataset, PrepareConfig(size="keep"))
    assert old(dataset) == [f"{number:03d}" for number in range(9)]
    assert "prepare: wrote: 13 of 13 pairs" in capsys.readouterr().out
    uninterrupted(raw, dataset)


def test_a_changed_source_file_costs_what_comes_after_it(stopped):
    raw, dataset, partial = stopped
    age(partial)
    add_flat(raw, "train", "004", 99)
    make(raw, dataset, PrepareConfig(size="keep"))
    assert old(dataset) == ["000", "001", "002", "003"]
    uninterrupted(raw, dataset)


def test_pairs_that_left_the_source_leave_nothing(stopped):
    raw, dataset, partial = stopped
    age(partial)
    for path in raw.rglob("007.png"):
        path.unlink()
    make(raw, dataset, PrepareConfig(size="keep"))
    assert old(dataset) == [f"{number:03d}" for number in range(7)]
    uninterrupted(raw, dataset)


@pytest.mark.parametrize(
    "options",
    [
        dict(size="4x4"),
        dict(max_images=2),
        dict(instances="none"),
        dict(num_labels=0, white_level=255),  # label maps as pictures are dark
    ],
)
def test_other_options_begin_anew_and_leave_nothing_of_the_first(stopped, options):
    raw, dataset, partial = stopped
    age(partial)
    options = {"size": "keep", **options}
    make(raw, dataset, PrepareConfig(**options))
    kept = dataset.rename(dataset.with_name("kept"))
    make(raw, dataset, PrepareConfig(**options))
    assert contents(kept) == contents(dataset)


def test_with_and_without_a_cache(stopped):
    """What has no record in the cache is done again for one, but not the other way round."""
    raw, dataset, partial = stopped
    age(partial)
    shutil.copytree(partial, dataset.with_name(".other.partial"))
    make(raw, dataset, PrepareConfig(size="keep", cache_limit_gb=0))
    assert len(old(dataset)) == 9 and not (dataset / "cache").exists()
    for split in ("train", "test"):
        os.truncate(dataset.with_name(".other.partial") / "cache" / f"{split}.bin", 0)
    make(raw, dataset.with_name("other"), PrepareConfig(size="keep"))
    assert old(dataset.with_name("other")) == []
    uninterrupted(raw, dataset.with_name("other"))


def torn_line(partial):
    with open(partial / JOURNAL, "a") as journal:
        journal.write('01234567 {"split": "train", "pair": {"name": "009", "hei')


def long_cache(partial):
    with open(partial / "cache" / "train.bin", "ab") as cache:
        cache.write(bytes(1000))


def short_cache(partial):
    """Buffers of different files reach the disk in any order when a process is killed."""
    os.truncate(
        partial / "cache" / "train.bin", (partial / "cache" / "train.bin").stat().st_size - 1
    )


@pytest.mark.parametrize(("damage", "done"), [(torn_line, 9), (long_cache, 9), (short_cache, 8)])
def test_what_a_killed_process_left_unfinished_is_done_again(stopped, damage, done):
    raw, dataset, partial = stopped
    age(partial)
    damage(partial)
    make(raw, dataset, PrepareConfig(size="keep"))
    assert old(dataset) == [f"{number:03d}" for number in range(done)]
    uninterrupted(raw, dataset)


def other_size_in_journal(partial):
    journal = partial / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    assert '"height": 8' in lines[3]
    journal.write_text("".join([*lines[:3], lines[3].replace('"height": 8', '"height": 9')]))


def flipped_image(partial):
    flip(sorted((partial / "train_img").iterdir())[5])


def empty_image(partial):
    """As a loss of power leaves it."""
    sorted((partial / "train_label").iterdir())[4].write_bytes(b"")


def flipped_record(partial):
    flip(partial / "cache" / "train.bin", place=100)


def flip(path, place=50):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "done"),
    [(other_size_in_journal, 3), (flipped_image, 5), (empty_image, 4), (flipped_record, 0)],
)
def test_what_was_kept_and_is_damaged_is_done_again_and_said(stopped, capsys, damage, done):
    raw, dataset, partial = stopped
    age(partial)
    damage(partial)
    make(raw, dataset, PrepareConfig(size="keep"))
    assert old(dataset) == [f"{number:03d}" for number in range(done)]
    found = f"prepare: {done:03d} is damaged in what an earlier run left in {partial}: "
    assert found in capsys.readouterr().out
    uninterrupted(raw, dataset)


def test_other_settings_of_what_was_kept_begin_anew(stopped):
    raw, dataset, partial = stopped
    age(partial)
    flip(partial / "settings.json")
    make(raw, dataset, PrepareConfig(size="keep"))
    assert old(dataset) == []
    uninterrupted(raw, dataset)


def test_its_own_bytes_do_not_count_against_the_cache(stopped, monkeypatch):
    """A disk on which the first run just fitted still has room for what is left of it."""
    raw, dataset, partial = stopped
    cache = (partial / "cache" / "train.bin").stat().st_size
    most = (COUNT + 1) * 8 * 16 * (1 + 2 + 3 + 4)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(0, 0, 2 * most - 2 * cache)
    )
    age(partial)
    make(raw, dataset, PrepareConfig(size="keep"))
    assert len(old(dataset)) == 9 and (dataset / "cache" / "cache.json").is_file()


def test_two_runs_at_once(raw, tmp_path):
    dataset, journal = tmp_path / "dataset", tmp_path / ".dataset.partial" / JOURNAL
    with only_writer(dataset, "--dataset", appears_whole=True):
        journal.write_text("of the first")
        sentence = refused(raw, dataset)
        assert sentence.startswith(f"--dataset {dataset} is being written by process {os.getpid()}")
        assert journal.read_text() == "of the first"
        journal.unlink()
    assert prepared(raw, tmp_path / "dataset", size="32x64").digest


def test_a_bad_first_pair_leaves_nothing_though_others_are_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    raw = flat(tmp_path / "raw", 30)
    for number in range(1, 30):
        add_flat(raw, "train", f"{number:03d}", number, 256, 256)
    (raw / "train_label" / "000.png").write_bytes(
        (raw / "train_label" / "000.png").read_bytes()[:-20]
    )
    before = set(threading.enumerate())  # MLflow has pools of its own
    with pytest.raises(InputError, match="000.png cannot be read as an image"):
        make(raw, tmp_path / "dataset", SMALL)
    assert not [
        thread.name
        for thread in set(threading.enumerate()) - before
        if "PoolExecutor" in thread.name
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def children(pid):
    """Process ids of all descendants."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children(child)]
    return found


def runs(pid):
    """Whether the process is alive; a zombie that nobody waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_killed_in_the_middle_and_started_again(tmp_path):
    """The command line with as many pairs as take processes, killed without a chance to tidy up."""
    raw = flat(tmp_path / "raw", 300)
    flags = ["--raw-data", raw, "--size", "keep", "--dataset"]
    journal = tmp_path / ".dataset.partial" / JOURNAL
    with subprocess.Popen(
        [sys.executable, "-m", "components.prepare", *map(str, [*flags, tmp_path / "dataset"])],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as process:
        while process.poll() is None and not (journal.is_file() and journal.stat().st_size):
            time.sleep(0.005)
        helpers = children(process.pid)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and helpers

    deadline = time.monotonic() + 20
    while (alive := [pid for pid in helpers if runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive, "its processes should end with it"

    assert not (tmp_path / "dataset").exists() and 0 < journal.read_text().count("\n") < 300
    age(journal.parent)
    done = command(*flags, tmp_path / "dataset")
    assert done.returncode == 0, done.stderr
    assert 0 < len(old(tmp_path / "dataset")) < 300
    make(raw, tmp_path / "uninterrupted", PrepareConfig(size="keep"))
    assert contents(tmp_path / "dataset") == contents(tmp_path / "uninterrupted")


# --- refusals


def test_a_missing_or_empty_folder_is_refused(raw, tmp_path):
    assert f"--raw-data {tmp_path / 'nowhere'} is no folder" in refused(
        tmp_path / "nowhere", tmp_path / "dataset"
    )
    (tmp_path / "empty").mkdir()
    assert f"--raw-data {tmp_path / 'empty'} is empty" in refused(
        tmp_path / "empty", tmp_path / "dataset"
    )


def test_another_layout_and_a_missing_split_are_refused(raw, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_text("mine")
    assert (
        "has no known layout (looked for cityscapes: gtFine/<split>/<city>/*_gtFine_labelIds.png"
        in refused(tmp_path / "notes", tmp_path / "dataset")
    )
    shutil.rmtree(raw / "leftImg8bit" / "val")
    shutil.rmtree(raw / "gtFine" / "val")
    assert f"--raw-data: {raw} has no split for testing (found train): " in refused(
        raw, tmp_path / "dataset"
    )


@pytest.mark.parametrize(
    ("split", "name"), [("train", "aachen_000000_000019"), ("val", "lindau_000000_000019")]
)
def test_a_photo_without_label_is_refused(raw, tmp_path, split, name):
    label_path(raw, split, name).unlink()
    instance_path(raw, split, name).unlink()
    assert refused(raw, tmp_path / "dataset") == (
        f"--raw-data: {photo_path(raw, split, name)} is without label map: "
        "add the label maps or input pictures, or remove the photos; `--check` lists all problems."
    )


def test_train_labels_without_photo_are_refused(raw, tmp_path):
    photo_path(raw, "train", "aachen_000000_000019").unlink()
    photo_path(raw, "train", "aachen_000001_000019").unlink()
    label = label_path(raw, "train", "aachen_000000_000019")
    sentence = refused(raw, tmp_path / "dataset")
    assert f"{label} is without photo (2 such files): add the" in sentence


def test_equal_counts_do_not_hide_a_pair_that_does_not_match(raw, tmp_path):
    """One photo renamed: as many photos as labels, so pairing by sorted order would go wrong in
    silence."""
    photo_path(raw, "train", "aachen_000000_000019").rename(
        photo_path(raw, "train", "aachen_000009_000019")
    )
    sentence = refused(raw, tmp_path / "dataset")
    assert "aachen_000009_000019_leftImg8bit.png is without label map" in sentence


def test_a_missing_instance_map_is_refused(raw, tmp_path):
    instance_path(raw, "val", "lindau_000001_000019").unlink()
    assert refused(raw, tmp_path / "dataset") == (
        f"--raw-data: {label_path(raw, 'val', 'lindau_000001_000019')} is without instance map: "
        "add them, build them from the labels with --instances components, "
        "or say --instances none; "
        "`--check` lists all problems."
    )


def test_one_name_in_two_cities_is_refused(raw, tmp_path):
    path = label_path(raw, "train", "ulm_000000_000019")
    other = shutil.copy(path, raw / "gtFine" / "train" / "aachen" / path.name)
    assert f"{path} has the same name as {other}: rename one of them; " in refused(
        raw, tmp_path / "dataset"
    )


def test_label_ids_without_a_channel_are_refused(raw, tmp_path):
    labels = np.full((HEIGHT, WIDTH), 7)
    labels[:16], labels[63, 64:] = 255, 35
    write_ids(label_path(raw, "train", "aachen_000000_000019"), labels)
    assert refused(raw, tmp_path / "dataset") == (
        f"--raw-data: {label_path(raw, 'train', 'aachen_000000_000019')} has ids without label: "
        "35 (0.781% of the pixels), 255 (25% of the pixels): "
        "raise --num-labels above them (256 at most), --remap them, or name them in "
        "--ignore-labels; `--check` lists all problems."
    )
    figures = make(raw, tmp_path / "dataset", PrepareConfig(size="32x64", num_labels=256))
    assert figures["train_pairs"] == 3


def test_the_highest_label_id_is_num_labels_minus_one(raw, tmp_path):
    # ids 1..5
    assert make(raw, tmp_path / "six", PrepareConfig(size="32x64", num_labels=6))["test_pairs"] == 2
    sentence = refused(raw, tmp_path / "dataset", num_labels=3)
    assert (
        "aachen_000000_000019_gtFine_labelIds.png has ids without label: 3 (100% of the pixels): "
        in sentence
    )


@pytest.mark.parametrize("path", [photo_path, instance_path])
def test_sizes_that_differ_within_a_pair_are_refused(raw, tmp_path, path):
    odd, label = (place(raw, "train", "ulm_000000_000019") for place in (path, label_path))
    write_ids(odd, np.zeros((HEIGHT, WIDTH + 4), int))
    told = f"{odd} is 64x132 but {label} is 64x128: give all maps of a pair one size, or one shape"
    assert told in refused(raw, tmp_path / "dataset")


def test_unreadable_files_are_refused(raw, tmp_path):
    """Both a file with a broken header and one whose pixels stop halfway."""
    label = label_path(raw, "train", "aachen_000000_000019")
    write_ids(label, noise(0, HEIGHT, WIDTH, high=30))
    whole = label.read_bytes()
    label.write_bytes(b"no picture")
    assert f"{label} cannot be read as an image (" in refused(raw, tmp_path / "dataset")
    label.write_bytes(whole[: len(whole) // 2])
    assert f"{label} cannot be read as an image (" in refused(raw, tmp_path / "dataset")
    label.write_bytes(b"")
    assert f"{label} cannot be read as an image (" in refused(raw, tmp_path / "dataset")


def test_a_picture_instead_of_ids_and_ids_instead_of_a_photo_are_refused(raw, tmp_path):
    photo, label = (path(raw, "train", "ulm_000000_000019") for path in (photo_path, label_path))
    before = photo.read_bytes()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.int32)).save(photo, "tiff")
    assert (
        f"{photo} has 1 channel of 32 bits, signed: give grey or colour of 8 or 16 bits a channel"
        in refused(raw, tmp_path / "dataset")
    )
    photo.write_bytes(before)
    label.write_bytes(before)
    assert (
        f"{label} holds colours (RGB), not label ids: save the labels file that `--check` prints, "
        "give it as --labels, or say --num-labels 0" in refused(raw, tmp_path / "dataset")
    )


def test_pictures_of_other_channels_are_refused(tmp_path):
    for folder in ("train_A", "train_B", "test_A", "test_B"):
        save(tmp_path / "raw" / folder / "x.png", noise(0, 4, 4, 3))
    sentence = refused(tmp_path / "raw", tmp_path / "dataset", **PICTURES, input_nc=4)
    assert (
        "train_A/x.png has 3 channels where 4 are wanted: " in sentence and "--input-nc" in sentence
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"num_labels": 0, "instances": "components"},
            "--instances components needs labels, but --num-labels is 0: ",
        ),
        (
            {"num_labels": 0, "remap": "cityscapes_train_ids"},
            "--remap and --ignore-labels change label ids, but ",
        ),
        (
            {"num_labels": 0, "ignore_labels": "255"},
            "--remap and --ignore-labels change label ids, but ",
        ),
        ({"remap": "nowhere.json"}, "--remap nowhere.json is no file: "),
    ],
)
def test_options_that_contradict_each_other_are_refused(raw, tmp_path, values, sentence):
    assert refused(raw, tmp_path / "dataset", **values).startswith(sentence)


def test_a_contradiction_is_refused_before_the_source_is_looked_at(tmp_path):
    values = {"num_labels": 0, "instances": "components"}
    sentence = refused("memory://no/such", tmp_path / "dataset", **values)
    assert sentence.startswith("--instances components needs labels")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"size": "32"},
            "--size '32': should be HEIGHTxWIDTH, xWIDTH, HEIGHTx, keep, round32 or "
            "round32max512, such as 512x1024.",
        ),
        ({"size": "0x64"}, "--size '0x64': should be HEIGHTxWIDTH"),
        ({"size": 512}, "--size 512: should be a valid string."),
        ({"num_labels": -1}, "--num-labels -1: should be greater than or equal to 0."),
        ({"num_labels": 257}, "--num-labels 257: should be less than or equal to 256."),
        ({"num_labels": 35.5}, "--num-labels 35.5: "),
        ({"input_nc": 0}, "--input-nc 0: should be greater than or equal to 1."),
        ({"max_images": -1}, "--max-images -1: should be greater than or equal to 0."),
        ({"test_fraction": 1}, "--test-fraction 1: should be less than 1."),
        ({"white_level": 0}, "--white-level 0: should be greater than or equal to 1."),
        ({"instances": "some"}, "--instances 'some': should be 'files', 'components' or 'none'."),
        (
            {"ignore_labels": "road"},
            "--ignore-labels 'road': should be label ids with commas between",
        ),
        ({"sise": "32x64"}, "prepare has no option --sise"),
        ({"use_instances": False}, "prepare has no option --use-instances"),
    ],
)
def test_bad_options_are_refused(values, sentence):
    assert refusal(PrepareConfig.check, values).startswith(sentence)


def test_255_cannot_be_both_a_label_and_ignored():
    assert (
        refusal(PrepareConfig.check, {"num_labels": 256, "ignore_labels": "3"})
        == "--ignore-labels turns ids into 255: --num-labels should be 255 or less."
    )


def test_numbers_from_json_may_be_floats():
    config = PrepareConfig.check({"num_labels": 40.0, "max_images": 3.0})
    assert (config.num_labels, config.max_images) == (40, 3)


# --- as a user runs it


def command(*flags):
    return subprocess.run(
        [sys.executable, "-m", "components.prepare", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_command_line_prepares_and_refuses(raw, tmp_path):
    done = command(
        "--raw-data", raw, "--dataset", tmp_path / "dataset", "--size", "x64", "--instances", "none"
    )
    assert done.returncode == 0, done.stderr
    assert "prepare: wrote: 5 of 5 pairs, " in done.stdout
    assert (
        f"prepare: wrote {tmp_path / 'dataset'} at 32x64, digest " in done.stdout.splitlines()[-1]
    )
    assert DatasetManifest.read(tmp_path / "dataset").has_instances is False

    refused = command("--raw-data", tmp_path / "nowhere", "--dataset", tmp_path / "other")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith("prepare") and refused.stderr.count("\n") == 1
    assert f"--raw-data {tmp_path / 'nowhere'} is no folder" in refused.stderr


def test_main_and_execute_exit_with_2_on_refusal(raw, tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["--raw-data", str(raw), "--dataset", str(tmp_path / "d"), "--size", "33"])
    assert refused.value.code == 2
    with pytest.raises(SystemExit) as refused:
        execute(
            run, PrepareConfig, {"num_labels": 3}, raw_data=str(raw), dataset=str(tmp_path / "d")
        )
    assert refused.value.code == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert not (tmp_path / "d").exists()


def test_the_kfp_face_runs_the_step_and_logs_its_figures(raw, tmp_path):
    dsl = pytest.importorskip("kfp.dsl")
    from components.prepare.component import prepare

    dataset = dsl.Dataset(uri=str(tmp_path / "dataset"))
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    config = {"size": "32x64", "num_labels": 35.0}
    outputs = dict(dataset=dataset, metrics=metrics)
    versions = dict(workspace="", code_version=code_version("prepare"), files_version="")
    prepare.python_func(raw_data=str(raw), config=config, given={}, **versions, **outputs)
    assert DatasetManifest.read(tmp_path / "dataset").common_size() == (32, 64)
    assert (metrics.metadata["train_pairs"], metrics.metadata["test_pairs"]) == (3, 2)


@pytest.mark.skipif(
    not EXCERPT.is_dir(), reason=f"the real excerpt of Cityscapes is not at {EXCERPT}"
)
def test_the_real_excerpt(tmp_path):
    figures = make(EXCERPT, tmp_path / "dataset", PrepareConfig(size="64x128"))
    assert (figures["train_pairs"], figures["test_pairs"], figures["test_photos"]) == (5, 8, 0)
    manifest = DatasetManifest.read(tmp_path / "dataset")
    assert not any(pair.has_photo for pair in manifest.test)
    highest = 0
    for split in ("train", "test"):
        for pair in getattr(manifest, split):
            labels, instances = (
                load(manifest.path(tmp_path / "dataset", split, kind, pair.name)).astype(int)
                for kind in ("input", "instance")
            )
            assert labels.shape == instances.shape == (pair.height, pair.width) == (64, 128)
            assert np.array_equal(labels, np.where(instances < 1000, instances, instances // 1000))
            highest = max(highest, instances.max())
    assert highest > 32767
    assert prepared(EXCERPT, tmp_path / "again", size="64x128").digest == manifest.digest


def test_what_is_in_an_archive_and_not_used_is_told_each_time(tmp_path, capsys):
    """The archive is a link whose own name alone says what it is; the second time it is unpacked
    already."""
    raw = flat(tmp_path / "raw", 2)
    (raw / "notes.txt").touch()
    save(raw / "depth" / "1.png", noise(0, 8, 16))
    with zipfile.ZipFile(tmp_path / "0a1b", "w") as archive:
        for path in sorted(raw.rglob("*.*")):
            archive.write(path, path.relative_to(raw))
    (tmp_path / "raw.zip").symlink_to("0a1b")
    copies = str(tmp_path / "copies")
    for _ in range(2):
        prepared(tmp_path / "raw.zip", tmp_path / "dataset", size="keep", copies=copies)
        lines = capsys.readouterr().out.splitlines()
        assert "prepare: not unpacked: 1 .txt" in lines
        assert "prepare: not used: 1 picture (such as depth/1.png)" in lines

    with zipfile.ZipFile(tmp_path / "0a1b", "a") as archive:
        archive.writestr("train_img/9.heic", b"a phone's")
        archive.writestr("train_label/9.psd", b"a layer")
    config = PrepareConfig(copies=copies)
    sentence = refusal(make, tmp_path / "raw.zip", tmp_path / "other", config)
    assert "train_img/9.heic is a .heic file, which is not read (2 such files): save" in sentence
