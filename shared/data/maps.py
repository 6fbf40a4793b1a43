"""One record of a pair: labels or a picture, instance ids and the photo, as integer arrays; and
what they say of regions."""

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """A pair of a data set, or a scene that is to be painted.

    Where it was made smaller, some of `ids` may have no pixel."""

    name: str
    inputs: np.ndarray  # labels (H, W) uint8, or a picture (C, H, W) uint8
    photo: np.ndarray | None  # (1 or 3, H, W) uint8; of a scene that is painted of any size
    ids: np.ndarray | None  # (K,) int32, the instance ids, ascending
    dense_ids: np.ndarray | None  # (H, W) uint8, int16 or int32: positions in `ids`

    @classmethod
    def of_maps(
        cls,
        name: str,
        inputs: np.ndarray,
        instances: np.ndarray | None = None,
        photo: np.ndarray | None = None,
    ) -> Self:
        """A sample of maps as files hold them; instances (H, W) of any integer type."""
        ids, dense_ids = (None, None) if instances is None else densify(instances)
        return cls(name, inputs, photo, ids, dense_ids)

    @property
    def instances(self) -> np.ndarray | None:
        """Instance ids (H, W) int32, as in the files."""
        return None if self.ids is None else self.ids[self.dense_ids]

    def rows(self, wanted: slice) -> Self:
        """With these rows of its maps alone, whose ids it keeps."""
        maps = {name: getattr(self, name) for name in ("inputs", "photo", "dense_ids")}
        cut = {name: one[..., wanted, :] for name, one in maps.items() if one is not None}
        return replace(self, **cut)

    def regions(self, of: Literal["instances", "labels"]) -> tuple[np.ndarray, np.ndarray]:
        """What features are pooled over: ids (K,) int32, ascending, and the map (H, W) of their
        positions 0 .. K-1."""
        return (self.ids, self.dense_ids) if of == "instances" else densify(self.inputs)


def dense_type(num_instances: int) -> np.dtype:
    """The smallest type that holds 0 .. num_instances - 1 and that PyTorch has too."""
    if num_instances <= 1 << 8:
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if num_instances <= 1 << 15 else np.int32)


def densify(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) ids, as of `read_ids` -> their distinct values (K,) int32, ascending, and (H, W)
    positions in them."""
    low = int(instances.min())
    span = int(instances.max()) - low + 1
    # A table of all values in between would not pay.
    if span > 1 << 20:
        ids, positions = np.unique(instances, return_inverse=True)
        return ids.astype(np.int32), positions.reshape(instances.shape).astype(dense_type(len(ids)))

    offsets = instances - low if low else instances
    present = np.zeros(span, bool)
    present[offsets] = True
    ids = np.flatnonzero(present)
    position = np.zeros(span, dense_type(len(ids)))
    position[ids] = np.arange(len(ids))
    return (ids + low).astype(np.int32), position[offsets]


def label_counts(dense_ids: np.ndarray, labels: np.ndarray, num_regions: int) -> np.ndarray:
    """Positions 0 .. num_regions - 1 and labels (H, W) -> how many pixels of each region have each
    label, (num_regions, highest label + 1)."""
    num_labels = int(labels.max()) + 1
    cells = dense_ids.ravel().astype(np.int64) * num_labels + labels.ravel()
    counts = np.bincount(cells, minlength=num_regions * num_labels)
    return counts.reshape(num_regions, num_labels)
