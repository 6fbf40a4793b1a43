"""Label maps as people's tools write them, through the command line: colours, palettes, alpha, and
what must not become labels."""

import numpy as np
import pytest
import yaml
from PIL import Image

from components.prepare.__main__ import main
from shared.contracts.dataset import DatasetManifest
from tests.asking import refusal_of_command
from tests.prepare.files import load, noise, save

# Names and colours of the ids 0..3, and of one that means nothing.
COLOURS = [(128, 64, 128), (70, 130, 180), (107, 142, 35), (220, 20, 60)]
NAMES = ["road", "sky", "tree", "person"]
TABLE = [
    *(
        dict(id=id, name=name, colour=list(colour))
        for id, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True))
    ),
    dict(id=255, name="border", colour=[255, 255, 255]),
]
BY_ID = np.zeros((256, 3), np.uint8)
BY_ID[:4], BY_ID[255] = COLOURS, 255


def scene(number: int) -> np.ndarray:
    """(12, 16) ids 0..3 and 255, another map for each number."""
    ids = np.zeros((12, 16), np.uint8)
    ids[: 2 + number % 3] = 1
    ids[6:, : 4 + number % 5] = 2
    ids[7:10, 10:13] = 3
    ids[-1, -1] = 255
    return ids


def write_pairs(raw, paint, pairs=4, layout="folders"):
    """Label maps that `paint` makes of ids, with photos; PIL images are saved as they are."""
    for number in range(pairs):
        map_, photo = paint(scene(number)), noise(number, 12, 16, 3)
        if layout == "side_by_side":
            save(raw / f"{number:02d}.png", np.concatenate([map_, photo], axis=1))
            continue
        path = raw / "labels" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        map_.save(path) if isinstance(map_, Image.Image) else save(path, map_)
        save(raw / "images" / f"{number:02d}.png", photo)


def rgb(ids):
    return BY_ID[ids]


def rgba(ids):
    return np.dstack([BY_ID[ids], np.full(ids.shape, 255, np.uint8)])


def palette_by_use(ids):
    """A palette map whose numbers are the ids by how common they are: others in each file."""
    values, counts = np.unique(ids, return_counts=True)
    order = values[np.argsort(-counts, kind="stable")]
    numbers = np.zeros(256, np.uint8)
    numbers[order] = np.arange(len(order))
    image = Image.fromarray(numbers[ids]).convert("P")
    image.putpalette(BY_ID[order].ravel().tolist())
    return image


def palette_of_all(ids):
    """Numbers are ids, with one palette for all files."""
    image = Image.fromarray(ids).convert("P")
    image.putpalette(BY_ID.ravel().tolist())
    return image


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text(yaml.safe_dump({"labels": TABLE}))
    return path


FLAGS = "--num-labels 4 --instances none --size keep --test-fraction 0.3 --cache-limit-gb 0".split()


def prepare(raw, dataset, *flags) -> DatasetManifest:
    main(["--raw-data", str(raw), "--dataset", str(dataset), *FLAGS, *map(str, flags)])
    return DatasetManifest.read(dataset)


def refused(capsys, raw, *flags) -> str:
    flags = ["--raw-data", str(raw), "--dataset", str(raw.parent / "out"), *FLAGS, *flags]
    return refusal_of_command(capsys, main, *map(str, flags))


def checked(capsys, raw, *flags) -> tuple[int, str]:
    """Exit code of --check, and what it prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["--check", "--raw-data", str(raw), *FLAGS, *map(str, flags)])
    return end.value.code, capsys.readouterr().out


def labels_file(printed: str) -> str:
    """The labels file in what --check prints."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("# The colours of"))
    return "\n".join(lines[start : lines.index("", start)])


def prepared(dataset) -> dict[str, np.ndarray]:
    return {path.stem: load(path) for path in sorted(dataset.glob("*_label/*.png"))}


def assert_scenes(dataset, count=4):
    found = prepared(dataset)
    assert len(found) == count
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, scene(int(name)))


@pytest.mark.parametrize(
    ("paint", "layout"),
    [
        (rgb, "folders"),
        (rgb, "side_by_side"),
        (rgba, "folders"),
        (palette_by_use, "folders"),
    ],
)
def test_colours_become_the_labels_that_the_file_names(paint, layout, table, tmp_path, capsys):
    write_pairs(tmp_path / "raw", paint, layout=layout)
    flags = ["--layout", layout] if layout == "side_by_side" else []
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "--labels", table, *flags)
    assert_scenes(tmp_path / "out")
    assert manifest.raw.coloured and manifest.raw.colour_tolerance == 0
    assert [label.model_dump() for label in manifest.labels] == [
        entry | {"colour": tuple(entry["colour"])} for entry in TABLE
    ]
    said = "prepare: what says the labels: colours, as --labels names them\n"
    assert said in capsys.readouterr().out


def test_what_the_check_prints_is_a_labels_file_that_fits(tmp_path, capsys):
    """Saved and passed as it is, it gives every colour the same label in every map."""
    raw = tmp_path / "raw"
    write_pairs(raw, rgb)
    sentence = refused(capsys, raw)
    assert "00.png holds colours (RGB), not label ids" in sentence
    assert "save the labels file that `--check` prints, give it as --labels" in sentence
    code, printed = checked(capsys, raw)
    assert code == 2
    text = labels_file(printed)
    entries = yaml.safe_load(text)["labels"]
    counts = np.bincount(np.concatenate([scene(i).ravel() for i in range(4)]), minlength=256)
    order = np.argsort(-counts, kind="stable")[:5]
    assert [entry["colour"] for entry in entries] == BY_ID[order].tolist()
    assert [(entry["id"], entry["name"]) for entry in entries] == [
        (id, f"label_{id}") for id in range(5)
    ]
    assert f"# {100 * counts[order[0]] / counts.sum():.3g}% of the pixels, in 4 maps" in text

    (tmp_path / "found.yaml").write_text(text)
    flags = ["--num-labels", 5, "--labels", tmp_path / "found.yaml"]
    assert checked(capsys, raw, *flags)[0] == 0
    prepare(raw, tmp_path / "out", *flags)
    new = np.zeros(256, np.uint8)
    new[order] = np.arange(5)
    for name, labels in prepared(tmp_path / "out").items():
        np.testing.assert_array_equal(labels, new[scene(int(name))])


def test_ids_that_were_written_three_times_keep_their_numbers(tmp_path, capsys):
    write_pairs(tmp_path / "raw", lambda ids: np.dstack([ids] * 3))
    _, printed = checked(capsys, tmp_path / "raw")
    entries = yaml.safe_load(labels_file(printed))["labels"]
    assert {(entry["id"], *entry["colour"]) for entry in entries} == {
        (id, id, id, id) for id in (0, 1, 2, 3, 255)
    }


@pytest.mark.parametrize("how", ["photo", "antialiased", "jpeg"])
def test_hundreds_of_colours_are_no_labels(how, tmp_path, capsys):
    def paint(ids):
        if how == "photo":
            return noise(int(ids.sum()), 12, 16, 3)
        image = Image.fromarray(rgb(ids)).resize((160, 120), Image.Resampling.NEAREST)
        if how == "jpeg":
            image.save(tmp_path / "lossy.jpg", quality=60)
            return Image.open(tmp_path / "lossy.jpg").copy()
        return image.rotate(10, Image.Resampling.BICUBIC)

    for number in range(2):
        path = tmp_path / "raw" / "labels" / f"{number}.png"
        map_ = paint(scene(number))
        save(path, np.asarray(map_))
        save(tmp_path / "raw" / "images" / f"{number}.png", noise(number, *np.shape(map_)))
    _, printed = checked(capsys, tmp_path / "raw")
    assert "more than labels can have" in printed and "resized with antialiasing" in printed
    assert "labels:" not in printed


def off_by(levels):
    """Every colour is off by up to so many levels, upwards."""

    def paint(ids):
        return (
            (rgb(ids).astype(int) + noise(int(ids.sum()), 12, 16, 3, high=levels + 1))
            .clip(0, 255)
            .astype(np.uint8)
        )

    return paint


def test_a_tolerance_takes_colours_that_are_a_little_off(table, tmp_path, capsys):
    write_pairs(tmp_path / "raw", off_by(3))
    sentence = refused(capsys, tmp_path / "raw", "--labels", table)
    assert " has colours without label: [" in sentence and "more colours (" in sentence
    assert "--colour-tolerance" in sentence
    flags = ["--labels", table, "--colour-tolerance", "3"]
    manifest = prepare(tmp_path / "raw", tmp_path / "out", *flags)
    assert_scenes(tmp_path / "out")
    assert manifest.raw.colour_tolerance == 3


def test_a_tolerance_that_leaves_the_label_open_is_refused(table, tmp_path, capsys):
    """sky and tree differ by 145 levels in their best channel, road and sky by 66."""
    write_pairs(tmp_path / "raw", rgb)
    flags = ["--labels", table, "--colour-tolerance"]
    assert refused(capsys, tmp_path / "raw", *flags, "33") == (
        "--colour-tolerance 33: a colour may be within it of both labels 0 (road) and 1 (sky), "
        "which are 66 apart: give 32 or less."
    )
    prepare(tmp_path / "raw", tmp_path / "out", *flags, "32")
    assert_scenes(tmp_path / "out")


def test_unknown_colours_are_listed_the_commonest_first(table, tmp_path, capsys):
    def paint(ids):
        pixels = rgb(ids)
        pixels[0, :10] = 0, 0, 142
        pixels[1, :2] = 1, 2, 3
        return pixels

    write_pairs(tmp_path / "raw", paint)
    sentence = refused(capsys, tmp_path / "raw", "--labels", table)
    found = "[0, 0, 142] (5.21% of the pixels), [1, 2, 3] (1.04% of the pixels)"
    assert f"labels/00.png has colours without label: {found}: " in sentence
    code, printed = checked(capsys, tmp_path / "raw", "--labels", table)
    assert code == 2
    assert "    colour [0, 0, 142]: 4 files, 5.21% of all pixels, e.g. " in printed


def cut_out(ids):
    """What means nothing is transparent, over a colour that has a name."""
    pixels = rgba(ids)
    pixels[ids == 255] = 128, 64, 128, 0
    return pixels


def half_seen(ids):
    pixels = rgba(ids)
    pixels[..., 3] = 128
    return pixels


def test_transparent_pixels_mean_what_is_said_and_nothing_by_themselves(table, tmp_path, capsys):
    raw = tmp_path / "raw"
    write_pairs(raw, cut_out)
    sentence = refused(capsys, raw, "--labels", table)
    assert "colours without label: [128, 64, 128] under alpha 0 (0.521% of the pixels)" in sentence
    assert "--transparent-label" in sentence
    assert "% of the pixels are transparent: say what they mean" in checked(capsys, raw)[1]
    prepare(raw, tmp_path / "out", "--labels", table, "--transparent-label", 255)
    assert_scenes(tmp_path / "out")


def test_half_transparent_pixels_are_refused(table, tmp_path, capsys):
    write_pairs(tmp_path / "raw", half_seen)
    sentence = refused(capsys, tmp_path / "raw", "--labels", table, "--transparent-label", "255")
    assert "[128, 64, 128] under alpha 128 (" in sentence


@pytest.mark.parametrize("flags", [["--remap", '{"1": 0}'], ["--ignore-labels", "3"]])
def test_options_of_ids_do_not_go_with_colours(flags, table, tmp_path, capsys):
    write_pairs(tmp_path / "raw", rgb)
    sentence = refused(capsys, tmp_path / "raw", "--labels", table, *flags)
    assert sentence.startswith(f"{flags[0]} changes label ids, but label maps are read by their ")


@pytest.mark.parametrize("flags", [["--colour-tolerance", "2"], ["--transparent-label", "0"]])
def test_options_of_colours_do_not_go_with_ids(flags, table, tmp_path, capsys):
    write_pairs(tmp_path / "raw", lambda ids: ids)
    sentence = refused(
        capsys, tmp_path / "raw", "--labels", table, *flags, "--ignore-labels", "255"
    )
    assert sentence == (
        f"{flags[0]} is for label maps that are read by colour, but these hold ids: leave it out."
    )


def test_one_colour_of_two_labels_is_refused(tmp_path, capsys):
    """Cityscapes' own table has black for five labels."""
    write_pairs(tmp_path / "raw", rgb)
    flags = ["--num-labels", "35", "--labels", "cityscapes"]
    assert "both have colour [0, 0, 0], but label maps are read by colour" in refused(
        capsys, tmp_path / "raw", *flags
    )


def test_grey_and_palette_maps_among_coloured_ones_are_colours_too(table, tmp_path):
    """As tools write them that make every file as small as it can be."""
    entries = [*TABLE[1:], dict(id=0, name="road", colour=[0, 0, 0])]
    table.write_text(yaml.safe_dump(entries))
    write_pairs(tmp_path / "raw", lambda ids: np.where(ids[..., None] == 0, 0, rgb(ids)))
    save(tmp_path / "raw" / "labels" / "00.png", np.zeros((12, 16), np.uint8))
    prepare(tmp_path / "raw", tmp_path / "out", "--labels", table)
    found = prepared(tmp_path / "out")
    assert (found.pop("00") == 0).all() and len(found) == 3
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, scene(int(name)))


# Palettes


def test_palettes_by_use_are_refused_without_names(tmp_path, capsys):
    """The same number means road in one file and sky in another."""
    raw = tmp_path / "raw"
    write_pairs(raw, palette_by_use)
    sentence = refused(capsys, raw)
    assert " as number 0 of its palette, but " in sentence or " as number 1 of its" in sentence
    assert f"{raw}/labels/00.png has [" in sentence and "--labels" in sentence
    code, printed = checked(capsys, raw)
    assert code == 2
    (tmp_path / "found.yaml").write_text(labels_file(printed))
    flags = ["--num-labels", 5, "--labels", tmp_path / "found.yaml"]
    assert checked(capsys, raw, *flags)[0] == 0


@pytest.mark.parametrize("flags", [[], ["--labels", "{table}"]])
def test_one_palette_for_all_leaves_the_numbers_and_colours_the_labels(
    flags, table, tmp_path, capsys
):
    write_pairs(tmp_path / "raw", palette_of_all)
    flags = [flag.format(table=table) for flag in flags]
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "--ignore-labels", 255, *flags)
    assert_scenes(tmp_path / "out")
    assert not manifest.raw.coloured
    names = NAMES if flags else ["0", "1", "2", "3"]
    assert [(label.name, label.colour) for label in manifest.labels[:4]] == [
        *zip(names, COLOURS, strict=True)
    ]
    assert "what says the labels: ids, the palettes' numbers" in capsys.readouterr().out


def test_a_palette_with_the_colours_of_other_labels_is_read_by_colour(table, tmp_path):
    """All files agree that 0 is sky and 1 is road, against --labels."""
    swapped = np.array([1, 0, *range(2, 256)], np.uint8)

    def paint(ids):
        image = Image.fromarray(swapped[ids]).convert("P")
        image.putpalette(BY_ID[swapped].ravel().tolist())
        return image

    write_pairs(tmp_path / "raw", paint)
    assert prepare(tmp_path / "raw", tmp_path / "out", "--labels", table).raw.coloured
    assert_scenes(tmp_path / "out")


def test_a_palette_of_greys_says_nothing(tmp_path):
    write_pairs(tmp_path / "raw", lambda ids: Image.fromarray(ids).convert("P"))
    manifest = prepare(tmp_path / "raw", tmp_path / "out", "--ignore-labels", 255)
    assert_scenes(tmp_path / "out")
    assert manifest.labels == []


# Lossy ids


@pytest.mark.parametrize(
    ("suffix", "options", "kind"),
    [
        (".jpg", dict(quality=100), "a JPEG"),
        (".webp", dict(quality=90), "a lossy WebP"),
        (".jp2", dict(irreversible=True), "a lossy JPEG 2000"),
        (".tif", dict(compression="jpeg"), "a TIFF of lossy compression"),
        (".avif", dict(quality=100), "an AVIF"),
    ],
)
@pytest.mark.parametrize("coloured", [False, True])
def test_lossy_maps_are_refused(suffix, options, kind, coloured, table, tmp_path, capsys):
    if kind == "an AVIF":
        pytest.importorskip("PIL.features").check("avif") or pytest.skip("Pillow without AVIF")
    write_pairs(tmp_path / "raw", rgb if coloured else lambda ids: ids, pairs=3)
    path = tmp_path / "raw" / "labels" / "01.png"
    image = Image.open(path)
    image.load()
    path.unlink()
    image.save(path.with_suffix(suffix), **options)
    flags = ["--labels", table] if coloured else ["--ignore-labels", "255"]
    sentence = refused(capsys, tmp_path / "raw", *flags)
    assert f"labels/01{suffix} is {kind}: save the maps as PNG where they come from" in sentence


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".webp", dict(lossless=True)),
        (".jp2", dict(irreversible=False)),
        (".tif", dict(compression="tiff_lzw")),
        (".tif", dict()),
        (".bmp", dict()),
        (".gif", dict()),
        (".ppm", dict()),
    ],
)
def test_lossless_maps_of_every_format_are_read(suffix, options, table, tmp_path):
    write_pairs(tmp_path / "raw", rgb, pairs=3)
    for path in sorted((tmp_path / "raw" / "labels").iterdir()):
        image = Image.open(path)
        image.load()
        path.unlink()
        image.save(path.with_suffix(suffix), **options)
    prepare(tmp_path / "raw", tmp_path / "out", "--labels", table)
    assert_scenes(tmp_path / "out", count=3)
