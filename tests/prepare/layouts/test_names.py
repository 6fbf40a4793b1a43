"""Names that are pairs although they are spelled otherwise, and why others are none. No file is
opened: all are empty."""

import unicodedata

import pytest

from components.prepare.config import PrepareConfig
from components.prepare.layouts.sources import Naming, find_source
from shared.errors import InputError
from tests.asking import refusal


def files(root, inputs, photos, instances=()):
    """Empty files in labels/, images/ and inst/."""
    for folder, names in (("labels", inputs), ("images", photos), ("inst", instances)):
        for name in names:
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / folder / name).touch()
    return root


def find(root, names=("", "", ""), want_instances=False):
    return find_source(root, "auto", "AtoB", want_instances, Naming(("", "", ""), names))


def pairs(source):
    """Name and the photo's file of each pair."""
    return [(pair.name, pair.photo and pair.photo.rpartition("/")[2]) for pair in source.pairs[""]]


# Endings and beginnings


@pytest.mark.parametrize(
    ("inputs", "photos", "differ_by", "flags", "names"),
    [
        ("{:04d}_mask", "{:04d}", "`_mask`", "--input-name '{}_mask'", ("{}_mask", "")),
        ("{:04d}", "{:04d}_rgb", "`_rgb`", "--photo-name '{}_rgb'", ("", "{}_rgb")),
        ("{:04d}.jpg", "{:04d}", "`.jpg`", "--input-name '{}.jpg'", ("{}.jpg", "")),
        ("{}_gtFine", "{}", "`_gtFine`", "--input-name '{}_gtFine'", ("{}_gtFine", "")),
        (
            "label_{:03d}_v2",
            "img_{:03d}",
            "`label_v2` and `img`",
            "--input-name 'label{}_v2' and --photo-name 'img{}'",
            ("label{}_v2", "img{}"),
        ),
        ("tile{}x{}_seg", "tile{}x{}", "`_seg`", "--input-name '{}_seg'", ("{}_seg", "")),
    ],
)
def test_what_names_differ_by_is_said_and_can_be_said_back(
    tmp_path, inputs, photos, differ_by, flags, names
):
    numbers = range(7, 12)
    root = files(
        tmp_path,
        [f"{inputs.format(number, number)}.png" for number in numbers],
        [f"{photos.format(number, number)}.jpg" for number in numbers],
    )
    problems = find(root).problems
    assert {(problem.kind, problem.remedy) for problem in problems} == {
        ("names differ", f"say {flags}")
    }
    assert len(problems) == 5  # and nothing is said twice
    first = min(problems, key=lambda problem: problem.file)
    expected = sorted(f"{photos.format(number, number)}.jpg" for number in numbers)[0]
    if differ_by != "`label_v2` and `img`":
        assert first.found == (
            f"has no photo of its name, but {root}/images/{expected} differs by {differ_by}"
        )

    source = find(root, names=(*names, ""))
    assert source.problems == []
    assert [photo for _, photo in pairs(source)] == sorted(
        f"{photos.format(number, number)}.jpg" for number in numbers
    )


def test_words_that_are_whole_names(tmp_path):
    root = files(tmp_path, ["cat-mask.png", "dog-mask.png"], ["cat.jpg", "dog.jpg"])
    assert {problem.remedy for problem in find(root).problems} == {"say --input-name '{}-mask'"}
    assert pairs(find(root, ("{}-mask", "", ""))) == [("cat", "cat.jpg"), ("dog", "dog.jpg")]


def test_names_of_nothing_in_common_are_not_explained(tmp_path):
    root = files(tmp_path, ["ulm_1.png", "ulm_2.png"], ["ulm_8.jpg", "bonn_9.jpg"])
    assert [problem.kind for problem in find(root).problems] == ["photo without input"] * 2


def test_a_part_of_the_names_may_differ(tmp_path):
    """Of six label maps three have photos, two are named otherwise, one has none."""
    inputs = ["1.png", "2.png", "3.png", "4_m.png", "5_m.png", "6.png"]
    root = files(tmp_path, inputs, [f"{number}.jpg" for number in (1, 2, 3, 4, 5, 7)])
    source = find(root)
    assert [(problem.kind, problem.file.rpartition("/")[2]) for problem in source.problems] == [
        ("names differ", "4_m.png"),
        ("names differ", "5_m.png"),
        ("photo without input", "7.jpg"),
    ]
    assert [name for name, photo in pairs(source) if photo is None] == ["4_m", "5_m", "6"]


def test_instance_maps_too(tmp_path):
    numbers = range(3)
    root = files(
        tmp_path,
        [f"{number}.png" for number in numbers],
        [f"{number}.jpg" for number in numbers],
        [f"{number}_inst.png" for number in numbers],
    )
    problems = find(root, want_instances=True).problems
    assert {(problem.kind, problem.remedy) for problem in problems} == {
        ("names differ", "say --instance-name '{}_inst'")
    }
    source = find(root, ("", "", "{}_inst"), want_instances=True)
    assert source.problems == []
    assert [pair.instance for pair in source.pairs[""]] == [
        f"{root}/inst/{number}_inst.png" for number in numbers
    ]


def test_a_pattern_takes_its_files_and_leaves_the_others(tmp_path):
    """In folders of a folder too, where it is about the file's own name."""
    inputs = ["a/1_mask.png", "a/1_overlay.png", "b/1_mask.png"]
    root = files(tmp_path, inputs, ["a/1.jpg", "b/1.jpg"])
    source = find(root, ("{}_mask", "", ""))
    assert (source.problems, [name for name, _ in pairs(source)]) == ([], ["a_1", "b_1"])
    assert source.notes[1] == "not used: 1 picture (such as labels/a/1_overlay.png)"


def test_a_pattern_that_fits_nothing_is_refused(tmp_path):
    root = files(tmp_path, ["1.png"], ["1.jpg"])
    assert refusal(find, root, ("", "{}_rgb", "")) == (
        f"--photo-name {{}}_rgb fits no file, for example not {root}/images/1.jpg: "
        "write {} for the pair's name and what stands before and behind it."
    )
    for pattern in ("_mask", "{}/{}", "{}{}"):
        with pytest.raises(InputError, match="should hold {} once for the pair's name"):
            PrepareConfig.check({"input_name": pattern})


# Other spellings of one name


def test_letters_composed_and_decomposed_are_the_same(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "München_1") for form in ("NFC", "NFD"))
    assert composed != decomposed
    root = files(tmp_path, [f"{composed}.png"], [f"{decomposed}.jpg"])
    source = find(root)
    assert (source.problems, pairs(source)) == ([], [(composed, f"{decomposed}.jpg")])

    files(tmp_path, [f"{decomposed}.png"], [])
    assert [problem.kind for problem in find(root).problems] == ["duplicate name"]


def test_case_counts_only_where_it_decides(tmp_path):
    root = files(tmp_path, ["IMG_1.PNG", "a.png", "A.png"], ["img_1.jpg", "a.jpg", "A.jpg"])
    source = find(root)
    assert source.problems == []
    assert pairs(source) == [("A", "A.jpg"), ("IMG_1", "img_1.jpg"), ("a", "a.jpg")]
    assert source.notes[1] == (
        "1 pair of files whose names differ in upper and lower case: "
        f"{root}/labels/IMG_1.PNG and {root}/images/img_1.jpg"
    )
    # Two that could be meant are none.
    root = files(tmp_path / "two", ["x.png", "X.png"], ["X.jpg", "y.jpg"])
    assert [problem.kind for problem in find(root).problems] == ["photo without input"]
    assert pairs(find(root)) == [("X", "X.jpg"), ("x", None)]


def test_other_zeros_before_a_number_are_said(tmp_path):
    root = files(tmp_path, ["1.png", "2.png"], ["0001.jpg", "0002.jpg", "0011.jpg"])
    problems = find(root).problems
    assert [(problem.kind, problem.found, problem.remedy) for problem in problems[:2]] == [
        (
            "names differ",
            f"has no photo of its name, but {root}/images/000{number}.jpg has other zeros before "
            "its number",
            "rename one of them",
        )
        for number in (1, 2)
    ]
    assert [problem.kind for problem in problems[2:]] == ["photo without input"]


def test_the_same_name_in_another_folder_is_said(tmp_path):
    root = files(tmp_path, ["1.png", "2.png"], ["cam/1.jpg", "cam/2.jpg"])
    assert {problem.found.rpartition(", ")[2] for problem in find(root).problems} == {
        f"but {root}/images/cam/{number}.jpg has it in another folder" for number in (1, 2)
    }


# Formats that are not read


def test_a_pair_that_is_lost_to_its_format_is_a_problem(tmp_path):
    inputs = ["1.png", "2.psd", "3.png", "4.psd", "notes.pdf"]
    root = files(tmp_path, inputs, ["1.heic", "2.heic", "3.jpg", "3.heic"])
    source = find(root)
    assert [
        (problem.kind, problem.file.rpartition("/")[2], problem.found)
        for problem in source.problems
    ] == [
        ("unread format", "1.heic", "is a .heic file, which is not read"),
        ("unread format", "2.heic", "is a .heic file, which is not read"),
        ("unread format", "2.psd", "is a .psd file, which is not read"),
    ]
    assert source.notes[1].startswith("not used: 6 pictures of formats that are not read (such as ")


def test_braces_in_names_are_letters(tmp_path):
    inputs = [f"{number}{{0['a']}}{{}}.png" for number in range(5)]
    root = files(tmp_path, inputs, [f"{number}.jpg" for number in range(5)])
    assert {problem.kind for problem in find(root).problems} == {"names differ"}
