"""pix2pixHD's feature files and maps, in and out; a hostile file runs nothing."""

import io
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans

from components.cluster.__main__ import main
from components.cluster.config import ClusterConfig
from components.cluster.exchange.convert import read_maps, read_reference_files, write_maps
from components.cluster.exchange.reference_files import encode_table, read_table
from components.cluster.run import run
from shared.condition import to_signed
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.data.images import read_ids, read_picture
from shared.errors import InputError
from shared.networks.checkpoint import load_encoder
from tests import tiny

TABLE = {0: np.zeros((0, 4)), 7: np.arange(8.0).reshape(2, 4), 33: np.full((1, 4), -0.25)}


def write_model(folder: Path, **changes) -> ModelCard:
    """A model with an untrained encoder."""
    return tiny.model(folder, tiny.architecture(**{"feat_num": 3} | changes), epoch=0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("exchange"), np.random.default_rng(1)
    contents = {f"train_{i}": tiny.sample(rng, 32, 64) for i in range(4)}
    # Two large instances, of which one needs 16 bits; a group; a small instance.
    for content in contents.values():
        elsewhere = content["input"] == 34
        content["input"][elsewhere], content["instance"][elsewhere] = 5, 5
        content["input"][:4, 20:24], content["instance"][:4, 20:24] = 34, 34000
        content["input"][:16, :16], content["instance"][:16, :16] = 33, 33001
        content["input"][16:, 32:], content["instance"][16:, 32:] = 26, 26
    tiny.write(root / "dataset", {"train": contents})
    write_model(root / "model")
    config = ClusterConfig(reference_files=True, device="cpu")
    run(root / "dataset", root / "model", root / "clusters", config=config)
    return root


def encode_features_loop(root):
    """features.npy as encode_features.py makes it: image after image, id after id, the middle pixel
    of each."""
    manifest, card = DatasetManifest.read(root / "dataset"), ModelCard.read(root / "model")
    encoder = load_encoder(root / "model", card)
    table = {label: np.zeros((0, 4)) for label in range(35)}
    for pair in manifest.train:
        photo = read_picture(manifest.path(root / "dataset", "train", "photo", pair.name))
        ids = read_ids(manifest.path(root / "dataset", "train", "instance", pair.name)).astype(int)
        encoded = encoder(to_signed(torch.from_numpy(photo.copy()))[None])[0].numpy()
        pooled = encoded.copy()
        for ident in np.unique(ids):
            for channel in range(3):
                pooled[channel][ids == ident] = encoded[channel][ids == ident].mean()
        for ident in np.unique(ids):
            rows, columns = np.nonzero(ids == ident)
            middle = len(rows) // 2
            row = [*pooled[:, rows[middle], columns[middle]], len(rows) / (32 * 64 // 32)]
            label = ident if ident < 1000 else ident // 1000
            table[label] = np.append(table[label], [row], axis=0)
    return table


# --- the references' files, out


def test_features_file_is_that_of_the_references_loop(folders):
    written = np.load(folders / "clusters" / "features.npy", allow_pickle=True).item()
    expected = encode_features_loop(folders)
    assert list(written) == list(range(35)) == list(expected)
    for label, rows in expected.items():
        assert written[label].dtype == np.float64 and written[label].shape == rows.shape
        assert np.allclose(written[label][:, :3], rows[:, :3], rtol=0, atol=1e-5)
        assert np.array_equal(written[label][:, 3], rows[:, 3])
    assert len(written[33]) >= 4 and len(written[0]) < len(written[26])


def test_clustered_file_is_that_of_the_references_clustering(folders):
    """And labels without large instances, which the references leave out, have their fallback."""
    written = np.load(folders / "clusters" / "features_clustered_010.npy", allow_pickle=True).item()
    features = encode_features_loop(folders)
    clustered = 0
    for label, rows in features.items():
        large = rows[rows[:, 3] > 0.5, :3]
        if len(large):
            kmeans = KMeans(min(len(large), 10), n_init=10, random_state=0)
            centres = kmeans.fit(large).cluster_centers_
            assert written[label].dtype == np.float64 and written[label].shape == centres.shape
            assert np.allclose(sorted(written[label].tolist()), sorted(centres.tolist()), atol=1e-5)
            clustered += 1
        elif len(rows):
            assert np.allclose(written[label], rows[:, :3].mean(axis=0, keepdims=True), atol=1e-5)
        else:
            assert label not in written
    assert clustered >= 2 and len(written) > clustered


def test_written_files_suit_a_numpy_as_old_as_the_references(folders):
    for name in ("features.npy", "features_clustered_010.npy"):
        content = (folders / "clusters" / name).read_bytes()
        assert b"cnumpy.core.multiarray\n_reconstruct\n" in content
        assert b"numpy._core" not in content
        # pickle of Python 2
        assert content.startswith(b"\x93NUMPY\x01\x00") and b"\x80\x02" in content


def test_the_number_in_the_name_is_that_of_the_clusters(folders, tmp_path):
    config = ClusterConfig(n_clusters=2, reference_files=True, device="cpu")
    run(folders / "dataset", folders / "model", tmp_path, config=config)
    assert {path.name for path in tmp_path.iterdir()} == {
        "clusters.json",
        "features.npz",
        "features.npy",
        "features_clustered_002.npy",
    }


# --- the references' files, in


def assert_same_table(found, expected):
    assert list(found) == list(expected)
    for label, rows in expected.items():
        assert found[label].dtype == np.float64 and np.array_equal(found[label], rows)


def test_what_is_written_reads_back_identically(tmp_path):
    (tmp_path / "table.npy").write_bytes(encode_table(TABLE))
    assert_same_table(read_table(tmp_path / "table.npy"), TABLE)
    assert_same_table(np.load(tmp_path / "table.npy", allow_pickle=True).item(), TABLE)


def test_files_of_numpys_own_save_read_back_identically(tmp_path):
    np.save(tmp_path / "features.npy", TABLE)  # what encode_features.py calls
    assert_same_table(read_table(tmp_path / "features.npy"), TABLE)


def header() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(tmp_path, protocol):
    table = {
        7: np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        8: np.ones((2, 4), ">f4"),
        9: np.zeros((0, 4)),
    }
    holder = np.empty((), object)
    holder[()] = {np.int64(label): rows for label, rows in table.items()}
    (tmp_path / "table.npy").write_bytes(header() + pickle.dumps(holder, protocol=protocol))
    assert_same_table(read_table(tmp_path / "table.npy"), table)


def test_a_file_of_python_2(tmp_path):
    """By hand, as cPickle of Python 2 writes it: bytes are strings (opcode U)."""
    no_size = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    numbers = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<" + no_size + b"K\x00tb"
    array = (
        b"(K\x01K\x01K\x03\x86"
        + numbers
        + b"\x89U\x18"
        + np.array([[0.5, -1.0, 200.125]]).tobytes()
        + b"tb"
    )
    holder = b"(K\x01)cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|" + no_size + b"K?tb"
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    content = header() + b"\x80\x02" + new + holder + b"\x89]}K\x07" + new + array + b"satb."
    (tmp_path / "table.npy").write_bytes(content)
    expected = np.load(tmp_path / "table.npy", allow_pickle=True, encoding="latin1").item()
    assert expected[7].tolist() == [[0.5, -1.0, 200.125]]  # by hand, but a pickle
    assert_same_table(read_table(tmp_path / "table.npy"), expected)


class Call:
    """Calls a function with arguments as soon as it is unpickled."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def by_name(module: str, name: str, argument: str) -> bytes:
    return (
        b"\x80\x02c"
        + f"{module}\n{name}\n".encode()
        + b"X"
        + len(argument).to_bytes(4, "little")
        + (argument.encode() + b"\x85R.")
    )


def hostile(marker: Path) -> dict[str, bytes]:
    """Name of a function -> a pickle that has it make the file `marker`."""
    touch = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    wrapped = lambda call: np.array({7: np.ones((1, 3)), 8: call}, dtype=object)  # noqa: E731
    return {
        "posix.system": pickle.dumps(Call(os.system, f"touch {marker}")),
        "builtins.eval": pickle.dumps(wrapped(Call(eval, touch))),
        "builtins.exec": pickle.dumps({Call(exec, touch): 1}),
        "os.system": by_name("os", "system", f"touch {marker}"),
        "builtins.getattr": pickle.dumps(Call(getattr, Path, "touch"), protocol=4),
        "numpy.testing._private.utils.runstring": by_name(
            "numpy.testing._private.utils", "runstring", touch
        ),
        "numpy.core.multiarray.fromfile": by_name(
            "numpy.core.multiarray", "fromfile", "/etc/passwd"
        ),
        "numpy.array": pickle.dumps(Call(np.array, [1])),
        "numpy.core.multiarray._reconstruct.__globals__": (
            b"\x80\x04\x8c\x16numpy.core.multiarray\x8c\x18_reconstruct.__globals__\x93.".replace(
                b"\x8c\x16", b"\x8c\x15"
            )
        ),
    }


@pytest.mark.parametrize("called", hostile(Path("x")))
def test_a_hostile_file_runs_nothing(tmp_path, called):
    marker, path = tmp_path / "marker", tmp_path / "features.npy"
    path.write_bytes(header() + hostile(marker)[called])
    with pytest.raises(InputError) as refusal:
        read_table(path)
    assert str(refusal.value) == (
        f"{path} would call '{called}' when it is read, which is refused: do not use this file."
    )
    assert not marker.exists()


def test_the_hostile_files_do_run_elsewhere(tmp_path):
    """Else the test above would show nothing."""
    for called in ("posix.system", "builtins.eval", "os.system"):
        pickle.loads(hostile(tmp_path / called)[called])
        assert (tmp_path / called).exists()


def test_arrays_of_objects_from_bytes_are_refused(tmp_path):
    """NumPy would take the bytes for addresses of objects."""
    rows = pickle.dumps(np.array([[1.0]]), protocol=2).replace(b"f8", b"O8")
    holder = header() + b"\x80\x02}K\x07" + rows[2:-1] + b"s."
    (tmp_path / "table.npy").write_bytes(holder)
    with pytest.raises(InputError, match=r"table.npy cannot be read \(ValueError\)"):
        read_table(tmp_path / "table.npy")


@pytest.mark.parametrize(
    "content, found",
    [
        (None, "is missing"),
        (b"", r"cannot be read \(ValueError\)"),
        (b"PK\x03\x04 no array", r"cannot be read \(ValueError\)"),
        (encode_table(TABLE)[:-30], "cannot be read"),
        (np.ones((2, 2)), "holds an array of float64 and no dict"),
        (np.array([{7: np.ones((1, 3))}], dtype=object), "holds an array of object and no dict"),
        ([1, 2], "holds an array of int64 and no dict"),
        ({7: [1.0, 2.0]}, "holds other things than arrays by label"),
        ({"road": np.ones((1, 3))}, "holds other things than arrays by label"),
        (
            {7: np.array({8: np.ones((1, 3))}, dtype=object)},
            "holds other things than arrays by label",
        ),
        ({7: np.ones(3)}, "has for label 7 no table of finite numbers"),
        ({7: np.array([[np.nan]])}, "has for label 7 no table of finite numbers"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, found):
    path = tmp_path / "table.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(InputError, match=found) as refusal:
        read_table(path)
    assert str(refusal.value).endswith("give a file of pix2pixHD's encode_features.py.")


def read(folders, clusters, features=None, centres=None, model="model", dataset="dataset"):
    return read_reference_files(folders / model, folders / dataset, clusters, features, centres)


def test_features_read_give_the_table_of_the_cluster_step(folders, tmp_path):
    own = ClusterTable.read(folders / "clusters")
    table = read(folders, tmp_path / "read", features=folders / "clusters" / "features.npy")
    assert ClusterTable.read(tmp_path / "read") == table
    assert (table.model_digest, table.dataset_digest) == (own.model_digest, own.dataset_digest)
    assert np.allclose(table.overall, own.overall) and set(table.labels) == set(own.labels)
    for label, clusters in own.labels.items():
        found = table.labels[label]
        assert found.counts == clusters.counts and found.fallback == clusters.fallback
        assert np.allclose(found.centres, clusters.centres)
        assert found.spread == pytest.approx(clusters.spread)


def test_centres_read_are_taken_as_they_are(folders, tmp_path):
    centres = {7: np.array([[0.5, 0.0, -0.5], [1.0, 1.0, 1.0]]), 33: np.array([[-1.0, 0.0, 0.0]])}
    np.save(tmp_path / "centres.npy", centres)
    table = read(folders, tmp_path / "read", centres=tmp_path / "centres.npy")
    wanted = {label: rows.tolist() for label, rows in centres.items()}
    assert {label: clusters.centres for label, clusters in table.labels.items()} == wanted
    assert table.labels[7].counts == [1, 1] and table.labels[7].explained is None
    assert table.n_clusters == 2
    assert np.allclose(table.overall, np.concatenate(list(centres.values())).mean(axis=0))


def test_centres_with_features_know_their_members(folders, tmp_path):
    """Two large instances, at 0.9 and 1.1, belong to the centre 1, one at 0 to that at 0.1; a small
    one to none."""
    rows = np.array([[0.9, 0, 0, 2.0], [1.1, 0, 0, 2.0], [0.0, 0, 0, 2.0], [0.0, 0, 0, 0.5]])
    np.save(tmp_path / "features.npy", {7: rows, 8: rows[3:], 9: rows[:0]})
    np.save(tmp_path / "centres.npy", {7: np.array([[0.1, 0, 0], [1.0, 0, 0]])})
    table = read(folders, tmp_path / "read", tmp_path / "features.npy", tmp_path / "centres.npy")
    road = table.labels[7]
    assert road.centres == [[1.0, 0, 0], [0.1, 0, 0]] and road.counts == [2, 1]
    assert road.spread == pytest.approx([0.1, 0.1])
    mean = 2.0 / 3
    total = (0.9 - mean) ** 2 + (1.1 - mean) ** 2 + mean**2
    assert road.explained == pytest.approx(1 - 0.03 / total)
    assert table.labels[8].fallback and set(table.labels) == {7, 8}


def test_read_fills_what_a_killed_read_left(folders, tmp_path):
    """Hidden folders of it, and features without the card that comes last."""
    features = folders / "clusters" / "features.npy"
    left = tmp_path / "read"
    (left / ".work").mkdir(parents=True)
    (left / ".work" / "clusters.json").write_text("{")
    (left / "features.npz").write_bytes(b"half")
    read(folders, left, features=features)
    read(folders, tmp_path / "new", features=features)
    assert {path.name for path in left.iterdir()} == {"clusters.json"}
    made = (left / "clusters.json").read_bytes()
    assert made == (tmp_path / "new" / "clusters.json").read_bytes()


def test_read_refuses(folders, tmp_path):
    np.save(tmp_path / "wide.npy", {7: np.ones((1, 5))})
    np.save(tmp_path / "label.npy", {35: np.ones((1, 4))})
    np.save(tmp_path / "empty.npy", {7: np.ones((0, 4))})
    for name, text in (
        ("wide", "has 5 columns where 4 fit the model"),
        ("label", "has label 35 but the model has labels 0..34"),
        ("empty", "has no rows"),
    ):
        with pytest.raises(InputError, match=text):
            read(folders, tmp_path / "read", features=tmp_path / f"{name}.npy")
    with pytest.raises(InputError, match="has 5 columns where 3 fit the model"):
        read(folders, tmp_path / "read", centres=tmp_path / "wide.npy")
    with pytest.raises(InputError, match="read needs --features features.npy, --centres"):
        read(folders, tmp_path / "read")
    features = folders / "clusters" / "features.npy"
    with pytest.raises(InputError, match="is not empty: give a new folder"):
        read(folders, folders / "clusters", features=features)
    (tmp_path / "own").mkdir()
    shutil.copy(features, tmp_path / "own" / "features.npy")
    with pytest.raises(InputError, match="is not empty: give a new folder"):
        read(folders, tmp_path / "own", features=features)
    with pytest.raises(InputError, match="--clusters .* lies inside --dataset"):
        read(folders, folders / "dataset" / "clusters", features=features)
    write_model(tmp_path / "plain", feat_num=0)
    with pytest.raises(InputError, match="has no encoder: train it with --instance-features"):
        read(folders, tmp_path / "read", features=features, model=tmp_path / "plain")
    tiny.dataset(tmp_path / "pictures", input_nc=3)
    write_model(tmp_path / "of_pictures", num_labels=0, input_nc=3)
    with pytest.raises(InputError, match="--features: the references' files are by label"):
        pictures = dict(model=tmp_path / "of_pictures", dataset=tmp_path / "pictures")
        read(folders, tmp_path / "read", features, **pictures)
    assert not (tmp_path / "read").exists()


# --- feature maps


def slow_map(root, stored, number, size):
    """The features of a training image painted one id after the other, on ids that Pillow
    resized."""
    manifest = DatasetManifest.read(root / "dataset")
    kind = "instance" if str(stored["regions"]) == "instances" else "input"
    file = manifest.path(root / "dataset", "train", kind, manifest.train[number].name)
    ids = read_ids(file).astype(np.int32)
    ids = np.asarray(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
    painted = np.zeros((3, *size))
    for row in range(stored["start"][number], stored["start"][number + 1]):
        painted[:, ids == stored["ids"][row]] = stored["features"][row][:, None]
    return painted


@pytest.mark.parametrize("size", [None, "64x128", "24x40"])
def test_maps_are_the_stored_features_with_sharp_borders(folders, tmp_path, size):
    folder = write_maps(folders / "clusters", folders / "dataset", tmp_path, size, "npy")
    assert folder == tmp_path / "train_feat"
    stored = np.load(folders / "clusters" / "features.npz")
    height_width = tuple(map(int, size.split("x"))) if size else (32, 64)
    assert sorted(path.name for path in folder.iterdir()) == [f"train_{i}.npy" for i in range(4)]
    for number in range(4):
        written = np.load(folder / f"train_{number}.npy")
        assert written.dtype == np.float16 and written.shape == (3, *height_width)
        wanted = slow_map(folders, stored, number, height_width)
        assert np.array_equal(written, wanted.astype(np.float16))


def test_maps_of_label_features_and_the_usual_place(tmp_path):
    tiny.dataset(tmp_path / "dataset", train=1)
    write_model(tmp_path / "model", feature_regions="labels")
    config = ClusterConfig(device="cpu")
    run(tmp_path / "dataset", tmp_path / "model", tmp_path / "clusters", config=config)
    folder = write_maps(tmp_path / "clusters", tmp_path / "dataset", None, None, "npy")
    assert folder == tmp_path / "clusters" / "maps" / "train_feat"
    stored = np.load(tmp_path / "clusters" / "features.npz")
    wanted = slow_map(tmp_path, stored, 0, (32, 64)).astype(np.float16)
    assert np.array_equal(np.load(folder / "train_0.npy"), wanted)


def test_8_bit_maps_go_out_and_come_back(folders, tmp_path):
    folder = write_maps(folders / "clusters", folders / "dataset", tmp_path, None, "png")
    stored = dict(np.load(folders / "clusters" / "features.npz"))
    written = np.asarray(Image.open(folder / "train_0.png")).transpose(2, 0, 1)
    assert np.abs(written - (slow_map(folders, stored, 0, (32, 64)) + 1) / 2 * 255).max() <= 0.5001

    # Named as NVIDIA names them for Cityscapes, after the label map.
    (folder / "train_1.png").rename(folder / "train_1_gtFine_labelIds.png")
    table = read_maps(folder, folders / "model", folders / "dataset", tmp_path / "read")
    back = dict(np.load(tmp_path / "read" / "features.npz"))
    for name in ("ids", "labels", "areas", "names", "start", "regions"):
        assert np.array_equal(back[name], stored[name]), name
    assert np.abs(back["features"] - stored["features"]).max() <= 1.01 / 255
    own = ClusterTable.read(folders / "clusters")
    assert ClusterTable.read(tmp_path / "read") == table and set(table.labels) == set(own.labels)
    assert np.allclose(table.overall, own.overall, atol=1 / 255)


def test_maps_refuse(folders, tmp_path):
    clusters, dataset = folders / "clusters", folders / "dataset"

    def refused(
        text, clusters=clusters, dataset=dataset, out=tmp_path / "out", size=None, form="npy"
    ):
        with pytest.raises(InputError, match=text):
            write_maps(clusters, dataset, out, size, form)
        assert not out.exists()

    refused("--out .* lies inside --dataset", out=dataset / "maps")
    (tmp_path / "link").symlink_to(dataset)
    refused("--out .* lies inside --dataset", out=tmp_path / "link" / "maps")
    refused("--size '12' is not HEIGHTxWIDTH", size="12")
    refused("holds no clusters.json", clusters=tmp_path)
    table = ClusterTable.read(clusters)
    table.write(tmp_path / "alone")
    refused("has no features.npz: make it", clusters=tmp_path / "alone")
    five = dict(feat_num=5, labels={}, overall=[0.0] * 5)
    table.model_copy(update=five).write(tmp_path / "five")
    text = "--form png holds 1 or 3 channels but .* has 5 features: use npy"
    refused(text, clusters=tmp_path / "five", form="png")
    tiny.dataset(tmp_path / "other", train=1)
    refused("was made from another data set", dataset=tmp_path / "other")


def test_read_maps_refuses(folders, tmp_path):
    text = "--maps .* has no train_0.png: give a map for every training image"
    with pytest.raises(InputError, match=text):
        read_maps(tmp_path, folders / "model", folders / "dataset", tmp_path / "read")
    write_model(tmp_path / "five", feat_num=5)
    with pytest.raises(InputError, match="has 5 features but PNG maps hold 1 or 3"):
        read_maps(tmp_path, tmp_path / "five", folders / "dataset", tmp_path / "read")
    assert not (tmp_path / "read").exists()


def test_command_line(folders, tmp_path, capsys):

    def exchange(command: str, **flags) -> None:
        flags |= dict(dataset=folders / "dataset")
        texts = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        main(["exchange", command, *texts])

    clusters, model = folders / "clusters", folders / "model"
    exchange("maps", clusters=clusters, out=tmp_path / "maps", form="png")
    maps, features = tmp_path / "maps" / "train_feat", clusters / "features.npy"
    exchange("read-maps", clusters=tmp_path / "a", model=model, maps=maps)
    exchange("read", clusters=tmp_path / "b", model=model, features=features)
    out = capsys.readouterr().out
    assert "wrote 4 maps to" in out and "instances of 4 images to" in out and "styles of" in out
    with pytest.raises(SystemExit) as ended:
        exchange("read", clusters=tmp_path / "b", model=model)
    assert ended.value.code == 2
    refusal = "exchange refused: read needs --features features.npy"
    assert capsys.readouterr().err.startswith(refusal)
