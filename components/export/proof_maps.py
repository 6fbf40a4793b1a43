"""Maps on which an exported file is compared with PyTorch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.export.config import ExportConfig
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import GeneratorInput, ModelCard
from shared.data.maps import PairReader
from shared.deployed.form import Form
from shared.errors import InputError


@dataclass(frozen=True)
class Maps:
    """What a generator reads."""

    inputs: np.ndarray  # labels (H, W) uint8, or a picture (C, H, W) uint8
    instances: np.ndarray | None  # (H, W) int32

    def cropped(self, rows: int, columns: int) -> "Maps":
        """Without that many rows at the bottom and columns at the right."""
        part = np.s_[..., :-rows, :-columns]
        return Maps(self.inputs[part], None if self.instances is None else self.instances[part])


def maps_of_proof(
    form: Form, card: ModelCard, dataset: Path | None, config: ExportConfig
) -> list[Maps]:
    """Real maps where there is a data set, at the size of the file; where that is dynamic some of
    odd size."""
    if dataset is None:
        print("export: no --dataset, so the proof is on generated maps", flush=True)
        size = form.size or (card.height, card.width)
        samples = generated_maps(form.reads, config.parity_samples, size)
    else:
        samples = real_maps(dataset, form, config.parity_samples)
    if form.graph.style == "instance" and any(sample.instances is None for sample in samples):
        raise InputError(
            f"--style instance needs instance maps but --dataset {dataset} has none: give label "
            "or map."
        )
    if form.size is None:
        samples += [sample.cropped(rows=3, columns=5) for sample in samples]
    return samples


def real_maps(dataset: Path, form: Form, count: int) -> list[Maps]:
    """Maps of the first test pairs, and of training pairs where these are too few, at the size of
    the form, or each at its own."""
    manifest = DatasetManifest.read(dataset)
    form.reads.refuse_other_data(dataset, manifest)
    samples = []
    for split in ("test", "train"):
        reader = PairReader(dataset, manifest, split)
        samples += [
            reader.read(i, form.size) for i in range(min(len(reader), count - len(samples)))
        ]
    # copies: a cache is read-only
    return [Maps(np.array(sample.inputs), sample.instances) for sample in samples]


def generated_maps(reads: GeneratorInput, count: int, size: tuple[int, int]) -> list[Maps]:
    """Street-like maps, the same at every call: sky, houses and road as bands, things as rectangles
    before them.

    Where the input is a picture, each label is a colour.

    Ids as in Cityscapes: an instance is its label, or label * 1000 + a running number for things.
    """
    rng = np.random.default_rng(0)
    (height, width), num_labels = size, reads.num_labels or 256
    samples = []
    for _ in range(count):
        bands = rng.integers(num_labels, size=3)
        labels = np.empty((height, width), np.uint8)
        labels[:] = bands[np.arange(height) * 3 // height][:, None]
        instances = labels.astype(np.int32)
        for number in range(12):
            label = rng.integers(num_labels)
            top, left = rng.integers(height), rng.integers(width)
            box = np.s_[top : top + 1 + height // 4, left : left + 1 + width // 8]
            labels[box] = label
            instances[box] = label * 1000 + number
        inputs = labels
        if reads.input_nc:
            colours = rng.integers(256, size=(reads.input_nc, 256), dtype=np.uint8)
            inputs = colours[:, labels]  # (C, H, W)
        samples.append(Maps(inputs, instances))
    return samples
