"""Training pairs as batches of integer tensors; they become channels on the device, in `condition`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from shared.contracts import ClusterTable, DatasetManifest
from shared.errors import InputError
from shared.samples import dense_ids, read_sample


@dataclass(frozen=True)
class Batch:
    """One batch; `num_instances` is the most that one of its images has."""

    labels: Tensor  # (N, H, W) uint8
    photos: Tensor  # (N, 3, H, W) uint8
    instances: Tensor | None  # (N, H, W) int32, ids as in the files
    dense_ids: Tensor | None  # (N, H, W) int32, 0 .. num_instances - 1
    num_instances: int
    features: Tensor | None  # (N, F, num_instances) float32, of the cluster step

    def to(self, device: torch.device) -> "Batch":
        """The one place where data moves to the device."""
        move = lambda tensor: None if tensor is None else tensor.to(device, non_blocking=True)  # noqa: E731
        return Batch(
            move(self.labels),
            move(self.photos),
            move(self.instances),
            move(self.dense_ids),
            self.num_instances,
            move(self.features),
        )

    def __len__(self) -> int:
        return len(self.labels)


class PairDataset(Dataset):
    """Training pairs at one size. The flip of a pair depends on (seed, epoch, index) alone, not on workers or order."""

    def __init__(
        self,
        dataset: Path,
        manifest: DatasetManifest,
        size: tuple[int, int],
        flip: bool,
        seed: int,
        features: dict[str, tuple[np.ndarray, np.ndarray]] | None,
    ):
        """features: of `read_features`, None where the encoder makes them or none are wanted."""
        self.dataset, self.manifest, self.size, self.flip, self.seed = dataset, manifest, size, flip, seed
        self.features = features
        self.epoch = 1

    def __len__(self) -> int:
        return len(self.manifest.train)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        pair = self.manifest.train[index]
        sample = read_sample(self.dataset, self.manifest, "train", pair, *self.size)
        item = {"labels": sample.labels, "photos": sample.photo.transpose(2, 0, 1)}
        if sample.instances is not None:
            ids, dense = dense_ids(sample.instances)
            item |= {"instances": sample.instances, "dense_ids": dense}
            if self.features is not None:
                known, table = self.features[pair.name]
                item["features"] = table[:, np.searchsorted(known, ids)]  # (F, K)
        if self.flip and np.random.default_rng((self.seed, self.epoch, index)).random() < 0.5:
            flipped = {name: array[..., ::-1] for name, array in item.items() if name != "features"}
            item |= flipped
        return item


def read_features(clusters: Path, manifest: DatasetManifest) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image name -> its instance ids (K,), sorted, and their features (F, K), as the cluster step stored them."""
    table = ClusterTable.read(clusters)
    if table.dataset_digest != manifest.digest:
        raise InputError(f"--clusters {clusters} was made from another data set: run the cluster step on this one.")
    stored = np.load(clusters / ClusterTable.FEATURES)
    names, start, ids, features = (stored[name] for name in ("names", "start", "ids", "features"))
    bounds = zip(names, start[:-1], start[1:], strict=True)
    return {str(name): (ids[a:b], features[a:b].T) for name, a, b in bounds}


def collate(items: list[dict[str, np.ndarray]]) -> Batch:
    """Stack a batch; feature tables are padded to the longest."""

    def stack(name: str) -> Tensor | None:
        return torch.from_numpy(np.stack([item[name] for item in items])) if name in items[0] else None

    num_instances = max((int(item["dense_ids"].max()) + 1 for item in items if "dense_ids" in item), default=0)
    if "features" in items[0]:
        for item in items:
            item["features"] = np.pad(item["features"], ((0, 0), (0, num_instances - item["features"].shape[1])))
    return Batch(
        stack("labels"), stack("photos"), stack("instances"), stack("dense_ids"), num_instances, stack("features")
    )


class EpochLoader:
    """Batches of one epoch, in an order that depends on (seed, epoch) alone."""

    def __init__(self, pairs: PairDataset, batch_size: int, workers: int, pin_memory: bool):
        self.pairs = pairs
        self.order = torch.Generator()
        self.loader = DataLoader(
            pairs,
            batch_size,
            shuffle=True,
            generator=self.order,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int):
        self.pairs.epoch = epoch
        self.order.manual_seed(self.pairs.seed * 1_000_003 + epoch)
        return iter(self.loader)
