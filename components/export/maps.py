"""Maps on which an exported file is compared with PyTorch: `labels` uint8 and `instances` int32, each (N, H, W)."""

from pathlib import Path

import numpy as np

from shared.contracts import DatasetManifest, ModelCard
from shared.samples import read_sample


def real_maps(dataset: Path, card: ModelCard, count: int) -> dict[str, np.ndarray]:
    """Maps of the first test pairs, and of training pairs where these are too few, at the model's size."""
    manifest = DatasetManifest.read(dataset)
    card.refuse_other_data(dataset, manifest)
    pairs = [(split, pair) for split in ("test", "train") for pair in getattr(manifest, split)][:count]
    samples = [read_sample(dataset, manifest, split, pair, card.height, card.width) for split, pair in pairs]
    maps = {"labels": np.stack([sample.labels for sample in samples])}
    if card.architecture.use_instances:
        maps["instances"] = np.stack([sample.instances for sample in samples])
    return maps


def generated_maps(card: ModelCard, count: int) -> dict[str, np.ndarray]:
    """Street-like maps, the same at every call: sky, houses and road as bands, things as rectangles before them.

    Ids as in Cityscapes: an instance is its label, or label * 1000 + a running number for things.
    """
    rng = np.random.default_rng(0)
    height, width, num_labels = card.height, card.width, card.architecture.num_labels
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
    return {"labels": labels, "instances": instances} if card.architecture.use_instances else {"labels": labels}
