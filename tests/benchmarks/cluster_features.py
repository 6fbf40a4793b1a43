"""`python -m tests.benchmarks.cluster_features`: our features beside the references' loop, in turn
in one run.

The loop is written as pix2pixHD has it: for each id of the map a mask, whose pixels get their mean
channel by channel; then for each id a mask again, of which the middle pixel is read. First the
values are compared, then the clock. With --scale: time and memory of the whole step over many small
images, each in a process of its own."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
import tyro
from torch import Tensor, nn

from components.cluster.exchange.reference_files import AREA_UNIT, Table
from components.cluster.features import rows_of_images
from components.train.networks.init import init_weights
from shared.command import command_line
from shared.condition import to_signed
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture, ModelCard
from shared.data.images import encode_ids, encode_picture
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.errors import InputError
from shared.networks.build import build_encoder
from shared.networks.checkpoint import save_weights

HEIGHT, WIDTH = 512, 1024
THINGS, STUFF = 24, 4  # of a generated image: as many instances as one of Cityscapes has
SIDE = 64  # pixels of the images of --scale
DISTINCT = 100  # images that are drawn for --scale; the others are copies of them under other names
COUNTS = (100, 1000, 3000)


def street(rng: np.random.Generator, height: int, width: int) -> Sample:
    """Bands of stuff with rectangles of things before them."""
    instances = np.repeat(rng.integers(24, size=STUFF), -(-height // STUFF))[:height, None].repeat(
        width, axis=1
    )
    for number in range(THINGS):
        top, left = rng.integers(height), rng.integers(width)
        box = np.s_[top : top + height // 6, left : left + width // 8]
        instances[box] = 1000 * rng.integers(24, 34) + number
    labels = np.where(instances < 1000, instances, instances // 1000).astype(np.uint8)
    photo = (labels * 7 + rng.integers(0, 9, (3, height, width))).astype(np.uint8)
    return Sample.of_maps("street", labels, instances, photo)


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


def architecture() -> Architecture:
    """pix2pixHD's encoder, 512p."""
    numbers = dict(
        ngf=64, n_downsample_global=4, n_blocks_global=9, n_local_enhancers=1, n_blocks_local=3
    )
    numbers |= dict(num_D=2, ndf=64, n_layers_D=3, nef=16, n_downsample_E=4)
    return Architecture(
        netG="global", num_labels=35, input_nc=0, use_instances=True, feat_num=3, **numbers
    )


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
    tables = []
    for maps, rows in zip(
        images,
        rows_of_images(
            encoded, [m.regions("instances") for m in images], [m.inputs for m in images]
        ),
        strict=True,
    ):
        areas = rows.areas * maps.inputs.size / (maps.inputs.size // AREA_UNIT)
        columns = np.column_stack([rows.features, areas])
        tables.append({label: columns[rows.labels == label] for label in range(35)})
    return tables


def check_equal(wanted: list[Table], found: list[Table]) -> None:
    for one, other in zip(wanted, found, strict=True):
        for label, rows in one.items():
            assert rows.shape == other[label].shape, (
                f"label {label}: {rows.shape} and {other[label].shape} rows"
            )
            np.testing.assert_allclose(
                other[label], rows, rtol=0, atol=1e-5, err_msg=f"label {label}"
            )


def encode(encoder: nn.Module, images: list[Sample]) -> Tensor:
    return encoder(to_signed(torch.from_numpy(np.stack([maps.photo for maps in images]))))


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Seconds of each call, and its speed relative to the first: medians over rounds in which they
    take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_number:  # the first is the warm-up
                seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds.values()))
    return {
        name: (
            statistics.median(own),
            statistics.median(plain / o for plain, o in zip(first, own, strict=True)),
        )
        for name, own in seconds.items()
    }


@torch.inference_mode()
def compare(
    images: list[Sample], batch_size: int, rounds: int
) -> dict[str, dict[str, tuple[float, float]]]:
    """Seconds over all images and speed-ups, of pooling and picking, and with the encoder before
    them."""
    torch.manual_seed(0)
    encoder = build_encoder(architecture()).apply(init_weights).eval()
    encoded = [encode(encoder, [maps]) for maps in images]
    batches = [images[at : at + batch_size] for at in range(0, len(images), batch_size)]
    looped = lambda: [loop(features, maps) for features, maps in zip(encoded, images, strict=True)]  # noqa: E731
    pooled = lambda: [ours(f, [maps])[0] for f, maps in zip(encoded, images, strict=True)]  # noqa: E731
    wanted = looped()
    check_equal(wanted, pooled())
    check_equal(
        wanted, [table for batch in batches for table in ours(encode(encoder, batch), batch)]
    )
    return {
        "pooling and picking": interleaved({"loop": looped, "ours": pooled}, rounds),
        "encoder, pooling and picking": interleaved(
            {
                "loop": lambda: [loop(encode(encoder, [maps]), maps) for maps in images],
                "ours, one by one": lambda: [
                    ours(encode(encoder, [maps]), [maps]) for maps in images
                ],
                f"ours, batches of {batch_size}": lambda: [
                    ours(encode(encoder, batch), batch) for batch in batches
                ],
            },
            rounds,
        ),
    }


def write_scale_data(folder: Path, count: int) -> None:
    """`count` training images, prepared, and a model with an untrained encoder."""
    rng = np.random.default_rng(0)
    images = [street(rng, SIDE, SIDE) for _ in range(DISTINCT)]
    contents = [
        {
            "img": encode_picture(maps.photo, ".png"),
            "label": encode_ids(maps.inputs, Path("labels.png")),
            "inst": encode_ids(maps.instances, Path("instances.png")),
        }
        for maps in images
    ]
    for split, size in (("train", count), ("test", 1)):
        for kind in ("img", "label", "inst"):
            (folder / "raw" / f"{split}_{kind}").mkdir(parents=True)
            for number in range(size):
                path = folder / "raw" / f"{split}_{kind}" / f"{number:06d}.png"
                path.write_bytes(contents[number % DISTINCT][kind])
    command = [sys.executable, "-m", "components.prepare", "--size", f"{SIDE}x{SIDE}"]
    command += ["--raw-data", folder / "raw", "--dataset", folder / "dataset"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    torch.manual_seed(0)
    encoder = build_encoder(architecture()).apply(init_weights)
    values = dict(
        epoch=0, images_seen=0, dataset_digest="", parent_digest="", config={"size": ""}, metrics={}
    )
    digest = save_weights(folder / "model", {"E": encoder})
    ModelCard(architecture=architecture(), height=SIDE, width=SIDE, digest=digest, **values).write(
        folder / "model"
    )


def run_measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and the most memory that the command held at once, in 10^6 bytes.

    Without the pages of mapped files, such as the cache of the data set: the system takes those
    back as it likes."""
    start, peak = time.monotonic(), 0
    with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                memory = process.memory_info()
            except psutil.NoSuchProcess:
                break
            peak = max(peak, memory.rss - memory.shared)
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with exit code {process.returncode}")
    return time.monotonic() - start, peak / 1e6


def measure_scale(counts: list[int]) -> list[dict[str, float]]:
    rows = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            write_scale_data(Path(folder), count)
            command = [sys.executable, "-m", "components.cluster", "--device", "cpu"]
            for name in ("dataset", "model", "clusters"):
                command += [f"--{name}", f"{folder}/{name}"]
            seconds, memory_mb = run_measured(command)
        row = {
            "images": count,
            "seconds": seconds,
            "images_per_second": count / seconds,
            "peak_memory_mb": memory_mb,
        }
        print("  ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)
        rows.append(row)
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
        print(json.dumps(measure_scale(list(counts))))
        return
    rng = np.random.default_rng(0)
    found = real_maps(dataset) if dataset else []
    found = found or [street(rng, HEIGHT, WIDTH) for _ in range(images)]
    found = found[:images]
    results = compare(found, batch_size, rounds)
    regions = sum(len(np.unique(maps.instances)) for maps in found) / len(found)
    print(
        "{} images of {}x{}, {:.1f} instances each; ".format(
            len(found), *found[0].inputs.shape, regions
        )
        + f"medians of {rounds} rounds in turn; "
        + f"CPU, {torch.get_num_threads()} threads, torch "
        + torch.__version__
    )
    for case, of_case in results.items():
        for name, (seconds, speedup) in of_case.items():
            print(
                f"{case:30} {name:20} {1000 * seconds / len(found):8.1f} ms/image {speedup:6.2f}x"
            )
    print(json.dumps(results))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.cluster_features", cluster_features, {}, argv)


if __name__ == "__main__":
    main()
