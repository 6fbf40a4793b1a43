"""New maps of a trained model, read as the raw files of its data set were: each picture against
that of the same scene in the prepared data set, byte for byte."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from components.export.__main__ import main
from components.prepare.__main__ import main as prepare
from components.train.__main__ import main as train
from shared.contracts.dataset import DatasetManifest
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.prepare.files import noise, save
from tests.tiny import one_thread  # noqa: F401 - a fixture

COLOURS = np.array([(128, 64, 128), (70, 130, 180), (107, 142, 35)], np.uint8)


def ids_of(number: int) -> np.ndarray:
    """(32, 64) labels 0..2 in several regions each."""
    ids = np.zeros((32, 64), np.uint8)
    ids[: 8 + number] = 1
    ids[20:, ::16] = 2
    ids[20:, 1::16] = 2
    return ids


def write_raw(raw, paint, pairs=4):
    for number in range(pairs):
        save(raw / "labels" / f"{number}.png", paint(ids_of(number)))
        save(raw / "images" / f"{number}.png", noise(number, 32, 64, 3))


def prepared(folder, *flags) -> DatasetManifest:
    common = "--size keep --test-fraction 0.5 --cache-limit-gb 0".split()
    places = as_flags(raw_data=folder / "raw", dataset=folder / "dataset")
    prepare([*places, *common, *map(str, flags)])
    return DatasetManifest.read(folder / "dataset")


def paint(*flags, **places):
    main(["synthesise", *as_flags(**places), *map(str, flags)])


def refused(capsys, *flags, **places) -> str:
    return refusal_of_command(capsys, main, "synthesise", *as_flags(**places), *flags)


def pictures(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def assert_as_the_data_set(folder, maps, flags=(), **painter):
    """`maps`, painted, are the pictures of the same names of the prepared data set."""
    paint(**painter, dataset=folder / "dataset", out=folder / "wanted")
    paint(*flags, **painter, labels=maps, out=folder / "found")
    wanted, found = pictures(folder / "wanted"), pictures(folder / "found")
    assert wanted and {name: found.get(name) for name in wanted} == wanted


# A training of coloured maps with components


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """raw/ of coloured maps, dataset/, model/ and exported/."""
    folder = tmp_path_factory.mktemp("trained")
    write_raw(folder / "raw", lambda ids: COLOURS[ids])
    table = folder / "labels.json"
    table.write_text(
        json.dumps([dict(id=i, name=f"n{i}", colour=c) for i, c in enumerate(COLOURS.tolist())])
    )
    prepared(folder, "--num-labels", 3, "--labels", table, "--instances", "components")
    table.unlink()  # the card knows it all
    options = tiny.TRAIN | dict(epochs=1, epochs_decay=0, device="cpu", lambda_vgg=0)
    train(as_flags(dataset=folder / "dataset", model=folder / "model", **options))
    main(as_flags(model=folder / "model", exported=folder / "exported"))
    return folder


@pytest.mark.parametrize("painter", ["model", "exported"])
def test_coloured_maps_for_a_model_of_components(trained, tmp_path, painter, capsys):
    for name in ("dataset", "raw"):
        (tmp_path / name).symlink_to(trained / name)
    capsys.readouterr()
    assert_as_the_data_set(tmp_path, trained / "raw" / "labels", **{painter: trained / painter})
    printed = capsys.readouterr().out
    assert printed.count("label maps are raw: colours become labels as in training") == 1


def test_instances_are_the_components_that_training_had(trained, tmp_path):
    """Said by name they are the same; instance maps of a user's own are others."""
    labels, model = trained / "raw" / "labels" / "0.png", trained / "model"
    paint(model=model, labels=labels, out=tmp_path / "own")
    paint(model=model, labels=labels, instances="components", out=tmp_path / "said")
    save(tmp_path / "0.png", np.zeros((32, 64), np.uint8))
    paint(model=model, labels=labels, instances=tmp_path / "0.png", out=tmp_path / "one")
    assert pictures(tmp_path / "own") == pictures(tmp_path / "said")
    assert pictures(tmp_path / "own") != pictures(tmp_path / "one")


def test_maps_of_the_prepared_data_set_are_known_by_their_place(trained, tmp_path, capsys):
    (tmp_path / "dataset").symlink_to(trained / "dataset")
    maps, model = trained / "dataset" / "test_label", trained / "model"
    assert_as_the_data_set(tmp_path, maps, model=model)
    assert "label maps are prepared: ids are those of the data set" in capsys.readouterr().out
    text = refused(capsys, maps="raw", model=model, labels=maps, out=tmp_path / "x")
    assert text.startswith("--maps raw: ") and text.endswith(
        " lies in a prepared data set: leave --maps out."
    )


def test_copies_of_prepared_maps_are_known_by_what_is_in_them(trained, tmp_path, capsys):
    """Ids 0..2 are no colours that the labels name."""
    shutil.copytree(trained / "dataset" / "test_label", tmp_path / "maps")
    (tmp_path / "dataset").symlink_to(trained / "dataset")
    assert_as_the_data_set(tmp_path, tmp_path / "maps", model=trained / "model")
    assert "label maps are prepared: " in capsys.readouterr().out


def test_files_for_ais_bench_are_those_of_the_data_set(trained, tmp_path, capsys):
    """Byte for byte: the labels, and the components as instances."""
    exported, write = trained / "exported", ["offline", "inputs"]
    raw = dict(labels=trained / "raw" / "labels", exported=exported)
    main([*write, *as_flags(**raw, out=tmp_path / "new")])
    said = "label maps are raw: colours become labels as in training"
    assert said in capsys.readouterr().out
    prepared = dict(dataset=trained / "dataset", exported=exported)
    main([*write, *as_flags(**prepared, out=tmp_path / "wanted")])
    for kind in ("labels", "instances"):
        wanted, found = pictures(tmp_path / "wanted" / kind), pictures(tmp_path / "new" / kind)
        assert wanted and {name: found[name] for name in wanted} == wanted
        assert len(found) == 4
    refusal = partial(refusal_of_command, capsys, main, *write)
    alone = as_flags(labels=raw["labels"], out=tmp_path / "x")
    assert refusal(*alone) == (
        "--labels needs --exported, whose card tells how maps are read, and no --form or --size: "
        "give the folder of the export step alone."
    )
    assert refusal(*as_flags(**raw | prepared, out=tmp_path / "x")) == (
        "--labels, --image or --dataset is needed, and one alone: give what is to be read."
    )


def test_a_colour_that_training_did_not_know_is_refused(trained, tmp_path, capsys):
    pixels = COLOURS[ids_of(0)].copy()
    pixels[:2] = 1, 2, 3
    save(tmp_path / "new.png", pixels)
    places = dict(model=trained / "model", labels=tmp_path / "new.png", out=tmp_path / "out")
    assert refused(capsys, **places) == (
        f"--labels: {tmp_path}/new.png has colours that the model's labels do not name: [1, 2, 3] "
        "(6.25% of the pixels): correct the map, or say --maps prepared where it holds ids of the "
        "data set."
    )
    assert not (tmp_path / "out").exists()


def test_a_jpeg_of_labels_is_refused(trained, tmp_path, capsys):
    Image.fromarray(COLOURS[ids_of(0)]).save(tmp_path / "new.png", "JPEG", quality=100)
    places = dict(model=trained / "model", labels=tmp_path / "new.png", out=tmp_path / "out")
    assert "new.png is a JPEG, which changes ids at every edge: save it as PNG" in (
        refused(capsys, **places)
    )


# Remapped and ignored ids


def model_of(folder, manifest, **changes):
    """A model whose card says what a training on this data set would."""
    a = tiny.architecture(num_labels=manifest.num_labels, use_instances=False)
    card = dict(labels=manifest.labels, raw=manifest.raw) | changes
    tiny.model(folder / "model", a, gain=0.2, **card)
    return folder / "model"


RAW_IDS = np.array([7, 1, 26], np.uint8)  # of the labels 0, 1, 2
REMAP = '{"7": 0, "26": 2, "1": 1, "others": 255}'


def test_remapped_maps(tmp_path, capsys):
    write_raw(tmp_path / "raw", lambda ids: RAW_IDS[ids])
    (tmp_path / "table.json").write_text(REMAP)
    flags = ["--num-labels", 3, "--instances", "none", "--remap", tmp_path / "table.json"]
    model = model_of(tmp_path, prepared(tmp_path, *flags))
    (tmp_path / "table.json").unlink()
    assert_as_the_data_set(tmp_path, tmp_path / "raw" / "labels", model=model)
    assert "label maps are raw: ids are renumbered as in training (--remap {" in (
        capsys.readouterr().out
    )


def test_ids_that_may_be_raw_or_prepared_are_asked_for(tmp_path, capsys):
    """0 and 1 are labels of the data set; as raw ids they would be 1 and 0."""
    write_raw(tmp_path / "raw", lambda ids: np.array([1, 0, 2], np.uint8)[ids])
    flags = ["--num-labels", 3, "--instances", "none", "--remap", '{"0": 1, "1": 0}']
    model = model_of(tmp_path, prepared(tmp_path, *flags))
    places = dict(model=model, labels=tmp_path / "raw" / "labels", out=tmp_path / "out")
    text = refused(capsys, **places)
    assert text == (
        "--labels holds ids 0, 1, 2 alone, which may be those of raw files, which training "
        "renumbered, or those of the data set: say which with --maps raw or --maps prepared."
    )
    maps = tmp_path / "raw" / "labels"
    assert_as_the_data_set(tmp_path, maps, ["--maps", "raw"], model=model)
    shutil.copytree(tmp_path / "dataset" / "test_label", tmp_path / "maps")
    assert_as_the_data_set(tmp_path, tmp_path / "maps", ["--maps", "prepared"], model=model)


def test_ignored_ids(tmp_path):
    write_raw(tmp_path / "raw", lambda ids: np.where(ids == 1, 200, ids).astype(np.uint8))
    flags = ["--num-labels", 3, "--instances", "none", "--ignore-labels", "200"]
    model = model_of(tmp_path, prepared(tmp_path, *flags))
    assert_as_the_data_set(tmp_path, tmp_path / "raw" / "labels", model=model)


def test_a_palette_with_colours_of_other_labels_is_refused(tmp_path, capsys):
    def with_palette(ids, colours):
        image = Image.fromarray(ids).convert("P")
        image.putpalette(np.asarray(colours, np.uint8).ravel().tolist())
        return image

    for number in range(4):
        path = tmp_path / "raw" / "labels" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with_palette(ids_of(number), COLOURS).save(path)
        save(tmp_path / "raw" / "images" / f"{number}.png", noise(number, 32, 64, 3))
    model = model_of(tmp_path, prepared(tmp_path, "--num-labels", 3, "--instances", "none"))
    assert_as_the_data_set(tmp_path, tmp_path / "raw" / "labels", model=model)
    with_palette(ids_of(0), COLOURS[[1, 0, 2]]).save(tmp_path / "new.png")
    places = dict(model=model, labels=tmp_path / "new.png", out=tmp_path / "out")
    assert refused(capsys, **places) == (
        f"--labels: {tmp_path}/new.png has colour [70, 130, 180] in its palette for label 0, but "
        "the model knows it as label 1 (1): save it with the palette of the training maps."
    )


def test_the_white_level_of_the_data_set(tmp_path):
    """Pictures of a 12-bit camera, as input."""
    for number in range(4):
        for role in ("A", "B"):
            picture = noise(number, 32, 64, high=4096, dtype=np.uint16)
            save(tmp_path / "raw" / role / f"{number}.png", picture)
    flags = "--num-labels 0 --input-nc 1 --instances none --white-level 4095".split()
    manifest = prepared(tmp_path, *flags)
    a = tiny.architecture(num_labels=0, input_nc=1, use_instances=False)
    tiny.model(tmp_path / "model", a, gain=0.2, raw=manifest.raw)
    model = dict(model=tmp_path / "model")
    paint(**model, dataset=tmp_path / "dataset", out=tmp_path / "wanted")
    paint(**model, image=tmp_path / "raw" / "A", out=tmp_path / "found")
    wanted, found = pictures(tmp_path / "wanted"), pictures(tmp_path / "found")
    assert wanted and {name: found[name] for name in wanted} == wanted
