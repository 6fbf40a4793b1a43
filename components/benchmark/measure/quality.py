"""The quality of several synthesised pictures as one record."""

import numpy as np

from components.benchmark.measure.segmentation import (
    GROUPS,
    SegmentationNetwork,
    SegmentationScorer,
)
from shared.contracts.measured import Quality
from shared.scorers.meter import FeatureScorer, PictureMeter
from shared.scorers.networks import MeasuringNetworks


class QualityMeter:
    """Measures pair after pair with the networks that were given."""

    def __init__(
        self,
        networks: MeasuringNetworks | None = None,
        segmentation: SegmentationNetwork | None = None,
    ):
        self.pictures = PictureMeter(networks or MeasuringNetworks())
        self.segmentation = SegmentationScorer(segmentation) if segmentation else None

    def add(
        self, picture: np.ndarray, photo: np.ndarray, labels: np.ndarray | None = None
    ) -> Quality:
        """Measure a synthesised picture and its photo, both (1 or 3, H, W) uint8.

        labels: (H, W) uint8 that the picture was synthesised from; needed where a segmentation
        network is there.

        Returns what can be said of this pair alone."""
        if self.segmentation:
            self.segmentation.add(picture, labels)
        return Quality(pairs=1, **self.pictures.add(picture, photo))

    def result(self) -> Quality:
        """The quality of all pairs so far."""
        found = self.segmentation.figures() if self.segmentation else {}
        return Quality(
            pairs=len(self.pictures.pairs),
            **self.pictures.figures(),
            **found,
            caveats=self.pictures.caveats(),
        )

    @property
    def by_pair(self) -> dict[str, np.ndarray]:
        """The figures that are means over pairs, by name of the metric, (pairs,) each."""
        pairs = self.pictures.pairs
        return {name: np.array([pair[name] for pair in pairs]) for name in (pairs or [{}])[0]}

    def by_group_left_out(self) -> dict[str, np.ndarray]:
        """The other figures, by name of the metric: with each of up to GROUPS groups of the pairs
        left out, (groups,) each. Without those that so few pairs do not have."""
        count = min(GROUPS, len(self.pictures.pairs))
        found = [self._without(group) for group in range(count)]
        names = set.intersection(*map(set, found)) if found else set()
        return {name: np.array([figures[name] for figures in found]) for name in names}

    def _without(self, group: int) -> dict[str, float]:
        """The figures that are no means over pairs, of the pairs of all groups but one."""
        found = self.segmentation.figures(without=group) if self.segmentation else {}
        if whole := self.pictures.features:
            part = FeatureScorer(whole.network)
            for all_of_them, kept in (
                (whole.features, part.features),
                (whole.real, part.real),
            ):
                kept += [row for i, row in enumerate(all_of_them) if i % GROUPS != group]
            found |= part.figures()
        return found
