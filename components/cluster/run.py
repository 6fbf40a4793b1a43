"""Encode every training instance and cluster the features of each label: the styles that a label can take."""

from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from components.cluster.config import ClusterConfig
from components.cluster.features import InstanceFeatures, encode_instances
from shared import tracking
from shared.checkpoint import load_encoder, read_model
from shared.contracts import ClusterTable, DatasetManifest, LabelClusters
from shared.device import pick
from shared.errors import InputError


def run(dataset: Path, model: Path, clusters: Path, *, config: ClusterConfig) -> dict[str, float]:
    """Cluster the instance features of the training set, per label.

    Args:
        dataset: Folder of the prepare step.
        model: Folder of a train step with --instance-features.
        clusters: Folder to write.
    """
    # What is asked for, checked before any work.
    runtime = pick(config.device, config.precision)
    manifest = DatasetManifest.read(dataset)
    card = read_model(model, num_labels=manifest.num_labels, use_instances=manifest.has_instances)
    if card.architecture.feat_num == 0:
        raise InputError(f"--model {model} has no encoder: train it with --instance-features.")
    if not manifest.has_instances and card.architecture.feature_regions == "instances":
        raise InputError(f"--dataset {dataset} has no instance maps: prepare it with --use-instances.")
    encoder = load_encoder(model, card.architecture)
    tracking.log_dataset(dataset, manifest.digest, "clustering")

    # Features of all instances; stage two reads them again.
    features = encode_instances(encoder, card, dataset, manifest, runtime)
    features.write(clusters / ClusterTable.FEATURES)

    # Centres per label.
    labels = {int(label): cluster_label(features, label, config) for label in np.unique(features.labels)}
    table = ClusterTable(
        feat_num=card.architecture.feat_num,
        n_clusters=config.n_clusters,
        min_area=config.min_area,
        seed=config.seed,
        labels=labels,
        overall=features.features.mean(axis=0).tolist(),
        model_digest=card.digest,
        dataset_digest=manifest.digest,
    )
    table.write(clusters)
    tracking.log_files(clusters, "clusters")

    for label, found in labels.items():
        note = "  (no instance above --min-area: mean of all)" if found.fallback else ""
        print(f"label {label:3d}: {sum(found.counts):5d} instances, {len(found.centres):2d} styles{note}", flush=True)
    figures = {
        "instances": len(features.ids),
        "labels": len(labels),
        "styles": sum(len(found.centres) for found in labels.values()),
        "fallback_labels": sum(found.fallback for found in labels.values()),
    }
    tracking.log_figures(figures)
    return figures


def cluster_label(features: InstanceFeatures, label: int, config: ClusterConfig) -> LabelClusters:
    """k-means over the label's large instances, as pix2pixHD's encode_features; all of them where none is large."""
    of_label = features.labels == label
    points = features.features[of_label & (features.areas > config.min_area)]
    if len(points) == 0:
        points = features.features[of_label]
        return LabelClusters(centres=[points.mean(axis=0).tolist()], counts=[len(points)], fallback=True)
    k = min(config.n_clusters, len(np.unique(points, axis=0)))
    found = KMeans(k, n_init=10, random_state=config.seed).fit(points)
    counts = np.bincount(found.labels_, minlength=k)
    order = np.argsort(-counts, kind="stable")
    return LabelClusters(centres=found.cluster_centers_[order].tolist(), counts=counts[order].tolist(), fallback=False)
