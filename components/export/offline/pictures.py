"""The output files of ais_bench as pictures.

They take the place of what the seed's pix2pixhd_postprocess.py wrote. A file that ais_bench writes
is named after its input: the name up to the first dot, `_`, and the number of the network's
output."""

from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np

from components.export.offline.inputs import pairs_by_output
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import PhotoChannels
from shared.data.images import resize_picture, write_picture
from shared.deployed.synthesiser import to_pixels
from shared.errors import InputError
from shared.files.arrays import read_npy
from shared.files.owned import refuse_unwritable, refused_if_unwritable
from shared.files.writing import sync_all

CHANNELS = get_args(PhotoChannels)  # of a network's pictures


def write_pictures(
    outputs: Path,
    out: Path,
    suffix: str,
    dataset: Path | None,
    split: str,
    size: tuple[int, int] | None,
) -> None:
    """Write the network outputs that ais_bench left in `outputs` as <name>.<suffix>.

    Their height and width are `size`, or those of the pair of this name in `dataset`; a .npy of
    others is resized."""
    files = sorted(path for path in outputs.glob("*") if path.suffix in (".bin", ".npy"))
    if not files:
        raise InputError(
            f"--outputs {outputs} holds no .bin or .npy files: give the folder that ais_bench "
            "wrote them to."
        )
    pairs = pairs_by_output(dataset, DatasetManifest.read(dataset), split) if dataset else {}

    # Which picture each file becomes, and of what size.
    jobs: dict[str, tuple[Path, tuple[int, int]]] = {}
    for file in files:
        name, _, number = file.stem.rpartition("_")
        if not (name and number.isdecimal()):
            raise InputError(
                f"--outputs {outputs} holds {file.name}, which is not named <name>_<number> as by "
                "ais_bench: rename or remove it."
            )
        if dataset and name not in pairs:
            raise InputError(
                f"--outputs {outputs} holds {file.name} but --dataset {dataset} has no {split} "
                f"pair {name}: give the data set and --split that the inputs were made from."
            )
        picture = f"{pairs[name].name if dataset else name}.{suffix}"
        if picture in jobs:
            raise InputError(
                f"--outputs {outputs} holds both {jobs[picture][0].name} and {file.name} for "
                f"{picture}: remove one."
            )
        jobs[picture] = file, (pairs[name].height, pairs[name].width) if dataset else size

    # The pictures.
    refuse_unwritable(out, "--out", jobs)
    with refused_if_unwritable(out, "--out"):
        for name, (file, wanted_size) in jobs.items():
            picture = read_output(file, *wanted_size, size_is_certain=size is not None)
            pixels = resize_picture(to_pixels(picture), *wanted_size)  # (1 or 3, H, W) uint8
            write_picture(out / name, pixels)
        sync_all(out)
    print(f"offline: wrote {len(jobs)} pictures to {out}")


def read_output(file: Path, height: int, width: int, size_is_certain: bool) -> np.ndarray:
    """A picture (1 or 3, H, W), float32 or float16 in [-1, 1] and finite, or uint8; H and W of a
    .bin are those given.

    Raises InputError for anything else, and for a .bin that may be uint8 or float32 of a smaller
    size."""
    # A .npy tells its type and shape.
    if file.suffix == ".npy":
        array = read_npy(file, "run the network again")
        array = array[0] if array.ndim == 4 and len(array) == 1 else array
        known = array.dtype in (np.float32, np.float16, np.uint8)
        if not known or array.ndim != 3 or len(array) not in CHANNELS or not array.size:
            raise InputError(
                f"{file} holds {array.dtype} of shape {array.shape}: give float32, float16 or "
                "uint8 of (3, height, width), or (1, height, width) of grey pictures."
            )

    # A .bin tells neither: channels and type follow from its length.
    else:
        length, count = file.stat().st_size, height * width
        types = product(CHANNELS, ((4, "<f4"), (2, "<f2"), (1, "u1")))
        kinds = {channels * bytes_ * count: (channels, name) for channels, (bytes_, name) in types}
        if length not in kinds:
            raise InputError(
                f"{file} has {length} bytes but a picture of {height}x{width} has {12 * count} as "
                f"float32, {6 * count} as float16, {3 * count} as uint8, or a third of these where "
                "it is grey: give the --size that the network makes, without --dataset."
            )
        channels, dtype = kinds[length]
        if dtype == "u1" and not size_is_certain:
            raise InputError(
                f"{file} has {length} bytes, a picture of {height}x{width} as uint8 or of half "
                "those sides as float32: give the --size that the network makes, without "
                "--dataset."
            )
        array = np.fromfile(file, dtype).reshape(channels, height, width)

    if not np.isfinite(array).all():
        raise InputError(
            f"{file} holds nan or inf: the network is broken, compare it with `export`'s own proof."
        )
    return array
