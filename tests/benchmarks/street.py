"""Images that are like Cityscapes' in what costs time: as many instances, of such sizes."""

from pathlib import Path

import numpy as np

from shared.data.images import encode_ids, encode_picture
from shared.data.maps import Sample

THINGS, STUFF = 24, 4


def street(rng: np.random.Generator, height: int, width: int) -> Sample:
    """Bands of stuff with rectangles of things before them."""
    bands = np.repeat(rng.integers(24, size=STUFF), -(-height // STUFF))[:height, None]
    instances = bands.repeat(width, axis=1)
    for number in range(THINGS):
        top, left = rng.integers(height), rng.integers(width)
        box = np.s_[top : top + height // 6, left : left + width // 8]
        instances[box] = 1000 * rng.integers(24, 34) + number

    labels = np.where(instances < 1000, instances, instances // 1000).astype(np.uint8)
    photo = (labels * 7 + rng.integers(0, 9, (3, height, width))).astype(np.uint8)
    return Sample.of_maps("street", labels, instances, photo)


def write_raw(folder: Path, drawn: list[Sample], train: int, test: int) -> None:
    """The seeds' flat layout of so many pairs: beyond those that are drawn, copies of them under
    other names."""
    files = [
        {
            "img": encode_picture(maps.photo, ".png"),
            "label": encode_ids(maps.inputs, Path("labels.png")),
            "inst": encode_ids(maps.instances, Path("instances.png")),
        }
        for maps in drawn
    ]
    for split, count in (("train", train), ("test", test)):
        for kind in ("img", "label", "inst"):
            (folder / f"{split}_{kind}").mkdir(parents=True)
            for number in range(count):
                path = folder / f"{split}_{kind}" / f"{number:06d}.png"
                path.write_bytes(files[number % len(files)][kind])
