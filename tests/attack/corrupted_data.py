"""A data set whose images, manifest or cache are no longer those that prepare wrote, under every
step that reads them.

Images are damaged in a data set without cache, which all steps then read. Content that was
exchanged for some of the same size and type is told by `--check-dataset`, where a checkout has it.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.asking import as_flags
from tests.attack import night
from tests.attack.trying import Case, Target

Damage = Callable[[Path], object]  # of the data set's folder

SYNTHESISE = ["export", "synthesise", *as_flags(model="model", clusters="clusters")]
SYNTHESISE += as_flags(dataset="dataset", out="pictures", device="cpu")
TRAIN = ["train", *as_flags(dataset="dataset", model="trained", **night.TRAIN)]
TRAIN += ["--validate-every-epochs", "1"]
INPUTS = ["export", "offline", "inputs", *as_flags(dataset="dataset", out="inputs")]
MAPS = ["cluster", "exchange", "maps", *as_flags(dataset="dataset", clusters="clusters")]
MAPS += ["--out", "maps"]

# Each command and what it makes, by whether it reads training pairs, test pairs or both.
STEPS = {
    "train": (TRAIN, "trained", ("train", "test")),
    "cluster": (night.CLUSTER, "clusters", ("train",)),
    "export": (night.EXPORT, "exported", ("test",)),
    "benchmark": (night.BENCHMARK, "report", ("train", "test")),
    "synthesise": (SYNTHESISE, "pictures", ("test",)),
    "offline inputs": ([*INPUTS, "--exported", "exported"], "inputs", ("test",)),
    "exchange maps": (MAPS, "maps", ("train",)),
    "prepare": (night.PREPARE, "dataset/manifest.json", ("train", "test")),
}
HAVE_OPTION = {"train", "cluster", "export", "benchmark", "synthesise"}


# Images.


def first(dataset: Path, kind: str) -> Path:
    return sorted(dataset.glob(f"{kind}/*"))[0]


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_size(path: Path) -> None:
    with Image.open(path) as image:
        larger = image.resize((image.width + 8, image.height + 8), Image.Resampling.NEAREST)
    larger.save(path)


def other_mode(path: Path) -> None:
    """Grey for colour, and a palette of greys for ids."""
    with Image.open(path) as image:
        other = image.convert("L") if image.mode == "RGB" else image.convert("L").convert("P")
    other.save(path)


def other_format(path: Path) -> None:
    with Image.open(path) as image:
        other = image.convert("RGB" if image.mode == "RGB" else "L")
    other.save(path, format="BMP")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def removed(path: Path) -> None:
    path.unlink()


def high_label(path: Path) -> None:
    with Image.open(path) as image:
        ids = np.array(image)
    ids[:4] = 77
    Image.fromarray(ids).save(path)


def other_instances(path: Path) -> None:
    with Image.open(path) as image:
        ids = np.array(image)
    ids[:2, :2] = 9
    Image.fromarray(ids).save(path)


def exchanged(path: Path) -> None:
    """With the next one, of the same size and type."""
    other = sorted(path.parent.glob("*"))[1]
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


BROKEN = (flipped, cut, other_size, other_mode, other_format, emptied, removed)
IMAGES = [(damage, kind) for damage in BROKEN for kind in ("img", "label", "inst")]
IMAGES += [(high_label, "label"), (other_instances, "inst")]


# The manifest.


def edited(dataset: Path, edit: Callable[[dict], object]) -> None:
    path = dataset / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content, indent=2) + "\n")


def set_field(name: str, value: object) -> Callable[[dict], object]:
    return lambda content: content.update({name: value})


def set_of_pair(**values: object) -> Callable[[dict], object]:
    return lambda content: content["train"][0].update(values)


MANIFEST = {
    "digest": set_field("digest", "0" * 16),
    "test_digest": set_field("test_digest", "0" * 16),
    "num_labels": set_field("num_labels", 40),
    "has_instances": set_field("has_instances", False),
    "labels": set_field("labels", []),
    "a pair removed": lambda content: content["train"].pop(0),
    "a pair twice": lambda content: content["train"].append(content["train"][0]),
    "a pair renamed": set_of_pair(name="another"),
    "two pairs exchanged": lambda content: content["train"].reverse(),
    "a height": set_of_pair(height=64),
    "a number of instances": set_of_pair(num_instances=3),
    "a photo less": set_of_pair(has_photo=False),
}


# The cache.


def cache_zeroed(dataset: Path) -> None:
    for file in dataset.glob("cache/*.bin"):
        file.write_bytes(bytes(file.stat().st_size))


def cache_flipped(dataset: Path) -> None:
    for file in dataset.glob("cache/*.bin"):
        flipped(file)


def cache_cut(dataset: Path) -> None:
    for file in dataset.glob("cache/*.bin"):
        cut(file)


def records_exchanged(dataset: Path) -> None:
    """Halves of the file, which are of as many pairs."""
    for file in dataset.glob("cache/*.bin"):
        content = file.read_bytes()
        half = len(content) // 2
        file.write_bytes(content[half:] + content[:half])


def splits_exchanged(dataset: Path) -> None:
    shutil.copy(dataset / "cache/test.bin", dataset / "cache/train.bin")


def key_lost(dataset: Path) -> None:
    (dataset / "cache/cache.json").write_text("{")


CACHE = (cache_zeroed, cache_flipped, cache_cut, records_exchanged, splits_exchanged, key_lost)


def cases(target: Target) -> Iterator[Case]:
    has_option = (target.code / "shared/data/checking.py").is_file()

    def case(name: str, damage: Damage, step: str, checked: bool = False) -> Case:
        command, result, _ = STEPS[step]
        command = [*command, "--check-dataset"] if checked and has_option else command

        def prepare(folder: Path) -> None:
            damage(folder / "dataset")
            if step != "prepare":
                shutil.rmtree(folder / result, ignore_errors=True)

        return Case(f"{step}: {name}", prepare, [command], [result])

    # Images, each kind of damage under the steps in turn.
    turn = {"train": 0, "test": 0}
    for damage, kind in IMAGES:
        for split in ("train", "test"):
            readers = [step for step, (*_, splits) in STEPS.items() if split in splits]
            step = readers[turn[split] % len(readers)]
            turn[split] += 1
            name = f"{damage.__name__}, {split}_{kind}"
            yield case(name, partial(damage_image, damage, f"{split}_{kind}"), step)
    for step in sorted(HAVE_OPTION):
        split = STEPS[step][2][-1]
        damage = partial(damage_image, exchanged, f"{split}_img")
        yield case(f"exchanged, {split}_img", damage, step, checked=True)

    # Manifest and cache.
    for number, (name, edit) in enumerate(MANIFEST.items()):
        for step in ("train", list(STEPS)[1 + number % (len(STEPS) - 1)]):
            yield case(f"manifest.json, {name}", partial(edited, edit=edit), step)
    for damage in CACHE:
        for step in ("train", "cluster", "export", "benchmark"):
            yield case(damage.__name__.replace("_", " "), damage, step)


def damage_image(damage: Callable[[Path], object], kind: str, dataset: Path) -> None:
    shutil.rmtree(dataset / "cache")
    damage(first(dataset, kind))
