"""Tables and feature maps of pix2pixHD's own code, in and out."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from components.cluster.centres import cluster_label, describe, make_table, nearest_centre
from components.cluster.checks import read_inputs, refuse_inside, refuse_labelless, refuse_occupied
from components.cluster.config import ClusterConfig
from components.cluster.exchange.reference_files import AREA_UNIT, Table, read_table, refuse
from components.cluster.features import InstanceFeatures, rows_of_images, write_clusters
from shared.condition import to_signed, to_uint8
from shared.contracts.clusters import ClusterTable, LabelClusters
from shared.contracts.dataset import DatasetManifest, parse_size
from shared.contracts.model import LATEST, ModelCard
from shared.data.images import encode_array, encode_picture, read_picture, resize_ids
from shared.data.maps import densify
from shared.data.names import CITYSCAPES_ENDINGS
from shared.data.written import DatasetFiles
from shared.errors import InputError
from shared.files.names import inside
from shared.files.writing import sync_all, write_atomically

MAPS = "train_feat"  # the folder's name in pix2pixHD's data sets
# pix2pixHD names a feature map as the label map, Cityscapes' suffix included
DEFAULTS = ClusterConfig()


def read_reference_files(
    model: Path,
    dataset: Path,
    clusters: Path,
    features: Path | None,
    centres: Path | None,
    weights: str = LATEST,
) -> ClusterTable:
    """Make tables of encode_features.py a clusters folder without features.npz: styles to deploy,
    nothing for stage two.

    With `features` alone its rows are clustered as the reference does; with `centres` too they are
    the members of the given centres; with `centres` alone nothing is known but the centres, which
    then count one instance each.
    """
    # What is asked for, checked before any work.
    if features is None and centres is None:
        raise InputError(
            "read needs --features features.npy, --centres features_clustered_010.npy, or both."
        )
    manifest, card = _checked(dataset, model, clusters, weights)
    refuse_labelless(manifest, "--features" if features else "--centres")

    # Rows of instances and centres by label; the overall style is the mean of either.
    rows = _read(features, card, extra_columns=1) if features else {}
    given = _read(centres, card, extra_columns=0) if centres else {}
    feat_num = card.architecture.feat_num
    everything = np.concatenate([of_label[:, :feat_num] for of_label in (rows or given).values()])
    found = sorted(rows.keys() | given.keys())
    labels = {label: _clusters_of(rows.get(label), given.get(label)) for label in found}

    # The folder.
    table = ClusterTable(
        feat_num=feat_num,
        n_clusters=max(map(len, given.values())) if given else DEFAULTS.n_clusters,
        min_area=DEFAULTS.min_area,
        seed=DEFAULTS.seed,
        labels=labels,
        overall=everything.mean(axis=0).tolist(),
        model_digest=card.digest,
        dataset_digest=manifest.digest,
    )
    write_clusters(clusters, table, {})
    styles = sum(len(of_label.centres) for of_label in labels.values())
    print(f"exchange: wrote {styles} styles of {len(labels)} labels to {clusters}")
    return table


def _clusters_of(rows: np.ndarray | None, centres: np.ndarray | None) -> LabelClusters:
    """The record of one label of rows (n, F + 1) of its instances and their areas and of centres
    (k, F), either of which may be unknown."""
    # Centres alone: each counts one instance.
    if rows is None:
        k = len(centres)
        known = dict(centres=centres.tolist(), counts=[1] * k, spread=[0.0] * k)
        return LabelClusters(**known, explained=None, fallback=False)

    # Rows alone are clustered; with centres each row belongs to the nearest.
    points, areas = rows[:, :-1], rows[:, -1] / AREA_UNIT
    large = points[areas > DEFAULTS.min_area]
    if centres is None or len(large) == 0:
        return cluster_label(points, areas, DEFAULTS.n_clusters, DEFAULTS.min_area, DEFAULTS.seed)
    return describe(large, centres, nearest_centre(large, centres), fallback=False)


def _read(path: Path, card: ModelCard, extra_columns: int) -> Table:
    """The labels of a file that have rows. Raises InputError where it is of another model."""
    num_columns = card.architecture.feat_num + extra_columns
    last_label = card.architecture.num_labels - 1
    table = {label: rows for label, rows in read_table(path).items() if len(rows)}
    if not table:
        refuse(path, "has no rows")
    for label, rows in table.items():
        if rows.shape[1] != num_columns:
            refuse(path, f"has {rows.shape[1]} columns where {num_columns} fit the model")
        if not 0 <= label <= last_label:
            refuse(path, f"has label {label} but the model has labels 0..{last_label}")
    return table


def write_maps(
    clusters: Path, dataset: Path, out: Path | None, size: str | None, form: Literal["npy", "png"]
) -> Path:
    """Paint the features of every training image; returns the folder of the maps.

    Args:
        out: Folder that gets train_feat/; None: maps/ in `clusters`.
        size: HEIGHTxWIDTH of the maps; None: of the data set.
        form: npy: (feat_num, H, W) float16. png: 8 bits a channel, (x + 1) / 2 * 255 as the
            references have it, but rounded.
    """
    # What is asked for, checked before any work.
    table, manifest = ClusterTable.read(clusters), DatasetManifest.read(dataset)
    out = out or clusters / "maps"
    refuse_inside(dataset, out, "--out")
    refuse_inside(dataset, out / MAPS, "--out")
    if table.dataset_digest != manifest.digest:
        raise InputError(
            f"--clusters {clusters} was made from another data set: give the one it was made from."
        )
    if form == "png" and table.feat_num not in (1, 3):
        raise InputError(
            f"--form png holds 1 or 3 channels but --clusters {clusters} has {table.feat_num} "
            "features: use npy."
        )
    height_width = parse_size(size) if size else None

    # The features as they are stored.
    features = InstanceFeatures.read(clusters, table, manifest)
    rows = features.features.astype(np.float16)
    if form == "png":
        rows = to_uint8(torch.from_numpy(features.features)).numpy()

    # Every region gets the row of its id.
    kind = "instance" if features.regions == "instances" else "input"
    files = DatasetFiles(dataset, manifest, "train")
    for image, pair in enumerate(manifest.train):
        ids = files.ids(kind, pair)
        present, positions = densify(resize_ids(ids, *(height_width or ids.shape)))
        start, end = features.start[image : image + 2]
        known = features.ids[start:end]
        if not np.isin(present, known).all():
            raise InputError(
                f"--clusters {clusters} has no features of some regions of {pair.name}: make it "
                "again with `python -m components.cluster`."
            )
        of_image = rows[start + np.searchsorted(known, present)]  # (K, F)
        painted = of_image.T[:, positions]  # (F, H, W)
        content = encode_picture(painted, ".png") if form == "png" else encode_array(painted)
        write_atomically(inside(out, MAPS, f"{pair.name}.{form}"), content, synced=False)
    sync_all(out / MAPS)
    print(f"exchange: wrote {len(manifest.train)} maps to {out / MAPS}")
    return out / MAPS


def read_maps(
    maps: Path, model: Path, dataset: Path, clusters: Path, weights: str = LATEST
) -> ClusterTable:
    """Make 8-bit feature maps of the training images a clusters folder; a region has the mean of
    its pixels."""
    # What is asked for, checked before any work.
    manifest, card = _checked(dataset, model, clusters, weights)
    channels, over = card.architecture.feat_num, card.architecture.feature_regions
    if channels not in (1, 3):
        raise InputError(
            f"--model {model} has {channels} features but PNG maps hold 1 or 3: run the cluster "
            "step."
        )

    # A map for every image.
    files = {}
    for pair in manifest.train:
        found = [maps / f"{pair.name}{suffix}.png" for suffix in ("", CITYSCAPES_ENDINGS["input"])]
        files[pair.name] = next((path for path in found if path.is_file()), None)
        if files[pair.name] is None:
            raise InputError(
                f"--maps {maps} has no {found[0].name}: give a map for every training image."
            )

    # Pooled over its regions as the encoder's output is.
    images, of_pairs = [], DatasetFiles(dataset, manifest, "train")
    for pair in manifest.train:
        labels = None
        if manifest.num_labels:
            labels = of_pairs.ids("input", pair)  # (H, W)
        ids = labels
        if over == "instances":
            ids = of_pairs.ids("instance", pair)  # (H, W)
        picture = read_picture(files[pair.name], channels)  # (F, H, W)
        encoded = to_signed(torch.from_numpy(picture[None].copy()))
        images += rows_of_images(encoded, [densify(ids)], [labels])
    features = InstanceFeatures.join(images, [pair.name for pair in manifest.train], over)

    # Clustered as the step does.
    options = DEFAULTS.n_clusters, DEFAULTS.min_area, DEFAULTS.seed
    table = make_table(features, *options, model_digest=card.digest, dataset_digest=manifest.digest)
    table = write_clusters(clusters, table, {ClusterTable.FEATURES: features.encoded()})
    print(f"exchange: wrote {len(features.ids)} instances of {len(images)} images to {clusters}")
    return table


def _checked(
    dataset: Path, model: Path, clusters: Path, weights: str
) -> tuple[DatasetManifest, ModelCard]:
    """The data set and the model. Raises InputError unless `clusters` is a new folder outside of
    the data set."""
    manifest, card = read_inputs(dataset, model, weights)
    refuse_inside(dataset, clusters, "--clusters")
    refuse_occupied(clusters)
    return manifest, card
