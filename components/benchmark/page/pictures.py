"""The pictures of a report: input (label maps in colours) | synthesised | real, and how runtimes
differ."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.workload import Workload
from shared.contracts.measured import Quality
from shared.data.images import encode_picture, write_picture
from shared.data.maps import PairReader
from shared.data.pictures import show_inputs
from shared.deployed.painter import Painter

EAGER = "torch"  # name of the runner that the others are compared with
MOST_AMPLIFIED = 64  # so that a single grey level stays dark


@dataclass(frozen=True)
class Difference:
    """Of two pictures: |difference| in grey levels, 0 .. 255."""

    largest: int
    mean: float
    factor: int  # by which the map is amplified
    map: np.ndarray  # (3, H, W) uint8, grey: the channel that differs most

    def __str__(self) -> str:
        if self.largest == 0:
            return "identical"
        plural = "" if self.largest == 1 else "s"
        return f"×{self.factor}: at most {self.largest} grey level{plural}, mean {self.mean:.2g}"


def difference(picture: np.ndarray, other: np.ndarray) -> Difference:
    """Pictures (3, H, W) uint8. The map is amplified until its brightest pixel is white, within
    bounds."""
    levels = np.abs(picture.astype(np.int16) - other)
    largest = int(levels.max())
    factor = min(MOST_AMPLIFIED, 255 // largest) if largest else MOST_AMPLIFIED
    grey = (levels.max(axis=0, keepdims=True) * factor).astype(np.uint8)  # (1, H, W)
    return Difference(largest, float(levels.mean()), factor, grey.repeat(3, axis=0))


@dataclass(frozen=True)
class Picture:
    kind: str  # in file names
    caption: str
    pixels: np.ndarray  # (3, H, W) uint8

    def data_uri(self) -> str:
        """Inside a page: photo-like ones as JPEG, or a report of 1024x2048 takes 100 MB; the others
        without loss."""
        if self.kind.startswith(("synthesised", "real")):
            kind, content = "jpeg", encode_picture(self.pixels, ".jpg", 92, full_colour=True)
        elif self.kind.startswith("difference"):
            kind, content = "png", encode_picture(self.pixels[:1], ".png")  # grey
        else:
            kind, content = "png", encode_picture(self.pixels, ".png")
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class Shown:
    """One pair of the report; pictures are (3, H, W) uint8."""

    split: str
    name: str
    input: np.ndarray
    synthesised: dict[str, np.ndarray]  # by runtime; quality is measured of the first
    real: np.ndarray | None
    quality: Quality | None  # of this pair, None without a photo

    @property
    def measured(self) -> np.ndarray:
        return next(iter(self.synthesised.values()))

    def rows(self) -> tuple[list["Picture"], list["Picture"]]:
        """What a page shows: the pair with the measured picture, and what the other runtimes made
        of it."""
        measured, *others = self.synthesised
        pair = [Picture("input", "input", self.input)]
        pair.append(Picture("synthesised", f"synthesised by {measured}", self.measured))
        pair += [] if self.real is None else [Picture("real", "real", self.real)]
        compared = []
        for runtime in others:
            compared.append(
                Picture(
                    f"synthesised_{runtime}", f"synthesised by {runtime}", self.synthesised[runtime]
                )
            )
            against = measured if runtime == EAGER else runtime
            if EAGER in self.synthesised:
                found = difference(self.synthesised[against], self.synthesised[EAGER])
                compared.append(
                    Picture(f"difference_{against}", f"|{against} − {EAGER}| {found}", found.map)
                )
        return pair, compared

    def pictures(self) -> dict[str, np.ndarray]:
        """By the name that their files have, in the order they are shown."""
        return {picture.kind: picture.pixels for row in self.rows() for picture in row}


def synthesise(
    painters: list[Painter],
    workload: Workload,
    split: str,
    max_pictures: int,
    meter: QualityMeter,
) -> Iterator[Shown]:
    """The first `max_pictures` pairs of a split; of the other test pairs those with a photo, by the
    first painter only.

    Args:
        painters: Of one form; quality is measured of the first, differences from EAGER where it is
            there.
        meter: Is given every pair that has a photo.
    """
    reader = PairReader(workload.dataset, workload.manifest, split)
    num_labels = workload.form.reads.num_labels
    for index, pair in enumerate(reader.pairs):
        if index >= max_pictures and not (pair.has_photo and split == "test"):
            continue
        sample = reader.read(index, workload.form.size)
        instances = sample.instances
        chosen = painters if index < max_pictures else painters[:1]
        pictures = {
            painter.runner.name: painter.paint(sample.inputs, instances) for painter in chosen
        }
        labels = sample.inputs if num_labels else None
        measured = pictures[painters[0].runner.name]
        quality = None if sample.photo is None else meter.add(measured, sample.photo, labels)
        yield Shown(
            split=split,
            name=pair.name,
            input=show_inputs(sample.inputs, num_labels),
            synthesised=pictures,
            real=sample.photo,
            quality=quality,
        )


def write_pictures(folder: Path, shown: Shown) -> None:
    """<split>_<name>_<picture>.png"""
    for kind, picture in shown.pictures().items():
        write_picture(folder / f"{shown.split}_{shown.name}_{kind}.png", picture)
