"""The pictures of a report: label map in colours | synthesised | real."""

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components.benchmark.quality import psnr_db, ssim
from components.benchmark.runners import maps_of
from shared.condition import to_uint8
from shared.contracts import DatasetManifest, ModelCard, Pair
from shared.images import write_photo
from shared.pictures import colour_labels
from shared.samples import read_sample


@dataclass(frozen=True)
class Shown:
    """One pair of the report; pictures are (H, W, 3) uint8."""

    split: str
    name: str
    label: np.ndarray
    synthesised: np.ndarray
    real: np.ndarray | None
    psnr_db: float | None
    ssim: float | None

    def pictures(self) -> dict[str, np.ndarray]:
        """By caption, in the order they are shown."""
        pictures = {"label": self.label, "synthesised": self.synthesised, "real": self.real}
        return {caption: picture for caption, picture in pictures.items() if picture is not None}


def synthesise(
    painter: Callable[[dict[str, np.ndarray]], np.ndarray],
    dataset: Path,
    manifest: DatasetManifest,
    card: ModelCard,
    split: str,
    max_pictures: int,
) -> Iterator[Shown]:
    """The first `max_pictures` pairs of a split, then the other test pairs that have a photo to be measured against."""
    pairs: list[Pair] = getattr(manifest, split)
    measured = [pair for pair in pairs[max_pictures:] if pair.has_photo and split == "test"]
    for pair in pairs[:max_pictures] + measured:
        sample = read_sample(dataset, manifest, split, pair, card.height, card.width)
        signed = painter(maps_of(sample, card))[0]  # (3, H, W), [-1, 1]
        picture = to_uint8(torch.from_numpy(signed)).permute(1, 2, 0).numpy()  # (H, W, 3)
        yield Shown(
            split=split,
            name=pair.name,
            label=colour_labels(sample.labels),
            synthesised=picture,
            real=sample.photo,
            psnr_db=None if sample.photo is None else psnr_db(picture, sample.photo),
            ssim=None if sample.photo is None else ssim(picture, sample.photo),
        )


def write_pictures(folder: Path, shown: Shown) -> None:
    """<split>_<name>_<caption>.png"""
    for caption, picture in shown.pictures().items():
        write_photo(folder / f"{shown.split}_{shown.name}_{caption}.png", picture)


def data_uri(caption: str, picture: np.ndarray) -> str:
    """The picture inside a page: label maps without loss, the others as JPEG, or a report of 1024x2048 takes 100 MB."""
    kind, options = ("png", {}) if caption == "label" else ("jpeg", {"quality": 92, "subsampling": 0})
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
