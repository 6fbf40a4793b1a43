"""Names out of files stay what they are: one part of a path."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from components.benchmark.page.pictures import EAGER, Shown, write_pictures
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard, Graph
from shared.contracts.model import ModelCard
from shared.deployed.painter import RuntimeName
from shared.errors import InputError
from shared.files.names import LONGEST_NAME, inside, why_no_name
from tests import tiny

BAD = ["", ".", "..", "../x", "a/b", "/etc/x", "a\\b", "a\0b", "a\nb", "\x1b[2J", "a\x9b", "\udc80"]
BAD += ["a\u2028b", "x" * 208, "ü" * 104]
GOOD = [
    "a",
    "aachen_000000_000019",
    "fine and ünïcode",
    "a.b",
    "...",
    ".hidden",
    "~",
    "-rf",
    "$(x)",
]
GOOD += ["$(x)", "x" * 207, "ü" * 103, "<script>", "a:b*c?", "e\u0301", "\u200dzwj"]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused(tmp_path, name):
    assert why_no_name(name)
    with pytest.raises(InputError):
        inside(tmp_path, name * (1 if len(name) < 100 else 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", GOOD)
def test_what_prepare_makes_is_a_name(tmp_path, name):
    assert why_no_name(name) == ""
    assert inside(tmp_path, name) == tmp_path / name


def picture(name, runtime):
    pictures = {runtime: np.full((3, 4, 4), 7, np.uint8)}
    return Shown("train", name, pictures[runtime], pictures, pictures[runtime], quality=None)


def test_the_longest_name_fits_the_longest_picture_of_a_report(tmp_path):
    longest = max([*get_args(RuntimeName), "onnxruntime_int8"], key=len)  # see `names_of`
    name = "x" * LONGEST_NAME
    row = picture(name, EAGER)
    other = {EAGER: row.input, longest: 255 - row.input}
    write_pictures(tmp_path, replace(row, synthesised=other))
    files = [path.name for path in (tmp_path / "pictures").iterdir()]
    assert len(max(files, key=len)) == 255 - len("..partial")


def test_a_link_out_of_the_output_is_not_followed(tmp_path):
    elsewhere, report = tmp_path / "elsewhere", tmp_path / "report"
    elsewhere.mkdir()
    report.mkdir()
    (report / "pictures").symlink_to(elsewhere)
    with pytest.raises(InputError, match=r"pictures is a link to .*elsewhere, outside of .*report"):
        write_pictures(report, picture("a", EAGER))
    assert list(elsewhere.iterdir()) == []
    (report / "pictures").unlink()
    (report / "pictures").symlink_to(".")  # a link that stays inside
    write_pictures(report, picture("a", EAGER))
    assert (report / "train_a_real.png").is_file()


def spoil(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


FILES = {
    "manifest.json": (lambda card, name: card["test"][0].update(name=name), r"test\.0\.name"),
    "export.json": (lambda card, name: card.update(file=name), "file"),
    "model.json": (lambda card, name: card["weights"]["latest"]["files"].update({name: ""}), ""),
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", [*BAD[:6], BAD[-1]])
def test_contracts_take_no_other_names(tmp_path, file, name):
    tiny.dataset(tmp_path, train=1, test=1)
    tiny.model(tmp_path, tiny.architecture())
    tiny.export_card(tmp_path, tiny.architecture(), Graph())
    contract = {one.FILE: one for one in (DatasetManifest, ExportCard, ModelCard)}[file]
    contract.read(tmp_path)
    change, field = FILES[file]
    spoil(tmp_path / file, lambda card: change(card, name))
    with pytest.raises(InputError, match=rf"{file} .*{field}.*: .* is no name of a file: it "):
        contract.read(tmp_path)
