"""Networks of a few channels and data sets of a few pixels, for all tests."""

import contextlib
import hashlib
import warnings
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from components.train.data.batches import Augmentation, PairDataset
from components.train.networks.init import initialise
from shared.contracts.clusters import ClusterTable, LabelClusters
from shared.contracts.dataset import SUMS, DatasetManifest, Pair
from shared.contracts.exported import ExportCard, Graph, TensorSpec
from shared.contracts.measured import BenchmarkReport, Quality
from shared.contracts.model import LATEST, Architecture, ModelCard, SavedWeights
from shared.data.frames import cache_file, pack, seal
from shared.data.images import write_ids, write_picture
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.data.written import sum_line
from shared.deployed.synthesiser import input_names
from shared.files.digests import digest_files, sha256_of
from shared.files.writing import write_atomically
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import save_weights
from shared.networks.chosen import digest_of

# Networks of four channels.
SMALL = dict(ngf=4, n_downsample_global=2, n_blocks_global=1, n_blocks_local=1)
SMALL |= dict(ndf=4, n_layers_D=2, nef=4, n_downsample_E=2)


def architecture(**changes) -> Architecture:
    values = dict(num_labels=35, input_nc=0, use_instances=True, feat_num=0)
    values |= dict(netG="global", n_local_enhancers=1, num_D=2)
    return Architecture(**values | SMALL | changes)


# The same networks as options of `python -m components.train`.
TRAIN = SMALL | dict(workers=0, save_every_minutes=0, sample_every_minutes=0)


def model(folder: Path, a: Architecture, gain: float = 0.02, **changes) -> ModelCard:
    """A model folder as the train step leaves it: G and, with features, E, of the same random
    weights at every call."""
    torch.manual_seed(0)
    networks = {"G": build_generator(a)} | ({"E": build_encoder(a)} if a.feat_num else {})
    for network in networks.values():
        initialise(network, "normal", gain, zero_bias=False)
    values = dict(height=32, width=64, one_size=True, config={"size": "32x64"}, metrics={})
    values |= dict(epoch=1, images_seen=1, dataset_digest="", parent_digest="")
    files = save_weights(folder, networks)
    values |= dict(digest=digest_of(files))
    card = ModelCard(architecture=a, **values | changes)
    known = {name: getattr(card, name) for name in ("epoch", "images_seen", "digest", "metrics")}
    card = card.model_copy(update={"weights": {LATEST: SavedWeights(files=files, **known)}})
    card.write(folder)
    return card


def export_card(
    folder: Path,
    a: Architecture,
    graph: Graph,
    size: tuple[int | str, int | str] = ("height", "width"),
    **changes,
) -> ExportCard:
    """The card of an exported file; the file itself is not made."""
    inputs = [
        TensorSpec(name=name, dtype="", shape=["batch", *size], meaning="")
        for name in input_names(a, graph)
    ]
    values = dict(file="generator.onnx", opset=17, precision="fp32", style=[], parity=[])
    values |= dict(inputs=inputs, outputs=[], architecture=a, model_digest="model", versions={})
    card = ExportCard(graph=graph, **values | changes)
    card.write(folder)
    return card


def report(**changes) -> BenchmarkReport:
    """A benchmark that measured nothing."""
    nothing = Quality(pairs=0)
    values = dict(speed=[], parity=[], quality=nothing, train_quality=nothing, height=8, width=8)
    values |= dict(model_digest="m", dataset_digest="d", environment={}, method="")
    return BenchmarkReport(**values | changes)


def write_clusters(
    folder: Path, model_digest: str, centres: dict[int, list[list[float]]], **changes
) -> ClusterTable:
    """A clusters folder of these centres by label, the first the most frequent one."""
    everything = np.array([centre for rows in centres.values() for centre in rows])
    values = dict(feat_num=everything.shape[1], n_clusters=10, min_area=1 / 64, seed=0)
    values |= dict(overall=everything.mean(0).tolist(), dataset_digest="")
    labels = {
        label: LabelClusters(
            centres=rows,
            counts=list(range(len(rows), 0, -1)),
            spread=[0.1] * len(rows),
            explained=0.5,
            fallback=False,
        )
        for label, rows in centres.items()
    }
    table = ClusterTable(labels=labels, model_digest=model_digest, **values | changes)
    table.write(folder)
    return table


# What features.npz holds of three images, of which the second has no instance.
IMAGES = ["a", "b", "c"]
COLUMNS = dict(
    names=np.array(IMAGES),
    start=np.array([0, 2, 2, 5]),
    ids=np.array([3, 7, 1, 2, 9], np.int32),
    features=np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2),
    labels=np.array([0, 1, 0, 0, 1], np.int32),
    areas=np.full(5, 0.2),
    regions=np.array("instances"),
)

# Two styles of label 7, one of label 26; the others take the mean.
TWO_STYLES = {7: [[0.5, -0.5, 0.25], [0.0, 0.0, 0.0]], 26: [[-0.75, 1.0, 0.0]]}


def style_of_each_label(feat_num: int) -> dict[int, list[list[float]]]:
    """Centres: one for each of 35 labels."""
    centres = np.random.default_rng(1).uniform(-1, 1, (35, 1, feat_num))
    return dict(enumerate(centres.tolist()))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """For modules of many small networks: threads would wait for each other longer than they
    work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def maps(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of 8 pixels: labels 0..34 (uint8) and Cityscapes-like instance ids (uint16)."""
    labels = rng.integers(0, 35, (height // 8, width // 8))
    numbers = rng.integers(0, 3, labels.shape)
    instances = np.where(labels >= 24, labels * 1000 + numbers, labels)
    grow = np.ones((8, 8), int)
    return np.kron(labels, grow).astype(np.uint8), np.kron(instances, grow).astype(np.uint16)


def dataset(
    folder: Path,
    train: int = 4,
    test: int = 2,
    height: int = 32,
    width: int = 64,
    input_nc: int = 0,
    cache: bool = False,
) -> DatasetManifest:
    """A prepared data set; the last test pair has no photo. With `input_nc` the input is a
    picture."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("test", test)):
        splits[split] = {f"{split}_{i}": sample(rng, height, width, input_nc) for i in range(count)}
    if test:
        del splits["test"][f"test_{test - 1}"]["photo"]
    return write(folder, splits, num_labels=0 if input_nc else 35, input_nc=input_nc, cache=cache)


def sample(
    rng: np.random.Generator, height: int, width: int, input_nc: int = 0
) -> dict[str, np.ndarray]:
    """One pair by the kinds of `DatasetManifest.path`, pictures (C, H, W); sides are multiples of
    8."""
    labels, instances = maps(rng, height, width)
    photo = np.stack([labels * 7, 255 - labels * 5, (instances * 37 % 256).astype(np.uint8)])
    inputs = np.stack([labels * (3 + c) for c in range(input_nc)]) if input_nc else labels
    return {"input": inputs, "instance": instances, "photo": photo}


def write(
    folder: Path, splits: dict[str, dict[str, dict[str, np.ndarray]]], cache: bool = False, **fields
) -> DatasetManifest:
    """A prepared data set of the arrays that are given by split, name and kind; `fields` are of the
    manifest."""
    everything = [content for split in splits.values() for content in split.values()]
    has_instances = all("instance" in content for content in everything)
    values = dict(num_labels=35, input_nc=0, has_instances=has_instances, instance_suffix=".png")
    values |= dict(train=[], test=[], source="tests", source_digest="", config={}, digest="")
    manifest = DatasetManifest(**values | fields)

    # The images.
    pairs, frames = {"train": [], "test": []}, {"train": [], "test": []}
    files, of_tests = [], []
    for split, contents in splits.items():
        for name, content in contents.items():
            for kind, array in content.items():
                path = manifest.path(folder, split, kind, name)
                (write_ids if array.ndim == 2 else write_picture)(path, array)
                files.append(path)
                of_tests += [path] if split == "test" else []
            frame = frame_of(name, content)
            num_instances = 0 if frame.ids is None else len(frame.ids)
            size = content["input"].shape[-2:]
            pairs[split].append(Pair(name, *size, "photo" in content, num_instances))
            frames[split].append(frame)

    # The manifest, and the cache where one is wanted.
    digests = dict(digest=digest_files(files), test_digest=digest_files(of_tests))
    sums = {file.relative_to(folder).as_posix(): sha256_of(file).hex() for file in files}
    content = "".join(sum_line(digest, file) for file, digest in sums.items()).encode()
    write_atomically(folder / SUMS, content)
    digests["files"] = {SUMS: hashlib.sha256(content).hexdigest()}
    manifest = manifest.model_copy(update=digests | pairs)
    manifest.write(folder)
    if cache:
        checksums = {}
        for split in splits:
            both = zip(pairs[split], frames[split], strict=True)
            records = [pack(manifest, pair, frame) for pair, frame in both]
            write_atomically(cache_file(folder, split), b"".join(records))
            checksums[split] = [zlib.crc32(record) for record in records]
        seal(folder, manifest, checksums)
    return manifest


def frame_of(name: str, content: dict[str, np.ndarray]) -> Sample:
    """What a cache holds of one pair."""
    return Sample.of_maps(name, content["input"], content.get("instance"), content.get("photo"))


def assert_same(one: Sample, other: Sample) -> None:
    """Assert that two samples have the same name, types and values."""
    assert one.name == other.name
    for field in fields(Sample)[1:]:
        a, b = getattr(one, field.name), getattr(other, field.name)
        if a is None or b is None:
            assert a is b is None, field.name
        else:
            assert a.dtype == b.dtype and np.array_equal(a, b), field.name


@contextlib.contextmanager
def warnings_are_errors():
    """Make errors of all warnings, also of those that torch gives only once per process."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.set_warn_always(True)
        try:
            yield
        finally:
            torch.set_warn_always(False)


def pairs(
    folder: Path,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    flip: bool = False,
    seed: int = 0,
    features: dict[str, tuple[np.ndarray, np.ndarray]] | None = None,
    use_cache: bool = True,
) -> PairDataset:
    """The training pairs of a data set on disk."""
    reader = PairReader(folder, DatasetManifest.read(folder), "train", use_cache)
    return PairDataset(reader, size, Augmentation(crop, flip, seed), features)
