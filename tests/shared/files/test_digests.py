"""Files that are compared with what the JSON of their folder promises."""

import hashlib
import threading

import pytest

from shared.contracts.exported import ExportCard, Graph
from shared.contracts.folder import SEAL
from shared.errors import InputError
from shared.files import digests
from shared.files.digests import NotAsWritten, digests_of
from tests import tiny
from tests.asking import refusal


@pytest.fixture
def exported(tmp_path):
    """A folder of an export whose files are a few letters."""
    contents = {"generator.onnx": b"graph", "generator.onnx.data": b"weights", "a.om": b"compiled"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert digests_of(tmp_path / name for name in contents) == files
    tiny.export_card(tmp_path, tiny.architecture(), Graph(), files=files)
    return tmp_path


def compare(folder, names=None, given_as=""):
    with ExportCard.read(folder).promise(folder, given_as).kept(names):
        pass


def test_files_as_they_were_written_are_believed(exported):
    compare(exported)
    (exported / "beside.txt").write_bytes(b"unknown to the card")
    compare(exported, ["generator.onnx", "beside.txt"])


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda path: path.write_bytes(b"wEights"), ""),
        (lambda path: path.write_bytes(b"weights and more"), ""),
        (lambda path: path.write_bytes(b""), ", but empty"),
        (lambda path: path.write_bytes(b"graph"), ", but generator.onnx"),
    ],
)
def test_the_sentence_names_the_file_that_is_not_the_one_that_was_written(exported, change, found):
    change(exported / "generator.onnx.data")
    words = f"generator.onnx.data is not the file that was written with export.json{found}: copy"
    remedy = "the folder again, or make it again with `python -m components.export`."
    assert refusal(compare, exported) == f"--exported {exported}: {words} {remedy}"
    said = refusal(compare, exported, given_as="--om a.om")
    assert said == f"--om a.om: {words} {remedy}"
    compare(exported, ["generator.onnx", "a.om"])  # another file is not concerned


def test_a_file_that_is_gone_is_said_before_any_work(exported):
    (exported / "a.om").unlink()
    with pytest.raises(InputError, match="--exported .* has no a.om, which its export.json names"):
        with ExportCard.read(exported).promise(exported).kept():
            pytest.fail("work has begun")


def test_what_a_changed_file_makes_fail_is_laid_to_its_change(exported):
    """And what fails for another reason is said as it is."""

    def read(names):
        with ExportCard.read(exported).promise(exported).kept(names):
            raise RuntimeError("of a reader")

    with pytest.raises(RuntimeError, match="of a reader"):
        read(["a.om"])
    (exported / "a.om").write_bytes(b"other")
    with pytest.raises(NotAsWritten):
        read(["a.om"])
    with pytest.raises(RuntimeError, match="of a reader"):
        read(["generator.onnx"])


def test_files_are_compared_while_they_are_read(exported, monkeypatch):
    """The digest waits for the reader here: one after the other they would never end."""
    is_read, sha256_of = threading.Event(), digests.sha256_of

    def after_reading(path):
        assert is_read.wait(10)
        return sha256_of(path)

    monkeypatch.setattr(digests, "sha256_of", after_reading)
    with ExportCard.read(exported).promise(exported).kept(["generator.onnx"]):
        is_read.set()


# The JSON itself.


def test_an_edited_number_is_refused_unless_its_author_says_so(exported):
    path = exported / ExportCard.FILE
    written = path.read_text()
    content, _, seal = written.rpartition(f',\n  "{SEAL}": ')
    assert hashlib.sha256(f"{content}\n}}\n".encode()).hexdigest() in seal
    path.write_text(written.replace('"opset": 17', '"opset": 16'))
    said = refusal(ExportCard.read, exported)
    assert said.startswith(f"{path} was changed after it was written: ") and SEAL in said
    path.write_text(f"{content}\n}}\n".replace('"opset": 17', '"opset": 16'))  # as before seals
    assert ExportCard.read(exported).opset == 16
