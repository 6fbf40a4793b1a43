"""Labels of a user's own, from the raw maps to the report: their names and colours pass through
every folder."""

import json

import numpy as np
import pytest
from PIL import Image

from components.benchmark.__main__ import main as benchmark
from components.export.__main__ import main as export
from components.prepare.__main__ import main as prepare
from components.train.__main__ import main as train
from tests import tiny
from tests.asking import as_flags
from tests.prepare.files import load, noise, save
from tests.tiny import one_thread  # noqa: F401 - a fixture

IDS = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((16, 32), np.uint8))  # (32, 64)
COLOURS = np.array([(20, 40, 60), (200, 30, 30), (30, 200, 30), (250, 250, 10)], np.uint8)
NAMES = ["bare soil", "crop & weed", "loose stone", "snow lane"]


def grey(path):
    save(path, IDS)


def coloured(path):
    save(path, COLOURS[IDS])


def with_palette(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(IDS, "P")
    picture.putpalette(COLOURS.ravel().tolist())
    picture.save(path)


@pytest.mark.parametrize(
    ("write_map", "has_file"),
    [(grey, True), (coloured, True), (with_palette, False), (grey, False)],
)
def test_names_and_colours_reach_the_cards_and_the_report(tmp_path, capsys, write_map, has_file):
    # Six pairs of four labels, with a labels file or without.
    for number in range(6):
        write_map(tmp_path / "raw" / "labels" / f"{number}.png")
        save(tmp_path / "raw" / "images" / f"{number}.png", noise(number, 32, 64, 3))
    table = [
        dict(id=i, name=name, colour=colour)
        for i, (name, colour) in enumerate(zip(NAMES, COLOURS.tolist(), strict=True))
    ]
    (tmp_path / "labels.json").write_text(json.dumps(table))
    flags = as_flags(labels=tmp_path / "labels.json") if has_file else []

    # All steps.
    dataset, model, exported, report = (tmp_path / name for name in ("d", "m", "e", "r"))
    options = "--instances none --size keep --test-fraction 0.4 --cache-limit-gb 0".split()
    prepare([*as_flags(raw_data=tmp_path / "raw", dataset=dataset), *options, *flags])
    small = tiny.TRAIN | dict(epochs=1, epochs_decay=0, device="cpu")
    train(as_flags(dataset=dataset, model=model, **small))
    export(as_flags(dataset=dataset, model=model, exported=exported))
    places = dict(dataset=dataset, model=model, exported=exported, report=report)
    benchmark(as_flags(**places, device="cpu", batch_sizes=1, runtimes="onnxruntime"))

    # The cards say the same, number of labels included.
    cards = [dataset / "manifest.json", model / "model.json", exported / "export.json"]
    contents = [json.loads(card.read_text()) for card in cards]
    known = {(4, str(content["labels"]), str(content["raw"])) for content in contents}
    assert len(known) == 1
    found = {one["id"]: one for one in contents[0]["labels"]}
    if has_file:
        assert [found[i]["name"] for i in range(4)] == NAMES
    if has_file or write_map is with_palette:
        assert [found[i]["colour"] for i in range(4)] == COLOURS.tolist()
    assert contents[0]["num_labels"] == contents[1]["architecture"]["num_labels"] == 4

    # The report's maps are painted in these colours, else in four that differ and are not black.
    maps = [load(path) for path in (report / "pictures").glob("*_input.png")]
    shown = [tuple(maps[0][16 * (i // 2), 32 * (i % 2)].tolist()) for i in range(4)]
    assert len(maps) > 1 and all(np.array_equal(one, maps[0]) for one in maps)
    if has_file or write_map is with_palette:
        assert np.array_equal(maps[0], COLOURS[IDS])
    assert len(set(shown)) == 4 and (0, 0, 0) not in shown

    # Its legend names them.
    page = (report / "report.html").read_text()
    for i, (name, colour) in enumerate(zip(NAMES, shown, strict=True)):
        assert (name.replace("&", "&amp;") in page) == has_file, i
        assert "#{:02x}{:02x}{:02x}".format(*colour) in page
