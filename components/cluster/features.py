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
from shared.samples import PairReader, resize_picture


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
    """Encode each photo at the size that the model was trained at, pool over the instances at the data set's size.

    Nearest up-sampling between the two keeps the borders of the instances sharp.
    """
    encoder.to(runtime.torch_device)
    images, start = [], time.perf_counter()
    reader = PairReader(dataset, manifest, "train")
    frame_size = (card.height, card.width) if card.config["size"] else None
    for index in range(len(reader)):
        sample = reader.read(index)
        ids, dense = sample.regions(card.architecture.feature_regions)
        photo = resize_picture(sample.photo, *frame_size) if frame_size else sample.photo
        photo = to_signed(torch.from_numpy(photo.copy()).to(runtime.torch_device)).unsqueeze(0)
        with runtime.autocast():
            features = encoder(photo).float()
        features = F.interpolate(features, size=dense.shape, mode="nearest")
        table = instance_mean(features, torch.tensor(dense).unsqueeze(0).to(runtime.torch_device), len(ids))
        areas = np.bincount(dense.ravel()) / dense.size
        labels = sample.inputs if manifest.num_labels else np.zeros_like(dense, np.uint8)  # pictures: one group
        images.append((ids, majority_labels(dense, labels, len(ids)), areas, table[0].t().cpu().numpy()))
        done = index + 1
        if done == len(reader) or done % 500 == 0:
            rate = done / (time.perf_counter() - start)
            print(f"encoded {done}/{len(reader)} images, {rate:.1f} images/s", flush=True)
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
