"""Training pairs as batches of integer tensors; they become channels on the device, in
`condition`."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from components.train.config import CacheName
from components.train.data.augment import Augmentation
from components.train.devices.world import ALONE, World
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import FeatureRegions
from shared.data.frames import record_bytes
from shared.data.reader import PairReader
from shared.device import Runtime, pick
from shared.errors import InputError

FRAMES_SHARE = 0.8  # of the free memory that frames may take: the networks need the rest
PER_FRAME = ("num_regions", "features")  # tables of the whole frame: a crop leaves them as they are


@dataclass(frozen=True)
class Batch:
    """One batch; `num_regions` is the most that one of its images has."""

    inputs: Tensor  # labels (N, H, W) uint8, or pictures (N, C, H, W) uint8
    photos: Tensor  # (N, 3, H, W) uint8
    # (N, H, W) uint8, int16 or int32: instances, numbered from 0 per image
    dense_ids: Tensor | None
    # (N, H, W), what features are pooled over: instances or labels, 0 .. num_regions - 1
    regions: Tensor | None
    num_regions: int
    features: Tensor | None  # (N, F, num_regions) float32, of the cluster step

    def to(self, device: torch.device) -> "Batch":
        """The one place where data moves to the device."""

        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        dense_ids = move(self.dense_ids)
        return Batch(
            inputs=move(self.inputs),
            photos=move(self.photos),
            dense_ids=dense_ids,
            regions=dense_ids if self.regions is self.dense_ids else move(self.regions),
            num_regions=self.num_regions,
            features=move(self.features),
        )

    def __len__(self) -> int:
        return len(self.inputs)


class PairDataset(Dataset):
    """Training pairs. Crop and flip of a pair depend on (seed, epoch, index) alone, not on workers
    or order."""

    def __init__(
        self,
        reader: PairReader,
        size: tuple[int, int] | None,
        augment: Augmentation,
        features: dict[str, tuple[np.ndarray, np.ndarray]] | None,
        regions: FeatureRegions = "instances",
    ):
        """size: (height, width) of the frames, None = their own. features: of `read_features`, None
        = none."""
        self.reader, self.size, self.augment, self.features = reader, size, augment, features
        self.regions = regions
        self.epoch = 1
        self.kept: list[dict[str, Tensor]] | None = None

    def keep(self, device: torch.device) -> None:
        """Hold all frames in memory, or on the device: copies, also of the cache, which is a file
        that is mapped."""
        self.kept = []
        for index in range(len(self)):
            frame = self._frame(index)
            held = {name: tensor.to(device, copy=True) for name, tensor in frame.items()}
            if "num_regions" in frame:  # a number that the CPU asks for
                held["num_regions"] = frame["num_regions"]
            self.kept.append(held)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        frame = self._frame(index) if self.kept is None else self.kept[index]
        height, width = frame["photos"].shape[-2:]
        window = self.augment.window(self.epoch, index, height, width)
        return {
            name: tensor if name in PER_FRAME else window.cut(tensor)
            for name, tensor in frame.items()
        }

    def _frame(self, index: int) -> dict[str, Tensor]:
        """The tensors of a whole frame, under the names of `Batch`."""
        sample = self.reader.read(index, self.size)
        arrays = {"inputs": sample.inputs, "photos": sample.photo}
        if sample.ids is not None:
            arrays["dense_ids"] = sample.dense_ids
        if sample.ids is not None or self.regions == "labels":
            ids, positions = sample.regions(self.regions)
            arrays["num_regions"] = np.array(len(ids))
            if self.regions == "labels":
                arrays["regions"] = positions
            if self.features is not None:
                known, table = self.features[sample.name]
                arrays["features"] = table[:, np.searchsorted(known, ids)]  # (F, K)
        return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with the array, which may be read-only: tensors of frames are
    never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def hold_frames(
    pairs: PairDataset, cache: CacheName, runtime: Runtime, size: tuple[int, int] | None
) -> None:
    """Read all frames into memory or onto the device where --cache says so; refuses what does not
    fit.

    size: (height, width) of the frames, None = their own."""
    if cache not in ("memory", "device"):
        return
    keeper = runtime if cache == "device" else pick("cpu", "fp32")

    # Whether they fit, and leave the networks their part.
    manifest = pairs.reader.manifest
    frames = [
        replace(pair, height=size[0], width=size[1]) if size else pair for pair in manifest.train
    ]
    needed_gb = sum(record_bytes(manifest, frame) for frame in frames) / 1e9
    free_gb = keeper.free_memory_bytes() / 1e9
    if needed_gb > FRAMES_SHARE * free_gb:
        raise InputError(
            f"--cache {cache}: the frames take {needed_gb:.1f} GB but {free_gb:.1f} GB are "
            "free, of which the networks need a part: say --cache auto."
        )

    pairs.keep(keeper.torch_device)
    print(f"all frames are held in {cache}: {needed_gb:.2f} GB", flush=True)


def read_features(
    clusters: Path, manifest: DatasetManifest
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image name -> its instance ids (K,), sorted, and their features (F, K), as the cluster step
    stored them."""
    table = ClusterTable.read(clusters)
    if table.dataset_digest != manifest.digest:
        raise InputError(
            f"--clusters {clusters} was made from another data set: run the cluster step on this "
            "one."
        )
    if not (clusters / ClusterTable.FEATURES).is_file():
        raise InputError(
            f"--clusters {clusters} has no {ClusterTable.FEATURES}: make it with `python -m "
            "components.cluster`, or "
            "with its exchange read-maps."
        )
    stored = np.load(clusters / ClusterTable.FEATURES)
    names, start, ids, features = (stored[name] for name in ("names", "start", "ids", "features"))
    bounds = zip(names, start[:-1], start[1:], strict=True)
    return {str(name): (ids[a:b], features[a:b].T) for name, a, b in bounds}


def collate(items: list[dict[str, Tensor]]) -> Batch:
    """Stack a batch; feature tables are padded to the longest."""

    # What differs between pairs: the number of regions, and with it the narrowest type of ids.
    num_regions = max(
        (int(item["num_regions"]) for item in items if "num_regions" in item), default=0
    )
    if "dense_ids" in items[0] and len({item["dense_ids"].dtype for item in items}) > 1:
        for item in items:
            item["dense_ids"] = item["dense_ids"].int()
    if "features" in items[0]:
        for item in items:
            item["features"] = F.pad(item["features"], (0, num_regions - item["features"].shape[1]))

    # One tensor of each kind.
    def stack(name: str) -> Tensor | None:
        return torch.stack([item[name] for item in items]) if name in items[0] else None

    dense_ids = stack("dense_ids")
    regions = stack("regions") if "regions" in items[0] else dense_ids
    return Batch(
        stack("inputs"), stack("photos"), dense_ids, regions, num_regions, stack("features")
    )


def batches_of_rank(
    seed: int, epoch: int, count: int, batch_size: int, world: World
) -> list[list[int]]:
    """Batches of pair indices that this rank reads in an epoch; the order of all depends on (seed,
    epoch) alone.

    The n-th batches of all ranks are together that of one process with as many times the batch
    size. Where `count` is no multiple of the ranks, the first pairs of the epoch come twice, so
    that all have as many."""
    random = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=random)
    per_rank = math.ceil(count / world.size)
    mine = order[torch.arange(world.rank, per_rank * world.size, world.size) % count]
    return [batch.tolist() for batch in mine.split(batch_size)]


class EpochOrder(Sampler[list[int]]):
    """Batches of indices of one epoch, from batch `start` on; their order depends on (seed, epoch)
    alone."""

    def __init__(self, count: int, batch_size: int, seed: int, world: World):
        self.count, self.batch_size, self.seed, self.world = count, batch_size, seed, world
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        return math.ceil(math.ceil(self.count / self.world.size) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = batches_of_rank(self.seed, self.epoch, self.count, self.batch_size, self.world)
        return iter(batches[self.start :])


class EpochLoader:
    """Batches of one epoch, the same whatever reads them."""

    def __init__(
        self,
        pairs: PairDataset,
        batch_size: int,
        workers: int,
        pin_memory: bool,
        world: World = ALONE,
    ):
        self.pairs = pairs
        self.order = EpochOrder(len(pairs), batch_size, pairs.augment.seed, world)
        in_memory = pairs.kept is not None or pairs.reader.cache is not None
        self.loader = DataLoader(
            pairs,
            batch_sampler=self.order,
            # From memory, handing over would take longer than reading.
            num_workers=0 if in_memory else workers,
            collate_fn=collate,
            pin_memory=pin_memory and pairs.kept is None,
            generator=torch.Generator(),  # else it would draw from the one that dropout draws from
        )

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch `start` on, 0 = all."""
        self.pairs.epoch = self.order.epoch = epoch
        self.order.start = start
        return iter(self.loader)
