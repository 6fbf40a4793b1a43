"""What a step left behind is damaged, cut, exchanged or edited before the next step reads it:
weights, cards, features, exported files, the state of a training.

Each file that a step reads, by each kind of damage. An edit of JSON leaves its last line, the
SHA-256 of those above, as it was: whoever removes that line says that the edit is meant.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Outcome, Target, Then

PLACES = (0.0, 0.4, 0.8)  # of a file's length, where a byte is flipped
MOST_FIELDS = 8  # of a JSON file that are edited
WEIGHTS = [f"model/latest_net_{network}.pth" for network in "GDE"]
TABLE = ["clusters/clusters.json"]


@dataclass
class Reader:
    """A command, what it writes, and the files of earlier steps that it reads."""

    command: list[str]
    results: list[str]
    files: list[str]
    then: Then = lambda target, ended: None


def trained(model: str, **options: Any) -> list[str]:
    values = night.TRAIN | dict(epochs=1, save_every_steps=0) | options
    words = ["train", *as_flags(dataset="dataset", model=model, **values)]
    return words if options.get("clusters") else [*words, "--instance-features"]


PAINT = ["export", "synthesise", "--dataset", "dataset", "--out", "pictures", "--device", "cpu"]
LOCAL = dict(netG="local", ngf=2, init_from="model", clusters="clusters")
READERS = {
    "cluster": Reader(night.CLUSTER, ["clusters"], ["model/model.json", WEIGHTS[2]]),
    "maps": Reader(
        ["cluster", "exchange", "maps", *as_flags(dataset="dataset", clusters="clusters")],
        ["clusters/maps"],
        [*TABLE, "clusters/features.npz"],
    ),
    "export": Reader(night.EXPORT, ["exported"], ["model/model.json", WEIGHTS[0], *TABLE]),
    "synthesise --model": Reader(
        [*PAINT, "--model", "model", "--clusters", "clusters"],
        ["pictures"],
        ["model/model.json", WEIGHTS[0], *TABLE],
    ),
    "synthesise --exported": Reader(
        [*PAINT, "--exported", "external"],
        ["pictures"],
        ["external/export.json", "external/generator.onnx", "external/generator.onnx.data"],
    ),
    "offline": Reader(
        ["export", "offline", "inputs", *as_flags(dataset="dataset", exported="exported")]
        + ["--out", "inputs"],
        ["inputs"],
        ["exported/export.json"],
    ),
    "benchmark": Reader(
        night.BENCHMARK,
        ["report/benchmark.json", "report/pictures"],
        ["exported/export.json", "exported/generator.onnx"]
        + ["model/model.json", WEIGHTS[0], *TABLE],
    ),
    "benchmark --champion": Reader(
        [*night.BENCHMARK, "--champion", "champion"],
        [],  # its verdict is by the clock
        ["champion/export.json", "champion/generator.onnx"],
        lambda target, ended: said_of_champion(target),
    ),
    "train, continued": Reader(night.STOPPED, ["stopped"], ["stopped/state/training.pt"]),
    "train further": Reader(
        [*night.MODEL, "--epochs", "3"],
        ["model/model.json", "model/state/training.pt", *WEIGHTS],  # the state before may be older
        ["model/model.json", "model/state/training.pt"],
    ),
    "train --start-from": Reader(
        trained("new", start_from="model"), ["new"], ["model/model.json", *WEIGHTS]
    ),
    "train --clusters": Reader(
        trained("local", **LOCAL),
        ["local"],
        ["model/model.json", *WEIGHTS, *TABLE, "clusters/features.npz"],
    ),
}


def cases(target: Target) -> Iterator[Case]:
    # Of an earlier night: its champion, and a file whose weights lie beside it.
    target.fresh()
    external = ["external" if word == "exported" else word for word in night.EXPORT]
    target.made([*external, "--external-data-above-mb", "0"])
    for name in ("external", "exported"):
        shutil.copytree(
            target.folder / name, target.night / ("champion" if name == "exported" else name)
        )

    for name, reader in READERS.items():
        for file in reader.files:
            for what, damage in damages(target.night / file).items():
                prepare = partial(_damage, file, damage)
                words = [reader.command]
                yield Case(f"{name}: {file} {what}", prepare, words, reader.results, reader.then)


def said_of_champion(target: Target) -> tuple[Outcome, str] | None:
    """A champion that is damaged keeps no night from its report, whose verdict says why."""
    report = target.folder / "report" / "benchmark.json"
    verdict = json.loads(report.read_text())["verdict"]
    if verdict is None:  # it was refused, and the report is that of the night
        return None
    is_said = verdict["outcome"] == "not comparable" and len(verdict["reasons"]) == 1
    return (Outcome.SENTENCE if is_said else Outcome.OTHER), " ".join(verdict["reasons"])


Damage = Callable[[Path], object]


def _damage(file: str, damage: Damage, folder: Path) -> None:
    damage(folder / file)


def damages(path: Path) -> dict[str, Damage]:
    """Kinds of damage to a file, by their names."""
    found: dict[str, Damage] = {
        f"with a bit flipped at {place:.0%}": partial(flip, place) for place in PLACES
    }
    found |= {
        "cut to half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "empty": lambda path: path.write_bytes(b""),
        "longer": lambda path: path.write_bytes(path.read_bytes() + bytes(64)),
        "of zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "missing": Path.unlink,
    }
    if path.name == "model.json":  # weights alone are a model too, of the references' own code
        del found["missing"]
    for other in sorted(path.parent.iterdir()):
        if other.suffix == path.suffix and other.is_file() and other != path:
            found[f"replaced by {other.name}"] = partial(replace, other.name)
    match path.suffix:
        case ".npz":
            found |= {f"with exchanged {what}": partial(exchange, what) for what in ROWS}
        case ".json":
            places = list(leaves(json.loads(path.read_text())))
            step = max(1, len(places) // MOST_FIELDS)
            for place in places[::step]:
                found[f"with another {'.'.join(map(str, place))}"] = partial(edit, place)
    return found


def flip(place: float, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def replace(other: str, path: Path) -> None:
    shutil.copyfile(path.with_name(other), path)


ROWS = ("features", "names", "ids")


def exchange(what: str, path: Path) -> None:
    """Exchange the first and the last row of an array, and write all as NumPy does."""
    with np.load(path) as stored:
        arrays = dict(stored)
    rows = arrays[what].copy()
    rows[[0, -1]] = rows[[-1, 0]]
    np.savez(path, **arrays | {what: rows})


def leaves(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The places of all texts and numbers, of lists the first two items'."""
    match value:
        case dict():
            for key, one in value.items():
                yield from leaves(one, (*place, key))
        case list():
            for number, one in enumerate(value[:2]):
                yield from leaves(one, (*place, number))
        case _:
            yield place


def edit(place: tuple, path: Path) -> None:
    """Another number, switch or text in that place, of the same kind."""
    everything = json.loads(path.read_text())
    *way, last = place
    holder = everything
    for key in way:
        holder = holder[key]
    match holder[last]:
        case bool():
            holder[last] = not holder[last]
        case int() | float():
            holder[last] += 1
        case str() as text:
            holder[last] = text[:-1] + ("0" if text[-1:] != "0" else "1")
        case _:
            holder[last] = 0
    path.write_text(json.dumps(everything, indent=2) + "\n")
