"""`python -m components.prepare --check`: all problems at once; what it says prepare refuses,
prepare refuses."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.prepare.__main__ import main
from components.prepare.check import check
from components.prepare.config import PrepareConfig
from components.prepare.problems import ACCEPTED, REMEDIES, Problem
from components.prepare.run import run
from components.prepare.writing import parallel
from shared.flags import as_flag
from tests.asking import refusal, refusal_of_command
from tests.pictures import png
from tests.places import EXCERPT, ROOT
from tests.prepare.files import noise, save

# The first line of the report on `raw`.
FLAT = (
    "layout flat (found test_img/, test_label/, train_img/, train_label/): train_label/ and "
    "test_label/ hold the input, train_img/ and test_img/ the photos, train_inst/ and test_inst/ "
    "the instance maps"
)


def add_pair(raw, split, name, label, other=None):
    """8x8 pixels of `label`, the lower half of `other`; instance ids are label * 1000; a photo of
    noise."""
    labels = np.full((8, 8), label, np.uint8)
    labels[4:] = label if other is None else other
    save(raw / f"{split}_label" / f"{name}.png", labels)
    save(raw / f"{split}_inst" / f"{name}.png", labels.astype(np.uint16) * 1000)
    save(raw / f"{split}_img" / f"{name}.png", noise([*map(ord, split + name)], 8, 8, 3))


@pytest.fixture
def raw(tmp_path):
    """NVIDIA's flat layout, three pairs to train on and one to test on."""
    add_pair(tmp_path / "raw", "train", "a", 7)
    add_pair(tmp_path / "raw", "train", "b", 7, 26)
    add_pair(tmp_path / "raw", "train", "c", 11)
    add_pair(tmp_path / "raw", "test", "a", 26)
    return tmp_path / "raw"


@pytest.fixture
def side_by_side(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "raw" / split / "a.png", noise([*map(ord, split)], 8, 16, 3))
    return tmp_path / "raw"


def tree(folder):
    """Path -> size and time of all files and folders."""
    return {
        path: (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }


def exit_code(*flags: str) -> int:
    """Of --check with these flags, in this process."""
    try:
        main(["--check", *flags])
    except SystemExit as end:
        return end.code
    return 0


def report_of(raw, capsys, **values):
    """Exit code, table and what --check-report has; nothing else may be written."""
    flags = [
        part
        for name, value in values.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    before = tree(raw.parent)
    capsys.readouterr()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        code = exit_code("--raw-data", str(raw), "--check-report", str(file), *flags)
        report = json.loads(file.read_text())
    assert tree(raw.parent) == before
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out.removesuffix("\n"), report


# --- good data


def test_good_data(raw, capsys):
    code, table, report = report_of(raw, capsys)
    assert code == 0
    assert report == {
        "layout": "flat",
        "notes": [FLAT],
        "train_pairs": 3,
        "test_pairs": 1,
        "sizes": {"8x8": 4},
        "labels": {
            "7": {"name": "7", "pixels": 64 + 32, "images": 2},
            "11": {"name": "11", "pixels": 64, "images": 1},
            "26": {"name": "26", "pixels": 32 + 64, "images": 2},
        },
        "instances": 5,
        "accepted": True,
        "problems": [],
    }
    assert table.splitlines()[0].startswith("prepare: checked: 4 of 4 pairs, ")
    assert table.splitlines()[1:] == [
        FLAT,
        "3 train pairs, 1 test pairs, 5 instances",
        "sizes: 8x8 (4)",
        "",
        "  label    pixels  images",
        "      7   37.500%       2",
        "     11   25.000%       1",
        "     26   37.500%       2",
        "",
        "no problems",
    ]


def test_labels_are_counted_as_prepare_will_write_them(raw, tmp_path, capsys):
    (tmp_path / "table.json").write_text('{"7": 0, "26": 1, "others": 255}')
    options = dict(remap=tmp_path / "table.json", num_labels=2, instances="components")
    code, table, report = report_of(raw, capsys, **options)
    assert code == 0
    assert {label: of["pixels"] for label, of in report["labels"].items()} == {
        "0": 96,
        "1": 96,
        "255": 64,
    }
    assert "ignored   25.000%       1" in table and "no problems" in table
    code, _, report = report_of(raw, capsys, instances="none")
    assert (code, report["instances"]) == (0, 0)


def test_only_what_would_be_prepared_is_looked_at(raw, capsys):
    code, _, report = report_of(raw, capsys, max_images=1)
    assert (code, report["train_pairs"], report["test_pairs"]) == (0, 1, 1)
    assert report["labels"].keys() == {"7", "26"}


def test_pictures_as_input_have_no_labels(side_by_side, capsys):
    save(side_by_side / "train" / "b.png", noise(0, 6, 10, 3))
    save(side_by_side / "train" / "c.png", noise(1, 6, 10, 3))
    code, table, report = report_of(side_by_side, capsys, num_labels=0, instances="none")
    assert (code, report["layout"], report["labels"]) == (0, "side_by_side", {})
    assert report["sizes"] == {"8x8": 2, "6x5": 2}  # of one half
    assert "\n  label" not in table and "sizes: 8x8 (2), 6x5 (2)" in table


# --- every kind of problem: spoils pair `b` of the raw data, gives options and how the file is
# described


def photo_without_input(raw, b):
    save(raw / "train_img" / f"{b}_2.png", noise(0, 8, 8, 3))
    return {}, f"train_img/{b}_2.png is without label map or input picture"


def missing_photo(raw, b):
    (raw / "train_img" / f"{b}.png").unlink()
    return {}, f"train_label/{b}.png is without photo"


def missing_instance_map(raw, b):
    (raw / "train_inst" / f"{b}.png").unlink()
    return {}, f"train_label/{b}.png is without instance map"


def instance_map_without_input(raw, b):
    save(raw / "train_inst" / f"{b}_2.png", noise(0, 8, 8))
    return {}, f"train_inst/{b}_2.png is without label map or input picture"


def duplicate_name(raw, b):
    save(raw / "train_label" / f"{b}.bmp", np.full((8, 8), 7, np.uint8))
    return {}, f"train_label/{b}.png has the same name as {raw}/train_label/{b}.bmp"


def unusable_name(raw, b):
    save(raw / "train_label" / f"{'x' * 208}.png", np.full((8, 8), 7, np.uint8))
    return {}, ".png gives no name to a pair: it has 208 bytes, but 207 at most fit"


def unreadable_header(raw, b):
    (raw / "train_inst" / f"{b}.png").write_bytes(b"no picture")
    return {}, f"train_inst/{b}.png cannot be read as an image (of no known format)"


def truncated_pixels(raw, b):
    save(raw / "train_img" / f"{b}.png", noise(0, 8, 8, 3))
    content = (raw / "train_img" / f"{b}.png").read_bytes()
    (raw / "train_img" / f"{b}.png").write_bytes(content[: len(content) // 2])
    return {}, f"train_img/{b}.png cannot be read as an image ("


def truncated_jpeg(raw, b):
    (raw / "train_img" / f"{b}.png").unlink()
    save(raw / "train_img" / f"{b}.jpg", noise(0, 8, 8, 3))
    content = (raw / "train_img" / f"{b}.jpg").read_bytes()
    (raw / "train_img" / f"{b}.jpg").write_bytes(content[:-20])
    return {}, f"train_img/{b}.jpg cannot be read as an image (image file is truncated ("


def broken_array(raw, b):
    (raw / "train_inst" / f"{b}.png").unlink()
    save(raw / "train_inst" / f"{b}.npy", np.zeros((8, 8), int))
    content = (raw / "train_inst" / f"{b}.npy").read_bytes()
    (raw / "train_inst" / f"{b}.npy").write_bytes(content[:-8])
    return {}, f"train_inst/{b}.npy cannot be read as an image ("


def a_picture_of_labels(raw, b):
    save(raw / "train_label" / f"{b}.png", noise(0, 8, 8, 3))
    return {}, f"train_label/{b}.png holds colours (RGB), not label ids"


def an_array_of_colours_as_instances(raw, b):
    (raw / "train_inst" / f"{b}.png").unlink()
    save(raw / "train_inst" / f"{b}.npy", noise(0, 8, 8, 3))
    return {}, f"train_inst/{b}.npy holds uint8 of shape (8, 8, 3)"


def a_photo_of_32_bits(raw, b):
    (raw / "train_img" / f"{b}.png").unlink()
    save(raw / "train_img" / f"{b}.tif", np.zeros((8, 8), np.int32))
    return {}, f"train_img/{b}.tif has 1 channel of 32 bits, signed"


def a_photo_of_fractions(raw, b):
    (raw / "train_img" / f"{b}.png").unlink()
    save(raw / "train_img" / f"{b}.npy", np.zeros((8, 8, 3)))
    return {}, f"train_img/{b}.npy holds float64 of shape (8, 8, 3)"


def a_photo_of_another_format(raw, b):
    (raw / "train_img" / f"{b}.png").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    return {}, f"train_img/{b}.png is HEIC, which is not read"


def a_photo_of_two_pages(raw, b):
    (raw / "train_img" / f"{b}.png").unlink()
    pages = [Image.fromarray(noise(seed, 8, 8, 3)) for seed in range(2)]
    pages[0].save(raw / "train_img" / f"{b}.tif", save_all=True, append_images=pages[1:])
    return {}, f"train_img/{b}.tif holds several pages"


def a_photo_beyond_all_memory(raw, b):
    (raw / "train_img" / f"{b}.png").write_bytes(png(noise(0, 8, 8), size=(10**6, 10**6)))
    return {}, f"train_img/{b}.png is 1000000x1000000 and would take 11175.9 GiB of memory"


def a_photo_of_wide_range(raw, b):
    hlg = (b"cICP", bytes([9, 18, 0, 1]))
    (raw / "train_img" / f"{b}.png").write_bytes(png(noise(0, 8, 8), chunks=[hlg]))
    return {}, f"train_img/{b}.png has colours of a wide range (primaries 9, transfer 18)"


def a_photo_with_holes(raw, b):
    save(
        raw / "train_img" / f"{b}.png",
        np.dstack([noise(0, 8, 8, 3), 255 * np.eye(8, dtype=np.uint8)]),
    )
    return {}, f"train_img/{b}.png is transparent on 87.5% of its pixels"


def photos_of_a_camera_of_12_bits(raw, b):
    for seed, file in enumerate(sorted(raw.glob("*_img/*.png"))):
        save(file, noise(seed, 8, 8, dtype=np.uint16) * 16)
    return {}, " as its highest number, of 65535, and no other of 4 photos a higher one"


def wrong_channels(raw, b):
    """On layout side_by_side, with pictures as input."""
    save(raw / "train" / "a.png", noise(0, 8, 16, 4))
    save(raw / "val" / "a.png", noise(1, 8, 16, 4))
    options = dict(num_labels=0, instances="none", input_nc=4, transparency="drop")
    save(raw / "train" / f"{b}.png", noise(2, 8, 16, 3))
    return options, f"train/{b}.png has 3 channels where 4 are wanted"


def a_jpeg_of_labels(raw, b):
    """Whatever its suffix says."""
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(raw / "train_label" / f"{b}.png", "JPEG")
    return {}, f"train_label/{b}.png is a JPEG"


def a_jpeg_in_a_tiff_of_instances(raw, b):
    (raw / "train_inst" / f"{b}.png").unlink()
    path = raw / "train_inst" / f"{b}.tif"
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(path, compression="jpeg")
    return {}, f"train_inst/{b}.tif is a TIFF of lossy compression"


def palettes_differ(raw, b):
    """Number 7 is red in one map and green in the other; what neither uses may differ."""
    for name, colour, unused in ((b, (255, 0, 0), 1), (f"{b}2", (0, 255, 0), 2)):
        add_pair(raw, "train", name, 7)
        image = Image.fromarray(np.full((8, 8), 7, np.uint8)).convert("P")
        image.putpalette([unused] * 21 + [*colour])
        image.save(raw / "train_label" / f"{name}.png")
    found = f"has colour [0, 255, 0] as number 7 of its palette, but {raw}/train_label/{b}.png has "
    return {}, f"train_label/{b}2.png {found}[255, 0, 0]"


def unknown_colours(raw, b):
    """Also as JPEG would have them: more than there is room to name."""
    table = raw.parent / "labels.json"
    labels = [dict(id=i, name=f"grey {i}", colour=[i, i, i]) for i in (7, 11, 26)]
    table.write_text(json.dumps(labels))
    reds = np.full((8, 8, 3), 26, np.uint8)
    reds[0, :, 0] = np.arange(8)
    reds[1, :2] = 200
    reds[1, 2] = 201
    save(raw / "train_label" / f"{b}.png", reds)
    return dict(labels=str(table), instances="none"), (
        f"train_label/{b}.png has colours without label: [200, 200, 200] (3.12% of the pixels), "
        + "".join(f"[{red}, 26, 26] (1.56% of the pixels), " for red in range(7))
        + "2 more colours (3.12% of the pixels)"
    )


def resized_with_antialiasing(raw, b):
    """A disc of id 30 on 0, made smaller: every id between them comes up at its edge."""
    rows, columns = np.mgrid[:256, :256] - 128
    disc = (30 * (rows**2 + columns**2 < 100**2)).astype(np.uint8)
    labels = np.asarray(Image.fromarray(disc).resize((64, 64), Image.Resampling.BILINEAR))
    save(raw / "train_label" / f"{b}.png", labels)
    save(raw / "train_inst" / f"{b}.png", labels)
    save(raw / "train_img" / f"{b}.png", noise(0, 64, 64, 3))
    return {}, f"train_label/{b}.png has ids on edges alone, as antialiasing makes them: "


def sizes_differ(raw, b):
    save(raw / "train_img" / f"{b}.png", noise(0, 8, 10, 3))
    return {}, f"train_img/{b}.png is 8x10 but {raw}/train_label/{b}.png is 8x8"


def several_scales(raw, b):
    save(raw / "train_img" / f"{b}.png", noise(0, 16, 16, 3))
    return {}, f"train_img/{b}.png is 16x16 but {raw}/train_label/{b}.png is 8x8"


def odd_width(raw, b):
    """On layout side_by_side."""
    save(raw / "train" / f"{b}.png", noise(0, 8, 17, 3))
    return dict(num_labels=0, instances="none"), f"train/{b}.png is 17 pixels wide"


def unknown_label_ids(raw, b):
    labels = np.full((8, 8), 7, np.uint8)
    labels[0], labels[7, 7] = 255, 35
    save(raw / "train_label" / f"{b}.png", labels)
    save(raw / "train_inst" / f"{b}.png", labels)
    ids = "35 (1.56% of the pixels), 255 (12.5% of the pixels)"
    return {}, f"train_label/{b}.png has ids without label: {ids}"


def too_many_components(raw, b):
    board = (np.add.outer(np.arange(256), np.arange(257)) % 2).astype(np.uint8)
    save(raw / "train_label" / f"{b}.png", board)
    save(raw / "train_img" / f"{b}.png", noise(0, 256, 257, 3))
    options = dict(instances="components")
    return options, f"train_label/{b}.png falls into 65792 regions of one label"


def instances_across_labels(raw, b):
    save(raw / "train_inst" / f"{b}.png", np.full((8, 8), 40000, np.uint16))
    return {}, f"train_inst/{b}.png has instances in several labels: 40000"


def duplicate_picture(raw, b):
    (raw / "train_img" / f"{b}.png").write_bytes((raw / "train_img" / "a.png").read_bytes())
    return {}, f"train_img/{b}.png is the same picture as {raw}/train_img/a.png"


def no_test_split(raw, b):
    return dict(test_splits="day"), f"{raw} has no split day, which --test-splits names (found "


def doubtful_layout(raw, b):
    """On layout side_by_side: photos with masks in a folder below them."""
    save(raw / "train" / "masks" / f"{b}.png", noise(0, 8, 16, 3))
    found = "would be cut into halves, but lies in the folder masks/"
    return dict(num_labels=0, instances="none"), f"train/masks/{b}.png {found}"


def broken_link(raw, b):
    (raw / "train_label" / f"{b}_2.png").symlink_to(raw / "not fetched.png")
    found = f"is a link to {raw}/not fetched.png, which is missing"
    return {}, f"train_label/{b}_2.png {found}"


def unread_format(raw, b):
    save(raw / "train_label" / f"{b}_2.png", np.full((8, 8), 7, np.uint8))
    save(raw / "train_inst" / f"{b}_2.png", np.full((8, 8), 7, np.uint8))
    (raw / "train_img" / f"{b}_2.heic").write_bytes(b"a phone's")
    return {}, f"train_img/{b}_2.heic is a .heic file, which is not read"


def names_differ(raw, b):
    (raw / "train_inst" / f"{b}.png").rename(raw / "train_inst" / f"{b}_inst.png")
    found = f"but {raw}/train_inst/{b}_inst.png differs by `_inst`"
    return {}, f"train_label/{b}.png has no instance map of its name, {found}"


def levels_of_grey(raw, b):
    """Masks of black and white in folders of labels and images."""
    for split in ("train", "test"):
        (raw / "images").mkdir(exist_ok=True)
        (raw / f"{split}_img").rename(raw / "images" / split)
        for file in (raw / f"{split}_label").iterdir():
            save(raw / "labels" / split / file.name, np.full((8, 8), [0] * 4 + [255] * 4, np.uint8))
            file.unlink()
        (raw / f"{split}_label").rmdir()
    return dict(instances="none", layout="folders"), "has label maps of the ids 0, 255 alone"


KINDS = {
    doubtful_layout: "doubtful layout",
    broken_link: "broken link",
    unread_format: "unread format",
    names_differ: "names differ",
    no_test_split: "splits",
    photo_without_input: "photo without input",
    missing_photo: "missing photo",
    missing_instance_map: "missing instance map",
    instance_map_without_input: "instance map without input",
    duplicate_name: "duplicate name",
    unusable_name: "unusable name",
    unreadable_header: "unreadable",
    truncated_pixels: "unreadable",
    truncated_jpeg: "unreadable",
    broken_array: "unreadable",
    a_picture_of_labels: "coloured label map",
    a_jpeg_of_labels: "lossy ids",
    a_jpeg_in_a_tiff_of_instances: "lossy ids",
    palettes_differ: "palettes differ",
    unknown_colours: "unknown colours",
    resized_with_antialiasing: "looks resized",
    an_array_of_colours_as_instances: "wrong mode of ids",
    a_photo_of_32_bits: "wrong mode of picture",
    a_photo_of_fractions: "wrong mode of picture",
    a_photo_of_another_format: "unread format",
    a_photo_of_two_pages: "several pictures",
    a_photo_beyond_all_memory: "too large",
    a_photo_of_wide_range: "colour space",
    a_photo_with_holes: "transparent picture",
    photos_of_a_camera_of_12_bits: "dark pictures",
    wrong_channels: "wrong channels",
    sizes_differ: "sizes differ",
    several_scales: "several scales",
    odd_width: "odd width",
    unknown_label_ids: "unknown label ids",
    levels_of_grey: "levels of grey",
    too_many_components: "too many components",
    instances_across_labels: "instances across labels",
    duplicate_picture: "duplicate picture",
}


OF_HALVES = (doubtful_layout, wrong_channels, odd_width)  # which spoil layout side_by_side


@pytest.mark.parametrize("spoil", KINDS, ids=lambda spoil: spoil.__name__)
def test_prepare_refuses_what_the_check_says_it_refuses_and_nothing_else(
    spoil, request, tmp_path, capsys
):
    pictures = spoil in OF_HALVES
    raw = request.getfixturevalue("side_by_side" if pictures else "raw")
    good = dict(num_labels=0, instances="none") if pictures else {}
    assert report_of(raw, capsys, **good)[0] == 0
    run(str(raw), tmp_path / "good", PrepareConfig(size="4x4", **good))

    options, found = spoil(raw, "b")
    kind = KINDS[spoil]
    code, table, report = report_of(raw, capsys, **options)
    assert code == (0 if kind in ACCEPTED else 2)
    # A photo that is not read is missing, too.
    found_kinds = [problem["kind"] for problem in report["problems"]]
    assert found_kinds == [kind] + ["missing photo"] * (spoil is unread_format)
    problem = report["problems"][0]
    described, remedy = f"{problem['file']} {problem['found']}", problem["remedy"]
    assert found in described
    verdict = "accepts" if kind in ACCEPTED else "refuses"
    told = f"    {described}\n"
    if problem["shares"]:
        told = f"    {problem['shares'][0][0]}: 1 file, "
    assert f"\n{kind} (prepare {verdict} it). What to do: {remedy}.\n{told}" in table
    count = len(found_kinds)
    last = f"prepare refuses this: {count} problem{'s' * (count > 1)}"
    assert table.endswith(f"\n\n{last if code else 'nothing that prepare refuses'}")
    assert unknown_flags(remedy) == []

    config = PrepareConfig(size="4x4", **options)
    if kind in ACCEPTED:
        run(str(raw), tmp_path / "dataset", config)
    else:
        sentence = refusal(run, str(raw), tmp_path / "dataset", config)
        all_problems = "`--check` lists all problems."
        assert sentence == f"--raw-data: {described}: {remedy}; {all_problems}"
        assert not (tmp_path / "dataset").exists()


def unknown_flags(text: str) -> list[str]:
    """The flags in a text that `prepare` does not have."""
    flags = {as_flag(name) for name in PrepareConfig.model_fields} | {"--check", "--check-report"}
    return [flag for flag in re.findall(r"--[a-z][a-z-]*", text) if flag not in flags]


def test_remedies_name_flags_that_there_are():
    assert [flag for text in REMEDIES.values() for flag in unknown_flags(text)] == []
    assert unknown_flags("say --size keep, or --sizes 7") == ["--sizes"]


def test_every_kind_is_tested():
    assert {*KINDS.values()} == REMEDIES.keys() and ACCEPTED < REMEDIES.keys()


def spoil_all(raw):
    """Every kind of problem that maps of labels can have, each in a pair of its own; seven more
    unreadable photos."""
    spoilers = [
        spoil
        for spoil in KINDS
        if spoil
        not in (
            *OF_HALVES,
            too_many_components,
            no_test_split,
            names_differ,
            unread_format,
            unknown_colours,
            photos_of_a_camera_of_12_bits,
            levels_of_grey,
        )
    ]
    spoilers += [unreadable_header] * 7
    for number, spoil in enumerate(spoilers):
        add_pair(raw, "train", f"{number:02d}", 7, 26)
        spoil(raw, f"{number:02d}")
    return [KINDS[spoil] for spoil in spoilers]


@pytest.mark.parametrize("many", [10**6, 1], ids=["threads", "processes"])
def test_all_problems_are_listed_at_once(raw, capsys, monkeypatch, many):
    monkeypatch.setattr(parallel, "MANY", many)
    expected = spoil_all(raw)
    code, table, report = report_of(raw, capsys)
    assert code == 2
    found = [problem["kind"] for problem in report["problems"]]
    assert sorted(found) == sorted(expected)
    refused = [kind for kind in expected if kind not in ACCEPTED]
    assert table.endswith(f"\n\nprepare refuses this: {len(refused)} problems")

    # A line for each kind, with how many files it is, and one of them.
    lines = table.splitlines()
    for kind in {*expected} - {"unknown label ids"}:
        files = [problem for problem in report["problems"] if problem["kind"] == kind]
        verdict = "accepts" if kind in ACCEPTED else "refuses"
        at = lines.index(f"{kind} (prepare {verdict} it). What to do: {files[0]['remedy']}.")
        count = f"{len(files)} files, e.g. " if len(files) > 1 else ""
        assert lines[at + 1] == f"    {count}{files[0]['file']} {files[0]['found']}"
        assert lines[at + 2] == ""
    assert expected.count("unreadable") == 11


def test_ids_without_label_have_a_line_each_and_the_others_stand_in_the_table(raw, capsys):
    """Four maps of 64 pixels: 8 of id 200 in each of two, 32 of id 201 in one."""
    for name, id, rows in (("a", 200, 1), ("b", 200, 1), ("c", 201, 4)):
        labels = np.full((8, 8), 7, np.uint8)
        labels[:rows] = id
        save(raw / "train_label" / f"{name}.png", labels)
    code, table, _ = report_of(raw, capsys, instances="none")
    assert code == 2
    folder = raw / "train_label"
    assert table.splitlines()[6:] == [
        "  label    pixels  images",
        "      7   56.250%       3",
        "     26   25.000%       1",
        "",
        f"unknown label ids (prepare refuses it). What to do: {REMEDIES['unknown label ids']}.",
        f"    label id 200: 2 files, 6.25% of all pixels, e.g. {folder / 'a.png'}",
        f"    label id 201: 1 file, 12.5% of all pixels, e.g. {folder / 'c.png'}",
        "",
        "prepare refuses this: 3 problems",
    ]


def test_without_a_split_for_testing_all_pairs_are_looked_at(raw, capsys):
    """What is wrong with the splits is one of the problems: no reason to stop."""
    for kind in ("label", "img"):
        (raw / f"test_{kind}").rename(raw / f"val_{kind}")
    save(raw / "val_label" / "a.png", np.full((8, 8), 99, np.uint8))
    code, table, report = report_of(raw, capsys, train_splits="day", instances="none")
    assert code == 2
    assert [problem["kind"] for problem in report["problems"]] == ["splits", "unknown label ids"]
    assert "label id 99: 1 file, " in table and f"{raw} has no split day, which --train" in table


def test_one_pair_can_have_several_problems(raw, capsys):
    """Whatever can be seen in one go: two headers and the pixels of a third file, then the pixels
    of three."""
    for kind in ("inst", "img"):
        (raw / f"train_{kind}" / "a.png").write_bytes(b"no picture")
    save(raw / "train_label" / "a.png", np.full((8, 8), 99, np.uint8))
    _, _, report = report_of(raw, capsys)
    assert [Path(problem["file"]).parent.name for problem in report["problems"]] == [
        "train_img",
        "train_inst",
        "train_label",
    ]
    add_pair(raw, "train", "a", 99)
    for kind in ("inst", "img"):
        path = raw / f"train_{kind}" / "a.png"
        path.write_bytes(path.read_bytes()[:-30])
    _, _, report = report_of(raw, capsys)
    assert [problem["kind"] for problem in report["problems"]] == [
        "unreadable",
        "unreadable",
        "unknown label ids",
    ]


@pytest.mark.parametrize(("strays", "is_problem"), [(1, False), (2, True)])
def test_soft_edges_of_instances_are_no_problem(raw, capsys, strays, is_problem):
    """Up to one pixel in a hundred may lie in another label; ignored pixels do not count."""
    labels = np.full((10, 20), 7, np.uint8)
    labels[5:] = 255
    labels[0, :strays] = 26
    save(raw / "train_label" / "a.png", labels)
    save(raw / "train_inst" / "a.png", np.full((10, 20), 7, np.uint8))
    save(raw / "train_img" / "a.png", noise(0, 10, 20, 3))
    code, _, report = report_of(raw, capsys, ignore_labels=255)
    assert [problem["kind"] for problem in report["problems"]] == [
        "instances across labels"
    ] * is_problem
    assert code == 0  # prepare goes on


def test_pictures_twice_are_counted_once(raw, capsys):
    first = raw / "train_img" / "a.png"
    for other in ("train_img/b.png", "train_img/c.png", "test_img/a.png"):
        (raw / other).write_bytes(first.read_bytes())
    code, table, report = report_of(raw, capsys)
    found = f"is the same picture as {first} (and 2 more), in training and in testing"
    assert [(problem["file"], problem["found"]) for problem in report["problems"]] == [
        (f"{raw}/train_img/b.png", found)
    ]
    assert (code, table.endswith("\n\nnothing that prepare refuses")) == (0, True)


def test_many_ids_are_cut_short(raw, capsys):
    save(raw / "train_label" / "a.png", (np.arange(64, dtype=np.uint8) + 100).reshape(8, 8))
    save(raw / "train_inst" / "b.png", np.tile(np.arange(9, dtype=np.uint8), (9, 1))[:8, :8])
    _, _, report = report_of(raw, capsys)
    ids = ", ".join(f"{id} (1.56% of the pixels)" for id in range(100, 108))
    assert report["problems"][0]["found"] == f"has ids without label: {ids}, ..."
    assert (
        report["problems"][1]["found"] == "has instances in several labels: 0, 1, 2, 3, 4, 5, 6, 7"
    )


def test_what_cannot_be_checked_at_all_is_refused(tmp_path, raw, capsys):
    nowhere = tmp_path / "nowhere"
    for flags, sentence in (
        (["--raw-data", nowhere], f"prepare refused: --raw-data {nowhere} is no folder"),
        (["--raw-data", raw, "--size", "big"], "prepare refused: --size 'big': should be HEIGHTx"),
        (["--raw-data", raw, "--remap", "x.json"], "prepare refused: --remap x.json is no file"),
    ):
        code = exit_code(*map(str, flags))
        captured = capsys.readouterr()
        assert (code, captured.out, captured.err.count("\n")) == (2, "", 1)
        assert captured.err.startswith(sentence)


def test_it_returns_the_problems(raw):
    assert check(str(raw), PrepareConfig()) == []
    (raw / "train_img" / "b.png").unlink()
    assert check(str(raw), PrepareConfig()) == [
        Problem("missing photo", f"{raw}/train_label/b.png", "is without photo")
    ]


def test_the_command_line(raw, tmp_path):
    """--check may stand anywhere, also in the command of a run, whose --dataset it leaves alone."""
    command = [sys.executable, "-m", "components.prepare"]
    command += ["--raw-data", str(raw), "--layout", "flat"]
    before = tree(tmp_path)
    good = subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.endswith("\nno problems\n")
    assert tree(tmp_path) == before

    (raw / "train_label" / "b.png").write_bytes(b"no picture")
    before = tree(tmp_path)
    command.insert(3, "--check")
    command += ["--dataset", str(tmp_path / "dataset")]
    bad = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (bad.returncode, bad.stderr) == (2, "")
    assert bad.stdout.endswith("\nprepare refuses this: 1 problem\n")
    assert tree(tmp_path) == before


def test_a_report_that_cannot_be_written_is_refused_before_the_work(raw, capsys):
    argv = ["--raw-data", raw, "--check", "--check-report", raw / "no" / "all.json"]
    assert "all.json: its folder is not there: make it" in refusal_of_command(capsys, main, *argv)


def test_a_report_without_a_check_is_refused(raw, tmp_path, capsys):
    argv = ["--raw-data", raw, "--dataset", tmp_path / "dataset", "--check-report", "all.json"]
    sentence = refusal_of_command(capsys, main, *argv)
    assert sentence == "--check-report all.json belongs to --check: say that too."
    assert not (tmp_path / "dataset").exists()


@pytest.mark.skipif(
    not EXCERPT.is_dir(), reason=f"the real excerpt of Cityscapes is not at {EXCERPT}"
)
def test_the_real_excerpt(tmp_path):
    file = tmp_path / "report.json"
    flags = ["--raw-data", str(EXCERPT), "--max-images", "2", "--check-report", str(file)]
    assert exit_code(*flags) == 0
    report = json.loads(file.read_text())
    assert (report["train_pairs"], report["test_pairs"], report["problems"]) == (2, 2, [])
    assert report["sizes"] == {"1024x2048": 4}
    assert sum(of["pixels"] for of in report["labels"].values()) == 4 * 1024 * 2048
