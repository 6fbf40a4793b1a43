"""One feature vector per instance of the training set, by the trained encoder."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor, nn

from components.cluster.config import ClusterConfig
from shared.contracts.clusters import ClusterTable, read_features
from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.model import FeatureRegions, ModelCard
from shared.data.maps import label_counts
from shared.data.reader import PairReader
from shared.device import Runtime
from shared.files.exchanged import exchanged
from shared.files.writing import write_atomically
from shared.networks.regions import encode_photos, pool
from shared.terminal.progress import Progress


@dataclass(frozen=True)
class ImageRows:
    """The regions of one image, sorted by id."""

    ids: np.ndarray  # (K,) int32, as in the maps
    labels: np.ndarray  # (K,) int32, the label that most of the region's pixels have
    areas: np.ndarray  # (K,) float64, share of the image
    features: np.ndarray  # (K, feat_num) float32 in [-1, 1]


@dataclass(frozen=True)
class InstanceFeatures(ImageRows):
    """The rows of all images, one after the other; those of image i are start[i]:start[i + 1]."""

    names: np.ndarray  # (images,) image names
    start: np.ndarray  # (images + 1,) int64
    regions: FeatureRegions  # what a row is: an instance, or all pixels of one label

    @classmethod
    def join(cls, images: list[ImageRows], names: list[str], regions: FeatureRegions) -> Self:
        """The rows of images that have these names."""
        kinds = vars(images[0])
        columns = {kind: np.concatenate([getattr(one, kind) for one in images]) for kind in kinds}
        start = np.cumsum([0] + [len(image.ids) for image in images])
        return cls(**columns, names=np.array(names), start=start, regions=regions)

    def encoded(self) -> bytes:
        """The content of features.npz: its bytes, of which others keep the digest, are the same
        under every Python, unlike those of np.savez."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, column in vars(self).items():
                content = io.BytesIO()
                np.save(content, column, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
        return buffer.getvalue()

    @classmethod
    def read(cls, clusters: Path, table: ClusterTable, manifest: DatasetManifest) -> Self:
        """What `write_clusters` wrote. Raises InputError where it is missing, damaged or of another
        table or data set."""
        images = [pair.name for pair in manifest.train]
        arrays = read_features(clusters, table, images, more=True)
        return cls(**arrays | {"regions": str(arrays["regions"])})


def write_clusters(
    clusters: Path, table: ClusterTable, contents: Mapping[str, bytes]
) -> ClusterTable:
    """Write the files of a clusters folder, and last the table, which says which they are, in the
    place of earlier ones; returns the table."""
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    table = table.model_copy(update={"files": files})
    with exchanged(clusters, ClusterTable.FILE, ClusterConfig.MADE) as work:
        for name, content in contents.items():
            write_atomically(work / name, content, synced=False)
        table.write(work)
    return table


def encode_instances(
    encoder: nn.Module,
    card: ModelCard,
    dataset: Path,
    manifest: DatasetManifest,
    runtime: Runtime,
    batch_size: int,
) -> InstanceFeatures:
    """Encode each photo at the size that the model was trained at, pool over the regions at the
    data set's size."""
    encoder.to(runtime.torch_device)
    photo_channels = card.architecture.output_nc
    reader = PairReader(dataset, manifest, "train", photo_channels=photo_channels)
    over = card.architecture.feature_regions

    # The rows of each image, in batches of images of one size.
    images: dict[int, ImageRows] = {}
    shown = Progress("cluster: encoded", len(reader), "images")
    for indices in batches_of_one_size(manifest.train, batch_size):
        samples = [reader.read(index) for index in indices]
        photos = [sample.photo for sample in samples]
        encoded = encode_photos(encoder, photos, card.frame_size, runtime)  # (N, feat_num, h, w)
        regions = [sample.regions(over) for sample in samples]
        labels = [sample.inputs if manifest.num_labels else None for sample in samples]
        rows = rows_of_images(encoded, regions, labels)
        images |= zip(indices, rows, strict=True)
        shown.show(len(images))

    # All of them, in the data set's order.
    names = [pair.name for pair in manifest.train]
    return InstanceFeatures.join([images[index] for index in range(len(reader))], names, over)


def batches_of_one_size(pairs: list[Pair], batch_size: int) -> list[list[int]]:
    """Indices of all pairs; those of a batch have one size."""
    of_size: dict[tuple[int, int], list[int]] = {}
    for index, pair in enumerate(pairs):
        of_size.setdefault((pair.height, pair.width), []).append(index)
    return [
        indices[at : at + batch_size]
        for indices in of_size.values()
        for at in range(0, len(indices), batch_size)
    ]


def rows_of_images(
    encoded: Tensor, regions: list[tuple[np.ndarray, np.ndarray]], labels: list[np.ndarray | None]
) -> list[ImageRows]:
    """What is known of each region of a batch.

    Args:
        encoded: (N, feat_num, h, w), feature maps of any size.
        regions: Per image its ids (K,), ascending, and the map (H, W) of their positions.
        labels: Per image its labels (H, W) uint8; None for pictures as input, which are one group,
            label 0.
    """
    maps = np.stack([positions for _, positions in regions])
    features = pool(encoded, maps, max(len(ids) for ids, _ in regions))  # (N, num_regions, F)
    rows = []
    for (ids, positions), of_image, table in zip(regions, labels, features, strict=True):
        majority, areas = labels_and_areas(positions, of_image, len(ids))
        rows.append(ImageRows(ids.astype(np.int32), majority, areas, table[: len(ids)]))
    return rows


def labels_and_areas(
    dense_ids: np.ndarray, labels: np.ndarray | None, num_regions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels (H, W) -> of each region its commonest label (K,) int32 and its share of
    the image (K,)."""
    if labels is None:
        areas = np.bincount(dense_ids.ravel(), minlength=num_regions)
        return np.zeros(num_regions, np.int32), areas / dense_ids.size
    pixels = label_counts(dense_ids, labels, num_regions)
    return pixels.argmax(axis=1).astype(np.int32), pixels.sum(axis=1) / dense_ids.size
