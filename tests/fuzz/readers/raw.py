"""What people give the prepare step, and what it keeps of it: archives, layouts, labels, tables,
addresses, journals."""

import contextlib
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.cluster.exchange.reference_files import encode_table, read_table
from components.prepare.fetch.archives import archives_in, extract
from components.prepare.fetch.ledger import LEDGER
from components.prepare.fetch.remote import _complete_copy
from components.prepare.fetch.stores import check_client, parse_url
from components.prepare.layouts.pairing import RawPair
from components.prepare.layouts.sources import Naming, find_source
from components.prepare.writing.journal import JOURNAL, Journal, Written, stamp, take_over
from shared.contracts.dataset import DatasetManifest, Pair, parse_size
from shared.data.labels import colours_of, read_labels
from shared.data.raw_maps import IdTable, parse_ids
from shared.data.raw_maps import read_table as read_remap
from shared.errors import InputError
from tests.fuzz.engine import Target
from tests.fuzz.readers.pictures import RAMP
from tests.pictures import png

NAMES = ("train_A/a.png", "train_B/a.png", "test_A/b.png", "test_B/b.png")


def text_of(path: Path) -> str:
    """As a command line has it."""
    return os.fsdecode(path.read_bytes()).replace("\0", "")


# Archives.


def _zip(folder: Path) -> list[bytes]:
    examples = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as archive:
            for name in NAMES:
                archive.writestr(name, png(RAMP))
        examples.append(buffer.getvalue())
    return examples


def _tar(folder: Path, mode: str = "w") -> list[bytes]:
    examples = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(fileobj=(buffer := io.BytesIO()), mode=mode, format=form) as archive:
            for name in ("x" * 120 + "/" + NAMES[0], *NAMES):
                info = tarfile.TarInfo(name)
                info.size = len(png(RAMP))
                archive.addfile(info, io.BytesIO(png(RAMP)))
        examples.append(buffer.getvalue())
    return examples


def _unpack(path: Path) -> None:
    into = path.parent / "into"
    try:
        extract(archives_in(path), into)
        for file in path.parent.rglob("*"):
            assert file == path or file.is_relative_to(into), file
    finally:
        shutil.rmtree(into, ignore_errors=True)


# Names of files.


def _layouts(folder: Path) -> list[bytes]:
    cityscapes = [
        f"{place}/train/x/x_000000_{n:06d}_{kind}.png"
        for n in range(2)
        for place, kind in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds"),
                            ("gtFine", "gtFine_instanceIds"))
    ]  # fmt: skip
    flat = [f"train_{kind}/{n}.png" for n in range(2) for kind in ("label", "img", "inst")]
    folders = [f"{kind}/train/{n}.jpg" for n in range(2) for kind in ("images", "masks")]
    layouts = (cityscapes, flat, folders, NAMES, ["train/1.jpg", "train/2.jpg", "test/3.jpg"])
    return ["\n".join(names).encode() for names in layouts]


def _list_layout(path: Path) -> None:
    root = path.parent / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in path.read_bytes().split(b"\n")[:200]:
        parts = [part for part in name.split(b"/") if part not in (b"", b".", b"..")][:200]
        with contextlib.suppress(OSError, ValueError):  # no name on this disk
            file = root / os.fsdecode(b"/".join(parts))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    with contextlib.suppress(InputError):
        find_source(root, "folders", "AtoB", True, Naming(patterns=("{}_mask", "", "")))
    find_source(root, "auto", "AtoB", False, Naming())


# Texts.


def _labels(folder: Path) -> list[bytes]:
    entries = [{"id": n, "name": f"n{n}", "colour": [n, 0, 9]} for n in range(3)]
    return [
        b"- {id: 0, name: sky, colour: [70, 130, 180]}\n- {id: 255, name: x, colour: '#00ff00'}\n",
        b"labels:\n  - id: 1\n    name: road\n    colour: [1, 2, 3]\n",
        json.dumps(entries).encode(),
        json.dumps({"labels": entries}).encode(),
    ]


def _read_labels(path: Path) -> None:
    colours_of(read_labels(str(path)))


def _remaps(folder: Path) -> list[bytes]:
    return [b'{"7": 0, "8": 1, "others": 255}', b'{"0": 3}', b"{}", b"cityscapes_train_ids"]


def _read_remap(path: Path) -> None:
    for remap in (str(path), text_of(path)):
        with contextlib.suppress(InputError):
            IdTable.of(5, remap, "")
    read_remap(str(path))


def _parse(*parsers: Callable[[str], object]) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        for parse in parsers:
            with contextlib.suppress(InputError, ValueError):
                parse(text_of(path))

    return read


def _urls(folder: Path) -> list[bytes]:
    return [
        b"https://user:pa$$@host:8080/a/b.zip?token=1#sha256=" + b"0" * 64,
        b"s3://bucket/key/", b"gs://b/k.tar", b"file:///tmp/x", b"zip://a::https://h/x",
        b"https://[::1]:80/a", b"http://h", b"memory://a/b",
    ]  # fmt: skip


def _read_url(path: Path) -> None:
    url, shown, _ = parse_url(text_of(path))
    check_client(url, shown)


# What it keeps.


def _ledger(folder: Path) -> list[bytes]:
    (folder / "a.png").write_bytes(b"123")
    lines = [dict(file="a.png", size=3, version="ETag x", sha256="0"), dict(removed="b.png")]
    return [
        "\n".join(map(json.dumps, [*lines, {"complete": kind}])).encode()
        for kind in ("folder", "file")
    ]


def _fields() -> dict:
    values = dict(num_labels=35, input_nc=0, has_instances=False, instance_suffix=".png")
    return values | dict(train=[], test=[], source="s", source_digest="", config={}, digest="")


def _raw_pairs(folder: Path) -> dict[str, list[RawPair]]:
    file = folder / "a.png"
    file.write_bytes(b"123") if not file.exists() else None
    names = ("a", "b")
    return {"train": [RawPair(name, str(file), str(file), None) for name in names], "test": []}


def _journal(folder: Path) -> list[bytes]:
    pairs = _raw_pairs(folder)
    work = folder / "work"
    work.mkdir()
    take_over(work, DatasetManifest(**_fields()), pairs, cached=False)
    with Journal(work) as journal:
        for raw in pairs["train"]:
            pair = Pair(raw.name, 4, 4, True, 0)
            journal.add(Written("train", pair, {}, "digest", stamp(raw), 0), b"")
    return [(work / JOURNAL).read_bytes()]


def _read_journal(path: Path) -> None:
    folder = path.parent.parent
    done = take_over(path.parent, DatasetManifest(**_fields()), _raw_pairs(folder), cached=True)
    done.digest()


# Of the references.


def _tables(folder: Path) -> list[bytes]:
    table = {0: np.ones((2, 4)), 7: np.zeros((1, 4))}
    old = np.array(table, dtype=object)
    examples = [encode_table(table)]
    for protocol in (2, 4, 5):
        np.lib.format.write_array_header_1_0(
            buffer := io.BytesIO(), {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        examples.append(buffer.getvalue() + pickle.dumps(old, protocol))
    return examples


TARGETS = [
    Target("zip", _zip, _unpack, "a.zip", "zip"),
    Target("tar", _tar, _unpack, "a.tar", "tar"),
    Target("tar-gz", lambda folder: _tar(folder, "w:gz"), _unpack, "a.tar.gz"),
    Target("layouts", _layouts, _list_layout, form="text"),
    Target("labels-yaml", _labels, _read_labels, "labels.yaml", "text"),
    Target("labels-json", lambda folder: _labels(folder)[2:], _read_labels, "labels.json", "json"),
    Target("remap", _remaps, _read_remap, "remap.json", "json"),
    Target("ids-and-sizes", lambda _: [b"0, 255", b"128x256", b"7"], _parse(parse_ids, parse_size),
           form="text"),
    Target("raw-data-urls", _urls, _read_url, form="text"),
    Target("ledger", _ledger, lambda path: _complete_copy(path.parent), LEDGER, "json"),
    Target("journal-of-pairs", _journal, _read_journal, f"work/{JOURNAL}", "text"),
    Target("reference-clusters", _tables, read_table, "features.npy"),
]  # fmt: skip
