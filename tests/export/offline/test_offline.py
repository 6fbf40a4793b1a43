"""Files for ais_bench and back: their bytes, names and modes, and what is refused."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from components.export.__main__ import main
from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.exported import Graph
from shared.contracts.model import Architecture
from shared.data.images import read_ids, read_picture
from tests import tiny
from tests.asking import as_flags, refusal_of_command

H, W = 8, 16


@pytest.fixture
def dataset(tmp_path):
    tiny.dataset(tmp_path / "dataset", train=1, height=H, width=W)
    return tmp_path / "dataset"


def run(*argv) -> None:
    main(["offline", *map(str, argv)])


def refused(capsys, *argv) -> str:
    return refusal_of_command(capsys, main, "offline", *argv)


def rename_pairs(dataset, *names) -> None:
    """Only in the manifest: names are looked at before files."""
    manifest = DatasetManifest.read(dataset)
    pairs = [Pair(name, H, W, True, 1) for name in names]
    manifest.model_copy(update={"test": pairs}).write(dataset)


def seeds_tensor(labels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """(36, H, W): one-hot labels, and 1 where a pixel and one of its four neighbours are of
    different instances."""
    tensor = np.zeros((36, H, W), np.float32)
    for y in range(H):
        for x in range(W):
            if labels[y, x] < 35:
                tensor[labels[y, x], y, x] = 1
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < H and 0 <= u < W and instances[v, u] != instances[y, x]:
                    tensor[35, y, x] = 1
    return tensor


@pytest.mark.parametrize("file_format", ["bin", "npy"])
def test_channels_are_the_seeds(tmp_path, file_format, capsys):
    rng = np.random.default_rng(1)
    pairs = {}
    for name in ("a_000000_000019", "b-1.v2"):
        labels = rng.integers(0, 35, (H, W), dtype=np.uint8)
        labels[0, :3] = 255  # no channel
        pairs[name] = {
            "input": labels,
            "instance": rng.choice([7, 26000, 65535], (H, W), p=[0.8, 0.1, 0.1]),
        }
    tiny.write(tmp_path / "dataset", {"test": pairs})
    out = tmp_path / "out"
    for _ in range(2):  # the same command again is fine
        run("inputs", "--dataset", tmp_path / "dataset", "--out", out, "--format", file_format)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{name}.{file_format}" for name in pairs
    )
    for name, maps in pairs.items():
        file = out / f"{name}.{file_format}"
        found = (
            np.fromfile(file, "<f4").reshape(36, H, W) if file_format == "bin" else np.load(file)
        )
        assert found.dtype == np.float32 and not found[:35, 0, :3].any()
        assert 0 < found[35].mean() < 1
        np.testing.assert_array_equal(found, seeds_tensor(maps["input"], maps["instance"]))
    printed = capsys.readouterr().out
    assert "2 files of 36,864 bytes in all (0.00 GB)" in printed  # 2 * 36 * 8 * 16 * 4
    assert (
        f"2 files of float32 36x{H}x{W}\n" in printed
        and printed.splitlines()[-1] == f"--input {out}"
    )


def test_maps_go_to_a_folder_for_each_input(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    run("inputs", "--dataset", dataset, "--out", out, "--form", "maps", "--split", "train")
    labels = np.fromfile(out / "labels" / "train_0.bin", np.uint8).reshape(H, W)
    instances = np.fromfile(out / "instances" / "train_0.bin", "<i4").reshape(H, W)
    np.testing.assert_array_equal(labels, read_ids(dataset / "train_label" / "train_0.png"))
    np.testing.assert_array_equal(instances, read_ids(dataset / "train_inst" / "train_0.png"))
    printed = capsys.readouterr().out
    assert (
        f"{out}/labels: 1 files of uint8 8x16\n" in printed
        and "instances: 1 files of int32 8x16\n" in printed
    )
    assert "2 files of 640 bytes in all" in printed  # 8 * 16 * (1 + 4)
    assert printed.splitlines()[-1] == f"--input {out}/labels,{out}/instances"


def test_ais_bench_accepts_files_and_folders(dataset, tmp_path):
    """It refuses what group or others can write to, in `check_linux_permission`."""
    out = tmp_path / "out"
    (out / "labels").mkdir(parents=True)
    (out / "labels").chmod(0o777)
    run("inputs", "--dataset", dataset, "--out", out, "--form", "maps")
    for folder in (out / "labels", out / "instances"):
        assert folder.stat().st_mode & 0o777 == 0o750
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def test_sizes_are_the_pairs_own_or_the_one_given(dataset, tmp_path, capsys):
    """Every second pixel of maps whose blocks are 8 pixels wide; edges are those of the small
    map."""
    out = tmp_path / "out"
    run("inputs", "--dataset", dataset, "--out", out, "--size", "4x8")
    assert "2 files of float32 36x4x8\n" in capsys.readouterr().out
    found = np.fromfile(out / "test_0.bin", "<f4").reshape(36, 4, 8)
    labels = read_ids(dataset / "test_label" / "test_0.png")[::2, ::2]
    np.testing.assert_array_equal(found[:35].argmax(axis=0), labels)
    assert labels[0, 3] != labels[0, 4] and found[35, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]

    maps = {f"of_{h}_rows": {"input": np.zeros((h, W), np.uint8)} for h in (5, 6, 7, 8)}
    tiny.write(tmp_path / "mixed", {"test": maps})
    run("inputs", "--dataset", tmp_path / "mixed", "--out", tmp_path / "own")
    assert "4 files of float32 35x5x16, 35x6x16, 35x7x16, ...\n" in capsys.readouterr().out
    assert (tmp_path / "own" / "of_6_rows.bin").stat().st_size == 35 * 6 * W * 4


@pytest.mark.parametrize("cache", [False, True])
def test_pictures_as_input(tmp_path, cache):
    dataset, out = tmp_path / "dataset", tmp_path / "out"
    tiny.dataset(dataset, height=H, width=W, input_nc=2, cache=cache)
    run("inputs", "--dataset", dataset, "--out", out / "channels")
    run("inputs", "--dataset", dataset, "--out", out / "maps", "--form", "maps", "--format", "npy")
    picture = read_picture(dataset / "test_A" / "test_0.png", 2)
    channels = np.fromfile(out / "channels" / "test_0.bin", "<f4").reshape(3, H, W)
    np.testing.assert_allclose(channels[:2], picture / 255 * 2 - 1, atol=1e-6)
    assert set(channels[2].ravel()) == {0, 1}
    maps = np.load(out / "maps" / "image" / "test_0.npy")
    assert maps.dtype == np.uint8 and maps.flags.c_contiguous
    np.testing.assert_array_equal(maps, picture)


def test_without_instances_there_are_only_labels(tmp_path, capsys):
    tiny.write(tmp_path / "dataset", {"test": {"a": {"input": np.zeros((H, W), np.uint8)}}})
    run("inputs", "--dataset", tmp_path / "dataset", "--out", tmp_path / "out", "--form", "maps")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels"]
    assert capsys.readouterr().out.endswith(f"\n--input {tmp_path}/out/labels\n")


# The inputs of an exported file.


STYLE = np.random.default_rng(2).uniform(-1, 1, (36, 3)).astype(np.float32)


def export(folder, graph: Graph, a: Architecture, **size) -> None:
    tiny.export_card(folder, a, graph, **size, style=STYLE.tolist() if a.feat_num else [])


def test_inputs_of_an_exported_file(tmp_path, capsys):
    """Ids above 32767, as of bicycles, are numbered anew for a file of 16 bits; styles are those of
    the card."""
    a = tiny.architecture(feat_num=3)
    rng = np.random.default_rng(0)
    labels, ids = (
        rng.integers(0, 35, (H, W), np.uint8),
        rng.choice([7, 26000, 33001], (H, W)).astype(np.int32),
    )
    labels[0, 0] = 255  # the last row of styles
    tiny.write(
        tmp_path / "dataset",
        {"test": {"test_0": {"input": labels, "instance": ids.astype(np.uint16)}}},
    )
    made = {}
    for name, graph in (
        ("fixed", Graph(style="fixed")),
        ("label", Graph(style="label", ids="int16")),
        ("map", Graph(style="map")),
        ("onehot", Graph(form="onehot")),
    ):
        export(tmp_path / name, graph, a)
        flags = ["--exported", tmp_path / name, "--out", tmp_path / "out" / name, "--format", "npy"]
        run("inputs", "--dataset", tmp_path / "dataset", *flags)
        folders = capsys.readouterr().out.splitlines()[-1].removeprefix("--input ").split(",")
        made[name] = {
            folder.rpartition("/")[2]: np.load(f"{folder}/test_0.npy") for folder in folders
        }
    assert {name: list(inputs) for name, inputs in made.items()} == {
        "fixed": ["labels", "instances"],
        "label": ["labels", "instances", "style"],
        "map": ["labels", "instances", "features"],
        "onehot": ["input_concat"],
    }
    for name in ("fixed", "map"):
        np.testing.assert_array_equal(made[name]["labels"], labels)
        np.testing.assert_array_equal(made[name]["instances"], ids)
        assert (made[name]["labels"].dtype, made[name]["instances"].dtype) == (np.uint8, np.int32)
    assert made["label"]["instances"].dtype == np.int16
    np.testing.assert_array_equal(
        made["label"]["instances"], np.searchsorted([7, 26000, 33001], ids)
    )
    np.testing.assert_array_equal(made["label"]["style"], STYLE)
    painted = STYLE[np.minimum(labels, 35)].transpose(2, 0, 1)
    np.testing.assert_array_equal(made["map"]["features"], painted)
    channels = made["onehot"]["input_concat"]
    np.testing.assert_array_equal(channels, np.concatenate([seeds_tensor(labels, ids), painted]))
    assert {
        array.dtype for array in (channels, made["map"]["features"], made["label"]["style"])
    } == {np.dtype("f4")}


def test_bytes_of_style_tables_do_not_grow_with_the_maps(dataset, tmp_path, capsys):
    export(tmp_path / "exported", Graph(style="label"), tiny.architecture(feat_num=3))
    run("inputs", *as_flags(dataset=dataset, exported=tmp_path / "exported", out=tmp_path / "out"))
    printed = capsys.readouterr().out
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.bin"))
    assert written == 2 * (H * W * (1 + 4) + 36 * 3 * 4) == 2144
    assert (
        "6 files of 2,144 bytes in all" in printed and "style: 2 files of float32 36x3\n" in printed
    )


def test_maps_get_the_size_of_the_exported_file(dataset, tmp_path):
    export(tmp_path / "exported", Graph(), tiny.architecture(use_instances=False), size=(4, 8))
    run("inputs", *as_flags(dataset=dataset, exported=tmp_path / "exported", out=tmp_path / "out"))
    labels = np.fromfile(tmp_path / "out" / "labels" / "test_1.bin", np.uint8).reshape(4, 8)
    np.testing.assert_array_equal(labels, read_ids(dataset / "test_label" / "test_1.png")[::2, ::2])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels"]


def test_an_exported_file_that_takes_pictures(tmp_path):
    tiny.dataset(tmp_path / "dataset", height=H, width=W, input_nc=2)
    export(tmp_path / "exported", Graph(), tiny.architecture(num_labels=0, input_nc=2))
    flags = ["--exported", tmp_path / "exported", "--out", tmp_path / "out", "--format", "npy"]
    run("inputs", "--dataset", tmp_path / "dataset", *flags)
    image, instances = (
        np.load(tmp_path / "out" / name / "test_0.npy") for name in ("image", "instances")
    )
    np.testing.assert_array_equal(
        image, read_picture(tmp_path / "dataset" / "test_A" / "test_0.png", 2)
    )
    assert instances.shape == (H, W)


def test_exported_files_that_cannot_be_fed(dataset, tmp_path, capsys):
    exported, out = tmp_path / "exported", tmp_path / "out"
    command = ["inputs", "--dataset", dataset, "--exported", exported, "--out", out]
    assert f"--exported {exported} holds no export.json: give the folder that" in refused(
        capsys, *command
    )
    export(exported, Graph(style="instance"), tiny.architecture(feat_num=3))
    text = refused(capsys, *command)
    assert (
        f"--exported {exported} takes styles by instance, tables of any length, but ais_bench "
        "takes one" in text
    )
    export(exported, Graph(), tiny.architecture(num_labels=9))
    text = refused(capsys, *command)
    assert (
        f"--dataset {dataset} has maps of 35 labels as input but the model was trained with maps "
        "of 9 labels" in text
    )
    tiny.write(tmp_path / "bare", {"test": {"a": {"input": np.zeros((H, W), np.uint8)}}})
    export(exported, Graph(), tiny.architecture())
    text = refused(capsys, "inputs", "--dataset", tmp_path / "bare", *command[3:])
    assert (
        f"--dataset {tmp_path}/bare has no instance maps, which the model takes as input: give one"
        in text
    )
    for flag, value in (("--form", "maps"), ("--size", "8x16")):
        text = refused(capsys, *command, flag, value)
        assert (
            f"{flag} {value} was given but --exported {exported} has its own: leave it out" in text
        )
    assert not out.exists()


def test_inputs_refuses_before_it_writes(dataset, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = ["inputs", "--dataset", dataset, "--out", out]
    full = SimpleNamespace(free=10**9, total=10**9, used=0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    text = refused(capsys, *command, "--size", "16384x16384")
    assert "bytes free but the 2 files take 77,309,411,328: give another disk" in text
    monkeypatch.undo()
    assert "--size '8' is not HEIGHTxWIDTH" in refused(capsys, *command, "--size", "8")
    rename_pairs(dataset, "fine", "Zürich 1")
    text = refused(capsys, *command)
    assert (
        "has a pair 'Zürich 1' but ais_bench takes names of letters, digits and _.- only: rename"
        in text
    )
    rename_pairs(dataset, "scene.1", "scene.2")
    assert "has the pairs scene.1 and scene.2, whose outputs ais_bench gives one name" in refused(
        capsys, *command
    )
    rename_pairs(dataset)
    assert "has no pairs in its test split: give another --split" in refused(capsys, *command)
    assert not out.exists()


def test_a_full_disk_can_be_written_over(dataset, tmp_path, capsys, monkeypatch):
    command = ["inputs", "--dataset", dataset, "--out", tmp_path / "out"]
    run(*command)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    run(*command)
    text = refused(capsys, *command, "--size", "8x17")  # 36 * 8 * 17 * 4 bytes
    assert (
        "has 36,964 bytes free but the 2 files take 39,168: give another disk, a smaller size, or "
        "maps" in text
    )


def test_what_a_killed_command_left_is_written_over(dataset, tmp_path, capsys):
    """Its mark of being unfinished, whole or on the way, and half a file."""
    out = tmp_path / "out"
    command = ["inputs", "--dataset", dataset, "--out", out]
    run(*command)
    made = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for name in (".unfinished", "..unfinished.partial"):
        (out / name).write_bytes(b"")
    next(iter(made)).unlink()
    run(*command)
    assert {path: path.read_bytes() for path in made} == made and not (out / ".unfinished").exists()


def test_inputs_refuses_a_folder_of_other_files(dataset, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["inputs", "--dataset", dataset, "--out", out]
    run(*command)
    text = refused(capsys, *command, "--format", "npy")
    assert f"--out {out} holds another file, test_" in text and "give a new or empty folder" in text
    (out / ".test_0.bin.partial").write_bytes(b"killed here")
    run(*command)
    assert not (out / ".test_0.bin.partial").exists()
    out = tmp_path / "file"
    out.write_text("")
    assert f"--out {out} cannot be written ({out} is a file)" in refused(capsys, *command[:-1], out)


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_there_and_back(tmp_path, dtype):
    """A network that returns its input: pictures come out as they went in, under their names."""
    dataset, sent, received = tmp_path / "dataset", tmp_path / "sent", tmp_path / "received"
    tiny.dataset(dataset, height=H, width=W, input_nc=3)
    run("inputs", "--dataset", dataset, "--out", sent)
    received.mkdir()
    for file in sent.iterdir():
        stem = file.name.split(".")[0]  # as ais_bench does
        output = np.fromfile(file, "<f4").reshape(1, 4, H, W)[:, :3].astype(dtype)
        if stem == "test_0":
            output.tofile(received / f"{stem}_0.bin")
        else:
            np.save(received / f"{stem}_0.npy", output)
    (received / "sumary.json").write_text("{}")
    (received / "test_0_0.txt").write_text("0.1")
    for flags in (["--dataset", dataset], ["--size", f"{H}x{W}"]):
        out = tmp_path / flags[0].strip("-")
        run("pictures", "--outputs", received, "--out", out / "pictures", *flags)
        assert sorted(path.name for path in (out / "pictures").iterdir()) == [
            "test_0.png",
            "test_1.png",
        ]
        for name in ("test_0.png", "test_1.png"):
            np.testing.assert_array_equal(
                read_picture(out / "pictures" / name), read_picture(dataset / "test_A" / name)
            )


def test_values_are_rounded_and_clipped(tmp_path):
    """-1 is 0, 1 is 255, 0 is 127.5, which goes to the even 128."""
    tmp_path.joinpath("raw").mkdir()
    output = np.array([-1, 1, 0, -1.5, 1.5, 0.2], np.float32).reshape(1, 2, 3).repeat(3, axis=0)
    np.save(tmp_path / "raw" / "a_0.npy", output)
    run("pictures", "--outputs", tmp_path / "raw", "--out", tmp_path, "--size", "2x3")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels[:, :, 0].tolist() == [[0, 255, 128], [0, 255, 153]]  # (0.2 + 1) * 127.5
    run("pictures", *as_flags(outputs=tmp_path / "raw", out=tmp_path, size="2x3", suffix="jpg"))
    jpeg = Image.open(tmp_path / "a.jpg")
    # 16 of the standard's table, at quality 95
    assert jpeg.format == "JPEG" and jpeg.quantization[0][0] == 2


@pytest.mark.parametrize("file_format", ["bin", "npy"])
def test_pictures_that_are_uint8_stay_as_they_are(tmp_path, file_format):
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, H, W), np.uint8)
    (tmp_path / "raw").mkdir()
    if file_format == "bin":
        picture.tofile(tmp_path / "raw" / "a_0.bin")
    else:
        np.save(tmp_path / "raw" / "a_0.npy", picture)
    run("pictures", "--outputs", tmp_path / "raw", "--out", tmp_path, "--size", f"{H}x{W}")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), picture[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
@pytest.mark.parametrize("file_format", ["bin", "npy"])
def test_pictures_of_one_channel_are_grey(tmp_path, dtype, file_format):
    """Which the length of a .bin tells; -1 is 0, 1 is 255."""
    levels = np.random.default_rng(0).choice(np.array([0, 255]), (1, H, W))
    output = levels if dtype == np.uint8 else levels / 127.5 - 1
    (tmp_path / "raw").mkdir()
    if file_format == "bin":
        output.astype(dtype).tofile(tmp_path / "raw" / "a_0.bin")
    else:
        np.save(tmp_path / "raw" / "a_0.npy", output.astype(dtype))
    run("pictures", "--outputs", tmp_path / "raw", "--out", tmp_path, "--size", f"{H}x{W}")
    picture = Image.open(tmp_path / "a.png")
    assert picture.mode == "L" and np.array_equal(np.asarray(picture), levels[0])


def test_names_as_ais_bench_makes_them(dataset, tmp_path):
    """It cuts the input's name at the first dot, and appends the number of the output."""
    rename_pairs(dataset, "a_0", "a", "b.v2")
    raw = tmp_path / "raw"
    raw.mkdir()
    for shade, name in enumerate(("a_0_0", "a_0", "b_0")):
        np.full((3, H, W), shade - 1, np.float32).tofile(raw / f"{name}.bin")
    run("pictures", "--outputs", raw, "--out", tmp_path / "out", "--dataset", dataset)
    shades = {path.name: read_picture(path)[0, 0, 0] for path in (tmp_path / "out").iterdir()}
    assert shades == {"a_0.png": 0, "a.png": 128, "b.v2.png": 255}


def test_an_array_of_another_size_is_resized_to_the_pairs(dataset, tmp_path):
    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "test_0_0.npy", np.full((3, 2 * H, 2 * W), 1, np.float16))
    run("pictures", "--outputs", tmp_path / "raw", "--out", tmp_path, "--dataset", dataset)
    pixels = np.asarray(Image.open(tmp_path / "test_0.png"))
    assert pixels.shape == (H, W, 3) and (pixels == 255).all()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "test_0_0.bin",
            np.zeros(5, "<f4"),
            "test_0_0.bin has 20 bytes but a picture of 8x16 has 1536 as float32, 768 as float16, "
            "384 as uint8, or a third of these where it is grey: give",
        ),
        (
            "test_0_0.bin",
            np.zeros(3 * H * W // 4, "<f4"),
            "test_0_0.bin has 384 bytes, a picture of 8x16 as uint8 or of half those sides as "
            "float32: give the --size",
        ),
        ("test_0_0.bin", np.full(3 * H * W, np.nan, "<f4"), "test_0_0.bin holds nan or inf"),
        ("test_0_0.bin", np.full(3 * H * W, np.inf, "<f2"), "test_0_0.bin holds nan or inf"),
        (
            "test_0_0.npy",
            np.zeros((2, 3, H, W), "<f4"),
            "holds float32 of shape (2, 3, 8, 16): give float32,",
        ),
        (
            "test_0_0.npy",
            np.zeros((3, H, W), np.int8),
            "holds int8 of shape (3, 8, 16): give float32, float16 or",
        ),
        (
            "test_0_0.npy",
            b"no array",
            "test_0_0.npy is no array of NumPy: run the network again",
        ),
        ("other_0.bin", b"", "holds other_0.bin but --dataset"),
        ("other_0.bin", b"", "has no test pair other: give the data set and --split"),
        (
            "result.bin",
            b"",
            "holds result.bin, which is not named <name>_<number> as by ais_bench: rename or",
        ),
        (
            "summary.json",
            b"{}",
            "holds no .bin or .npy files: give the folder that ais_bench wrote them to",
        ),
    ],
)
def test_pictures_refuses(dataset, tmp_path, capsys, name, content, sentence):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    if isinstance(content, np.ndarray) and name.endswith(".npy"):
        np.save(raw / name, content)
    else:
        (raw / name).write_bytes(
            bytes(content.data if isinstance(content, np.ndarray) else content)
        )
    assert sentence in refused(
        capsys, "pictures", "--outputs", raw, "--out", out, "--dataset", dataset
    )
    assert not out.exists() or not list(out.iterdir())


def test_pictures_refuses_two_outputs_of_one_name(dataset, tmp_path, capsys):
    for name in ("test_0_0.bin", "test_0_1.bin"):
        np.zeros(3 * H * W, "<f4").tofile(tmp_path / name)
    text = refused(
        capsys, "pictures", "--outputs", tmp_path, "--out", tmp_path / "out", "--size", "8x16"
    )
    assert "holds both test_0_0.bin and test_0_1.bin for test_0.png: remove one" in text


@pytest.mark.parametrize("sizes", [[], ["--size", "8x16", "--dataset", "anywhere"]])
def test_pictures_takes_one_source_of_sizes(tmp_path, capsys, sizes):
    sentence = refused(capsys, "pictures", "--outputs", tmp_path, "--out", tmp_path, *sizes)
    assert sentence == "--dataset or --size is needed, and one alone: one tells the size."


def test_command_line(dataset, tmp_path):
    flags = as_flags(dataset=dataset, out=tmp_path / "out")
    command = [sys.executable, "-m", "components.export", "offline", "inputs", *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith(f"\n--input {tmp_path}/out\n"), done.stderr
    assert (tmp_path / "out" / "test_1.bin").stat().st_size == 36 * H * W * 4
