"""Which instance features a picture is painted with: numpy alone."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from shared.contracts.clusters import ClusterTable
from shared.data.maps import Sample, label_counts


@dataclass(frozen=True)
class Style:
    """Features in [-1, 1] of every label, and of single regions that differ from their label's."""

    by_label: np.ndarray  # (num_labels + 1, feat_num) float32; last: without label, or pictures
    by_region: dict[int, np.ndarray] = field(default_factory=dict)  # (feat_num,) float32 by id

    @classmethod
    def commonest(cls, table: ClusterTable, num_labels: int) -> Self:
        """The most frequent centre of every label."""
        return cls(table.default_style(num_labels))

    def of_instances(self, sample: Sample) -> np.ndarray:
        """A row for each of the sample's ids, (K, feat_num) float32: its own style or that of its
        commonest label."""
        table = self.by_label[rows_of_instances(sample, len(self.by_label))]
        for position, region in enumerate(sample.ids.tolist()):
            if region in self.by_region:
                table[position] = self.by_region[region]
        return table

    def painted(self, sample: Sample) -> np.ndarray:
        """Every pixel in the style of its label, or of its instance where that has one, (feat_num,
        H, W) float32."""
        features = self.by_label.T[:, _rows(sample, len(self.by_label))]  # (feat_num, H, W)
        ids = [] if sample.ids is None else sample.ids.tolist()
        for position, region in enumerate(ids):
            if region in self.by_region:
                features[:, sample.dense_ids == position] = self.by_region[region][:, None]
        return features


def rows_of_instances(sample: Sample, num_rows: int) -> np.ndarray:
    """The row of `Style.by_label` that each of the sample's ids (K,) takes: that of its commonest
    label."""
    rows = _rows(sample, num_rows)
    return label_counts(sample.dense_ids, rows, len(sample.ids)).argmax(axis=1)


def _rows(sample: Sample, num_rows: int) -> np.ndarray:
    """The row of `Style.by_label` that each pixel takes, (H, W)."""
    if sample.inputs.ndim == 3:
        return np.full(sample.inputs.shape[1:], num_rows - 1)
    return np.minimum(sample.inputs, num_rows - 1)
