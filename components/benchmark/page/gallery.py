"""All test pairs as pages of pictures: these grow with the data set, which a report must not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.benchmark.page.legend import legend_of
from components.benchmark.page.pictures import Picture, Shown
from components.benchmark.page.table import counted, figures_text
from components.benchmark.page.templates import template
from shared.contracts.labels import Label
from shared.contracts.measured import BenchmarkReport
from shared.data.images import resize_ids, resize_picture
from shared.files.names import inside
from shared.files.writing import write_atomically

INDEX = "index.html"
SHOWN_WIDTH = 512  # pixels; wider pictures are shown smaller
PAIRS_OF_A_PAGE = 500


@dataclass(frozen=True)
class Shrunk:
    """A picture that is in a file, as a page needs to know it."""

    kind: str
    caption: str
    width: int  # in pixels
    height: int


@dataclass(frozen=True)
class Pair:
    """A test pair as a page has it."""

    name: str
    figures: str  # of its quality
    pictures: list[tuple[Shrunk, str]]  # each with its file, beside the page


class Gallery:
    """Pairs are added one by one: their pictures go to files at once."""

    def __init__(self, report: Path, labels: list[Label]):
        self.report, self.labels = report, labels
        self.pairs: list[Pair] = []
        self.ids: set[int] = set()  # of the labels that occur

    def add(self, row: Shown) -> None:
        """Write the pictures of a pair, as small as a page shows them."""
        number, pictures = len(self.pairs) + 1, []
        for picture in row.rows()[0]:
            small = Picture(picture.kind, picture.caption, shrunk(picture))
            suffix, content = small.encoded(quality=85)
            file = f"{number:05}_{picture.kind}.{suffix}"
            write_atomically(self._place(file), content, synced=False)
            known = Shrunk(picture.kind, picture.caption, small.width, small.height)
            pictures.append((known, file))
        figures = figures_text(row.quality) if row.quality else "no photo"
        self.pairs.append(Pair(row.name, figures, pictures))
        self.ids |= set(row.labels)

    def write(self, title: str) -> None:
        """Write the pages of the pairs that were added; none where there are none."""
        starts = range(0, len(self.pairs), PAIRS_OF_A_PAGE)
        names = [f"page_{number + 1}.html" if number else INDEX for number in range(len(starts))]
        for number, start in enumerate(starts):
            page = template("gallery.html.j2").render(
                title=title,
                count=counted(len(self.pairs), "test pair"),
                pages=names,
                number=number,
                pairs=self.pairs[start : start + PAIRS_OF_A_PAGE],
                legend=legend_of(self.ids, self.labels),
            )
            write_atomically(self._place(names[number]), page.encode())

    def _place(self, file: str) -> Path:
        return inside(self.report, BenchmarkReport.GALLERY, file)


def shrunk(picture: Picture) -> np.ndarray:
    """(C, h, w) uint8, at most SHOWN_WIDTH wide; colours of labels are picked, never mixed."""
    if picture.width <= SHOWN_WIDTH:
        return picture.pixels
    size = max(1, round(picture.height * SHOWN_WIDTH / picture.width)), SHOWN_WIDTH
    if picture.kind == "input":
        return np.stack([resize_ids(channel, *size) for channel in picture.pixels])
    return resize_picture(picture.pixels, *size)
