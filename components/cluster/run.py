"""Encode every training instance and cluster the features of each label: the styles that a label
can take."""

from pathlib import Path

import numpy as np
from tabulate import tabulate

from components.cluster.centres import explained_by_label, make_table
from components.cluster.checks import read_inputs, refuse_inside, refuse_labelless
from components.cluster.config import ClusterConfig
from components.cluster.exchange.reference_files import reference_files
from components.cluster.features import InstanceFeatures, encode_instances, write_clusters
from shared import tracking
from shared.contracts.clusters import ClusterTable
from shared.contracts.labels import Label
from shared.data.checking import check_dataset
from shared.data.labels import name_of
from shared.device import pick
from shared.networks.checkpoint import load_encoder


def run(dataset: Path, model: Path, clusters: Path, *, config: ClusterConfig) -> dict[str, float]:
    """Cluster the instance features of the training set, per label."""
    # What is asked for, checked before any work.
    runtime = pick(config.device, config.precision)
    manifest, card = read_inputs(dataset, model, config.weights)
    refuse_inside(dataset, clusters, "--clusters")
    if config.reference_files:
        refuse_labelless(manifest, "--reference-files")
    if config.check_dataset:
        check_dataset(dataset, manifest)
    encoder = load_encoder(model, card)
    tracking.log_dataset(manifest.name, dataset, manifest.digest, "clustering")

    # Features of all instances, and centres per label; stage two reads the features again.
    features = encode_instances(encoder, card, dataset, manifest, runtime, config.batch_size)
    options = config.n_clusters, config.min_area, config.seed
    table = make_table(features, *options, model_digest=card.digest, dataset_digest=manifest.digest)
    contents = {ClusterTable.FEATURES: features.encoded()}
    if config.reference_files:
        contents |= reference_files(features, table, manifest)
    write_clusters(clusters, table, contents)
    tracking.log_files(clusters, "clusters")

    # What came out.
    print_table(table, features, manifest.labels)
    figures = {
        "instances": len(features.ids),
        "labels": len(table.labels),
        "styles": sum(len(found.centres) for found in table.labels.values()),
        "fallback_labels": sum(found.fallback for found in table.labels.values()),
        **explained_by_label(table, manifest.labels),
    }
    tracking.log_figures(figures)
    return figures


def print_table(table: ClusterTable, features: InstanceFeatures, labels: list[Label]) -> None:
    """Print what each label got. `clustered` are the instances above --min-area; spread is in the
    features' [-1, 1]."""
    rows = [("label", "name", "instances", "clustered", "styles", "spread", "explained", "")]
    for label, found in table.labels.items():
        instances = int((features.labels == label).sum())
        clustered = 0 if found.fallback else sum(found.counts)
        spread = np.sqrt(np.average(np.square(found.spread), weights=found.counts))
        explained = "-" if found.explained is None else f"{found.explained:.1%}"
        note = "none above --min-area: mean of all" if found.fallback else ""
        styles = len(found.centres)
        name = name_of(labels, label) if labels else ""
        rows.append((label, name, instances, clustered, styles, f"{spread:.3f}", explained, note))
    if not labels:
        rows = [(label, *others) for label, _, *others in rows]
    align = ["right"] + ["left"] * bool(labels) + ["right"] * 5 + ["left"]
    print(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=align), flush=True)
