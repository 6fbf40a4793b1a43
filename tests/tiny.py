"""Networks of a few channels and data sets of a few pixels, for all tests."""

from pathlib import Path

import numpy as np

from shared.contracts import Architecture, DatasetManifest, Pair, digest_files
from shared.images import write_ids, write_photo


def architecture(**changes) -> Architecture:
    values = dict(
        netG="global",
        num_labels=35,
        use_instances=True,
        feat_num=0,
        ngf=4,
        n_downsample_global=2,
        n_blocks_global=1,
        n_local_enhancers=1,
        n_blocks_local=1,
        num_D=2,
        ndf=4,
        n_layers_D=2,
        nef=4,
        n_downsample_E=2,
    )
    return Architecture(**values | changes)


# The same networks as options of `python -m components.train`.
TRAIN = dict(
    ngf=4,
    n_downsample_global=2,
    n_blocks_global=1,
    n_blocks_local=1,
    ndf=4,
    n_layers_D=2,
    nef=4,
    n_downsample_E=2,
    workers=0,
)


def maps(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of 8 pixels: labels 0..34 (uint8) and Cityscapes-like instance ids (uint16)."""
    labels = rng.integers(0, 35, (height // 8, width // 8))
    numbers = rng.integers(0, 3, labels.shape)
    instances = np.where(labels >= 24, labels * 1000 + numbers, labels)
    grow = np.ones((8, 8), int)
    return np.kron(labels, grow).astype(np.uint8), np.kron(instances, grow).astype(np.uint16)


def dataset(folder: Path, train: int = 4, test: int = 2, height: int = 32, width: int = 64) -> DatasetManifest:
    """A prepared data set; the last test pair has no photo."""
    rng = np.random.default_rng(0)
    pairs = {"train": [], "test": []}
    files = []
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            name, has_photo = f"{split}_{i}", split == "train" or i < count - 1
            labels, instances = maps(rng, height, width)
            arrays = {"label": labels, "inst": instances}
            if has_photo:
                colours = np.stack([labels * 7, 255 - labels * 5, (instances * 37 % 256).astype(np.uint8)], axis=-1)
                arrays["img"] = colours
            for suffix, array in arrays.items():
                path = folder / f"{split}_{suffix}" / f"{name}.png"
                (write_photo if suffix == "img" else write_ids)(path, array)
                files.append(path)
            pairs[split].append(Pair(name=name, has_photo=has_photo))
    manifest = DatasetManifest(
        height=height,
        width=width,
        num_labels=35,
        has_instances=True,
        source="tests",
        digest=digest_files(files),
        **pairs,
    )
    manifest.write(folder)
    return manifest
