"""Maps on which an exported file is compared with PyTorch: what a generator reads, arrays by input name."""

from pathlib import Path

import numpy as np

from shared.contracts import DatasetManifest, ModelCard
from shared.samples import PairReader


def real_maps(dataset: Path, card: ModelCard, count: int) -> dict[str, np.ndarray]:
    """Maps of the first test pairs, and of training pairs where these are too few, at the model's size."""
    manifest = DatasetManifest.read(dataset)
    card.refuse_other_data(dataset, manifest)
    samples = []
    for split in ("test", "train"):
        reader = PairReader(dataset, manifest, split)
        samples += [reader.read(i, (card.height, card.width)) for i in range(min(len(reader), count - len(samples)))]
    maps = {card.architecture.input_name: np.stack([sample.inputs for sample in samples])}
    if card.architecture.use_instances:
        maps["instances"] = np.stack([sample.instances for sample in samples])
    return maps


def generated_maps(card: ModelCard, count: int) -> dict[str, np.ndarray]:
    """Street-like maps, the same at every call: sky, houses and road as bands, things as rectangles before them.

    Where the input is a picture, each label is a colour.

    Ids as in Cityscapes: an instance is its label, or label * 1000 + a running number for things.
    """
    rng = np.random.default_rng(0)
    height, width, num_labels = card.height, card.width, card.architecture.num_labels or 256
    labels = np.empty((count, height, width), np.uint8)
    instances = np.empty((count, height, width), np.int32)
    for label_map, instance_map in zip(labels, instances, strict=True):
        bands = rng.integers(num_labels, size=3)
        label_map[:] = bands[np.arange(height) * 3 // height][:, None]
        instance_map[:] = label_map
        for number in range(12):
            label = rng.integers(num_labels)
            top, left = rng.integers(height), rng.integers(width)
            box = np.s_[top : top + 1 + height // 4, left : left + 1 + width // 8]
            label_map[box] = label
            instance_map[box] = label * 1000 + number
    inputs = labels
    if card.architecture.input_nc:
        colours = rng.integers(256, size=(card.architecture.input_nc, 256), dtype=np.uint8)
        inputs = colours[:, labels].swapaxes(0, 1)  # (N, C, H, W)
    maps = {card.architecture.input_name: inputs}
    return maps | {"instances": instances} if card.architecture.use_instances else maps
