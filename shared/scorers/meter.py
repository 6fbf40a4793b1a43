"""Measures synthesised pictures against their photos, pair after pair."""

import math

import numpy as np

from shared.quality import metrics_of
from shared.scorers.networks import FeatureNetwork, MeasuringNetworks

FEW_FOR_KID = 1_000  # pictures of the subsets that other programs average it over


class FeatureScorer:
    """FID and KID of all pairs that were added; only their features are kept."""

    def __init__(self, network: FeatureNetwork):
        self.network = network
        self.features: list[np.ndarray] = []  # of the synthesised pictures, (C,) each
        self.real: list[np.ndarray] = []  # of the photos

    def add(self, picture: np.ndarray, photo: np.ndarray) -> None:
        """Keep the features of a pair, both (1 or 3, H, W) uint8."""
        self.features.append(self.network(picture))
        self.real.append(self.network(photo))

    def figures(self) -> dict[str, float]:
        """The figures by name of the metric; {} of fewer than two pairs, nan where a feature is."""
        if len(self.features) < 2:
            return {}
        features, real = np.stack(self.features), np.stack(self.real)
        metrics = metrics_of("features")
        if not (np.isfinite(features).all() and np.isfinite(real).all()):
            return {metric.name: math.nan for metric in metrics}
        return {metric.name: metric.function(features, real) for metric in metrics}

    def caveats(self) -> list[str]:
        """What to bear in mind with both, in sentences."""
        pairs = len(self.features)
        found = self.network.caveats(pairs)
        if 2 <= pairs < FEW_FOR_KID:
            found.append(f"KID of {pairs} pictures has no bias but scatters, below 0 too.")
        return found


class PictureMeter:
    """Measures synthesised pictures against their photos, pair after pair."""

    def __init__(self, networks: MeasuringNetworks):
        self.lpips = networks.lpips
        self.features = FeatureScorer(networks.features) if networks.features else None
        self.pairs: list[dict[str, float]] = []  # what can be said of each pair alone

    def add(self, picture: np.ndarray, photo: np.ndarray) -> dict[str, float]:
        """Measure a pair, both (1 or 3, H, W) uint8.

        Returns the figures of this pair alone, by name of the metric.
        """
        pair = {metric.name: metric.function(picture, photo) for metric in metrics_of("")}
        if self.lpips:
            pair["lpips"] = self.lpips(picture, photo)
        if self.features:
            self.features.add(picture, photo)
        self.pairs.append(pair)
        return pair

    def figures(self) -> dict[str, float]:
        """The figures of all pairs so far, by name of the metric; {} of none."""
        if not self.pairs:
            return {}
        names = self.pairs[0]
        means = {name: float(np.mean([pair[name] for pair in self.pairs])) for name in names}
        return means | (self.features.figures() if self.features else {})

    def caveats(self) -> list[str]:
        """What to bear in mind with the figures, in sentences."""
        return self.features.caveats() if self.features and self.pairs else []
