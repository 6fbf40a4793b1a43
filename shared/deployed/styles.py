"""Which instance features a picture is painted with: numpy alone."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from shared.contracts.clusters import ClusterTable


@dataclass(frozen=True)
class Style:
    """Features in [-1, 1] of every label, and of single regions that differ from their label's."""

    # (num_labels + 1, feat_num) float32; the last row: pixels without label, or pictures
    by_label: np.ndarray
    # (feat_num,) float32 by instance id
    by_region: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def commonest(cls, table: ClusterTable, num_labels: int) -> Self:
        """The most frequent centre of every label."""
        return cls(table.default_style(num_labels))

    def of_instances(
        self, ids: np.ndarray, dense_ids: np.ndarray, inputs: np.ndarray
    ) -> np.ndarray:
        """(K, feat_num) float32, a row for each of `ids` (K,): its own style or that of its
        commonest label.

        dense_ids (H, W): position of each pixel's id in `ids`; inputs: labels (H, W), or a picture
        (C, H, W)."""
        # The commonest label of each: pixels counted by id and row of the table.
        last = len(self.by_label) - 1
        if inputs.ndim == 3:
            labels = np.full(len(ids), last)
        else:
            rows = np.minimum(inputs, last).ravel().astype(np.int64)
            index = dense_ids.ravel().astype(np.int64) * (last + 1) + rows
            counts = np.bincount(index, minlength=len(ids) * (last + 1))
            labels = counts.reshape(len(ids), last + 1).argmax(axis=1)

        # Its style, unless the instance has its own.
        table = self.by_label[labels].copy()
        for position, region in enumerate(ids.tolist()):
            if region in self.by_region:
                table[position] = self.by_region[region]
        return table

    def painted(self, inputs: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
        """(feat_num, H, W) float32: every pixel has the style of its label, or of its instance
        where that has one."""
        last = len(self.by_label) - 1
        rows = np.full(inputs.shape[1:], last) if inputs.ndim == 3 else np.minimum(inputs, last)
        features = self.by_label.T[:, rows]  # (feat_num, H, W)
        for region, vector in self.by_region.items():
            features[:, instances == region] = vector[:, None]
        return np.ascontiguousarray(features)
