"""Instance features and their centres against slow loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.cluster import KMeans

from components.cluster.config import ClusterConfig
from components.cluster.features import majority_labels
from components.cluster.run import cluster_label, run
from components.train.config import TrainConfig
from components.train.run import run as train
from shared.checkpoint import load_encoder
from shared.condition import to_signed
from shared.contracts import IGNORED, ClusterTable, DatasetManifest, ModelCard
from shared.errors import InputError
from shared.images import read_ids, read_picture, resize_photo
from tests import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("cluster")
    tiny.dataset(root / "dataset", height=64, width=128)
    options = tiny.TRAIN | dict(epochs=1, epochs_decay=0, instance_features=True, device="cpu", size="32x64")
    train(root / "dataset", root / "model", config=TrainConfig.check(options))
    run(
        root / "dataset",
        root / "model",
        root / "clusters",
        config=ClusterConfig(n_clusters=2, min_area=0.02, device="cpu"),
    )
    return root


def slow_features(folders):
    """(id, label, area, feature) per instance, one instance at a time, with the trained encoder."""
    manifest, card = DatasetManifest.read(folders / "dataset"), ModelCard.read(folders / "model")
    encoder = load_encoder(folders / "model", card.architecture)
    rows = []
    for pair in manifest.train:
        photo = read_picture(manifest.path(folders / "dataset", "train", "photo", pair.name))
        half = Image.fromarray(photo).resize(
            (64, 32), Image.Resampling.BICUBIC
        )  # the model's size is half the data set's
        signed = to_signed(torch.from_numpy(np.array(half))).permute(2, 0, 1)[None]
        encoded = F.interpolate(encoder(signed), scale_factor=2, mode="nearest")[0]
        instances = read_ids(manifest.path(folders / "dataset", "train", "instance", pair.name)).astype(int)
        for i in np.unique(instances):
            inside = torch.from_numpy(instances == i)
            label = i if i < 1000 else i // 1000  # the reference's rule
            rows.append((i, label, inside.float().mean().item(), encoded[:, inside].mean(dim=1).numpy()))
    return rows


def test_every_instance_has_the_mean_feature_of_its_pixels(folders):
    stored = np.load(folders / "clusters" / "features.npz")
    rows = slow_features(folders)
    assert stored["ids"].tolist() == [row[0] for row in rows] and max(stored["ids"]) > 32767
    assert stored["labels"].tolist() == [row[1] for row in rows]
    assert np.allclose(stored["areas"], [row[2] for row in rows], atol=1e-6)
    assert np.allclose(stored["features"], np.stack([row[3] for row in rows]), atol=1e-5)
    assert stored["start"][-1] == len(rows) and len(stored["names"]) == len(stored["start"]) - 1


def test_centres_are_those_of_kmeans_over_the_large_instances(folders):
    table, stored = ClusterTable.read(folders / "clusters"), np.load(folders / "clusters" / "features.npz")
    assert set(table.labels) == set(stored["labels"])  # every label seen has a centre
    for label, clusters in table.labels.items():
        large = (stored["labels"] == label) & (stored["areas"] > 0.02)
        if not large.any():
            assert clusters.fallback
            assert np.allclose(
                clusters.centres, [stored["features"][stored["labels"] == label].mean(axis=0)], atol=1e-6
            )
            continue
        points = stored["features"][large]
        k = min(2, len(np.unique(points, axis=0)))
        expected = KMeans(k, n_init=10, random_state=0).fit(points).cluster_centers_
        assert not clusters.fallback and sum(clusters.counts) == large.sum()
        assert clusters.counts == sorted(clusters.counts, reverse=True)
        assert np.allclose(sorted(clusters.centres), sorted(expected.tolist()), atol=1e-6)
    assert np.allclose(table.overall, stored["features"].mean(axis=0), atol=1e-6)


def test_default_style_is_the_commonest_centre_and_the_mean_for_unseen_labels(folders):
    table = ClusterTable.read(folders / "clusters")
    style = table.default_style(40)
    assert style.shape == (41, 3)
    for label, clusters in table.labels.items():
        assert np.allclose(style[label], clusters.centres[0])
    assert np.allclose(style[39], table.overall)
    assert np.allclose(style[40], table.overall)  # of pixels without a label


def test_same_seed_same_table(folders, tmp_path):
    run(
        folders / "dataset",
        folders / "model",
        tmp_path,
        config=ClusterConfig(n_clusters=2, min_area=0.02, device="cpu"),
    )
    assert ClusterTable.read(tmp_path) == ClusterTable.read(folders / "clusters")


def train_and_cluster(root, **options):
    """The stored features and the table of a data set in root/dataset."""
    options = tiny.TRAIN | dict(epochs=1, epochs_decay=0, instance_features=True, device="cpu") | options
    train(root / "dataset", root / "model", config=TrainConfig.check(options))
    run(root / "dataset", root / "model", root / "clusters", config=ClusterConfig(n_clusters=2, device="cpu"))
    return dict(np.load(root / "clusters" / "features.npz")), ClusterTable.read(root / "clusters")


def test_the_cache_gives_the_same_features_without_a_warning(tmp_path):
    """Its arrays are read-only, of which torch warns when it is handed one."""
    stored = {}
    for cache in (False, True):
        tiny.dataset(tmp_path / str(cache) / "dataset", cache=cache)
        with tiny.warnings_are_errors():
            stored[cache], _ = train_and_cluster(tmp_path / str(cache))
    for name, array in stored[False].items():
        assert np.array_equal(array, stored[True][name]), name


@pytest.mark.parametrize("size", ["", "24x40"])
def test_frames_of_differing_sizes_are_encoded_each_at_its_own_or_at_the_models(tmp_path, size):
    rng = np.random.default_rng(0)
    contents = {"a": tiny.sample(rng, 24, 40), "b": tiny.sample(rng, 40, 56), "c": tiny.sample(rng, 24, 40)}
    contents["b"] = {kind: array[:33, :50] for kind, array in contents["b"].items()}
    tiny.write(tmp_path / "dataset", {"train": contents})
    stored, _ = train_and_cluster(tmp_path, size=size)
    encoder = load_encoder(tmp_path / "model", ModelCard.read(tmp_path / "model").architecture)
    for i, content in enumerate(contents.values()):
        photo = content["photo"] if not size else resize_photo(content["photo"], 24, 40)
        encoded = encoder(to_signed(torch.from_numpy(photo.copy())).permute(2, 0, 1)[None])
        encoded = F.interpolate(encoded, size=content["instance"].shape, mode="nearest")[0]
        for row in range(stored["start"][i], stored["start"][i + 1]):
            inside = content["instance"] == stored["ids"][row]
            assert stored["areas"][row] == pytest.approx(inside.mean())
            mean = encoded[:, torch.from_numpy(inside)].mean(dim=1)
            assert np.allclose(stored["features"][row], mean, atol=0.02 if size else 1e-5)  # one grey level of a photo


def test_pictures_as_input_are_one_group(tmp_path):
    """There is no label to tell styles apart: one row of style, for all pixels."""
    tiny.dataset(tmp_path / "dataset", input_nc=3)
    stored, table = train_and_cluster(tmp_path)
    assert (stored["labels"] == 0).all() and set(table.labels) == {0} and len(stored["ids"]) > 10
    large = stored["features"][stored["areas"] > 1 / 64]
    assert sum(table.labels[0].counts) == len(large) or table.labels[0].fallback
    style = table.default_style(0)
    assert style.shape == (1, 3) and np.allclose(style[0], table.labels[0].centres[0])


def test_instances_without_a_label_give_the_last_row_of_style(tmp_path):
    rng = np.random.default_rng(0)
    content = tiny.sample(rng, 32, 64)
    content["input"], content["instance"] = content["input"].copy(), content["instance"].copy()
    content["input"][4:20, 8:40], content["instance"][4:20, 8:40] = IGNORED, 65000
    tiny.write(tmp_path / "dataset", {"train": {"a": content}})
    stored, table = train_and_cluster(tmp_path)
    (row,) = np.flatnonzero(stored["ids"] == 65000)
    assert stored["labels"][row] == IGNORED and IGNORED in table.labels
    assert np.allclose(table.default_style(35)[35], stored["features"][row])


def test_equal_points_need_only_one_centre():
    class Features:
        labels, areas = np.full(5, 7), np.full(5, 0.5)
        features = np.full((5, 3), 0.25, np.float32)

    found = cluster_label(Features, 7, ClusterConfig())
    assert found.centres == [[0.25, 0.25, 0.25]] and found.counts == [5]


def test_majority_label():
    dense, labels = np.array([[0, 0, 0], [1, 1, 0]]), np.array([[5, 5, 255], [9, 9, 5]], np.uint8)
    assert majority_labels(dense, labels, 2).tolist() == [5, 9]


def test_refusals(folders, tmp_path):
    plain = tmp_path / "plain"
    options = TrainConfig.check(tiny.TRAIN | dict(epochs=1, epochs_decay=0, device="cpu"))
    train(folders / "dataset", plain, config=options)
    with pytest.raises(InputError, match="has no encoder: train it with --instance-features"):
        run(folders / "dataset", plain, tmp_path / "clusters", config=ClusterConfig())
    (folders / "model" / "latest_net_E.pth").rename(tmp_path / "hidden.pth")
    with pytest.raises(InputError, match="has no latest_net_E.pth"):
        run(folders / "dataset", folders / "model", tmp_path / "clusters", config=ClusterConfig())
    (tmp_path / "hidden.pth").rename(folders / "model" / "latest_net_E.pth")
    assert not (tmp_path / "clusters").exists()
