"""`python -m tests.benchmarks.cluster_features`: our features beside the references' loop, in turn
in one run.

The loop is written as pix2pixHD has it: for each id of the map a mask, whose pixels get their mean
channel by channel; then for each id a mask again, of which the middle pixel is read. First the
values are compared, then the clock. With --scale: time and memory of the whole step over many small
images, each in a process of its own."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from components.cluster.exchange.reference_files import AREA_UNIT, Table
from components.cluster.features import rows_of_images
from components.train.networks.init import init_weights
from shared.command import command_line
from shared.condition import to_signed
from shared.contracts.dataset import DatasetManifest
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.errors import InputError
from shared.networks.build import build_encoder
from tests import tiny
from tests.benchmarks.street import street, write_raw
from tests.benchmarks.turns import Turns, interleaved, measured_row

HEIGHT, WIDTH = 512, 1024
SIDE = 64  # pixels of the images of --scale
DISTINCT = 100  # images that are drawn for --scale; the others are copies of them under other names
COUNTS = (100, 1000, 3000)
ARCHITECTURE = tiny.architecture(feat_num=3, nef=16, n_downsample_E=4)  # pix2pixHD's encoder


def real_maps(dataset: Path) -> list[Sample]:
    """The training images of a prepared data set."""
    manifest = DatasetManifest.read(dataset)
    if not (manifest.has_instances and manifest.num_labels and manifest.train):
        raise InputError(
            f"--dataset {dataset} has no training pairs with label and instance maps: give one "
            "with them."
        )
    reader = PairReader(dataset, manifest, "train")
    return [reader.read(index) for index in range(len(reader))]


def loop(encoded: Tensor, maps: Sample) -> Table:
    """Rows (n, feat_num + 1) by label, of a feature map (1, feat_num, H, W), one instance after the
    other."""
    instances = torch.from_numpy(maps.instances)[None]
    height, width = maps.instances.shape
    pooled = encoded.clone()
    for ident in np.unique(maps.instances).tolist():
        at = (instances == ident).nonzero()
        for channel in range(encoded.shape[1]):
            values = encoded[at[:, 0], channel, at[:, 1], at[:, 2]]
            pooled[at[:, 0], channel, at[:, 1], at[:, 2]] = values.mean().expand_as(values)
    table = {label: np.zeros((0, encoded.shape[1] + 1)) for label in range(35)}
    for ident in np.unique(maps.instances).tolist():
        label = ident if ident < 1000 else ident // 1000
        at = (instances == ident).nonzero()
        _, y, x = at[len(at) // 2].tolist()
        row = [pooled[0, channel, y, x].item() for channel in range(encoded.shape[1])]
        row.append(len(at) / (height * width // AREA_UNIT))
        table[label] = np.append(table[label], [row], axis=0)
    return table


def ours(encoded: Tensor, images: list[Sample]) -> list[Table]:
    """The same rows from a batch of feature maps."""
    regions, labels = [m.regions("instances") for m in images], [m.inputs for m in images]
    tables = []
    for maps, rows in zip(images, rows_of_images(encoded, regions, labels), strict=True):
        areas = rows.areas * maps.inputs.size / (maps.inputs.size // AREA_UNIT)
        columns = np.column_stack([rows.features, areas])
        tables.append({label: columns[rows.labels == label] for label in range(35)})
    return tables


def check_equal(wanted: list[Table], found: list[Table]) -> None:
    for one, other in zip(wanted, found, strict=True):
        for label, rows in one.items():
            found = other[label]
            assert rows.shape == found.shape, f"label {label}: {rows.shape} and {found.shape} rows"
            np.testing.assert_allclose(found, rows, rtol=0, atol=1e-5, err_msg=f"label {label}")


def encode(encoder: nn.Module, images: list[Sample]) -> Tensor:
    return encoder(to_signed(torch.from_numpy(np.stack([maps.photo for maps in images]))))


@torch.inference_mode()
def compare(images: list[Sample], batch_size: int, rounds: int) -> dict[str, dict[str, Turns]]:
    """Ours beside the loop, over all images: pooling and picking, and with the encoder before
    them."""
    torch.manual_seed(0)
    encoder = build_encoder(ARCHITECTURE).apply(init_weights).eval()
    batches = [images[at : at + batch_size] for at in range(0, len(images), batch_size)]

    # The values.
    encoded = [encode(encoder, [maps]) for maps in images]
    looped = lambda: [loop(features, maps) for features, maps in zip(encoded, images, strict=True)]  # noqa: E731
    pooled = lambda: [ours(f, [maps])[0] for f, maps in zip(encoded, images, strict=True)]  # noqa: E731
    in_batches = lambda: [ours(encode(encoder, batch), batch) for batch in batches]  # noqa: E731
    wanted = looped()
    check_equal(wanted, pooled())
    check_equal(wanted, [table for tables in in_batches() for table in tables])

    # The clock.
    one_by_one = {
        "loop": lambda: [loop(encode(encoder, [maps]), maps) for maps in images],
        "ours, one by one": lambda: [ours(encode(encoder, [maps]), [maps]) for maps in images],
    }
    with_encoder = one_by_one | {f"ours, batches of {batch_size}": in_batches}
    return {
        "pooling and picking": interleaved({"loop": looped, "ours": pooled}, rounds),
        "encoder, pooling and picking": interleaved(with_encoder, rounds),
    }


def write_scale_data(folder: Path, count: int) -> None:
    """`count` training images, prepared, and a model with an untrained encoder."""
    rng = np.random.default_rng(0)
    write_raw(folder / "raw", [street(rng, SIDE, SIDE) for _ in range(DISTINCT)], count, test=1)
    command = [sys.executable, "-m", "components.prepare", "--size", f"{SIDE}x{SIDE}"]
    command += ["--raw-data", folder / "raw", "--dataset", folder / "dataset"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    tiny.model(folder / "model", ARCHITECTURE, height=SIDE, width=SIDE)


def measure_scale(counts: tuple[int, ...]) -> list[dict[str, float]]:
    """The whole step by its command line."""
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_scale_data(Path(folder), count)
            command = [sys.executable, "-m", "components.cluster", "--device", "cpu"]
            for name in ("dataset", "model", "clusters"):
                command += [f"--{name}", f"{folder}/{name}"]
            rows.append(measured_row("images", count, command, mapped=False))
    return rows


def cluster_features(
    dataset: Path | None = None,
    images: int = 5,
    batch_size: int = 4,
    rounds: int = 5,
    scale: tyro.conf.FlagCreatePairsOff[bool] = False,
    counts: tuple[int, ...] = COUNTS,
) -> None:
    """Compare our features with the references' loop, in turn in one run.

    Args:
        dataset: Prepared data set with instance maps; None: generated images.
        images: Most images that are looked at.
        batch_size: Photos that are encoded at a time.
        rounds: Rounds in which loop and ours take turns.
        scale: Measure the whole step on many small images instead.
        counts: So many, with --scale.

    Example:
        python -m tests.benchmarks.cluster_features --images 2
    """
    if scale:
        print(json.dumps(measure_scale(counts)))
        return

    # The images.
    rng = np.random.default_rng(0)
    found = real_maps(dataset) if dataset else [street(rng, HEIGHT, WIDTH) for _ in range(images)]
    found = found[:images]

    # The comparison, for people and for programs.
    results = compare(found, batch_size, rounds)
    height, width = found[0].inputs.shape
    regions = sum(len(np.unique(maps.instances)) for maps in found) / len(found)
    print(
        f"{len(found)} images of {height}x{width}, {regions:.1f} instances each; "
        f"medians of {rounds} rounds in turn; "
        f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for case, of_case in results.items():
        for name, one in of_case.items():
            milliseconds = 1000 * one.seconds / len(found)
            print(f"{case:30} {name:20} {milliseconds:8.1f} ms/image {one.speedup:6.2f}x")
    print(json.dumps(results, default=asdict))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.cluster_features", cluster_features, {}, argv)


if __name__ == "__main__":
    main()
