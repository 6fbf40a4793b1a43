"""What is read of a data set is what prepare wrote, or a sentence names the file that is not."""

import hashlib
import os
import shutil
import subprocess
import zlib

import numpy as np
import pytest
from PIL import Image

from components.prepare.__main__ import main as prepare
from shared.contracts.dataset import SUMS, DatasetManifest
from shared.data.checking import check_dataset
from shared.data.frames import FrameCache, cache_file
from shared.data.images import write_ids, write_picture
from shared.data.reader import PairReader
from shared.data.written import NotAsPrepared, read_sums, sum_line
from shared.errors import InputError
from tests import tiny

LABELS, IDS, PHOTO = "train_label/train_0.png", "train_inst/train_0.png", "train_img/train_0.png"
REMEDY = ": put back what prepare wrote, or prepare the data set again."
OLD = 1e9  # seconds: long before any reader is made


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Files of a moment ago are as those of long ago: ctime cannot be set."""
    monkeypatch.setattr("shared.data.written.SLACK_NS", -3_600_000_000_000)


def saved(change):
    def damage(path):
        with Image.open(path) as image:
            change(image).save(path, format="PNG")

    return damage


def with_pixels(change):
    def damage(path):
        with Image.open(path) as image:
            pixels = np.array(image)
        change(pixels)
        (write_ids if pixels.ndim == 2 else write_picture)(
            path, pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        )

    return damage


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def as_bmp(path):
    with Image.open(path) as image:
        image.save(path, format="BMP")


def high(pixels):
    pixels[3, 5] = 35


def another_id(pixels):
    pixels[0, 0] = 60000


DAMAGES = [
    (LABELS, saved(lambda i: i.resize((64, 40))), "is 40x64, PNG, 1 channel of 8 bits, where "),
    (PHOTO, saved(lambda i: i.convert("L")), "is 32x64, PNG, 1 channel of 8 bits, where "),
    (PHOTO, saved(lambda i: i.convert("RGBA")), "is 32x64, PNG, 4 channels of 8 bits, where "),
    (LABELS, saved(lambda i: i.convert("P")), "1 channel of 8 bits with a palette, where"),
    (LABELS, saved(lambda i: i.convert("I;16")), "is 32x64, PNG, 1 channel of 16 bits, where "),
    (PHOTO, as_bmp, "is 32x64, BMP, 3 channels of 8 bits, where manifest.json says 32x64, PNG, 3"),
    (LABELS, with_pixels(high), "has label 35 of 35 labels"),
    (IDS, with_pixels(another_id), "instances where manifest.json says "),
    (PHOTO, flipped, "cannot be read as an image ("),
    (PHOTO, lambda path: path.write_bytes(path.read_bytes()[:-200]), "cannot be read as an image"),
    (PHOTO, lambda path: path.write_bytes(b""), "cannot be read as an image (it is empty)"),
    (LABELS, lambda path: path.unlink(), "is missing"),
]


@pytest.mark.parametrize(("file", "damage", "found"), DAMAGES)
def test_another_file_is_named_at_the_read(tmp_path, file, damage, found):
    manifest = tiny.dataset(tmp_path, train=2)
    damage(tmp_path / file)
    reader = PairReader(tmp_path, manifest, "train")
    assert reader.read(1).name == "train_1"  # the others are read
    with pytest.raises(NotAsPrepared) as refusal:
        reader.read(0)
    said = str(refusal.value)
    assert said.startswith(f"{tmp_path / file} ") and found in said and said.endswith(REMEDY)
    with pytest.raises(NotAsPrepared):
        check_dataset(tmp_path, manifest)


def test_labels_may_be_ignored_and_go_up_to_the_last(tmp_path):
    sample = tiny.sample(np.random.default_rng(0), 32, 64)
    sample["input"][:2], sample["input"][2:4] = 255, 34
    manifest = tiny.write(tmp_path, {"train": {"a": sample}})
    assert np.array_equal(PairReader(tmp_path, manifest, "train").read(0).inputs, sample["input"])


@pytest.mark.parametrize("num_labels", [255, 256])
def test_every_number_may_be_a_label(tmp_path, num_labels):
    sample = tiny.sample(np.random.default_rng(0), 16, 16)
    sample["input"] = np.arange(256, dtype=np.uint8).reshape(16, 16)
    manifest = tiny.write(tmp_path, {"train": {"a": sample}}, num_labels=num_labels)
    assert np.array_equal(PairReader(tmp_path, manifest, "train").read(0).inputs, sample["input"])


# Files that change after the reader was made.


def mirrored(path, when=None):
    """Other pixels of the same size and type; renamed into the place of the first."""
    other = path.with_suffix(".new")
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other, format="PNG")
    if when:
        os.utime(other, (when, when))
    other.rename(path)


@pytest.mark.parametrize("when", [None, OLD])
def test_a_picture_exchanged_for_one_of_its_size_is_named(tmp_path, monkeypatch, when):
    """Also one that is older than the reader, by its time."""
    monkeypatch.setattr("shared.data.written.SLACK_NS", 0)
    manifest = tiny.dataset(tmp_path, train=2)
    reader = PairReader(tmp_path, manifest, "train")
    reader.read(0)
    mirrored(tmp_path / PHOTO, when)
    with pytest.raises(NotAsPrepared) as refusal:
        reader.read(0)
    begin = "the data set was changed since this step began to read it: "
    assert str(refusal.value) == f"{begin}{tmp_path / PHOTO} has other content{REMEDY}"


def test_a_folder_in_the_place_of_the_first_is_noticed(tmp_path):
    """As old as that, by all times, and with the same names."""
    manifest = tiny.dataset(tmp_path / "data", train=2)
    tiny.dataset(tmp_path / "other", train=2)
    mirrored(tmp_path / "other" / PHOTO)
    reader = PairReader(tmp_path / "data", manifest, "train")
    reader.read(0)
    (tmp_path / "data").rename(tmp_path / "before")
    (tmp_path / "other").rename(tmp_path / "data")
    with pytest.raises(
        NotAsPrepared, match="since this step began .* has other content|SHA256SUMS"
    ):
        reader.read(0)


def test_what_was_only_touched_copied_or_linked_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.data.written.SLACK_NS", 0)
    manifest = tiny.dataset(tmp_path / "data", train=2)
    reader = PairReader(tmp_path / "data", manifest, "train")
    before = reader.read(0)
    photo = tmp_path / "data" / PHOTO
    for change in (os.utime, lambda path: os.link(path, tmp_path / "link")):
        change(photo)
        tiny.assert_same(reader.read(0), before)
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "copy").rename(tmp_path / "data")
    tiny.assert_same(reader.read(0), before)


# Data sets of earlier versions.


def made_earlier(folder) -> DatasetManifest:
    """Without what earlier versions did not write: list, seal, checksums."""
    manifest = DatasetManifest.read(folder)
    (folder / SUMS).unlink()
    old = manifest.model_copy(update={"files": {}}).model_dump_json(indent=2, exclude={"files"})
    (folder / DatasetManifest.FILE).write_text(old + "\n")
    if (folder / "cache").is_dir():
        (folder / "cache/cache.json").write_text(f'{{"format":1,"digest":"{manifest.digest}"}}')
        for file in folder.glob("cache/*.crc32"):
            file.unlink()
    return DatasetManifest.read(folder)


def test_a_data_set_of_an_earlier_version_is_read(tmp_path, capsys):
    new = tiny.dataset(tmp_path, train=2, cache=True)
    wanted = PairReader(tmp_path, new, "train").read(1)
    old = made_earlier(tmp_path)
    assert old == new.model_copy(update={"files": {}})
    for use_cache in (True, False):
        tiny.assert_same(PairReader(tmp_path, old, "train", use_cache).read(1), wanted)
    assert "of an earlier version, without checksums" in capsys.readouterr().out
    mirrored(tmp_path / PHOTO)  # in time, which is all that is known of it
    PairReader(tmp_path, old, "train", use_cache=False).read(0)


# The whole data set.


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    place = tmp_path_factory.mktemp("prepared")
    prepare(["demo", f"--out={place / 'raw'}", "--train=3", "--test=1", "--size=32x64"])
    prepare([f"--raw-data={place / 'raw'}", f"--dataset={place / 'data'}", "--size=32x64"])
    return place / "data"


def test_sha256sum_reads_the_list(prepared):
    command = ["sha256sum", "--check", "--strict", SUMS]
    shown = subprocess.run(command, cwd=prepared, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout.count(": OK\n") == 4 * 3
    digest = hashlib.sha256((prepared / SUMS).read_bytes()).hexdigest()
    assert DatasetManifest.read(prepared).files == {SUMS: digest}


def test_names_that_would_break_the_list_are_escaped_as_sha256sum_does(tmp_path):
    names = ["a b", "back\\slash", "two\nlines", "\\n"]
    content = b""
    for name in names:
        (tmp_path / name).write_text(name)
        line = sum_line(hashlib.sha256(name.encode()).hexdigest(), name)
        shown = subprocess.run(["sha256sum", name], cwd=tmp_path, capture_output=True)
        assert shown.stdout == line.encode()
        content += line.encode()
    (tmp_path / SUMS).write_bytes(content)
    manifest = tiny.dataset(tmp_path / "any", train=1, test=0)
    manifest = manifest.model_copy(update={"files": {SUMS: hashlib.sha256(content).hexdigest()}})
    assert set(read_sums(tmp_path, manifest)) == {*names}


def test_check_dataset_says_what_is_whole_and_names_what_is_not(prepared, tmp_path, capsys):
    """On the command line, for each kind of file and each way to be another one."""
    check = ["check-dataset", f"--dataset={tmp_path / 'data'}"]
    shutil.copytree(prepared, tmp_path / "data")
    prepare(check)
    assert "is as prepare wrote it, digest " in capsys.readouterr().out
    first = sorted((tmp_path / "data" / "train_img").iterdir())[0]
    changes = {
        f"{first} has other content": lambda: mirrored(first),
        f"{first} is missing": first.unlink,
        f"{tmp_path / 'data' / SUMS} is not the file": lambda: flipped(tmp_path / "data" / SUMS),
        "cache/train.bin is damaged where ": lambda: flipped(tmp_path / "data/cache/train.bin"),
        "cache/test.crc32 is not the file": lambda: flipped(tmp_path / "data/cache/test.crc32"),
    }
    for words, change in changes.items():
        shutil.rmtree(tmp_path / "data")
        shutil.copytree(prepared, tmp_path / "data")
        change()
        with pytest.raises(SystemExit, match="^2$"):
            prepare(check)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("check-dataset refused: ") or words in line
        assert words in line


def test_one_digest_tells_of_a_data_set_of_an_earlier_version(prepared, tmp_path, capsys):
    shutil.copytree(prepared, tmp_path / "data")
    manifest = made_earlier(tmp_path / "data")
    check_dataset(tmp_path / "data", manifest)
    assert "is as prepare wrote it" in capsys.readouterr().out
    mirrored(sorted((tmp_path / "data/test_label").iterdir())[0])
    with pytest.raises(NotAsPrepared, match="an image file of .* has other content"):
        check_dataset(tmp_path / "data", manifest)


# The cache.


def zeroed(file):
    file.write_bytes(bytes(file.stat().st_size))


def halves_exchanged(file):
    content = file.read_bytes()
    half = len(content) // 2
    file.write_bytes(content[half:] + content[:half])


@pytest.mark.parametrize("damage", [zeroed, flipped, halves_exchanged])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_damaged_record_is_named(tmp_path, damage, is_open):
    """Damaged before it is opened, and after it was read already."""
    manifest = tiny.dataset(tmp_path, train=2, cache=True)
    reader = PairReader(tmp_path, manifest, "train")
    if is_open:
        reader.read(0), reader.read(1)
    damage(cache_file(tmp_path, "train"))
    os.utime(cache_file(tmp_path, "train"))
    with pytest.raises(NotAsPrepared, match=r"train\.bin is damaged where train_[01] stands"):
        reader.read(0), reader.read(1)


def test_a_cache_that_shrinks_under_a_reader_is_a_sentence(tmp_path):
    manifest = tiny.dataset(tmp_path, train=2, cache=True)
    reader = PairReader(tmp_path, manifest, "train")
    reader.read(1)
    os.truncate(cache_file(tmp_path, "train"), 100)
    with pytest.raises(
        NotAsPrepared, match="train.bin is damaged where train_1 stands: remove the"
    ):
        reader.read(1)


def test_a_cache_that_is_removed_or_replaced_is_read_as_it_was(tmp_path):
    manifest = tiny.dataset(tmp_path, train=2, cache=True)
    reader = PairReader(tmp_path, manifest, "train")
    before = reader.read(0)
    os.replace(cache_file(tmp_path, "test"), cache_file(tmp_path, "train"))
    tiny.assert_same(reader.read(0), before)
    shutil.rmtree(tmp_path / "cache")
    tiny.assert_same(reader.read(0), before)


def test_checksums_are_those_of_zlib(tmp_path):
    manifest = tiny.dataset(tmp_path, train=2, cache=True)
    cache = FrameCache.open(tmp_path, manifest, "train")
    content = cache_file(tmp_path, "train").read_bytes()
    half = len(content) // 2
    assert cache.checksums.tolist() == [zlib.crc32(content[:half]), zlib.crc32(content[half:])]


# The manifest.


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"num_labels": 35', '"num_labels": 36'),
        ('"height": 32', '"height": 64'),
        ('"name": "train_0"', '"name": "train_9"'),
        ('"has_photo": true', '"has_photo": false'),
        ('"digest": "', '"digest": "0'),
    ],
)
def test_a_manifest_that_was_edited_is_refused(tmp_path, old, new):
    tiny.dataset(tmp_path)
    path = tmp_path / DatasetManifest.FILE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError) as refusal:
        DatasetManifest.read(tmp_path)
    assert str(refusal.value).startswith(f"{path} was changed after it was written: ")


def test_a_pair_that_is_named_twice_is_refused(tmp_path):
    manifest = tiny.dataset(tmp_path)
    manifest.model_copy(update={"train": [*manifest.train, manifest.train[1]]}).write(tmp_path)
    with pytest.raises(InputError, match="names train_1 twice in its train split"):
        DatasetManifest.read(tmp_path)
