"""Street scenes by code, in Cityscapes' raw layout with its ids.

There is something to learn in them: the photo follows from labels and instances, and how a thing
looks (the paint of each car, the clothes of each person; per scene the weather, foliage and
facades) is what instance features can tell."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from components.prepare.demo.street import draw_scene
from components.prepare.writing.folders import is_occupied, written_whole
from shared.data import images
from shared.data.names import CITYSCAPES_ENDINGS
from shared.errors import InputError
from shared.files.owned import only_writer
from shared.files.writing import write_atomically

SETTINGS = "demo_scenes.json"  # beside the images: how they were made
VERSION = 1  # raise it when street.py draws other pictures from the same settings


def generate(out: Path, train: int, test: int, height: int, width: int, seed: int) -> None:
    """Write `train` and `test` scenes of height x width pixels below `out`, deterministic for a
    seed.

    The folder appears whole or not at all; called again with the same settings it does nothing.
    """
    # What is asked for.
    if height < 32 or width < 32:
        raise InputError(f"--size {height}x{width} is too small for a street: give 32x32 or more.")

    doing = f"demo_scenes: {out} is being drawn"
    with only_writer(out, "--out", appears_whole=True, doing=doing):
        _generate(out.resolve(), train, test, height, width, seed)


def _generate(out: Path, train: int, test: int, height: int, width: int, seed: int) -> None:
    # The same again is there already; anything else is kept.
    settings = dict(version=VERSION, train=train, test=test, height=height, width=width, seed=seed)
    content = (json.dumps(settings) + "\n").encode()
    if is_occupied(out, "--out"):
        if not (out / SETTINGS).is_file() or (out / SETTINGS).read_bytes() != content:
            raise InputError(
                f"--out {out} is not empty and holds other data: "
                "remove it first, or give a new folder."
            )
        print(f"demo_scenes: already generated: {out}", flush=True)
        return

    # Every scene has random numbers of its own: more scenes change none of the first. One is
    # written while the next is drawn.
    with written_whole(out, "--out") as folder, ThreadPoolExecutor(1) as writer:
        written: Future | None = None
        for stream, (split, city, count) in enumerate(
            (("train", "northfield", train), ("val", "southbridge", test))
        ):
            for number in range(count):
                maps = draw_scene(height, width, np.random.default_rng([seed, stream, number]))
                if written:
                    written.result()
                stem = f"{city}_{number:06d}_000019"
                written = writer.submit(_write, folder, split, city, stem, *maps)
        if written:
            written.result()
        write_atomically(folder / SETTINGS, content)
    print(f"demo_scenes: wrote {train} + {test} scenes of {height}x{width} to {out}", flush=True)


def _write(folder: Path, split: str, city: str, stem: str, photo, labels, instances) -> None:
    """Write one scene, as `draw_scene` gives it, in Cityscapes' places."""
    photo_folder, map_folder = (folder / top / split / city for top in ("leftImg8bit", "gtFine"))
    images.write_picture(photo_folder / f"{stem}{CITYSCAPES_ENDINGS['photo']}.png", photo)
    images.write_ids(map_folder / f"{stem}{CITYSCAPES_ENDINGS['input']}.png", labels)
    images.write_ids(map_folder / f"{stem}{CITYSCAPES_ENDINGS['instance']}.png", instances)
