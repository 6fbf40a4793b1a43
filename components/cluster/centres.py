"""Centres of the features of each label, and what they are worth."""

import re

import numpy as np
from sklearn.cluster import KMeans

from components.cluster.features import InstanceFeatures
from shared.contracts.clusters import ClusterTable, LabelClusters
from shared.contracts.labels import Label
from shared.data.labels import name_of

N_INIT = 10  # starts of k-means: scikit-learn's default when the reference was written
NOT_IN_NAMES = r"[^\w.\- ]"  # of MLflow's figures; a slash would make a group


def make_table(
    features: InstanceFeatures,
    n_clusters: int,
    min_area: float,
    seed: int,
    model_digest: str,
    dataset_digest: str,
) -> ClusterTable:
    """Cluster the features of every label that has instances; the parameters as in
    `cluster_label`."""
    labels = {}
    for label in np.unique(features.labels).tolist():
        of_label = features.labels == label
        points, areas = features.features[of_label], features.areas[of_label]
        labels[label] = cluster_label(points, areas, n_clusters, min_area, seed)
    return ClusterTable(
        feat_num=features.features.shape[1],
        n_clusters=n_clusters,
        min_area=min_area,
        seed=seed,
        labels=labels,
        overall=features.features.mean(axis=0, dtype=np.float64).tolist(),
        model_digest=model_digest,
        dataset_digest=dataset_digest,
    )


def cluster_label(
    points: np.ndarray, areas: np.ndarray, n_clusters: int, min_area: float, seed: int
) -> LabelClusters:
    """Find the centres of one label by k-means over its large instances, as pix2pixHD's
    encode_features; the mean of all where none is large.

    Args:
        points: (n, feat_num) features of its instances.
        areas: (n,) their shares of the image, in [0, 1].
        n_clusters: Number of centres; fewer where fewer large instances differ.
        min_area: Share of the image that a large instance exceeds.
        seed: Seed of k-means.
    """
    points = points.astype(np.float64)
    large = points[areas > min_area]
    if len(large) == 0:
        mean = points.mean(axis=0, keepdims=True)  # (1, feat_num)
        return describe(points, mean, np.zeros(len(points), int), fallback=True)

    k = min(n_clusters, len(np.unique(large, axis=0)))
    found = KMeans(k, n_init=N_INIT, random_state=seed).fit(large)
    return describe(large, found.cluster_centers_, found.labels_, fallback=False)


def nearest_centre(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n, F) and (k, F) -> (n,) index of the centre that each point belongs to."""
    return ((points[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)


def describe(
    points: np.ndarray, centres: np.ndarray, members: np.ndarray, fallback: bool
) -> LabelClusters:
    """The record of one label, commonest centre first.

    Args:
        points: (n, F) features.
        centres: (k, F) in any order.
        members: (n,) index of each point's centre.
        fallback: Whether there were no large instances.
    """
    # Per centre its points and their root mean square distance; of all points the share of their
    # variance that the centres explain.
    counts = np.bincount(members, minlength=len(centres))
    squared = ((points - centres[members]) ** 2).sum(axis=1)
    spread = np.sqrt(np.bincount(members, squared, len(centres)) / np.maximum(counts, 1))
    total = ((points - points.mean(axis=0)) ** 2).sum()
    all_equal = (points == points[0]).all()
    order = np.argsort(-counts, kind="stable")
    return LabelClusters(
        centres=centres[order].tolist(),
        counts=counts[order].tolist(),
        spread=spread[order].tolist(),
        explained=None if all_equal else max(0.0, float(1 - squared.sum() / total)),
        fallback=fallback,
    )


def explained_by_label(table: ClusterTable, labels: list[Label]) -> dict[str, float]:
    """Figures `explained/label_<id>`, with the name behind it where there is one, and
    `explained/overall`, their mean weighted with the instances of each label."""
    known = {label: of for label, of in table.labels.items() if of.explained is not None}
    if not known:
        return {}
    names = {label: re.sub(NOT_IN_NAMES, "_", name_of(labels, label)) for label in known}
    shares = {
        f"explained/label_{label}{'' if names[label] == str(label) else '_' + names[label]}": (
            of.explained
        )
        for label, of in known.items()
    }
    weights = [sum(of.counts) for of in known.values()]
    return {"explained/overall": float(np.average([*shares.values()], weights=weights))} | shares
