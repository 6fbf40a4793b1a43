"""Instance features and their centres against slow loops."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from components.cluster.centres import cluster_label, explained_by_label
from components.cluster.config import ClusterConfig
from components.cluster.features import batches_of_one_size, labels_and_areas
from components.cluster.run import print_table, run
from components.prepare.config import PrepareConfig
from components.prepare.run import run as prepare
from components.train.run import run as train
from shared.condition import to_signed
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.labels import IGNORED, Label
from shared.contracts.model import ModelCard
from shared.data.images import read_ids, read_picture, resize_picture
from shared.data.reader import resize_fast
from shared.errors import InputError
from shared.networks.checkpoint import load_encoder
from tests import tiny
from tests.asking import refusal
from tests.places import EXCERPT
from tests.training import config

CONFIG = ClusterConfig(n_clusters=2, min_area=0.02, device="cpu")


def changed(config: ClusterConfig, **values) -> ClusterConfig:
    return ClusterConfig.check(config.model_dump() | values)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Images of two sizes, mixed; bicycles 33000 and up, and groups of cars whose id is the bare
    label 26."""
    root, rng = tmp_path_factory.mktemp("cluster"), np.random.default_rng(0)
    contents = {}
    for name, height in (("a", 64), ("b", 48), ("c", 64), ("d", 64), ("e", 48), ("f", 64)):
        content = tiny.sample(rng, height, 128)
        for at, label, ident in ((np.s_[:16, :32], 33, 33001), (np.s_[16:40, 8:40], 26, 26)):
            content["input"][at], content["instance"][at] = label, ident
        contents[name] = content
    tiny.write(root / "dataset", {"train": contents})
    options = config(epochs_decay=0, instance_features=True, size="32x64")
    train(root / "dataset", root / "model", config=options)
    run(root / "dataset", root / "model", root / "clusters", config=CONFIG)
    return root


def slow_features(root):
    """(id, label, area, feature) per instance, one instance at a time, with the trained encoder."""
    manifest, card = DatasetManifest.read(root / "dataset"), ModelCard.read(root / "model")
    encoder = load_encoder(root / "model", card)
    rows = []
    for pair in manifest.train:
        photo = read_picture(manifest.path(root / "dataset", "train", "photo", pair.name))
        photo = resize_fast(photo, *card.frame_size) if card.frame_size else photo
        file = manifest.path(root / "dataset", "train", "instance", pair.name)
        instances = read_ids(file).astype(int)
        encoded = encoder(to_signed(torch.from_numpy(photo.copy()))[None])
        encoded = F.interpolate(encoded, size=instances.shape, mode="nearest")[0]
        for i in np.unique(instances):
            inside = torch.from_numpy(instances == i)
            label = i if i < 1000 else i // 1000  # the reference's rule
            area, feature = inside.double().mean().item(), encoded[:, inside].mean(dim=1).numpy()
            rows.append((i, label, area, feature))
    return rows


def assert_equal_features(stored, rows):
    assert stored["ids"].tolist() == [row[0] for row in rows]
    assert stored["labels"].tolist() == [row[1] for row in rows]
    assert np.allclose(stored["areas"], [row[2] for row in rows], rtol=0, atol=1e-12)
    assert np.allclose(stored["features"], np.stack([row[3] for row in rows]), rtol=0, atol=1e-5)
    assert stored["start"][-1] == len(rows) and len(stored["names"]) == len(stored["start"]) - 1


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_instance_has_the_mean_feature_of_its_pixels(folders, tmp_path, batch_size):
    options = changed(CONFIG, batch_size=batch_size)
    run(folders / "dataset", folders / "model", tmp_path / "clusters", config=options)
    stored = np.load(tmp_path / "clusters" / "features.npz")
    assert_equal_features(stored, slow_features(folders))
    assert {26, 33001} <= set(stored["ids"].tolist()) and stored["names"].tolist() == list("abcdef")
    assert str(stored["regions"]) == "instances"


def test_centres_are_those_of_kmeans_over_the_large_instances(folders):
    table = ClusterTable.read(folders / "clusters")
    by_label = {}
    for _, label, area, feature in slow_features(folders):
        by_label.setdefault(label, []).append((area, feature))
    assert set(table.labels) == set(by_label)  # every label seen has a centre
    kinds = set()
    for label, members in by_label.items():
        clusters = table.labels[label]
        large = np.array([feature for area, feature in members if area > 0.02], np.float64)
        if len(large) == 0:
            everything = np.array([feature for _, feature in members], np.float64)
            assert clusters.fallback and clusters.counts == [len(members)]
            assert np.allclose(clusters.centres, [everything.mean(axis=0)], atol=1e-6)
            distances = np.linalg.norm(everything - everything.mean(axis=0), axis=1)
            assert clusters.spread == pytest.approx([np.sqrt(np.mean(distances**2))], abs=1e-6)
            nothing = None if len(members) == 1 else pytest.approx(0, abs=1e-6)
            assert clusters.explained == nothing
            kinds.add("fallback")
            continue
        expected = KMeans(min(2, len(large)), n_init=10, random_state=0).fit(large)
        order = np.lexsort(np.transpose(clusters.centres)[::-1])
        wanted = np.lexsort(expected.cluster_centers_.T[::-1])
        assert not clusters.fallback and clusters.counts == sorted(clusters.counts, reverse=True)
        for mine, theirs in zip(order, wanted, strict=True):
            inside = large[expected.labels_ == theirs]
            assert np.allclose(clusters.centres[mine], expected.cluster_centers_[theirs], atol=1e-5)
            assert clusters.counts[mine] == len(inside)
            distances = np.linalg.norm(inside - inside.mean(axis=0), axis=1)
            assert clusters.spread[mine] == pytest.approx(np.sqrt(np.mean(distances**2)), abs=1e-5)
        if len(large) > 1:
            total = ((large - large.mean(axis=0)) ** 2).sum()
            assert clusters.explained == pytest.approx(1 - expected.inertia_ / total, abs=1e-4)
            kinds.add("clustered")
    assert kinds == {"fallback", "clustered"}
    rows = np.array([feature for _, _, _, feature in slow_features(folders)])
    assert np.allclose(table.overall, rows.mean(axis=0), atol=1e-6)


def test_default_style_is_the_commonest_centre_and_the_mean_for_unseen_labels(folders):
    table = ClusterTable.read(folders / "clusters")
    style = table.default_style(40)
    assert style.shape == (41, 3)
    for label, clusters in table.labels.items():
        assert np.allclose(style[label], clusters.centres[0])
    assert np.allclose(style[39], table.overall)
    assert np.allclose(style[40], table.overall)  # of pixels without a label


def test_same_seed_same_table(folders, tmp_path):
    run(folders / "dataset", folders / "model", tmp_path, config=CONFIG)
    assert ClusterTable.read(tmp_path) == ClusterTable.read(folders / "clusters")


def test_figures_and_the_printed_table(folders, tmp_path, capsys):
    figures = run(folders / "dataset", folders / "model", tmp_path, config=CONFIG)
    table = ClusterTable.read(tmp_path)
    out = capsys.readouterr().out
    assert "cluster: encoded 6 of 6 images" in out
    lines = out[out.index("label  instances") :].splitlines()
    assert len(lines) == 1 + len(table.labels)
    ids = [row[1] for row in slow_features(folders)]
    (of_33,) = (line.split() for line in lines if line.split()[0] == "33")
    _, instances, clustered, styles, *_ = of_33
    assert (int(instances), int(styles)) == (ids.count(33), len(table.labels[33].centres))
    assert int(clustered) == sum(table.labels[33].counts)
    assert any(line.endswith("none above --min-area: mean of all") for line in lines)
    known = {label: c for label, c in table.labels.items() if c.explained is not None}
    for label, clusters in known.items():
        assert figures[f"explained/label_{label}"] == clusters.explained
    weights = [sum(clusters.counts) for clusters in known.values()]
    weighted = sum(c.explained * n for c, n in zip(known.values(), weights, strict=True))
    assert figures["explained/overall"] == pytest.approx(weighted / sum(weights))
    assert figures["fallback_labels"] == sum(c.fallback for c in table.labels.values())


def train_and_cluster(root, **options):
    """The stored features and the table of a data set in root/dataset."""
    dataset, model = root / "dataset", root / "model"
    train(dataset, model, config=config(epochs_decay=0, instance_features=True, **options))
    run(dataset, model, root / "clusters", config=ClusterConfig(n_clusters=2, device="cpu"))
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
    contents = {
        "a": tiny.sample(rng, 24, 40),
        "b": tiny.sample(rng, 40, 56),
        "c": tiny.sample(rng, 24, 40),
    }
    contents["b"] = {kind: array[..., :33, :50] for kind, array in contents["b"].items()}
    tiny.write(tmp_path / "dataset", {"train": contents})
    stored, _ = train_and_cluster(tmp_path, size=size)
    encoder = load_encoder(tmp_path / "model", ModelCard.read(tmp_path / "model"))
    for i, content in enumerate(contents.values()):
        photo = content["photo"] if not size else resize_picture(content["photo"], 24, 40)
        encoded = encoder(to_signed(torch.from_numpy(photo.copy()))[None])
        encoded = F.interpolate(encoded, size=content["instance"].shape, mode="nearest")[0]
        for row in range(stored["start"][i], stored["start"][i + 1]):
            inside = content["instance"] == stored["ids"][row]
            assert stored["areas"][row] == pytest.approx(inside.mean())
            mean = encoded[:, torch.from_numpy(inside)].mean(dim=1)
            tolerance = 0.02 if size else 1e-5  # one grey level of a photo
            assert np.allclose(stored["features"][row], mean, atol=tolerance)


def test_features_of_labels_are_pooled_over_all_pixels_of_a_label(tmp_path):
    tiny.dataset(tmp_path / "dataset")
    stored, table = train_and_cluster(tmp_path, feature_regions="labels")
    manifest = DatasetManifest.read(tmp_path / "dataset")
    encoder = load_encoder(tmp_path / "model", ModelCard.read(tmp_path / "model"))
    assert str(stored["regions"]) == "labels" and np.array_equal(stored["ids"], stored["labels"])
    for i, pair in enumerate(manifest.train):
        labels = read_ids(manifest.path(tmp_path / "dataset", "train", "input", pair.name))
        photo = read_picture(manifest.path(tmp_path / "dataset", "train", "photo", pair.name))
        encoded = encoder(to_signed(torch.from_numpy(photo.copy()))[None])[0]
        of_image = slice(stored["start"][i], stored["start"][i + 1])
        assert stored["ids"][of_image].tolist() == np.unique(labels).tolist()
        rows = zip(stored["ids"][of_image], stored["features"][of_image], strict=True)
        for label, feature in rows:
            mean = encoded[:, torch.from_numpy(labels == label)].mean(dim=1)
            assert np.allclose(feature, mean, atol=1e-5)
    assert set(table.labels) == set(stored["labels"].tolist())


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


@pytest.mark.skipif(
    not EXCERPT.is_dir(), reason=f"the real excerpt of Cityscapes is not at {EXCERPT}"
)
def test_the_real_excerpt(tmp_path):
    """Bicycles, whose ids need 16 bits, and groups, whose id is the bare label, are instances as
    all others."""
    prepare(str(EXCERPT), tmp_path / "dataset", config=PrepareConfig(size="128x256"))
    stored, table = train_and_cluster(tmp_path)
    rows = slow_features(tmp_path)
    assert_equal_features(stored, rows)
    ids = set(stored["ids"].tolist())
    assert {33000, 33001, 26, 33} <= ids
    manifest = DatasetManifest.read(tmp_path / "dataset")
    present = set()
    for pair in manifest.train:
        labels = read_ids(manifest.path(tmp_path / "dataset", "train", "input", pair.name))
        present |= set(np.unique(labels).tolist())
    assert set(table.labels) == present and {26, 33} <= present
    assert all(len(clusters.centres) >= 1 for clusters in table.labels.values())
    assert any(clusters.fallback for clusters in table.labels.values())


def test_equal_points_need_only_one_centre():
    found = cluster_label(
        np.full((5, 3), 0.1, np.float32), np.full(5, 0.5), n_clusters=10, min_area=1 / 64, seed=0
    )
    assert (
        np.allclose(found.centres, [[0.1, 0.1, 0.1]]) and found.counts == [5] and not found.fallback
    )
    assert found.spread == pytest.approx([0]) and found.explained is None


def test_centres_explain_the_share_of_the_variance_that_is_between_them():
    """Two pairs at -1 and 1, each 0.1 from its centre: 4 * 1.01 in all, of which 4 * 0.01 is
    left."""
    points = np.array([[-1.1], [-0.9], [0.9], [1.1]])
    found = cluster_label(points, np.full(4, 0.5), n_clusters=2, min_area=1 / 64, seed=0)
    assert sorted(found.centres) == [pytest.approx([-1]), pytest.approx([1])] and found.counts == [
        2,
        2,
    ]
    assert found.spread == pytest.approx([0.1, 0.1]) and found.explained == pytest.approx(
        1 - 0.01 / 1.01
    )


def test_an_instance_takes_part_when_it_is_larger_than_the_smallest_area():
    """pix2pixHD's rule: num / (h * w // 32) > 0.5, so 1/64 of the image itself is too small."""
    points, areas = np.array([[0.0], [0.5], [1.0]]), np.array([1 / 64, 1 / 64 + 1e-6, 0.5])
    found = cluster_label(points, areas, n_clusters=10, min_area=1 / 64, seed=0)
    assert sorted(found.centres) == [[0.5], [1.0]]


def test_majority_labels_and_areas():
    dense, labels = np.array([[0, 0, 0], [1, 1, 0]]), np.array([[5, 5, 255], [9, 9, 5]], np.uint8)
    majority, areas = labels_and_areas(dense, labels, 3)
    assert majority.tolist() == [5, 9, 0] and np.allclose(areas, [4 / 6, 2 / 6, 0])


def test_batches_hold_images_of_one_size():
    pairs = [
        Pair(str(i), *size, True, 1)
        for i, size in enumerate([(8, 8), (8, 9), (8, 8), (8, 8), (8, 9)])
    ]
    assert batches_of_one_size(pairs, 2) == [[0, 2], [3], [1, 4]]


def test_refusals_before_any_work(folders, tmp_path):
    dataset, model = folders / "dataset", folders / "model"

    def refused(text: str, dataset=dataset, model=model, clusters=tmp_path / "clusters", **changes):
        config = changed(CONFIG, **changes)
        assert text in refusal(run, dataset, model, clusters, config=config)
        assert not clusters.exists()

    options = config(epochs_decay=0, size="32x64")
    train(dataset, tmp_path / "plain", config=options)
    refused("has no encoder: train it with --instance-features", model=tmp_path / "plain")

    (model / "latest_net_E.pth").rename(tmp_path / "hidden.pth")
    refused("has no latest_net_E.pth")
    (tmp_path / "hidden.pth").rename(model / "latest_net_E.pth")

    content = tiny.sample(np.random.default_rng(0), 32, 64)
    without = {kind: array for kind, array in content.items() if kind != "instance"}
    tiny.write(tmp_path / "without", {"train": {"a": without}})
    refused("has no instance maps", dataset=tmp_path / "without")
    card = ModelCard.read(model)
    edgeless = card.model_copy(
        update={"architecture": card.architecture.model_copy(update={"use_instances": False})}
    )
    edgeless.write(tmp_path / "edgeless")
    refused(
        "over which the model pools its features",
        dataset=tmp_path / "without",
        model=tmp_path / "edgeless",
    )

    tiny.write(tmp_path / "fewer", {"train": {"a": content}}, num_labels=19)
    refused(
        "has maps of 19 labels as input but the model was trained with maps of 35",
        dataset=tmp_path / "fewer",
    )
    tiny.write(tmp_path / "tests_only", {"test": {"a": content}})
    refused("has no training pairs", dataset=tmp_path / "tests_only")
    refused("lies inside --dataset", clusters=dataset / "clusters")
    refused("holds no manifest.json", dataset=tmp_path / "nowhere")


def test_reference_files_of_pictures_are_refused(tmp_path):
    tiny.dataset(tmp_path / "dataset", input_nc=3)
    train_and_cluster(tmp_path)
    with pytest.raises(InputError, match="by label, but the data set has pictures as input"):
        run(
            tmp_path / "dataset",
            tmp_path / "model",
            tmp_path / "again",
            config=changed(CONFIG, reference_files=True),
        )
    assert not (tmp_path / "again").exists()


def test_labels_have_their_names_in_the_table_and_in_figures_as_mlflow_takes_them(capsys):
    centres = dict(centres=[[0.0]], counts=[2], spread=[0.0], explained=0.5, fallback=False)
    table = ClusterTable(
        **dict(feat_num=1, n_clusters=1, min_area=0, seed=0, overall=[0.0]),
        **dict(labels={7: centres, 26: centres}, model_digest="", dataset_digest=""),
    )
    labels = [Label(id=26, name="car/van (big)", colour=(1, 2, 3))]
    names = {"explained/overall", "explained/label_7", "explained/label_26_car_van _big_"}
    assert explained_by_label(table, labels).keys() == names

    print_table(table, SimpleNamespace(labels=np.array([7, 26, 26])), labels)
    heading, seven, car = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["label", "name", "instances"]
    assert seven.split()[:3] == ["7", "7", "1"]
    assert car.split()[:5] == ["26", "car/van", "(big)", "2", "2"]


def test_again_nothing_old_stays_beside_the_new(folders, tmp_path):
    """Tables of the references are those of the clusters beside them, or are not there."""
    clusters, asked = tmp_path / "clusters", CONFIG.model_copy(update={"reference_files": True})
    run(folders / "dataset", folders / "model", clusters, config=asked)
    assert len(list(clusters.glob("*.npy"))) == 2
    (clusters / "notes.txt").write_text("mine")
    run(folders / "dataset", folders / "model", clusters, config=CONFIG)
    assert {path.name for path in clusters.iterdir()} == {*ClusterConfig.WRITES, "notes.txt"}
