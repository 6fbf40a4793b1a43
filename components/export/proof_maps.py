"""Maps on which an exported file is compared with PyTorch."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from components.export.checks import check_style
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import GeneratorInput, ModelCard
from shared.data.maps import Sample
from shared.data.reader import PairReader
from shared.deployed.form import Form


def maps_of_proof(form: Form, card: ModelCard, dataset: Path | None, count: int) -> list[Sample]:
    """Real maps where there is a data set, `count` at the size of the file; where that is dynamic
    as many more of odd size."""
    if dataset is None:
        print("export: no --dataset, so the proof is on generated maps", flush=True)
        size = form.size or (card.height, card.width)
        samples = generated_maps(form.reads, count, size)
    else:
        samples = real_maps(dataset, form, count)
    check_style(form.graph.style, all(sample.ids is not None for sample in samples), dataset)
    if form.size is None:
        samples += [cropped(sample, rows=3, columns=5) for sample in samples]
    return samples


def cropped(sample: Sample, rows: int, columns: int) -> Sample:
    """The maps without that many rows at the bottom and columns at the right."""
    part = np.s_[..., :-rows, :-columns]
    dense_ids = None if sample.ids is None else sample.dense_ids[part]
    name = f"{sample.name} (without {rows} rows and {columns} columns)"
    return replace(sample, name=name, inputs=sample.inputs[part], dense_ids=dense_ids)


def real_maps(dataset: Path, form: Form, count: int) -> list[Sample]:
    """Maps of the first test pairs, and of training pairs where these are too few, at the size of
    the form, or each at its own; named SPLIT/NAME."""
    manifest = DatasetManifest.read(dataset)
    form.reads.refuse_other_data(dataset, manifest)
    samples = []
    for split in ("test", "train"):
        reader = PairReader(dataset, manifest, split)
        missing = min(len(reader), count - len(samples))
        read = [reader.read(i, form.size, with_photo=False) for i in range(missing)]
        samples += [replace(sample, name=f"{split}/{sample.name}") for sample in read]
    return samples


def generated_maps(reads: GeneratorInput, count: int, size: tuple[int, int]) -> list[Sample]:
    """Street-like maps, the same at every call: sky, houses and road as bands, things as rectangles
    before them.

    Where the input is a picture, each label is a colour.

    Ids as in Cityscapes: an instance is its label, or label * 1000 + a running number for things.
    """
    rng = np.random.default_rng(0)
    (height, width), num_labels = size, reads.num_labels or 256
    samples = []
    for number in range(count):
        bands = rng.integers(num_labels, size=3)
        labels = np.empty((height, width), np.uint8)
        labels[:] = bands[np.arange(height) * 3 // height][:, None]
        instances = labels.astype(np.int32)
        for thing in range(12):
            label = rng.integers(num_labels)
            top, left = rng.integers(height), rng.integers(width)
            box = np.s_[top : top + 1 + height // 4, left : left + 1 + width // 8]
            labels[box] = label
            instances[box] = label * 1000 + thing
        inputs = labels
        if reads.input_nc:
            colours = rng.integers(256, size=(reads.input_nc, 256), dtype=np.uint8)
            inputs = colours[:, labels]  # (C, H, W)
        samples.append(Sample.of_maps(f"generated_{number}", inputs, instances))
    return samples
