"""The pictures of a report: input (label maps in colours) | synthesised | real, and how runtimes
differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from components.benchmark.measure.contest import Contest
from components.benchmark.measure.quality import QualityMeter
from components.benchmark.measure.workload import Workload
from components.benchmark.page.table import counted
from components.benchmark.page.templates import data_uri
from shared.contracts.measured import BenchmarkReport, Quality
from shared.data.images import encode_picture, write_picture
from shared.data.labels import colours_of
from shared.data.pictures import show_inputs
from shared.data.reader import PairReader
from shared.deployed.painter import Painter
from shared.deployed.runners import Runner
from shared.files.names import inside

EAGER = "torch"  # name of the runner that the others are compared with
MOST_AMPLIFIED = 64  # so that a single grey level stays dark
EQUAL = 1  # grey level up to which two pictures count as equal: a border of rounding


@dataclass(frozen=True)
class Difference:
    """How two pictures differ: |difference| in grey levels, 0 .. 255."""

    largest: int
    mean: float
    factor: int  # by which the map is amplified
    map: np.ndarray  # (3, H, W) uint8, grey: the channel that differs most

    def __str__(self) -> str:
        if self.largest == 0:
            return "identical"
        largest = counted(self.largest, "grey level")
        return f"×{self.factor}: at most {largest}, mean {self.mean:.2g}"


def difference(picture: np.ndarray, other: np.ndarray) -> Difference:
    """Compare two pictures (C, H, W) uint8.

    The map is amplified until its brightest pixel is white, within bounds."""
    levels = np.abs(picture.astype(np.int16) - other)
    largest = int(levels.max())
    factor = min(MOST_AMPLIFIED, 255 // largest) if largest else MOST_AMPLIFIED
    grey = (levels.max(axis=0, keepdims=True) * factor).astype(np.uint8)  # (1, H, W)
    return Difference(largest, float(levels.mean()), factor, grey.repeat(3, axis=0))


@dataclass(frozen=True)
class Picture:
    """A picture as a page shows it."""

    kind: str  # in file names
    caption: str
    pixels: np.ndarray  # (1 or 3, H, W) uint8

    @property
    def height(self) -> int:
        """In pixels."""
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.pixels.shape[2]

    def data_uri(self) -> str:
        """The picture as an address that holds it, to stand inside a page."""
        suffix, content = self.encoded(quality=92)
        return data_uri(suffix.replace("jpg", "jpeg"), content)

    def encoded(self, quality: int) -> tuple[str, bytes]:
        """The content of a file, after its suffix.

        Photo-like ones are JPEG, or a report of 1024x2048 takes 100 MB; the others have no loss."""
        if self.kind.startswith(("synthesised", "real")):
            return "jpg", encode_picture(self.pixels, ".jpg", quality, full_colour=True)
        grey = self.kind.startswith("difference")
        return "png", encode_picture(self.pixels[:1] if grey else self.pixels, ".png")


@dataclass(frozen=True)
class Shown:
    """One pair of the report; pictures are (1 or 3, H, W) uint8."""

    split: str
    name: str
    input: np.ndarray
    synthesised: dict[str, np.ndarray]  # by runtime; quality is measured of the first
    real: np.ndarray | None
    quality: Quality | None  # of this pair, None without a photo
    champion: np.ndarray | None = None  # what the champion makes of it, where it is compared
    labels: tuple[int, ...] = ()  # ids that occur in the map; none where the input is a picture

    @property
    def measured(self) -> np.ndarray:
        """The synthesised picture that quality is measured of."""
        return next(iter(self.synthesised.values()))

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """How the picture of each other runtime differs from that of eager PyTorch."""
        if EAGER not in self.synthesised:
            return {}
        eager = self.synthesised[EAGER]
        return {
            runtime: difference(picture, eager)
            for runtime, picture in self.synthesised.items()
            if runtime != EAGER
        }

    def rows(self) -> tuple[list[Picture], list[Picture]]:
        """The two rows that a page shows: the pair with the measured picture, and what other
        runtimes made of it where that is not equal."""
        # The pair.
        measured = next(iter(self.synthesised))
        pair = [Picture("input", "input", self.input)]
        pair.append(Picture("synthesised", f"synthesised by {measured}", self.measured))
        if self.champion is not None:
            pair.append(Picture("synthesised_champion", "by the champion", self.champion))
        if self.real is not None:
            pair.append(Picture("real", "real", self.real))

        # Pictures that differ from PyTorch's, with the difference; of the pair that one instead.
        compared = []
        for runtime, found in self.differences.items():
            if found.largest > EQUAL:
                beside = EAGER if runtime == measured else runtime
                picture = self.synthesised[beside]
                compared.append(
                    Picture(f"synthesised_{beside}", f"synthesised by {beside}", picture)
                )
                caption = f"|{runtime} − {EAGER}| {found}"
                compared.append(Picture(f"difference_{runtime}", caption, found.map))
        return pair, compared

    def pictures(self) -> dict[str, np.ndarray]:
        """All of them in the order they are shown, by the names that their files have."""
        return {picture.kind: picture.pixels for row in self.rows() for picture in row}


def equal_pictures(shown: list[Shown]) -> list[str]:
    """A sentence for each runtime: how many of its pictures are PyTorch's."""
    sentences = []
    for runtime in dict.fromkeys(name for row in shown for name in row.differences):
        found = [row.differences[runtime] for row in shown if runtime in row.differences]
        count, equal = len(found), sum(one.largest <= EQUAL for one in found)
        of_runtime = f"of {runtime} equal PyTorch's within one grey level"
        if equal < count:
            others = "the others stand below their pairs, with the difference"
            sentences.append(f"{equal} of {counted(count, 'picture')} {of_runtime}; {others}.")
        elif count == 1:
            sentences.append(f"The picture of {runtime} equals PyTorch's within one grey level.")
        else:
            sentences.append(f"All {count} pictures {of_runtime}.")
    return sentences


def synthesise(
    painters: list[Painter],
    workload: Workload,
    split: str,
    max_pictures: int,
    meter: QualityMeter,
    contest: Contest | None = None,
    whole_split: bool = False,
    of_int8: QualityMeter | None = None,
) -> Iterator[Shown]:
    """Paint the first `max_pictures` pairs of a split, and the other test pairs that have a photo.

    Those others are not shown but measured: the first painter alone paints them, and with `of_int8`
    that one.

    Args:
        painters: Of one form; quality is measured of the first, differences from EAGER where it is
            there.
        meter: Is given every pair that has a photo.
        contest: Paints every pair by the champion too.
        whole_split: Whether all others are painted, with and without a photo.
        of_int8: Is given every pair that has a photo as the first painter in int8 paints it.
    """
    channels = workload.photo_channels
    reader = PairReader(workload.dataset, workload.manifest, split, photo_channels=channels)
    num_labels = workload.form.reads.num_labels
    colours = colours_of(workload.manifest.labels)
    names = names_of([painter.runner for painter in painters])
    in_int8 = next((one for one in painters if one.runner.precision == "int8"), None)
    for index, pair in enumerate(reader.pairs):
        shown = index < max_pictures
        if not (shown or whole_split or (pair.has_photo and split == "test")):
            continue

        # By runtime.
        sample = reader.read(index, workload.form.size)
        pictures = {}
        for name, painter in zip(names, painters, strict=True):
            if shown or painter is painters[0] or (of_int8 and painter is in_int8):
                pictures[name] = painter.paint(sample)

        # How good the first is.
        labels = sample.inputs if num_labels else None
        quality = None
        if sample.photo is not None:
            quality = meter.add(pictures[names[0]], sample.photo, labels)
            if of_int8 and in_int8:
                of_int8.add(pictures[names[painters.index(in_int8)]], sample.photo, labels)
        yield Shown(
            split=split,
            name=pair.name,
            input=show_inputs(sample.inputs, colours),
            synthesised=pictures,
            real=sample.photo,
            quality=quality,
            champion=contest.paint(sample) if contest else None,
            labels=tuple(np.unique(sample.inputs).tolist()) if num_labels else (),
        )


def names_of(runners: list[Runner]) -> list[str]:
    """What pictures of each are called: as its runtime, and of a second one in the same runtime
    with its precision."""
    found = []
    for runner in runners:
        taken = runner.name in found
        found.append(f"{runner.name}_{runner.precision}" if taken else runner.name)
    return found


def write_pictures(report: Path, shown: Shown) -> None:
    """Write each picture as pictures/<split>_<name>_<picture>.png."""
    for kind, picture in shown.pictures().items():
        file = f"{shown.split}_{shown.name}_{kind}.png"
        write_picture(inside(report, BenchmarkReport.PICTURES, file), picture)
