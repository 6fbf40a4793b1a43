"""The quality of several synthesised pictures as one record."""

import numpy as np

from shared.contracts.measured import Quality
from shared.quality import l1, psnr_db, ssim
from shared.scorers import FeatureScorer, MeasuringNetworks, SegmentationScorer


class QualityMeter:
    """Pair after pair; the networks that were given measure too."""

    def __init__(self, networks: MeasuringNetworks | None = None):
        self.networks = networks or MeasuringNetworks()
        self.pairs: list[Quality] = []
        self.features = FeatureScorer(self.networks.features) if self.networks.features else None
        self.segmentation = (
            SegmentationScorer(self.networks.segmentation) if self.networks.segmentation else None
        )

    def add(
        self, picture: np.ndarray, photo: np.ndarray, labels: np.ndarray | None = None
    ) -> Quality:
        """Measure a synthesised picture and its photo, both (H, W, 3) uint8; what can be said of
        this pair alone.

        labels: (H, W) uint8 that the picture was synthesised from; needed where a segmentation
        network is there."""
        lpips = self.networks.lpips(picture, photo) if self.networks.lpips else None
        if self.features:
            self.features.add(picture, photo)
        if self.segmentation:
            self.segmentation.add(picture, labels)
        pair = Quality(
            pairs=1,
            psnr_db=psnr_db(picture, photo),
            ssim=ssim(picture, photo),
            l1=l1(picture, photo),
            lpips=lpips,
        )
        self.pairs.append(pair)
        return pair

    def result(self) -> Quality:
        """Of all pairs so far."""
        if not self.pairs:
            return Quality(pairs=0)
        return Quality(
            pairs=len(self.pairs),
            psnr_db=self._mean("psnr_db"),
            ssim=self._mean("ssim"),
            l1=self._mean("l1"),
            lpips=self._mean("lpips") if self.networks.lpips else None,
            fid=self.features.fid() if self.features else None,
            kid=self.features.kid() if self.features else None,
            miou=self.segmentation.miou() if self.segmentation else None,
            pixel_accuracy=self.segmentation.pixel_accuracy() if self.segmentation else None,
            caveats=self.features.caveats() if self.features else [],
        )

    def _mean(self, name: str) -> float:
        return float(np.mean([getattr(pair, name) for pair in self.pairs]))
