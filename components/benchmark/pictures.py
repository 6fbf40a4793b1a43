"""The pictures of a report: input (label maps in colours) | synthesised | real."""

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from components.benchmark.runners import maps_of
from shared.condition import to_uint8
from shared.contracts import DatasetManifest, ModelCard
from shared.images import write_photo
from shared.pictures import show_inputs
from shared.quality import psnr_db, ssim
from shared.samples import PairReader


@dataclass(frozen=True)
class Shown:
    """One pair of the report; pictures are (H, W, 3) uint8."""

    split: str
    name: str
    input: np.ndarray
    synthesised: np.ndarray
    real: np.ndarray | None
    psnr_db: float | None
    ssim: float | None

    def pictures(self) -> dict[str, np.ndarray]:
        """By caption, in the order they are shown."""
        pictures = {"input": self.input, "synthesised": self.synthesised, "real": self.real}
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
    reader = PairReader(dataset, manifest, split)
    for index, pair in enumerate(reader.pairs):
        if index >= max_pictures and not (pair.has_photo and split == "test"):
            continue
        sample = reader.read(index, (card.height, card.width))
        photo = None if sample.photo is None else sample.photo.transpose(1, 2, 0)  # (H, W, 3)
        signed = painter(maps_of(sample, card))[0]  # (3, H, W), [-1, 1]
        picture = to_uint8(torch.from_numpy(signed)).permute(1, 2, 0).numpy()  # (H, W, 3)
        yield Shown(
            split=split,
            name=pair.name,
            input=show_inputs(sample.inputs, manifest.num_labels),
            synthesised=picture,
            real=photo,
            psnr_db=None if photo is None else psnr_db(picture, photo),
            ssim=None if photo is None else ssim(picture, photo),
        )


def write_pictures(folder: Path, shown: Shown) -> None:
    """<split>_<name>_<caption>.png"""
    for caption, picture in shown.pictures().items():
        write_photo(folder / f"{shown.split}_{shown.name}_{caption}.png", picture)


def data_uri(caption: str, picture: np.ndarray) -> str:
    """The picture inside a page: inputs without loss, the others as JPEG, or a report of 1024x2048 takes 100 MB."""
    kind, options = ("png", {}) if caption == "input" else ("jpeg", {"quality": 92, "subsampling": 0})
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
