"""An exported file is the one that was written with its card, for whoever opens it by a command."""

import shutil

import pytest

from components.benchmark.__main__ import main as benchmark
from components.export.__main__ import main as export
from components.export.config import ExportConfig
from components.export.run import run
from shared.contracts.exported import ExportCard
from tests import tiny
from tests.asking import as_flags, refusal_of_command
from tests.tiny import one_thread  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """dataset/, model/ and exported/, whose weights lie beside the graph."""
    home = tmp_path_factory.mktemp("as_written")
    tiny.dataset(home / "dataset", train=1, test=1)
    tiny.model(home / "model", tiny.architecture())
    config = ExportConfig(parity_samples=1, external_data_above_mb=0)
    run(home / "model", home / "exported", home / "dataset", config=config)
    assert set(ExportCard.read(home / "exported").files) == {
        "generator.onnx",
        "generator.onnx.data",
    }
    return home


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("file", ["generator.onnx", "generator.onnx.data"])
def test_a_damaged_file_paints_nothing_and_is_not_measured(home, file, damage, tmp_path, capsys):
    """ONNX Runtime opens the weights with a flipped bit without a word."""
    shutil.copytree(home / "exported", tmp_path / "exported")
    damage(tmp_path / "exported" / file)
    folders = as_flags(exported=tmp_path / "exported", dataset=home / "dataset")
    paint = ["synthesise", *folders, *as_flags(out=tmp_path / "pictures", device="cpu")]
    measured = [*folders, *as_flags(model=home / "model", report=tmp_path / "report", device="cpu")]
    for main, words in ((export, paint), (benchmark, measured)):
        assert refusal_of_command(capsys, main, *words) == (
            f"--exported {tmp_path}/exported: {file} is not the file that was written with "
            "export.json: copy the folder again, or make it again with `python -m "
            "components.export`."
        )
    assert not (tmp_path / "pictures").exists()
    assert not list(tmp_path.glob("report/*"))


def test_an_export_of_before_files_were_named_is_opened(home, tmp_path):
    shutil.copytree(home / "exported", tmp_path / "exported")
    card = ExportCard.read(home / "exported")
    content = card.model_dump_json(exclude={"files"})  # which ended without a seal
    (tmp_path / "exported" / ExportCard.FILE).write_text(content)
    words = as_flags(exported=tmp_path / "exported", dataset=home / "dataset", device="cpu")
    export(["synthesise", *words, *as_flags(out=tmp_path / "pictures")])
    assert len(list((tmp_path / "pictures").iterdir())) == 1
