"""Training pairs, cut out and mirrored at random, as batches of integer tensors; they become
channels on the device, in `condition`."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from components.train.devices.world import ALONE, World
from shared.contracts.model import FeatureRegions
from shared.data.frames import ALL_ROWS
from shared.data.reader import PairReader
from shared.errors import InputError

# Tables of regions have a multiple of so many columns: with as many as a frame has regions, shapes
# would change from step to step, and a compiled or captured step with them.
COLUMNS = 32
PER_FRAME = ("num_regions", "features")  # tables of the whole frame: a crop leaves them as they are


@dataclass(frozen=True)
class Batch:
    """One batch; `num_regions` is at least the most that one of its images has."""

    inputs: Tensor  # labels (N, H, W) uint8, or pictures (N, C, H, W) uint8
    photos: Tensor  # (N, 1 or 3, H, W) uint8
    dense_ids: Tensor | None  # (N, H, W) uint8, int16 or int32: instances from 0 on, per image
    regions: Tensor | None  # (N, H, W): what features are pooled over, 0 .. num_regions - 1
    num_regions: int
    features: Tensor | None  # (N, F, num_regions) float32, of the cluster step

    def to(self, device: torch.device) -> "Batch":
        """The one place where data moves to the device."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """In page-locked memory, from which a copy to the device need not be waited for. DataLoader
        calls it; without it a dataclass is handed on as it is."""
        return self._moved(Tensor.pin_memory)

    def clone(self) -> "Batch":
        """The same in memory of its own."""
        return self._moved(Tensor.clone)

    def copy_(self, other: "Batch") -> None:
        """Overwrite its tensors with those of a batch of the same form."""
        assert self.form() == other.form()
        for own, new in zip(self.tensors(), other.tensors(), strict=True):
            own.copy_(new)

    def form(self) -> tuple:
        """What batches have in common by which the same kernels compute the same."""
        tensors = {
            name: (value.shape, value.dtype)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return (*tensors.items(), self.num_regions, self.regions is self.dense_ids)

    def _moved(self, moved: Callable[[Tensor], Tensor]) -> "Batch":
        def move(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else moved(tensor)

        dense_ids = move(self.dense_ids)
        return Batch(
            inputs=move(self.inputs),
            photos=move(self.photos),
            dense_ids=dense_ids,
            regions=dense_ids if self.regions is self.dense_ids else move(self.regions),
            num_regions=self.num_regions,
            features=move(self.features),
        )

    def tensors(self) -> list[Tensor]:
        """Each that it has, once."""
        return list(
            {id(one): one for one in vars(self).values() if isinstance(one, Tensor)}.values()
        )

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Window:
    """A part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    def cut(self, frame: Tensor) -> Tensor:
        """(..., H, W) -> (..., height, width)"""
        part = frame[..., self.top : self.top + self.height, self.left : self.left + self.width]
        return part.flip(-1) if self.mirrored else part


@dataclass(frozen=True)
class Augmentation:
    """What is random about a sample; it follows from (seed, epoch, index) alone."""

    crop: tuple[int, int] | None  # (height, width) in pixels, None = whole frames
    flip: bool  # mirror half of the samples
    seed: int

    def window(self, epoch: int, index: int, height: int, width: int) -> Window:
        """The window of sample `index` in a frame of height x width.

        As the references crop (get_params in base_dataset.py): the corner is uniform over all
        places where the crop fits; a crop as large as the frame or larger takes all of that side.
        """
        random = np.random.default_rng((self.seed, epoch, index))
        mirrored = self.flip and bool(random.random() < 0.5)
        crop_height, crop_width = self.crop or (height, width)
        crop_height, crop_width = min(crop_height, height), min(crop_width, width)
        top = int(random.integers(height - crop_height + 1))
        left = int(random.integers(width - crop_width + 1))
        return Window(top, left, crop_height, crop_width, mirrored)


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
        """size: (height, width) of the frames, None = their own. features: of `features_by_image`,
        None = none."""
        self.reader, self.size, self.augment, self.features = reader, size, augment, features
        self.regions = regions
        self.epoch = 1
        self.kept: list[dict[str, Tensor]] | None = None

    def keep(self, device: torch.device) -> None:
        """Hold all frames in memory, or on the device."""
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
        pair = self.reader.pairs[index]
        height, width = self.size or (pair.height, pair.width)
        window = self.augment.window(self.epoch, index, height, width)
        if self.kept is not None:
            frame = self.kept[index]
        elif window.height == height or self.regions == "labels":  # which whole frames tell
            frame = self._frame(index)
        else:
            frame = self._frame(index, slice(window.top, window.top + window.height))
            window = replace(window, top=0)
        return {
            name: tensor if name in PER_FRAME else window.cut(tensor)
            for name, tensor in frame.items()
        }

    def _frame(self, index: int, rows: slice = ALL_ROWS) -> dict[str, Tensor]:
        """The tensors of a frame, under the names of `Batch`."""
        # Maps and photo.
        sample = self.reader.read(index, self.size, rows=rows)
        arrays = {"inputs": sample.inputs, "photos": sample.photo}
        if sample.ids is not None:
            arrays["dense_ids"] = sample.dense_ids

        # What features are pooled over, and the features where they are known already.
        if sample.ids is not None or self.regions == "labels":
            ids, positions = sample.regions(self.regions)
            arrays["num_regions"] = np.array(len(ids))
            if self.regions == "labels":
                arrays["regions"] = positions
            if self.features is not None:
                known, table = self.features[sample.name]
                if not np.isin(ids, known).all():
                    raise InputError(
                        f"--clusters has no features of some instances of {sample.name}: make it "
                        "again with `python -m components.cluster`."
                    )
                arrays["features"] = table[:, np.searchsorted(known, ids)]  # (F, K)
        return {name: _tensor(array) for name, array in arrays.items()}


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with the array, which may be read-only: tensors of frames are
    never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def collate(items: list[dict[str, Tensor]]) -> Batch:
    """Stack a batch; feature tables are padded beyond the longest."""
    # What differs between pairs: the number of regions, and with it the narrowest type of ids.
    most = max(int(item.get("num_regions", 0)) for item in items)
    num_regions = math.ceil(most / COLUMNS) * COLUMNS
    if "dense_ids" in items[0] and len({item["dense_ids"].dtype for item in items}) > 1:
        for item in items:
            item["dense_ids"] = item["dense_ids"].int()
    if "features" in items[0]:
        for item in items:
            item["features"] = F.pad(item["features"], (0, num_regions - item["features"].shape[1]))

    # One tensor of each kind.
    def stack(name: str) -> Tensor | None:
        if name not in items[0]:
            return None
        if len(items) == 1:  # which need not be copied once more
            return items[0][name].contiguous().unsqueeze(0)
        return torch.stack([item[name] for item in items])

    dense_ids = stack("dense_ids")
    regions = stack("regions") if "regions" in items[0] else dense_ids
    return Batch(
        stack("inputs"), stack("photos"), dense_ids, regions, num_regions, stack("features")
    )


def _collate_told(items: list[dict[str, Tensor] | InputError]) -> Batch | InputError:
    """See `_Told`."""
    refusal = next((item for item in items if isinstance(item, InputError)), None)
    return refusal or collate(items)


def batches_of_rank(
    seed: int, epoch: int, count: int, batch_size: int, world: World, done: int = 0
) -> list[list[int]]:
    """Batches of pair indices that this rank reads in an epoch of which `done` pairs are trained;
    the order of all depends on (seed, epoch) alone.

    The n-th batches of all ranks are together that of one process with as many times the batch
    size. Where the pairs that are left are no multiple of the ranks, the first pairs of the epoch
    come twice, so that all have as many."""
    assert done < count
    random = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(count, generator=random)
    end = done + math.ceil((count - done) / world.size) * world.size
    mine = order[torch.arange(done + world.rank, end, world.size) % count]
    return [batch.tolist() for batch in mine.split(batch_size)]


class EpochOrder(Sampler[list[int]]):
    """Batches of indices of what is left of one epoch; their order depends on (seed, epoch)
    alone."""

    def __init__(self, count: int, batch_size: int, seed: int, world: World):
        self.count, self.batch_size, self.seed, self.world = count, batch_size, seed, world
        self.epoch, self.done = 1, 0  # pairs of the epoch that are trained already

    def __iter__(self) -> Iterator[list[int]]:
        mine = (self.count, self.batch_size, self.world, self.done)
        return iter(batches_of_rank(self.seed, self.epoch, *mine))


class _Told(Dataset):
    """A data set whose refusals are values: torch would make their sentence a worker's traceback.

    A batch that holds one is to be raised in its place."""

    def __init__(self, pairs: Dataset):
        self.pairs = pairs

    def __getitem__(self, index: int) -> dict | InputError:
        try:
            return self.pairs[index]
        except InputError as refusal:
            return refusal


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
            _Told(pairs),
            batch_sampler=self.order,
            # From memory, handing over would take longer than reading.
            num_workers=0 if in_memory else workers,
            collate_fn=_collate_told,
            pin_memory=pin_memory and pairs.kept is None,
            generator=torch.Generator(),  # else it would draw from the one that dropout draws from
        )

    def steps(self, done: int = 0) -> int:
        """Batches of an epoch of which `done` pairs are trained."""
        left = len(self.pairs) - done
        return math.ceil(math.ceil(left / self.order.world.size) / self.order.batch_size)

    def epoch(self, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch of which `done` pairs are trained. Raises InputError at one that
        cannot be read."""
        self.pairs.epoch = self.order.epoch = epoch
        self.order.done = done
        for batch in self.loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
