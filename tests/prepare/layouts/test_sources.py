"""Finding pairs in every layout, and dividing them into train and test. No pixel is read: the files
are empty."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.prepare.layouts.pairing import RawPair
from components.prepare.layouts.sources import Naming, Source, find_source
from components.prepare.layouts.splits import choose_splits
from components.prepare.problems import REMEDIES, Problem, refuse_first
from tests.asking import refusal
from tests.places import EXCERPT


def make(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def find(
    root,
    layout="auto",
    direction="AtoB",
    want_instances=False,
    folders=("", "", ""),
    names=("", "", ""),
    stays_inside=False,
):
    naming = Naming(folders, names)
    source = find_source(root, layout, direction, want_instances, naming, stays_inside)
    assert {problem.kind for problem in source.problems} <= REMEDIES.keys()
    return source


def short(root, source):
    """Split -> (name, input, photo, instance), paths below root."""

    def below(path):
        return path and str(Path(path).relative_to(root))

    return {
        split: [
            (pair.name, below(pair.input), below(pair.photo), below(pair.instance))
            for pair in pairs
        ]
        for split, pairs in source.pairs.items()
    }


def cityscapes(root, split, name, photo=True):
    city = name.split("_")[0]
    for kind in ("labelIds", "instanceIds", "color"):
        make(root, f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png")
    if photo:
        make(root, f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")


# --- layouts


def test_cityscapes(tmp_path):
    cityscapes(tmp_path, "train", "ulm_1")
    cityscapes(tmp_path, "train", "aachen_2")
    cityscapes(tmp_path, "val", "bonn_1", photo=False)
    cityscapes(tmp_path, "train_extra", "bad_1")
    make(
        tmp_path,
        "leftImg8bit/coarse/ulm/ulm_9_leftImg8bit.png",
        "leftImg8bit/train/ulm/._ulm_1_leftImg8bit.png",
    )
    make(
        tmp_path,
        "gtFine/train/ulm/ulm_1_gtFine_polygons.json",
        "README",
        "license.txt",
        "sample.png",
    )

    source = find(tmp_path, want_instances=True)

    def files(split, name):
        start = f"{split}/{name.split('_')[0]}/{name}"
        photo = None if split == "val" else f"leftImg8bit/{start}_leftImg8bit.png"
        maps = f"gtFine/{start}_gtFine"
        return name, f"{maps}_labelIds.png", photo, f"{maps}_instanceIds.png"

    assert (source.layout, source.problems) == ("cityscapes", [])
    assert short(tmp_path, source) == {
        "train": [files("train", "aachen_2"), files("train", "ulm_1")],
        "val": [files("val", "bonn_1")],
        "train_extra": [files("train_extra", "bad_1")],
    }
    assert [pair.instance for pair in find(tmp_path).pairs["val"]] == [None]
    assert "--direction BtoA swaps A and B, which cityscapes does not have" in refusal(
        find, tmp_path, direction="BtoA"
    )


def test_flat_as_nvidia_has_it(tmp_path):
    make(tmp_path, "train_label/aachen_1_gtFine_labelIds.png", "train_img/aachen_1_leftImg8bit.png")
    make(
        tmp_path,
        "train_inst/aachen_1_gtFine_instanceIds.png",
        "test_label/b.png",
        "test_inst/b.TIF",
    )
    source = find(tmp_path, want_instances=True)
    assert (source.layout, source.problems) == ("flat", [])
    assert short(tmp_path, source) == {
        "train": [
            (
                "aachen_1",
                "train_label/aachen_1_gtFine_labelIds.png",
                "train_img/aachen_1_leftImg8bit.png",
                "train_inst/aachen_1_gtFine_instanceIds.png",
            )
        ],
        "test": [("b", "test_label/b.png", None, "test_inst/b.TIF")],
    }
    assert "--direction BtoA swaps A and B, which" in refusal(find, tmp_path, direction="BtoA")


@pytest.mark.parametrize(("a", "b"), [("_A", "_B"), ("A", "B")])
def test_flat_with_pictures_as_input(tmp_path, a, b):
    make(
        tmp_path,
        f"train{a}/x.JPG",
        f"train{b}/x.png",
        f"val{a}/x.webp",
        f"val{b}/x.bmp",
        "train_inst/x.png",
    )
    pairs = {
        "train": [("x", f"train{a}/x.JPG", f"train{b}/x.png", None)],
        "val": [("x", f"val{a}/x.webp", f"val{b}/x.bmp", None)],
    }
    swapped = {
        split: [(name, photo, input, None) for name, input, photo, _ in found]
        for split, found in pairs.items()
    }
    assert find(tmp_path).layout == "flat"
    assert short(tmp_path, find(tmp_path)) == pairs
    assert short(tmp_path, find(tmp_path, direction="BtoA")) == swapped


def test_folders_without_and_with_splits(tmp_path):
    make(
        tmp_path / "one", "masks/deep/er/x.npy", "images/deep/er/x.jpeg", "instances/deep/er/x.tiff"
    )
    source = find(tmp_path / "one", want_instances=True)
    assert (source.layout, source.problems) == ("folders", [])
    assert short(tmp_path / "one", source) == {
        "": [
            (
                "deep_er_x",
                "masks/deep/er/x.npy",
                "images/deep/er/x.jpeg",
                "instances/deep/er/x.tiff",
            )
        ]
    }
    assert "swaps A and B" in refusal(find, tmp_path / "one", direction="BtoA")

    make(tmp_path / "two", "A/train/x.png", "B/train/x.png", "A/test/sub/y.png", "B/test/sub/y.png")
    pairs = {
        "train": [("x", "A/train/x.png", "B/train/x.png", None)],
        "test": [("sub_y", "A/test/sub/y.png", "B/test/sub/y.png", None)],
    }
    assert short(tmp_path / "two", find(tmp_path / "two")) == pairs
    assert find(tmp_path / "two", direction="BtoA").pairs["train"] == [
        RawPair("x", str(tmp_path / "two/B/train/x.png"), str(tmp_path / "two/A/train/x.png"), None)
    ]


def test_folders_with_names_given(tmp_path):
    make(tmp_path, "maps/ids/x.png", "aerial/x.png", "A/x.png", "label/x.png", "B/x.png")
    source = find(tmp_path, folders=("maps/ids/", "aerial", ""))
    assert source.layout == "folders"
    assert short(tmp_path, source) == {"": [("x", "maps/ids/x.png", "aerial/x.png", None)]}

    assert "holds A and label: say which with --input-folder." in refusal(find, tmp_path, "folders")
    for outside in ("nowhere", "../A", str(tmp_path / "A")):
        sentence = refusal(find, tmp_path / "maps", folders=("ids", outside, ""))
        assert sentence.startswith(f"--photo-folder {outside} is no folder in {tmp_path / 'maps'}")
    assert "has no folder for the photo (B, image, " in refusal(
        find, tmp_path / "maps", folders=("ids", "", "")
    )
    assert "--layout flat has folders of fixed names" in refusal(
        find, tmp_path, "flat", folders=("A", "", "")
    )


def test_side_by_side(tmp_path):
    make(tmp_path / "facades", "train/1.jpg", "train/2.jpg", "val/1.jpg", "sample.jpg")
    source = find(tmp_path / "facades", direction="BtoA")
    assert (source.layout, source.problems) == ("side_by_side", [])
    assert short(tmp_path / "facades", source) == {
        "train": [
            ("1", "train/1.jpg", "train/1.jpg", None),
            ("2", "train/2.jpg", "train/2.jpg", None),
        ],
        "val": [("1", "val/1.jpg", "val/1.jpg", None)],
    }
    assert list(find(tmp_path / "facades" / "train").pairs) == [""]
    assert refusal(find, tmp_path / "facades", want_instances=True) == (
        "--instances files: layout side_by_side has no instance maps: say --instances none or "
        "--instances components."
    )


@pytest.mark.skipif(
    not EXCERPT.is_dir(), reason=f"the real excerpt of Cityscapes is not at {EXCERPT}"
)
def test_the_real_excerpt():
    source = find(EXCERPT, want_instances=True)
    assert {split: len(pairs) for split, pairs in source.pairs.items()} == {"train": 5, "val": 8}
    assert source.problems == []


# --- which layout


def test_one_layout_is_asked_for_where_several_fit(tmp_path):
    make(tmp_path, "A/x.png", "B/x.png", "train/x.png")
    assert "fits layout folders and layout side_by_side: say which with --layout." in refusal(
        find, tmp_path
    )
    assert find(tmp_path, "folders").layout == "folders"
    assert find(tmp_path, "side_by_side").layout == "side_by_side"

    make(tmp_path / "flat", "train_label/x.png", "train_A/x.png")
    assert "holds folders of several kinds (train_A, train_label): keep one kind." in refusal(
        find, tmp_path / "flat"
    )


def test_no_layout(tmp_path):
    # Halves of these would be wrong without a word.
    make(tmp_path, "train/day/x.png", "train/night/x.png", "notes.txt")
    sentence = refusal(find, tmp_path)
    assert f"--raw-data {tmp_path} has no known layout" in sentence
    for part in ("gtFine/<split>", "train_label/", "A/ and B/", "halves", "it holds train/"):
        assert part in sentence
    assert sentence.endswith("name it with --layout.")


@pytest.mark.parametrize("layout", ["cityscapes", "flat", "side_by_side"])
def test_a_layout_that_is_not_there(tmp_path, layout):
    make(tmp_path, "other/x.png" if layout != "side_by_side" else "train/x.txt")
    assert f"has no label map or input picture where layout {layout} keeps them (" in refusal(
        find, tmp_path, layout
    )


def test_a_missing_an_empty_folder_and_a_file(tmp_path):
    assert f"--raw-data {tmp_path / 'nowhere'} is no folder" in refusal(find, tmp_path / "nowhere")
    assert f"--raw-data {tmp_path} is empty" in refusal(find, tmp_path)
    make(tmp_path, "notes.txt")
    assert f"--raw-data {tmp_path / 'notes.txt'} is a file but no archive" in refusal(
        find, tmp_path / "notes.txt"
    )
    make(tmp_path, "gtFine/train/ulm/ulm_1_gtFine_color.png")
    assert "has no label map or input picture" in refusal(find, tmp_path)


# --- what is wrong with single files


def test_all_that_has_no_partner_is_reported(tmp_path):
    for name in ("ulm_1", "ulm_2", "ulm_3", "ulm_4"):
        cityscapes(tmp_path, "train", name)
    labels, photos = tmp_path / "gtFine/train/ulm", tmp_path / "leftImg8bit/train/ulm"
    (labels / "ulm_1_gtFine_labelIds.png").unlink()
    (labels / "ulm_2_gtFine_instanceIds.png").unlink()
    # Equal counts hide nothing.
    (photos / "ulm_3_leftImg8bit.png").rename(photos / "ulm_9_leftImg8bit.png")

    instances = labels / "ulm_1_gtFine_instanceIds.png"
    second = labels / "ulm_2_gtFine_labelIds.png"
    assert find(tmp_path, want_instances=True).problems == [
        Problem("instance map without input", f"{instances}", "is without label map"),
        Problem("missing instance map", f"{second}", "is without instance map"),
        Problem("photo without input", f"{photos}/ulm_1_leftImg8bit.png", "is without label map"),
        Problem("photo without input", f"{photos}/ulm_9_leftImg8bit.png", "is without label map"),
    ]
    assert {problem.kind for problem in find(tmp_path).problems} == {"photo without input"}


def test_a_source_without_one_instance_map(tmp_path):
    make(tmp_path, "train_label/x.png", "train_img/x.png", "train_inst/notes.txt")
    assert refusal(find, tmp_path, want_instances=True) == (
        f"--instances files: {tmp_path} has no instance maps: "
        "say --instances none or --instances components."
    )


def test_files_of_one_name(tmp_path):
    make(tmp_path, "train/a.png", "train/a.jpg", "train/b/c.png", "train/b_c.png", "val/a.png")
    source = find(tmp_path)
    train = tmp_path / "train"
    assert source.problems == [
        Problem("duplicate name", f"{train}/a.png", f"has the same name as {train}/a.jpg"),
        Problem("duplicate name", f"{train}/b_c.png", f"has the same name as {train}/b/c.png"),
    ]
    assert [pair.input for pair in source.pairs["train"]] == [f"{train}/a.jpg", f"{train}/b/c.png"]


def test_names_that_no_output_file_can_have(tmp_path):
    make(
        tmp_path,
        "train/fine and ünïcode.png",
        f"train/{'a' * 130}/{'b' * 130}.png",
        "train/new\nline.png",
    )
    make(tmp_path, "train/_leftImg8bit.png")
    (tmp_path / os.fsdecode(b"train/latin1 \xfc.png")).touch()
    source = find(tmp_path)
    assert [pair.name for pair in source.pairs["train"]] == ["fine and ünïcode"]
    assert [problem.kind for problem in source.problems] == ["unusable name"] * 4
    assert f"{tmp_path}/train/latin1 \\udcfc.png" in [problem.file for problem in source.problems]


# --- links


def test_links_inside_are_followed(tmp_path):
    make(tmp_path, "store/1.png", "store/more/2.png", "B/1.png", "B/more/2.png")
    (tmp_path / "A").symlink_to("store")
    (tmp_path / "B" / "3.png").symlink_to(tmp_path / "store" / "1.png")
    (tmp_path / "B" / "again").symlink_to("more")
    assert short(tmp_path, find(tmp_path)) == {
        "": [("1", "A/1.png", "B/1.png", None), ("more_2", "A/more/2.png", "B/more/2.png", None)]
    }
    unpaired = [problem.file for problem in find(tmp_path).problems]
    assert unpaired == [f"{tmp_path}/B/3.png", f"{tmp_path}/B/again/2.png"]


def linked(tmp_path, link):
    """A folder root/ with one pair and a link to secret/, or to the picture in it, beside it."""
    make(tmp_path, "secret/9.png", "root/A/train/1.png")
    target = tmp_path / "secret" / ("9.png" if link.endswith("png") else "")
    (tmp_path / "root" / link).symlink_to(target)
    if link != "B":
        make(tmp_path, "root/B/train/1.png")
    return tmp_path / "root", target


@pytest.mark.parametrize("link", ["A/train/9.png", "A/train/more", "B", "A/notes"])
def test_links_that_lead_out_of_an_archive_or_a_copy_are_problems(tmp_path, link):
    root, target = linked(tmp_path, link)
    found = f"is a link to {target}, outside of {root}"
    problems = find(root, stays_inside=True).problems
    assert Problem("broken link", f"{root / link}", found, "give what it leads to") in problems


def test_links_that_lead_out_of_ones_own_folder_are_followed(tmp_path):
    (tmp_path / "one").mkdir()
    root, _ = linked(tmp_path / "one", "A/train/9.png")
    assert [pair.name for pair in find(root).pairs["train"]] == ["1", "9"]
    (tmp_path / "two").mkdir()
    root, _ = linked(tmp_path / "two", "B")
    assert short(root, find(root)) == {"train": [("1", "A/train/1.png", None, None)]}
    assert [problem.file for problem in find(root).problems][:1] == [f"{root}"]  # it has no splits


def test_a_neighbour_whose_name_begins_alike_is_outside(tmp_path):
    make(tmp_path, "root/train/1.png", "root2/2.png")
    (tmp_path / "root/train/2.png").symlink_to(tmp_path / "root2/2.png")
    problems = find(tmp_path / "root", stays_inside=True).problems
    assert [problem.kind for problem in problems] == ["broken link"]
    assert find(tmp_path / "root").problems == []


def test_as_the_hugging_face_hub_lays_data_out(tmp_path):
    """snapshots/<revision>/ holds links to blobs/, whose files have digests for names; the folder
    is given by a link, too."""
    make(tmp_path, "blobs/00aa", "blobs/11bb")
    for folder, blob in (("train_label", "00aa"), ("train_img", "11bb")):
        (tmp_path / "snapshots/0a1b" / folder).mkdir(parents=True)
        (tmp_path / "snapshots/0a1b" / folder / "0.png").symlink_to(f"../../../blobs/{blob}")
    (tmp_path / "main").symlink_to("snapshots/0a1b")
    source = find(tmp_path / "main")
    assert (source.layout, source.problems) == ("flat", [])
    assert short(tmp_path / "snapshots/0a1b", source) == {
        "train": [("0", "train_label/0.png", "train_img/0.png", None)]
    }


def test_links_to_nothing_and_in_circles_are_problems(tmp_path):
    make(tmp_path, "train/a/1.png", "train/b/2.png")
    (tmp_path / "train" / "3.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "train" / "4.png").symlink_to(tmp_path / "train" / "4.png")
    (tmp_path / "train" / "more").symlink_to(tmp_path / "not fetched")
    (tmp_path / "train" / "notes.txt").symlink_to(tmp_path / "gone.txt")  # nobody misses it
    (tmp_path / "train/a/up").symlink_to(tmp_path / "train")
    (tmp_path / "train/a/other").symlink_to("../b")
    (tmp_path / "train/b/other").symlink_to("../a")
    source = find(tmp_path, "side_by_side")
    assert {problem.kind for problem in source.problems} == {"broken link"}
    train = tmp_path / "train"
    assert {problem.file: problem.found for problem in source.problems} == {
        f"{train}/3.png": f"is a link to {tmp_path}/gone.png, which is missing",
        f"{train}/4.png": f"is a link to {train}/4.png, which is missing",
        f"{train}/more": f"is a link to {tmp_path}/not fetched, which is missing",
        f"{train}/a/up": f"is a link to {train}, a folder that holds it",
        f"{train}/b/other/up": f"is a link to {train}, a folder that holds it",
        f"{train}/a/other/other": f"is a link to {train}/a, a folder that holds it",
        f"{train}/b/other/other": f"is a link to {train}/b, a folder that holds it",
    }
    # Each file once by each way that leads there.
    assert [pair.name for pair in source.pairs["train"]] == ["a_1", "a_other_2", "b_2", "b_other_1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    make(tmp_path, "train/1.png", "train/a/2.png")
    (tmp_path / "train/a").chmod(0)
    assert f"{tmp_path}/train/a cannot be listed (Permission denied)" in refusal(find, tmp_path)


# --- what was found is told


def test_the_layout_and_what_shows_it_are_told(tmp_path):
    make(tmp_path / "a", "labels/1.png", "images/1.png", "images/2.png")
    make(tmp_path / "a", "labels/2.png", "instances/1.png", "depth/1.png", "depth/2.heic", "x.txt")
    assert find(tmp_path / "a").notes == [
        "layout folders (found images/, labels/): labels/ holds the input, images/ the photos, "
        "instances/ the instance maps",
        "not used: 2 pictures (such as depth/1.png), 1 picture of formats that are not read (such "
        "as depth/2.heic), 1 other file",
    ]
    make(tmp_path / "b", "train_label/1.png", "train_img/1.png", "test_label/1.png")
    assert find(tmp_path / "b").notes == [
        "layout flat (found test_label/, train_img/, train_label/): train_label/ and test_label/ "
        "hold the input, train_img/ the photos"
    ]
    make(tmp_path / "c", "train/1.png", "val/2.png")
    assert find(tmp_path / "c", direction="BtoA").notes == [
        "layout side_by_side (found pictures in train/, val/): the right half of each picture is "
        "the input, the left half the photo"
    ]
    make(tmp_path / "d", "gtFine/train/u/u_1_gtFine_labelIds.png")
    assert find(tmp_path / "d", layout="cityscapes").notes == [
        "layout cityscapes (by --layout): gtFine/ holds the label maps, leftImg8bit/ the photos"
    ]


def test_splits_with_folders_of_roles_in_them(tmp_path):
    """train/images and train/masks, in whatever case."""
    make(tmp_path, "train/Images/1.jpg", "train/masks/1.png", "Validation/Images/2.jpg")
    make(tmp_path, "Validation/masks/2.png")
    source = find(tmp_path)
    assert (source.layout, source.problems) == ("folders", [])
    assert short(tmp_path, source) == {
        "train": [("1", "train/masks/1.png", "train/Images/1.jpg", None)],
        "val": [("2", "Validation/masks/2.png", "Validation/Images/2.jpg", None)],
    }
    assert source.notes == [
        "layout folders (found Validation/Images/, Validation/masks/, train/Images/, "
        "train/masks/): Validation/masks/ and train/masks/ hold the input, Validation/Images/ and "
        "train/Images/ the photos"
    ]


def test_folders_of_given_names_in_each_split(tmp_path):
    make(tmp_path, "train/maps/1.png", "train/aerial/1.jpg", "val/maps/2.png", "val/aerial/2.jpg")
    assert short(tmp_path, find(tmp_path, folders=("maps", "aerial", ""))) == {
        "train": [("1", "train/maps/1.png", "train/aerial/1.jpg", None)],
        "val": [("2", "val/maps/2.png", "val/aerial/2.jpg", None)],
    }


def test_a_and_b_in_each_split_may_be_swapped(tmp_path):
    make(tmp_path, "train/A/x.png", "train/B/x.png", "test/A/y.png", "test/B/y.png")
    assert short(tmp_path, find(tmp_path, direction="BtoA")) == {
        "train": [("x", "train/B/x.png", "train/A/x.png", None)],
        "test": [("y", "test/B/y.png", "test/A/y.png", None)],
    }


def test_splits_are_known_by_their_usual_names(tmp_path):
    make(tmp_path, "annotations/training/1.png", "images/training/1.jpg")
    make(tmp_path, "annotations/validation/2.png", "images/validation/2.jpg")
    source = find(tmp_path)
    assert {split: [pair.name for pair in found] for split, found in source.pairs.items()} == {
        "train": ["1"],
        "val": ["2"],
    }


# --- what speaks against a guess


def doubts_of(root, **options):
    problems = find(root, **options).problems
    return [
        (problem.file, problem.found) for problem in problems if problem.kind == "doubtful layout"
    ]


def test_pictures_in_folders_beside_loose_ones_are_not_cut_in_halves(tmp_path):
    make(tmp_path, "1.png", "2.png", "day/1.png", "night/1.png")
    assert doubts_of(tmp_path) == [
        (f"{tmp_path}/{name}/1.png", f"would be cut into halves, but lies in the folder {name}/")
        for name in ("day", "night")
    ]
    assert doubts_of(tmp_path, layout="side_by_side") == []  # whoever says so means it


def test_masks_below_the_photos_of_a_split_are_not_cut_in_halves(tmp_path):
    make(tmp_path, "train/1.png", "train/masks/1.png", "val/1.png", "val/ulm/2.png")
    found = "would be cut into halves, but lies in the folder masks/"
    assert doubts_of(tmp_path) == [(f"{tmp_path}/train/masks/1.png", found)]


@pytest.mark.parametrize(
    ("label", "photo", "flags"),
    [
        ("{}_mask", "{}", "--input-name '{}_mask'"),
        ("label_{}", "img_{}", "--input-name 'label_{}' and --photo-name 'img_{}'"),
        ("{}_A", "{}_B", "--input-name '{}_A' and --photo-name '{}_B'"),
    ],
)
def test_maps_and_photos_in_one_folder_are_no_halves(tmp_path, label, photo, flags):
    for number in range(8, 12):
        make(tmp_path, f"{label.format(number)}.png", f"{photo.format(number)}.jpg")
    [problem] = find(tmp_path).problems
    assert problem.kind == "doubtful layout"
    # A common _ is no part of what differs.
    said = dict(re.findall(r"--(input|photo)-name '(.*?)'", problem.remedy))
    names = (said["input"], said.get("photo", ""), "")
    source = find(tmp_path, folders=(".", ".", ""), names=names)
    assert source.problems == []
    assert [(pair.input, pair.photo) for pair in source.pairs[""]] == [
        (f"{tmp_path}/{label.format(number)}.png", f"{tmp_path}/{photo.format(number)}.jpg")
        for number in sorted(range(8, 12), key=lambda number: label.format(number))
    ]


def test_names_of_honest_halves_are_not_doubted(tmp_path):
    for number in range(12):
        make(tmp_path, f"train/{number}.jpg", f"train/cat_{number}.jpg", f"train/dog_{number}.jpg")
    assert find(tmp_path).problems == []


def test_splits_of_one_role_alone_are_told(tmp_path):
    make(tmp_path, "labels/train/1.png", "labels/val/2.png", "images/1.png", "images/2.png")
    assert doubts_of(tmp_path) == [
        (f"{tmp_path}", "has train, val for the input but no folders of splits for the photos")
    ]


# --- train and test


def source_of(layout="flat", without_photo=(), **names):
    """names: split -> 'a b c'; split `none` is ''."""
    pairs = {
        "" if split == "none" else split: [
            RawPair(name, f"/{split}/{name}", None if name in without_photo else f"/p/{name}", None)
            for name in sorted(given.split())
        ]
        for split, given in names.items()
    }
    return Source("/raw", layout, pairs, [])


def choose(source, train="", test="", fraction=0.0, seed=0, max_images=0):
    chosen, problems = choose_splits(source, train, test, fraction, seed, max_images)
    return {
        split: " ".join(pair.name for pair in pairs) for split, pairs in chosen.items()
    }, problems


@pytest.mark.parametrize(
    ("source", "options", "train", "test"),
    [
        (source_of(train="b a", val="v", test="t"), {}, "a b", "v"),
        (source_of(train="a", test="t"), {}, "a", "t"),
        (source_of("cityscapes", train="a", val="v", test="t"), {}, "a", "v"),
        (source_of("cityscapes", train="a", val="v", test="t"), {"test": "test"}, "a", "t"),
        (source_of(train="a d", val="c b", test="t"), {"train": "train, val"}, "a b c d", "t"),
        (
            source_of(train="a", extra="b", test="t"),
            {"train": "extra", "test": "train,test"},
            "b",
            "a t",
        ),
        (source_of(train="a b c", val="v w"), {"max_images": 1}, "a", "v"),
    ],
)
def test_the_splits_of_a_source(source, options, train, test):
    assert choose(source, **options) == ({"train": train, "test": test}, [])


def test_a_test_split_is_cut_off():
    """The order of sha256('0:a') .. sha256('0:e') was taken from `printf 0:a | sha256sum`: d a c b
    e."""
    flat = source_of(none="a b c d e")
    assert choose(flat, fraction=0.4)[0] == {"train": "b c e", "test": "a d"}
    assert choose(flat, fraction=0.01)[0] == {"train": "a b c e", "test": "d"}
    assert choose(flat, fraction=0.4, max_images=1)[0] == {"train": "b", "test": "a"}
    assert choose(source_of(train="a b c d e", val="v"), fraction=0.4)[0] == {
        "train": "b c e",
        "test": "a d",
    }


@pytest.mark.parametrize("source", [source_of(train="a"), source_of(none="a")])
def test_one_pair_alone_is_trained_on(source):
    for fraction in (0, 0.1):
        assert choose(source, fraction=fraction) == ({"train": "a", "test": ""}, [])


def test_a_training_pair_without_photo_is_a_problem_and_is_never_cut_off():
    source = source_of(train="a b", val="a v", without_photo="b v")
    assert choose(source)[1] == [Problem("missing photo", "/train/b", "is without photo")]
    for seed in range(5):
        chosen, problems = choose(source, fraction=0.5, seed=seed)
        assert (chosen["train"], chosen["test"], len(problems)) == ("b", "a", 1)


def test_one_name_in_two_joined_splits_is_a_problem():
    chosen, problems = choose(source_of(train="a b", val="b", test="a"), train="train,val")
    assert chosen == {"train": "a b", "test": "a"}
    assert problems == [Problem("duplicate name", "/val/b", "has the same name as /train/b")]


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        (
            source_of(train="a b"),
            {},
            "has no split for testing (found train): cut one off with --test-fraction 0.1, or name",
        ),
        (
            source_of(none="a b"),
            {},
            "has no split for testing (found no splits): cut one off with --test-fraction 0.1",
        ),
        (
            source_of("cityscapes", train="a", test="b"),
            {},
            "has no split for testing (found train, test)",
        ),
        (
            source_of("cityscapes", train="a", val="b"),
            {"train": "train,val"},
            "has no split for testing",
        ),
        (
            source_of(val="a", test="b"),
            {},
            "has no split train (found val, test): name one with --train-splits",
        ),
        (
            source_of(train="a", val="b"),
            {"train": "day"},
            "has no split day, which --train-splits names (found train, val): name one that it has",
        ),
        (
            source_of(train="a", val="b"),
            {"test": "val,x"},
            "has no split x, which --test-splits names (found train, val)",
        ),
        (
            source_of(train="a", val="b"),
            {"test": "val,train"},
            "has split train, which --test-splits names but which is trained on: give each split",
        ),
        (
            source_of(train="a b"),
            {"fraction": 0.9},
            "is left 0 pairs for training and 2 with photo for testing by --test-fraction 0.9",
        ),
        (
            source_of(train="a b", without_photo="ab"),
            {"fraction": 0.1},
            "is left 2 pairs for training and 0 with photo for testing",
        ),
    ],
)
def test_refused_splits(source, options, sentence):
    problems = [problem for problem in choose(source, **options)[1] if problem.kind == "splits"]
    assert len(problems) == 1
    assert sentence in refusal(refuse_first, problems)
    assert problems[0].file == "/raw"


def test_splits_that_are_named_and_cut_off_at_once_are_refused():
    source = source_of(train="a", val="b")
    assert refusal(choose, source, test="val", fraction=0.1) == (
        "--test-fraction 0.1 cuts the test pairs off the training pairs but --test-splits val "
        "takes them from elsewhere: leave one out."
    )


names = st.lists(st.text("abc01", min_size=1, max_size=4), min_size=4, max_size=30, unique=True)


@given(names, st.floats(0.01, 0.6), st.integers(0, 5), st.randoms())
def test_the_cut_is_a_partition_that_order_does_not_change(names, fraction, seed, random):
    def cut(names):
        chosen, problems = choose(source_of(train=" ".join(names)), fraction=fraction, seed=seed)
        assert problems == []
        return {split: given.split() for split, given in chosen.items()}

    chosen = cut(names)
    assert sorted(chosen["train"] + chosen["test"]) == sorted(names)
    assert len(chosen["test"]) == max(1, round(fraction * len(names)))
    shuffled = list(names)
    random.shuffle(shuffled)
    assert cut(shuffled) == chosen
    # One pair more takes at most one place in the test set, or adds one.
    assert len(set(cut([*names, "new"])["test"]) - {"new"} ^ set(chosen["test"])) <= 1
