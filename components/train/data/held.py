"""What training pairs are made of beside their files: frames held in memory, features of the
cluster step."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from components.train.config import CacheName
from components.train.data.batches import PairDataset
from shared.contracts.clusters import ClusterTable, read_features
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import PhotoChannels
from shared.data.frames import record_bytes
from shared.device import Runtime, pick
from shared.errors import InputError

FRAMES_SHARE = 0.8  # of the free memory that frames may take: the networks need the rest


def hold_frames(pairs: PairDataset, cache: CacheName, runtime: Runtime) -> None:
    """Read all frames into memory or onto the device where --cache says so.

    Raises InputError where they do not fit."""
    if cache not in ("memory", "device"):
        return
    reader = pairs.reader
    frames = reader.manifest, pairs.size, reader.photo_channels
    needed_gb = check_frames_fit(cache, *frames, runtime)
    pairs.keep(_keeper(cache, runtime).torch_device)
    print(f"all frames are held in {cache}: {needed_gb:.2f} GB", flush=True)


def check_frames_fit(
    cache: CacheName,
    manifest: DatasetManifest,
    size: tuple[int, int] | None,
    photo_channels: PhotoChannels,
    runtime: Runtime,
) -> float:
    """10^9 bytes that frames held by --cache will take. Raises InputError where they do not fit, or
    leave the networks no part.

    size: (height, width) that they are brought to, None = their own."""
    if cache not in ("memory", "device"):
        return 0.0
    frames = manifest.train
    if size:
        frames = [replace(pair, height=size[0], width=size[1]) for pair in frames]
    needed_gb = sum(record_bytes(manifest, frame, photo_channels) for frame in frames) / 1e9
    free_gb = _keeper(cache, runtime).free_memory_bytes() / 1e9
    if needed_gb > FRAMES_SHARE * free_gb:
        raise InputError(
            f"--cache {cache}: the frames take {needed_gb:.1f} GB but {free_gb:.1f} GB are "
            "free, of which the networks need a part: say --cache auto."
        )
    return needed_gb


def _keeper(cache: CacheName, runtime: Runtime) -> Runtime:
    """Whose memory holds the frames."""
    return runtime if cache == "device" else pick("cpu", "fp32")


def features_by_image(
    clusters: Path, manifest: DatasetManifest
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Image name -> its instance ids (K,), sorted, and their features (F, K), as the cluster step
    stored them."""
    table = ClusterTable.read(clusters)
    if table.dataset_digest != manifest.digest:
        raise InputError(
            f"--clusters {clusters} was made from another data set: run the cluster step on this "
            "one."
        )
    images = [pair.name for pair in manifest.train]
    stored = read_features(clusters, table, images)
    start, ids, features = (stored[name] for name in ("start", "ids", "features"))
    bounds = zip(images, start[:-1], start[1:], strict=True)
    return {name: (ids[a:b], features[a:b].T) for name, a, b in bounds}


def digest_features(features: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Short SHA-256 of what `features_by_image` gives: the same whenever the file was written."""
    sha = hashlib.sha256()
    for name, (ids, table) in sorted(features.items()):
        sha.update(name.encode() + ids.tobytes() + table.tobytes())
    return sha.hexdigest()[:16]
