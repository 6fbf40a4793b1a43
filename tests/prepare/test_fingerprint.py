"""The digest of what the steps read from outside: it sees every change, and nothing else."""

import dataclasses
import os
import shutil
import uuid

import pytest

from components.prepare import component
from components.prepare.fetch import stores
from components.prepare.fingerprint import fingerprint
from shared.published.files import VGG19
from shared.recipes.whole import COMMON
from tests.asking import refusal
from tests.places import CHECKED_BY

STEPS = ("prepare", "train_global", "cluster", "train_local", "export", "benchmark")


def version(raw_data, **options) -> str:
    """Of the prepare step."""
    return fingerprint(str(raw_data), {"prepare": options})["prepare"]


@pytest.fixture
def raw(tmp_path):
    """Two pictures in two folders, an archive beside them, and a hidden file."""
    folder = tmp_path / "raw"
    for name in ("A/1.png", "B/1.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"pixels")
    (folder / "more.zip").write_bytes(b"PK")
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


def edit_behind_its_time(file):
    """Other bytes, as many, and the old time of content: what `touch -r` or `cp -p` leave."""
    before = after = file.stat()
    content = file.read_bytes()[::-1]
    while after.st_ctime_ns == before.st_ctime_ns:  # the clock of a file system ticks slowly
        file.write_bytes(content)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: edit_behind_its_time(raw / "A/1.png"),
        lambda raw: edit_behind_its_time(raw / "more.zip"),
        lambda raw: (raw / "A/1.png").rename(raw / "A/2.png"),
        lambda raw: (raw / "B/1.png").unlink(),
        lambda raw: shutil.copy(raw / "A/1.png", raw / "A/2.png"),
        lambda raw: os.utime(raw / "A/1.png"),
    ],
    ids=["content", "archive", "renamed", "removed", "added", "touched"],
)
def test_a_changed_file_gives_another_version(change, raw):
    before = version(raw)
    assert version(raw) == before
    change(raw)
    assert version(raw) != before


def test_what_no_step_reads_changes_nothing(raw):
    before = version(raw)
    (raw / ".DS_Store").write_bytes(b"other")
    (raw / ".cache").mkdir()
    (raw / ".cache" / "x").touch()
    assert version(raw) == before
    moved = raw.rename(raw.with_name("moved"))
    assert version(moved) == before, "the same files elsewhere"


def test_an_archive_alone_is_looked_at(raw):
    archive = raw / "more.zip"
    before = version(archive)
    edit_behind_its_time(archive)
    assert version(archive) != before


def test_links_are_followed_once(raw, tmp_path):
    outside = tmp_path / "outside"
    shutil.move(raw / "A", outside)
    (raw / "A").symlink_to(outside)
    (raw / "B" / "round").symlink_to(raw)
    (raw / "B" / "gone").symlink_to(tmp_path / "nowhere")
    before = version(raw)
    edit_behind_its_time(outside / "1.png")
    assert version(raw) != before


def test_each_step_sees_the_files_that_its_own_options_name(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("remap.json", "vgg.pth", "lpips.onnx"):
        (tmp_path / name).write_text(name)
    (tmp_path / "copies").mkdir()
    configs = dict.fromkeys(STEPS, {}) | {
        "prepare": {"remap": "remap.json", "copies": "copies", "input_folder": "raw"},
        "train_global": {"vgg_weights": str(tmp_path / "vgg.pth"), "lpips_network": "lpips.onnx"},
        "train_local": {"vgg_weights": "", "device": "auto", "epochs": 3.0},
        "benchmark": {"networks": ["lpips.onnx", "gone.onnx"], "champion": "raw"},
    }

    def versions():
        return fingerprint(str(raw), configs)

    def changed(before) -> set[str]:
        after = versions()
        return {step for step in STEPS if after[step] != before[step]}

    before = versions()
    assert before["train_local"] == before["export"] == "" and len(before["benchmark"]) == 16
    for file, steps in {
        "remap.json": {"prepare"},
        "vgg.pth": {"train_global"},
        "lpips.onnx": {"train_global", "benchmark"},
    }.items():
        before = versions()
        edit_behind_its_time(tmp_path / file)
        assert changed(before) == steps, file
    before = versions()
    (tmp_path / "copies" / "unpacked.png").touch()
    assert changed(before) == set(), "what the step itself writes there"

    # Published files by what they are, not by where they lie and whether they do yet.
    by_name = {"train_global": {"vgg_weights": "auto", "lambda_vgg": 10.0}}
    auto = fingerprint(str(raw), by_name)["train_global"]
    for name in ("auto", "inception"):
        (tmp_path / name).touch()
    assert fingerprint(str(raw), by_name)["train_global"] == auto != ""
    other = dataclasses.replace(VGG19, sha256="0" * 64)
    monkeypatch.setattr("shared.published.files.VGG19", other)
    assert fingerprint(str(raw), by_name)["train_global"] not in (auto, "")
    by_name["train_global"]["lambda_vgg"] = 0.0
    by_name["benchmark"] = {"fid_network": "inception"}
    without = fingerprint(str(raw), by_name)
    assert without["train_global"] == "" and len(without["benchmark"]) == 16


def test_folders_that_are_named_alike_are_not_read(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named_alike = {"benchmark": {"registered_model": "raw"}}
    assert fingerprint(str(raw), named_alike) == {"benchmark": ""}


def test_raw_data_that_are_not_there_are_refused(tmp_path):
    assert refusal(version, tmp_path / "nowhere").startswith(f"--raw-data '{tmp_path}/nowhere' is")
    assert refusal(version, "").startswith("--raw-data is empty (on a server, the parameter raw_d")


def test_the_kfp_face_hands_over_a_version_and_what_is_given_per_step(raw, capsys):
    look = component.fingerprint.python_func
    nothing = {common.name: common.kind() for common in COMMON} | dict.fromkeys(STEPS, {})
    known = dict(config=dict.fromkeys(STEPS, {}), workspace="", checked_by=CHECKED_BY)
    known |= nothing
    given = dict(size="32x64", train_local={"ngf": 8.0})
    outputs = look(raw_data=str(raw), **known | given)
    assert outputs[:6] == (version(raw), "", "", "", "", "")
    assert outputs[6:] == ({}, {}, {}, {"ngf": 8}, {}, {}), "no size: the recipe leaves it open"
    assert [*component.fingerprint.component_spec.outputs] == [
        *(*STEPS, *(f"{step}_given" for step in STEPS))
    ]
    for place, said in ((str(raw / "nowhere"), f"'{raw / 'nowhere'}' is not"), (" ", "is empty (")):
        with pytest.raises(SystemExit) as refused:
            look(raw_data=place, **known)
        assert refused.value.code == 2
        assert capsys.readouterr().err.startswith(f"fingerprint refused: --raw-data {said}")


# Stores.


@pytest.fixture
def store(monkeypatch):
    """Files in memory:// by path, with what the store tells of each; a folder of its own."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(stores, "RETRY_PAUSES", ())
    folder = f"/{uuid.uuid4().hex}"
    fs = MemoryFileSystem()

    def put(name: str, content: bytes = b"png") -> None:
        with fs.open(f"{folder}/{name}", "wb") as file:
            file.write(content)

    put("A/1.png")
    put("B/1.png")
    yield f"memory:/{folder}", put
    fs.rm(folder, recursive=True)


def test_a_store_is_asked_for_versions_alone(store, monkeypatch):
    url, put = store
    monkeypatch.setattr(stores.Store, "blocks", None)  # nothing is copied
    before = version(url)
    assert version(url) == before
    put("A/1.png", b"gnp")
    changed = version(url)
    assert changed != before
    put("A/2.png")
    assert version(url) not in (before, changed)


def test_what_tells_no_version_or_is_out_of_reach_is_never_the_same(store, monkeypatch, capsys):
    url, _ = store
    monkeypatch.setattr(stores, "VERSION_KEYS", ())
    assert version(url) != version(url)
    assert capsys.readouterr().out.count("tells no version of its files: it is prepared again") == 2
    gone = "http://user:secret@127.0.0.1:9/a.zip"
    assert version(gone) != version(gone)
    out = capsys.readouterr().out
    assert out.startswith("fingerprint: warning: http://127.0.0.1:9/a.zip cannot be reached")
    assert "secret" not in out
    known = f"http://127.0.0.1:9/a.zip#sha256={'ab' * 32}"
    assert version(known) == version(known), "the URL itself says what is there"
