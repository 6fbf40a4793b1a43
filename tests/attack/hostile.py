"""Somebody's files that mean harm: names that lead out of a folder, pictures that start programs or
unpack without end, cards and options with impossible numbers, links, devices and pipes.

A file beside the night's folder, or a program that was started, is "broken into"."""

import contextlib
import gzip
import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from shared.contracts.folder import SEAL
from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Ended, Outcome, Target

PAINT = ["export", "synthesise", *as_flags(dataset="dataset", model="model", out="pictures")]
PAINT += ["--device", "cpu"]
OFFLINE = ["export", "offline", "inputs", *as_flags(dataset="dataset", exported="exported")]
OFFLINE += ["--out", "inputs"]
MAPS = ["cluster", "exchange", "maps", *as_flags(dataset="dataset", clusters="clusters")]
MAPS += ["--out", "maps"]
TRAIN = [word.replace("model", "new") for word in night.MODEL]
STEPS = dict(cluster=night.CLUSTER, train=TRAIN, export=night.EXPORT, benchmark=night.BENCHMARK)
STEPS |= dict(synthesise=PAINT, offline=OFFLINE, maps=MAPS)
COMPILE = ["pipeline.py", "compile", *as_flags(recipe="recipe.yaml", output="out.yaml")]
CHECK = [*night.PREPARE[:1], "--check", *as_flags(raw_data="hostile", size=night.SIZE)]
LOOK = ["prepare", *as_flags(raw_data="hostile", dataset="new", size=night.SIZE)]
FOREIGN = ["prepare", *as_flags(raw_data="hostile", dataset="new", num_labels=0, instances="none")]

OUTSIDE = f"/tmp/attack-{os.getpid()}"
NAMES = ["../../escaped", "a/../../../../escaped", f"{OUTSIDE}-escaped", "..", "", "a/b"]
NAMES += ["a\\b", "a\0b", "a\nb", "x" * 300]
NAMES += ["x" * 240, "\x1b]0;owned\x07", "<script>alert(1)</script>", "`id`$(id)"]
NUMBERS = [-1, 0, 2**31, 2**63, 10**30, 1e308, True, "x", None, [[1]], {}]
PLANTED = "bin/planted"  # files of ours under names that lead out
PROGRAM = "#!/bin/sh\ntouch ../escaped-program\n"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 32\n(escaped) (w) file\nshowpage\n"


def cases(target: Target) -> Iterator[Case]:
    for name, prepare, command in everything():
        yield Case(
            name,
            partial(_armed, prepare),
            [command],
            then=_broken_into,
            environment={"PATH": f"{target.folder / 'bin'}:{os.environ['PATH']}"},
            limit_s=40.0,
        )


def _armed(prepare: Callable[[Path], object], folder: Path) -> None:
    """With programs that leave a trace, under the names of those that readers of pictures start."""
    (folder / "bin").mkdir()
    for name in ("gs", "ghostscript", "convert", "magick", "djpeg", "xv"):
        program = folder / "bin" / name
        program.write_text(PROGRAM)
        program.chmod(0o755)
    prepare(folder)


def _broken_into(target: Target, ended: list[Ended]) -> tuple[Outcome, str] | None:
    known = {"here", "night", "log", "socket", "raw", "damaged"}
    found = [
        path
        for path in target.place.iterdir()
        if path.name not in known and not path.name.startswith("tmp")
    ]
    found += Path("/tmp").glob(f"{Path(OUTSIDE).name}*")
    found += target.folder.rglob("*escaped*")
    ours = target.folder / PLANTED
    planted = ours.read_text().splitlines() if ours.is_file() else []
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    found = [path for path in found if str(path.resolve()) not in planted]
    return (Outcome.BROKEN_INTO, f"there is {found[0]}") if found else None


Tried = tuple[str, Callable[[Path], object], list[str]]


def everything() -> Iterator[Tried]:
    yield from names()
    yield from list(numbers())[::7]
    yield from documents()
    yield from list(pictures())[::2]
    yield from archives()
    yield from list(options())[::5]
    yield from recipes()


# Cards and manifests.


def edit(file: str, change: Callable[[dict], object], folder: Path) -> None:
    """Whoever removes the seal means the edit."""
    path = folder / file
    card = json.loads(path.read_text())
    card.pop(SEAL, None)
    change(card)
    path.write_text(json.dumps(card))


def put(place: tuple[str | int, ...], value: Any, card: dict) -> None:
    for key in place[:-1]:
        card = card[key]
    card[place[-1]] = value


def names() -> Iterator[Tried]:
    places = {
        ("manifest", "train", 0, "name"): ["train", "cluster", "maps", "benchmark"],
        ("manifest", "test", 0, "name"): ["benchmark", "synthesise", "offline"],
        ("export", "file"): ["benchmark"],
    }
    files = dict(manifest="dataset/manifest.json", export="exported/export.json")
    for ((card, *place), steps), (number, name) in product(places.items(), enumerate(NAMES)):
        some = steps if "escaped" in name else steps[number % len(steps) :][:1]
        for step in some:
            change = partial(put, tuple(place), name)
            yield (
                f"{step}: {'.'.join(map(str, place))} {name[:30]!r}",
                partial(_moved, files[card], change, name, place),
                STEPS[step],
            )


def _moved(file: str, change: Callable, name: str, place: list, folder: Path) -> None:
    """The name, and where a path can be made of it the files of the pair."""
    if place[-1] == "name":
        old = json.loads((folder / file).read_text())[place[0]][0]["name"]
        for kind in ("img", "label", "inst"):
            lies = folder / "dataset" / f"{place[0]}_{kind}"
            (lies / "a").mkdir(exist_ok=True)
            with contextlib.suppress(OSError, ValueError):
                os.link(lies / f"{old}.png", planted := lies / f"{name}.png")
                with open(folder / PLANTED, "a") as known:
                    print(planted.resolve(), file=known)
    edit(file, change, folder)


def numbers() -> Iterator[Tried]:
    cards = {
        "model/model.json": (
            ["export", "cluster"],
            [("height",), ("epoch",), ("images_seen",), ("labels", 0, "id")]
            + [
                ("architecture", name)
                for name in ("ngf", "n_downsample_global", "n_blocks_global", "num_D", "nef")
                + ("n_downsample_E", "feat_num", "num_labels", "input_nc", "output_nc")
            ],
        ),
        "exported/export.json": (
            ["benchmark", "offline"],
            [("opset",), ("least_side",), ("inputs", 0, "shape", -1), ("parity", 0, "limit")]
            + [("architecture", "n_downsample_global"), ("style",)],
        ),
        "clusters/clusters.json": (
            ["export"],
            [("feat_num",), ("n_clusters",), ("min_area",), ("overall",), ("overall", 0)],
        ),
        "dataset/manifest.json": (
            ["train", "cluster"],
            [("num_labels",), ("input_nc",), ("train", 0, "height"), ("train", 0, "num_instances")],
        ),
    }
    for file, (steps, places) in cards.items():
        for place, (number, value) in product(places, enumerate(NUMBERS)):
            step = steps[number % len(steps)]
            change = partial(edit, file, partial(put, place, value))
            yield f"{step}: {'.'.join(map(str, place))} = {value!r}", change, STEPS[step]


def documents() -> Iterator[Tried]:
    def text(file: str, make: Callable[[str], bytes], folder: Path) -> None:
        (folder / file).write_bytes(make((folder / file).read_text()))

    forms: dict[str, Callable[[str], bytes]] = {
        "deeply nested": lambda text: b"[" * 200_000,
        "deeply nested within": lambda text: text.replace(
            '"config": {', '"config": {"x": ' + "[" * 100_000 + "]" * 100_000 + ","
        ).encode(),
        "a list": lambda text: b"[]",
        "null": lambda text: b"null",
        "with a BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
        "in UTF-16": lambda text: text.encode("utf-16"),
        "no UTF-8": lambda text: text.encode() + b"\xff",
        "with NaN": lambda text: text.replace(": 0", ": NaN", 1).encode(),
        "with a huge number": lambda text: text.replace(": 0", ": " + "9" * 5000, 1).encode(),
        "with half a letter": lambda text: text.replace(
            '"source": "', '"source": "\\ud800'
        ).encode(),
    }
    readers = {"dataset/manifest.json": "train", "model/model.json": "export"}
    readers |= {"exported/export.json": "benchmark", "clusters/clusters.json": "export"}
    for (file, step), (how, make) in product(readers.items(), forms.items()):
        yield f"{step}: {file} is {how}", partial(text, file, make), STEPS[step]
    for file, step in readers.items():
        for how, make in SPECIAL.items():
            yield f"{step}: {file} is {how}", partial(special, file, make), STEPS[step]


# Files that are none.


def special(file: str, make: Callable[[Path], object], folder: Path) -> None:
    (folder / file).unlink(missing_ok=True)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    make(folder / file)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a folder": Path.mkdir,
}


# Pictures.


def png(width: int, height: int, *more: bytes, rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [b"IHDR" + header, *more, b"IDAT" + zlib.compress(rows), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks
    )


def _saved(suffix: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 32)).save(out, suffix)
    return out.getvalue()


BOMB = zlib.compress(bytes(1 << 28))
FILES: dict[str, Callable[[], bytes]] = {
    "PostScript": lambda: POSTSCRIPT,
    "PostScript behind a DOS header": lambda: b"\xc5\xd0\xd3\xc6" + bytes(28) + POSTSCRIPT,
    "an ICO": lambda: _saved("ICO"),
    "a PCX": lambda: _saved("PCX"),
    "a PDF": lambda: b"%PDF-1.4\n",
    "an SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>",
    "a GIF of two frames": lambda: _saved("GIF") + _saved("GIF"),
    "of 2^31 pixels a side": lambda: png(2**31 - 1, 2**31 - 1),
    "of 60000 pixels a side": lambda: png(60_000, 60_000),
    "a bomb of pixels": lambda: png(64, 32, rows=bytes(1 << 28)),
    "with a bomb of text": lambda: png(64, 32, b"zTXtx\0\0" + BOMB, rows=bytes(32 * 193)),
    "with a bomb as profile": lambda: png(64, 32, b"iCCPx\0\0" + BOMB, rows=bytes(32 * 193)),
    "zeros": lambda: bytes(1 << 20),
    "a zip of arrays": lambda: b"PK\x03\x04" + bytes(100),
}


def pictures() -> Iterator[Tried]:
    def replaced(kind: str, place: Callable[[Path], object], folder: Path) -> None:
        for split in ("train", "test"):
            path = min((folder / "dataset" / f"{split}_{kind}").iterdir())
            special(str(path.relative_to(folder)), place, folder)
        shutil.rmtree(folder / "dataset" / "cache", ignore_errors=True)

    def raw(place: Callable[[Path], object], folder: Path) -> None:
        for kind in ("img", "label", "inst"):
            shutil.copytree(folder / f"dataset/train_{kind}", folder / f"hostile/train_{kind}")
        path = min((folder / "hostile/train_img").iterdir())
        special(str(path.relative_to(folder)), place, folder)

    def written(content: Callable[[], bytes], path: Path) -> None:
        path.write_bytes(content())

    kinds = {name: partial(written, content) for name, content in FILES.items()} | SPECIAL
    for what, place in kinds.items():
        yield f"prepare: a photo is {what}", partial(raw, place), LOOK
        yield f"prepare --check: a photo is {what}", partial(raw, place), CHECK
        for step in ("train", "cluster", "benchmark"):
            yield f"{step}: a photo is {what}", partial(replaced, "img", place), STEPS[step]
        yield f"synthesise: a map is {what}", partial(replaced, "label", place), PAINT


# Archives.


def archives() -> Iterator[Tried]:
    photo = _saved("PNG")

    def zipped(members: dict[str, bytes], folder: Path) -> None:
        (folder / "hostile").mkdir()
        with zipfile.ZipFile(folder / "hostile/a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)

    def tarred(member: Callable[[tarfile.TarFile], object], folder: Path) -> None:
        (folder / "hostile").mkdir()
        with tarfile.open(folder / "hostile/a.tar.gz", "w:gz") as archive:
            member(archive)

    def link(kind: bytes, name: str, to: str, archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, to
        archive.addfile(info)
        inside = tarfile.TarInfo(f"{name}/escaped.png")
        inside.size = len(photo)
        archive.addfile(inside, io.BytesIO(photo))

    for name in (
        "../../escaped.png",
        f"{OUTSIDE}-escaped.png",
        "..\\..\\escaped.png",
        "C:\\x.png",
    ):
        yield f"prepare: a zip with {name}", partial(zipped, {name: photo}), FOREIGN
    yield "prepare: a zip bomb", partial(zipped, {"train/a.png": bytes(1 << 28)}), FOREIGN
    for kind, called in (
        (tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard link"), (tarfile.CHRTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
    ):  # fmt: skip
        member = partial(link, kind, "train", "../../..")
        yield f"prepare: a tar with a {called}", partial(tarred, member), FOREIGN

    def bomb(folder: Path) -> None:
        (folder / "hostile").mkdir()
        (folder / "hostile/a.tar.gz").write_bytes(gzip.compress(bytes(1 << 28)))

    yield "prepare: a gzip bomb", bomb, FOREIGN


# Options and recipes.


def options() -> Iterator[Tried]:
    numbers = ["-1", "0", str(2**31), str(10**30), "1e308", "inf", "nan", "x", "", "9" * 5000]
    flags = {
        "train": ["ngf", "n-downsample-global", "batch-size", "epochs", "learning-rate", "size"],
        "cluster": ["n-clusters", "min-area", "batch-size"],
        "export": ["batch-size", "opset", "size", "parity-limit"],
        "benchmark": ["batch-sizes", "max-pictures"],
        "synthesise": ["variants", "size"],
    }
    for step, of_step in flags.items():
        for flag, number in product(of_step, numbers):
            if (flag, number) in {("epochs", "0"), ("variants", "0")} or number not in ("0",):
                # `--epochs 2147483648` would be a wish like any other if it were allowed.
                command = [*STEPS[step], f"--{flag}={number}"]
                yield f"{step} --{flag} {number[:20]}", _nothing, command
    for size in ("1000000x1000000", "-1x5", "9" * 5000 + "x1", "round0", "x", "4x4x4"):
        yield f"prepare --size {size[:20]}", _nothing, [*night.PREPARE[:-2], f"--size={size}"]
    for remap in ("[" * 100_000, '{"1": 1e999}', '{"a": 1}', "/dev/zero", '{"1": 2, "1": 3}'):
        yield f"prepare --remap {remap[:20]}", _nothing, [*night.PREPARE, f"--remap={remap}"]


def _nothing(_folder: Path) -> None:
    pass


YAML: dict[str, bytes] = {
    "empty": b"", "a list": b"- 1\n", "a text": b"x\n", "null": b"null\n",
    "with a tag": b"prepare: !!python/object/apply:os.system ['touch ../escaped']\n",
    "with a field of a tag": b"prepare:\n  size: !!python/name:os.system\n",
    "with an anchor": b"prepare: &a\n  size: 8x8\ntrain_global: *a\n",
    "with a key twice": b"prepare:\n  size: 8x8\n  size: 9x9\n",
    "with a section twice": b"prepare:\n  size: 8x8\nprepare:\n  size: 9x9\n",
    "deeply nested": b"[" * 50_000, "deeply nested within": b"prepare: " + b"[" * 50_000,
    "no UTF-8": b"prepare:\n  size: \xff\n", "with NUL": b"prepare:\n  size: \0\n",
    "of two documents": b"prepare:\n---\nprepare:\n", "without prepare": b"export:\n  opset: 17\n",
    "with an impossible number": b"train_global:\n  ngf: 1e400\n",
    "a billion laughs": b"a: &a [x,x]\n"
    + b"".join(b"%c: &%c [*%c,*%c]\n" % (i + 1, i + 1, i, i) for i in range(97, 120)),
}  # fmt: skip


def recipes() -> Iterator[Tried]:
    def written(content: bytes, file: str, folder: Path) -> None:
        (folder / file).write_bytes(content)

    labels = ["prepare", *as_flags(raw_data=night.RAW, dataset="new", labels="labels.yaml")]
    for what, content in YAML.items():
        yield f"compile: a recipe {what}", partial(written, content, "recipe.yaml"), COMPILE
        yield f"prepare: labels {what}", partial(written, content, "labels.yaml"), labels
    one = b"- {id: 0, name: a, colour: [0, 0, 0]}\n"
    for what, content in {
        "with a field twice": b"- {id: 0, id: 1, name: a, colour: [0, 0, 0]}\n",
        "with a tag": b"- {id: !!python/name:os.system '', name: a, colour: [0, 0, 0]}\n",
        "with an anchor": b"- &a {id: 0, name: a, colour: [0, 0, 0]}\n- *a\n",
        "with a huge number": one.replace(b"id: 0", b"id: " + b"9" * 5000),
        "of two documents": one + b"---\n" + one,
    }.items():
        yield f"prepare: labels {what}", partial(written, content, "labels.yaml"), labels
    for how, make in SPECIAL.items():
        yield f"compile: a recipe is {how}", partial(special, "recipe.yaml", make), COMPILE
        yield f"prepare: labels are {how}", partial(special, "labels.yaml", make), labels
