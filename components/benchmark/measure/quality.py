"""The quality of several synthesised pictures as one record."""

import numpy as np

from components.benchmark.measure.segmentation import SegmentationNetwork, SegmentationScorer
from shared.contracts.measured import Quality
from shared.scorers import MeasuringNetworks, PictureMeter


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
        """Measure a synthesised picture and its photo, both (3, H, W) uint8.

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
