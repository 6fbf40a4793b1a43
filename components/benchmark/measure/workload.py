"""What the runtimes are given: real maps in the form of the exported file."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import Graph
from shared.contracts.model import Architecture
from shared.data.images import encode_picture
from shared.data.maps import PairReader, Sample
from shared.deployed.runners import Feeds, Runner
from shared.deployed.styles import Style
from shared.deployed.synthesiser import feeds, stack, to_pixels


@dataclass(frozen=True)
class Workload:
    """The first pairs of the test split, then of the training split."""

    dataset: Path
    manifest: DatasetManifest
    architecture: Architecture
    graph: Graph
    style: Style | None
    size: tuple[int, int]  # (height, width)
    count: int  # of pairs; they are given again and again

    @cached_property
    def samples(self) -> list[Feeds]:
        """Batches of one, in memory."""
        return [self._read(i, use_cache=True) for i in range(self.count)]

    def feed(self, sample: Sample) -> Feeds:
        """A batch of one."""
        return feeds(self.architecture, self.graph, sample.inputs, sample.instances, self.style)

    def batch(self, start: int, size: int) -> Feeds:
        """`size` of the pairs from number `start` on."""
        return stack([self.samples[(start + i) % self.count] for i in range(size)])

    def from_files_to_files(self, runner: Runner, start: int, size: int) -> None:
        """The whole way of a batch: map files, decoding, the runtime, the content of PNG files,
        which is not kept."""
        batch = stack([self._read((start + i) % self.count, use_cache=False) for i in range(size)])
        for picture in runner(batch):
            encode_picture(to_pixels(picture), ".png")

    def _read(self, number: int, use_cache: bool) -> Feeds:
        tests = len(self.manifest.test)
        split, index = ("test", number) if number < tests else ("train", number - tests)
        reader = PairReader(self.dataset, self.manifest, split, use_cache)
        return self.feed(reader.read(index, self.size, with_photo=False))
