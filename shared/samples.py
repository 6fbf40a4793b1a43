"""One sample of a prepared data set as integer arrays, at the size that a step wants."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.contracts import DatasetManifest, Pair
from shared.images import read_ids, read_photo, resize_ids, resize_photo


@dataclass(frozen=True)
class Sample:
    name: str
    labels: np.ndarray  # (H, W) uint8
    instances: np.ndarray | None  # (H, W) int32, ids as in the file
    photo: np.ndarray | None  # (H, W, 3) uint8


def read_sample(dataset: Path, manifest: DatasetManifest, split: str, pair: Pair, height: int, width: int) -> Sample:
    """Read the maps of one pair; photo bicubic, ids nearest, all to the same size."""
    instances = photo = None
    labels = resize_ids(read_ids(manifest.path(dataset, split, "label", pair.name)), height, width)
    if manifest.has_instances:
        instances = resize_ids(read_ids(manifest.path(dataset, split, "instance", pair.name)), height, width)
        instances = instances.astype(np.int32)
    if pair.has_photo:
        photo = resize_photo(read_photo(manifest.path(dataset, split, "photo", pair.name)), height, width)
    return Sample(pair.name, labels, instances, photo)


def dense_ids(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) ids -> sorted distinct ids (K,), and the map (H, W) int32 of their positions 0..K-1."""
    ids, positions = np.unique(instances, return_inverse=True)
    return ids, positions.reshape(instances.shape).astype(np.int32)
