"""One feature vector per instance of the training set, by the trained encoder."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from shared.condition import instance_mean, to_signed
from shared.contracts import DatasetManifest, ModelCard, write_atomically
from shared.device import Runtime
from shared.images import resize_photo
from shared.samples import dense_ids, read_sample


@dataclass(frozen=True)
class InstanceFeatures:
    """Rows are instances, image after image; those of image i are start[i]:start[i + 1], sorted by id."""

    names: np.ndarray  # (images,) image names
    start: np.ndarray  # (images + 1,) int64
    ids: np.ndarray  # (rows,) int32, as in the instance maps
    labels: np.ndarray  # (rows,) int32, the label that most of the instance's pixels have
    areas: np.ndarray  # (rows,) float32, share of the image
    features: np.ndarray  # (rows, feat_num) float32 in [-1, 1]

    def write(self, path: Path) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **vars(self))
        write_atomically(path, buffer.getvalue())


@torch.inference_mode()
def encode_instances(
    encoder: nn.Module, card: ModelCard, dataset: Path, manifest: DatasetManifest, runtime: Runtime
) -> InstanceFeatures:
    """Encode each photo at the model's size, pool over the instances at the data set's size.

    Nearest up-sampling between the two keeps the borders of the instances sharp.
    """
    encoder.to(runtime.torch_device)
    images, start = [], time.perf_counter()
    for done, pair in enumerate(manifest.train, 1):
        sample = read_sample(dataset, manifest, "train", pair, manifest.height, manifest.width)
        ids, dense = dense_ids(sample.instances)
        photo = torch.from_numpy(resize_photo(sample.photo, card.height, card.width).copy())
        photo = to_signed(photo.to(runtime.torch_device)).permute(2, 0, 1).unsqueeze(0)
        with runtime.autocast():
            features = encoder(photo).float()
        features = F.interpolate(features, size=dense.shape, mode="nearest")
        table = instance_mean(features, torch.from_numpy(dense).unsqueeze(0).to(runtime.torch_device), len(ids))
        areas = np.bincount(dense.ravel()) / dense.size
        images.append((ids, majority_labels(dense, sample.labels, len(ids)), areas, table[0].t().cpu().numpy()))
        if done == len(manifest.train) or done % 500 == 0:
            rate = done / (time.perf_counter() - start)
            print(f"encoded {done}/{len(manifest.train)} images, {rate:.1f} images/s", flush=True)
    ids, labels, areas, features = map(np.concatenate, zip(*images, strict=True))
    return InstanceFeatures(
        names=np.array([pair.name for pair in manifest.train]),
        start=np.cumsum([0] + [len(image[0]) for image in images]),
        ids=ids.astype(np.int32),
        labels=labels,
        areas=areas.astype(np.float32),
        features=features,
    )


def majority_labels(dense: np.ndarray, labels: np.ndarray, num_instances: int) -> np.ndarray:
    """(H, W) instance positions and labels -> (num_instances,) int32: the commonest label of each instance."""
    counts = np.bincount(dense.ravel().astype(np.int64) * 256 + labels.ravel(), minlength=num_instances * 256)
    return counts.reshape(num_instances, 256).argmax(axis=1).astype(np.int32)
