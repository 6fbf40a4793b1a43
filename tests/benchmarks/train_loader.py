"""`python -m tests.benchmarks.train_loader --raw-data DIR`: how fast pairs are read, side by side
in one run.

DIR holds pairs in Cityscapes' raw layout. Our loader is compared with a plain one that does what
the references do: decode the full-size PNG files with Pillow, resize, convert to float. First the
pixels are compared, then the clock."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, RandomSampler

from components.train.data.batches import Augmentation, PairDataset, collate
from shared.command import command_line
from shared.contracts.dataset import DatasetManifest, parse_size
from shared.data.names import CITYSCAPES_ENDINGS
from shared.data.reader import PairReader
from shared.errors import InputError

NO_FLIP = Augmentation(None, False, 0)


class PlainDataset(Dataset):
    """As data/aligned_dataset.py of pix2pixHD, with instance ids read without loss."""

    def __init__(self, raw_data: Path, size: tuple[int, int], flip: bool):
        self.labels = sorted(raw_data.glob(f"gtFine/train/*/*{CITYSCAPES_ENDINGS['input']}.png"))
        self.size, self.flip = size, flip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        label = self.labels[index]
        city, stem = label.parent.name, label.stem.removesuffix(CITYSCAPES_ENDINGS["input"])
        instance = label.with_name(f"{stem}{CITYSCAPES_ENDINGS['instance']}.png")
        photos = label.parents[3] / "leftImg8bit" / "train" / city
        photo = photos / f"{stem}{CITYSCAPES_ENDINGS['photo']}.png"
        mirrored = self.flip and np.random.rand() < 0.5
        picture = self._open(photo, Image.Resampling.BICUBIC, mirrored, "RGB")
        labels = self._open(label, Image.Resampling.NEAREST, mirrored)
        instances = self._open(instance, Image.Resampling.NEAREST, mirrored)
        pixels = np.asarray(picture, np.float32)
        return {
            "label": torch.from_numpy(np.array(labels, np.float32)),
            "instance": torch.from_numpy(np.array(instances, np.int32)),
            "photo": (torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 255 - 0.5) / 0.5,
        }

    def _open(
        self, path: Path, filter: Image.Resampling, mirrored: bool, mode: str | None = None
    ) -> Image.Image:
        image = Image.open(path)
        image = image.convert(mode) if mode else image
        image = image.resize(self.size[::-1], filter)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image


def prepare(raw_data: Path, dataset: Path, *flags: str) -> DatasetManifest:
    command = [sys.executable, "-m", "components.prepare", *flags]
    command += ["--raw-data", raw_data, "--dataset", dataset]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    return DatasetManifest.read(dataset)


def check_pixels(plain: PlainDataset, ours: PairDataset) -> int:
    """Largest difference of photos in grey levels. Raises AssertionError where ids differ."""
    largest = 0
    for index in range(len(plain)):
        reference, batch = plain[index], collate([ours[index]])
        ids = ours.reader.read(index, ours.size).ids
        assert torch.equal(batch.inputs[0], reference["label"].to(torch.uint8)), "labels differ"
        instances = ids[batch.dense_ids[0].numpy()]
        assert np.array_equal(instances, reference["instance"].numpy()), "instance ids differ"
        photo = ((reference["photo"] + 1) * 127.5).round().int()
        largest = max(largest, int((batch.photos[0].int() - photo).abs().max()))
    return largest


def samples_per_second(
    dataset: Dataset, collate_fn: Callable | None, workers: int, seconds: float
) -> float:
    """The rate of a DataLoader with batches of one, over about `seconds` after its workers have
    started."""
    endless = RandomSampler(dataset, replacement=True, num_samples=1 << 20)
    options = dict(sampler=endless, num_workers=workers, collate_fn=collate_fn)
    batches = iter(DataLoader(dataset, batch_size=1, **options))
    for _ in range(2 * workers + 1):
        next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        next(batches)
        count += 1
    return count / elapsed


def measure(
    raw_data: Path, size: str, crop: str, workers: int, rounds: int, seconds: float
) -> dict:
    """Samples a second of each loader: median over rounds in which they take turns."""
    height_width = parse_size(size)
    augment = Augmentation(parse_size(crop) if crop else None, True, 0)
    with tempfile.TemporaryDirectory() as folder:
        # The data, prepared at the size of the samples and at its own.
        stored, full = Path(folder) / "stored", Path(folder) / "full"
        of_stored = prepare(raw_data, stored, "--size", size)
        of_full = prepare(raw_data, full, "--size", "keep", "--cache-limit-gb", "0")

        # What reads it, and the size that it is resized to on the way.
        files = PairReader(stored, of_stored, "train", use_cache=False)
        large = PairReader(full, of_full, "train", use_cache=False)
        ours = {
            "full-size PNG files, resized on the way": (large, height_width),
            "PNG files of the data set": (files, None),
            "cache of the data set": (PairReader(stored, of_stored, "train"), None),
        }
        plain = PlainDataset(raw_data, height_width, flip=False)
        if len(plain) != len(files):
            raise InputError(
                f"--raw-data {raw_data} is not in Cityscapes' raw layout: give one that is."
            )

        # The pixels.
        differences = {
            name: check_pixels(plain, PairDataset(reader, resize, NO_FLIP, features=None))
            for name, (reader, resize) in ours.items()
        }

        # The clock.
        loaders = {"plain Pillow": (PlainDataset(raw_data, height_width, flip=True), None)}
        for name, (reader, resize) in ours.items():
            loaders[name] = PairDataset(reader, resize, augment, features=None), collate
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for _ in range(rounds):
            for name, (dataset, collate_fn) in loaders.items():
                rates[name].append(samples_per_second(dataset, collate_fn, workers, seconds))

    reference = rates["plain Pillow"]
    return {
        name: {
            "samples_per_second": statistics.median(of_loader),
            "speedup": statistics.median(a / b for a, b in zip(of_loader, reference, strict=True)),
            "largest_photo_difference": differences.get(name, 0),
        }
        for name, of_loader in rates.items()
    }


def train_loader(
    raw_data: Path,
    size: str = "512x1024",
    crop: str = "",
    workers: int = 0,
    rounds: int = 5,
    seconds: float = 2.0,
) -> None:
    """Measure how fast pairs are read, side by side with a plain loader.

    Args:
        raw_data: Pairs in Cityscapes' raw layout.
        size: HEIGHTxWIDTH of the samples.
        crop: HEIGHTxWIDTH that ours are cut to; the plain one does not cut.
        workers: Processes of every loader.
        rounds: Rounds in which the loaders take turns.
        seconds: Time of each loader in a round.

    Example:
        python -m tests.benchmarks.train_loader --raw-data runs/demo-data --size 128x256
    """
    try:
        results = measure(raw_data, size, crop, workers, rounds, seconds)
    except subprocess.CalledProcessError:
        sys.exit(2)  # prepare has said why
    print(
        f"samples of {size}, {workers} workers, {torch.get_num_threads()} torch threads, "
        f"{os.cpu_count()} cores; medians of {rounds} rounds of {seconds:g} s"
    )
    for name, result in results.items():
        print(
            f"{name:42} {result['samples_per_second']:9.1f} samples/s {result['speedup']:8.2f}x  "
            f"photos differ by {result['largest_photo_difference']}/255, ids equal"
        )
    print(json.dumps(results))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.train_loader", train_loader, {}, argv)


if __name__ == "__main__":
    main()
