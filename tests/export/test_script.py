"""The script beside an exported file, and in the README: it needs neither torch nor this project,
and paints what `synthesise` paints."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from components.export.__main__ import main
from components.export.config import ExportConfig
from components.export.run import run
from shared.contracts.exported import ExportCard
from shared.contracts.labels import Label, RawReading
from shared.data.images import read_picture, write_ids, write_picture
from tests import tiny
from tests.alone import run_alone
from tests.places import ROOT
from tests.tiny import one_thread  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """The files of a scene of 48x80: other than the 32x64 of the models."""
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(3)
    labels, instances = tiny.maps(rng, 48, 80)
    labels[:8, :16] = 255
    write_ids(folder / "labels.png", labels)
    write_ids(folder / "instances.png", instances)
    for channels, name in ((1, "grey.png"), (3, "colour.png"), (5, "many.npy")):
        picture = rng.integers(0, 256, (channels, 6, 10), np.uint8).repeat(8, 1).repeat(8, 2)
        write_picture(folder / name, picture)
    return folder


def exported(folder: Path, options: dict, fields: dict | None = None, **architecture) -> Path:
    """An exported folder of a model; with features it has a style per label.

    options: Of the step. fields: Of the model's card."""
    a = tiny.architecture(**architecture)
    card = tiny.model(folder / "model", a, gain=0.2, **fields or {})
    clusters = folder / "clusters" if a.feat_num else None
    if clusters:
        tiny.write_clusters(clusters, card.digest, tiny.style_of_each_label(a.feat_num))
    config = ExportConfig.check(dict(parity_samples=1) | options)
    run(folder / "model", folder / "exported", clusters=clusters, config=config)
    return folder / "exported"


FEATURES = dict(feat_num=3)
CASES = {
    "labels": (dict(output="uint8", batch_size=2), dict(use_instances=False), ["labels.png"]),
    "instances": (dict(ids="int16", labels="int32"), {}, ["labels.png", "instances.png"]),
    "dynamic": (dict(size="dynamic"), {}, ["labels.png", "instances.png"]),
    "fixed": ({}, FEATURES, ["labels.png", "instances.png"]),
    "label": (dict(style="label"), FEATURES, ["labels.png", "instances.png"]),
    "instance": (dict(style="instance"), FEATURES, ["labels.png", "instances.png"]),
    "map": (dict(style="map"), FEATURES, ["labels.png", "instances.png"]),
    "onehot": (dict(form="onehot"), FEATURES, ["labels.png", "instances.png"]),
}
PICTURES = dict(num_labels=0, use_instances=False)
CASES |= {
    "grey": (dict(size="dynamic"), PICTURES | dict(input_nc=1), ["grey.png"]),
    "colour": ({}, PICTURES | dict(input_nc=3), ["colour.png"]),
    "many": (
        dict(style="map", size="48x80"),
        dict(num_labels=0, input_nc=5, feat_num=3),
        ["many.npy", "instances.png"],
    ),
    "channels": (
        dict(form="onehot", size="48x80"),
        dict(num_labels=0, input_nc=3),
        ["colour.png", "instances.png"],
    ),
}


def test_the_script_alone_paints_what_synthesise_paints(tmp_path, scene):
    """To the byte; pictures that are made smaller first are resampled otherwise there, within two
    grey levels before the network."""
    # By the project.
    jobs = []
    for name, (options, architecture, files) in CASES.items():
        folder = exported(tmp_path / name, options, **architecture)
        of_input = "--labels" if files[0] == "labels.png" else "--image"
        flags = [of_input, scene / files[0]]
        flags += ["--instances", scene / files[1]] if len(files) > 1 else []
        out = tmp_path / name / "wanted"
        words = ["synthesise", "--exported", folder, *flags, "--out", out, "--device", "cpu"]
        main(list(map(str, words)))
        paths = [folder / "generator.onnx", *(scene / file for file in files)]
        jobs.append([folder / "paint.py", *paths, tmp_path / name / "picture.png"])

    # By the scripts.
    done = run_alone(jobs)
    assert done.returncode == 0, done.stderr
    for name, (_, _, files) in CASES.items():
        wanted = read_picture(tmp_path / name / "wanted" / f"{Path(files[0]).stem}.png")
        picture = read_picture(tmp_path / name / "picture.png")
        assert picture.shape == (3, 48, 80) and np.ptp(picture) > 20, name
        difference = np.abs(picture.astype(int) - wanted).max()
        assert difference <= (8 if name == "colour" else 0), name


def test_the_script_of_the_readme(tmp_path, scene):
    """It is that of the model of 64x128 with labels and instances that the root README makes."""
    text = (ROOT / "components" / "export" / "README.md").read_text()
    (block,) = re.findall(
        r"^```python\n(# python paint.py .*?)^```", text, re.DOTALL | re.MULTILINE
    )
    folder = exported(tmp_path, {}, dict(height=64, width=128), **FEATURES)
    assert block == (folder / "paint.py").read_text()

    (tmp_path / "readme.py").write_text(block)
    maps = [scene / "labels.png", scene / "instances.png"]
    file, picture = folder / "generator.onnx", tmp_path / "picture.png"
    done = run_alone([[tmp_path / "readme.py", file, *maps, picture]])
    assert done.returncode == 0, done.stderr
    flags = ["--labels", maps[0], "--instances", maps[1], "--out", tmp_path / "wanted"]
    main(list(map(str, ["synthesise", "--exported", folder, *flags, "--device", "cpu"])))
    assert np.array_equal(read_picture(picture), read_picture(tmp_path / "wanted" / "labels.png"))

    # Maps that the model does not know, and two maps of two sizes.
    write_ids(tmp_path / "ids.png", np.full((48, 80), 36))
    write_ids(tmp_path / "small.png", np.zeros((24, 40), int))
    for files, sentence in (
        ([tmp_path / "ids.png", maps[1]], "these are not the labels of the model"),
        ([maps[0], tmp_path / "small.png"], "the instance map has another size"),
    ):
        failed = run_alone([[tmp_path / "readme.py", file, *files, tmp_path / "none.png"]])
        assert failed.returncode == 1 and f"AssertionError: {sentence}" in failed.stderr
    assert not (tmp_path / "none.png").exists()


# What the file says of itself.


def facts(file: Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def test_the_file_carries_its_facts(tmp_path):
    """In each variant of it, and by the names that the README has."""
    variants = {
        "plain": {},
        "fp16": dict(precision="fp16", parity_limit=0.5),
        "external": dict(external_data_above_mb=0),
        "dynamic": dict(size="dynamic", output="uint8"),
    }
    labels = [Label(id=7, name="Straße", colour=(128, 64, 128))]
    known = dict(labels=labels, raw=RawReading(remap='{"9": 7}', instances="components"))
    found = {}
    for name, options in variants.items():
        folder = exported(tmp_path / name, options, known, **FEATURES)
        found[name] = facts(folder / "generator.onnx")
    card = ExportCard.read(tmp_path / "plain" / "exported")
    assert (tmp_path / "external" / "exported" / "generator.onnx.data").is_file()

    plain = found["plain"]
    assert json.loads(plain["inputs"]) == {spec.name: spec.meaning for spec in card.inputs}
    assert plain["output"] == card.outputs[0].meaning == "RGB picture in [-1, 1]"
    assert json.loads(plain["size"]) == [32, 64] and plain["num_labels"] == "35"
    label = {"id": 7, "name": "Straße", "colour": [128, 64, 128]}
    assert json.loads(plain["labels"]) == [label]
    assert json.loads(plain["raw"]) == card.raw.model_dump()
    assert json.loads(plain["raw"])["instances"] == "components"
    assert json.loads(plain["style"]) == card.style and len(card.style) == 36
    assert json.loads(plain["architecture"]) == card.architecture.model_dump()
    assert json.loads(plain["graph"]) == card.graph.model_dump()
    assert plain["model_digest"] == card.model_digest
    assert found["external"] == plain
    assert found["fp16"] == plain | {"precision": "fp16"}
    assert found["dynamic"]["size"] == "dynamic"
    assert found["dynamic"]["output"] == "RGB picture of 0 .. 255"

    text = (ROOT / "components" / "export" / "README.md").read_text()
    table = text[text.index("| key |") :].split("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.split("\n")[2:]]
    assert sorted(re.findall(r"`(\w+)`", " ".join(first_cells))) == sorted(plain)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    options = dict(external_data_above_mb=0)
    files = [exported(tmp_path / name, options, **FEATURES) / "generator.onnx" for name in "ab"]
    for suffix in ("", ".data"):
        one, other = (Path(f"{file}{suffix}").read_bytes() for file in files)
        assert one == other


# Raw maps, as the data set of the training had them.


def test_raw_maps_are_read_as_in_training(tmp_path):
    """Ids that were renumbered, colours, and instances that were regions of one label: each gives
    the picture of the maps that are translated here by hand."""
    # Two regions of label 3, one of 7, one without label; every region is an instance.
    labels = np.full((32, 64), 7)
    labels[4:12, 8:24] = labels[20:28, 8:24] = 3
    labels[:, 48:] = 255
    instances = labels.copy()
    instances[20:28, 8:24] = 4
    prepared = [tmp_path / "labels.png", tmp_path / "instances.png"]
    write_ids(prepared[0], labels)
    write_ids(prepared[1], instances)

    # The same as the files of others have it.
    raw_ids = np.select([labels == 3, labels == 7], [40, 500], 9)
    write_ids(tmp_path / "raw.png", raw_ids)
    write_ids(tmp_path / "shifted.png", np.select([labels == 3, labels == 7], [4, 7], 9))
    red, blue, none = (200, 0, 2), (0, 0, 250), (1, 1, 1)
    colours = np.select([labels[..., None] == 3, labels[..., None] == 7], [red, blue], none)
    Image.fromarray(colours.astype(np.uint8)).save(tmp_path / "colours.png")
    seen = np.where(labels == 255, 0, 255)[..., None]  # its alpha
    glass = np.concatenate([colours, seen], axis=2).astype(np.uint8)
    Image.fromarray(glass).save(tmp_path / "glass.png")
    names = [
        Label(id=3, name="wall", colour=(199, 1, 0)),
        Label(id=7, name="door", colour=blue),
        Label(id=255, name="nothing", colour=(0, 0, 0)),
    ]
    components = dict(instances="components")
    cases = {
        "plain": (RawReading(), prepared),
        "components": (RawReading(**components), prepared[:1]),
        "raw": (
            RawReading(remap='{"40": 3, "500": 7, "others": 255}', **components),
            [tmp_path / "raw.png"],
        ),
        "shifted": (
            RawReading(remap='{"4": 3}', ignore_labels="9", **components),
            [tmp_path / "shifted.png"],
        ),
        "colours": (
            RawReading(coloured=True, colour_tolerance=2, **components),
            [tmp_path / "colours.png"],
        ),
        "glass": (
            RawReading(coloured=True, colour_tolerance=2, transparent_label=255, **components),
            [tmp_path / "glass.png"],
        ),
    }
    jobs, folders = [], {}
    for name, (raw, files) in cases.items():
        folder = folders[name] = exported(tmp_path / name, {}, dict(labels=names, raw=raw))
        picture = tmp_path / f"{name}_painted.png"
        jobs.append([folder / "paint.py", folder / "generator.onnx", *files, picture])
    done = run_alone(jobs)
    assert done.returncode == 0, done.stderr
    wanted = read_picture(tmp_path / "plain_painted.png")
    assert np.ptp(wanted) > 20
    for name in cases:
        assert np.array_equal(read_picture(tmp_path / f"{name}_painted.png"), wanted), name

    # As `synthesise` does by itself.
    for name in ("raw", "glass"):
        flags = ["--labels", tmp_path / f"{name}.png", "--out", tmp_path / "ours"]
        main(list(map(str, ["synthesise", "--exported", folders[name], *flags])))
        assert np.array_equal(read_picture(tmp_path / "ours" / f"{name}.png"), wanted), name

    # What has no label stops it.
    write_ids(tmp_path / "unknown.png", np.full((32, 64), 60))
    Image.new("RGB", (64, 32), (10, 10, 10)).save(tmp_path / "other.png")
    for name, file, sentence in (
        ("shifted", "unknown.png", "an id of the map has no label"),
        ("colours", "other.png", "a colour of the map has no label"),
    ):
        program, model = folders[name] / "paint.py", folders[name] / "generator.onnx"
        failed = run_alone([[program, model, tmp_path / file, tmp_path / "none.png"]])
        assert failed.returncode == 1 and f"AssertionError: {sentence}" in failed.stderr
