"""What the runtimes are given: real maps in the form of the exported file."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import PhotoChannels
from shared.data.images import encode_picture
from shared.data.reader import PairReader
from shared.deployed.form import Feeds, Form, stack
from shared.deployed.runners import Runner
from shared.deployed.synthesiser import to_pixels


@dataclass(frozen=True)
class Workload:
    """The first pairs of the test split, then of the training split."""

    dataset: Path
    manifest: DatasetManifest
    form: Form  # of one size
    count: int  # of pairs; they are given again and again
    photo_channels: PhotoChannels = 3  # of the pictures that the model makes
    _readers: dict[tuple[str, bool], PairReader] = field(
        default_factory=dict, init=False, compare=False
    )

    @cached_property
    def samples(self) -> list[Feeds]:
        """Batches of one, in memory."""
        return [self._read(i, use_cache=True) for i in range(self.count)]

    def named(self, count: int) -> dict[str, Feeds]:
        """The first samples, by SPLIT/NAME of their pair."""
        places = [self._place(i) for i in range(min(count, self.count))]
        names = [f"{split}/{getattr(self.manifest, split)[i].name}" for split, i in places]
        return dict(zip(names, self.samples[:count], strict=True))

    def batch(self, start: int, size: int) -> Feeds:
        """`size` of the pairs from number `start` on."""
        return stack([self.samples[(start + i) % self.count] for i in range(size)])

    def from_files_to_files(self, runner: Runner, start: int, size: int) -> None:
        """Goes the whole way of a batch: map files, decoding, the runtime, the content of PNG
        files, which is not kept."""
        batch = stack([self._read((start + i) % self.count, use_cache=False) for i in range(size)])
        for picture in runner(batch):
            encode_picture(to_pixels(picture), ".png")

    def _place(self, number: int) -> tuple[str, int]:
        tests = len(self.manifest.test)
        return ("test", number) if number < tests else ("train", number - tests)

    def _read(self, number: int, use_cache: bool) -> Feeds:
        split, index = self._place(number)
        if (split, use_cache) not in self._readers:
            reader = PairReader(self.dataset, self.manifest, split, use_cache)
            self._readers[split, use_cache] = reader
        reader = self._readers[split, use_cache]
        return self.form.feed(reader.read(index, self.form.size, with_photo=False))
