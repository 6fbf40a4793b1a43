"""Networks that measure pictures: LPIPS, FID and KID, segmentation. Each is an ONNX file that the
user gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F

from shared.condition import to_signed
from shared.data.images import resize_ids, resize_photo
from shared.errors import InputError
from shared.quality import frechet_distance, kernel_distance

Size = tuple[int, int]  # (height, width)

FEW_FOR_FID = 10_000  # pictures; what Heusel et al. 2017 advise to have at least
FEW_FOR_KID = 1_000  # of the subsets that other programs average it over
# Label ids of Cityscapes (0..33, some have a 34th) of the 19 classes that its networks tell apart.
CITYSCAPES_CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_NUM_LABELS = (34, 35)


class _Network:
    """An ONNX file for pictures of one size, tried out before there are any. Its first output
    counts.

    Args:
        flag: What the user gave the file with, for refusals.
        pictures: Inputs that it must have, each (1, 3, height, width) float32.
        size: Of the pictures that will come. Where the file has a size of its own, `size` is that
            one.
        device: Of the step; the network runs on a GPU too, and otherwise on the CPU.
    """

    def __init__(self, flag: str, file: str, pictures: int, size: Size, device: str):
        self.flag, self.file = flag, file
        self.session = self._load("cuda" if device == "cuda" else "cpu")
        inputs = self.session.get_inputs()
        if len(inputs) != pictures:
            names = ", ".join(each.name for each in inputs)
            raise self.refusal(
                f"has {len(inputs)} inputs ({names})", f"give one that takes {pictures}"
            )
        for each in inputs:
            fits = each.type == "tensor(float)" and len(each.shape) == 4
            if not fits or any(
                isinstance(n, int) and n != m for n, m in zip(each.shape, (1, 3), strict=False)
            ):
                raise self.refusal(
                    f"takes {each.type} of shape {each.shape}",
                    "export it for float32 pictures (1, 3, height, width) with a batch of 1 or of "
                    "any number",
                )
        sides = zip(inputs[0].shape[2:], size, strict=True)
        self.size: Size = tuple(own if isinstance(own, int) else side for own, side in sides)
        self.names = [each.name for each in inputs]

    def _load(self, device: str):
        if not Path(self.file).is_file():
            raise InputError(
                f"{self.flag} {self.file} is no file: give an ONNX file, or leave it out."
            )
        try:
            from shared.deployed.runners import (
                OnnxRunner,  # a training without measuring networks needs no ONNX Runtime
            )
        except ModuleNotFoundError:
            raise InputError(
                f"{self.flag} needs ONNX Runtime: `pip install onnxruntime`, or leave it out."
            ) from None
        try:
            return OnnxRunner(self.file, "fp32", device).session
        except Exception as error:  # ONNX Runtime has a class for every reason
            raise self.refusal(
                f"cannot be loaded ({_reason(error)})", "give a complete ONNX file"
            ) from None

    def refusal(self, found: str, remedy: str) -> InputError:
        return InputError(f"{self.flag} {self.file} {found}: {remedy}.")

    def run(self, *pictures: np.ndarray) -> np.ndarray:
        """Pictures (1, 3, height, width) float32 -> its first output."""
        return self.session.run(None, dict(zip(self.names, pictures, strict=True)))[0]

    def try_out(self) -> np.ndarray:
        blank = np.zeros((1, 3, *self.size), np.float32)
        try:
            return self.run(*[blank] * len(self.names))
        except Exception as error:
            height, width = self.size
            raise self.refusal(
                f"fails on a picture of {height}x{width} ({_reason(error)})",
                "export it for this size or for any",
            ) from None

    def unit_range(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (1, 3, height, width) float32 in [0, 1], bicubic with antialiasing to
        its size."""
        resized = resize_photo(picture, *self.size)
        return np.ascontiguousarray(resized.transpose(2, 0, 1)[None], np.float32) / 255


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__


class LpipsNetwork(_Network):
    """Perceptual distance (Zhang et al. 2018): two pictures (N, 3, H, W) in [-1, 1] -> (N,) or (N,
    1, 1, 1)."""

    def __init__(self, file: str, size: Size, device: str = "cpu"):
        super().__init__("--lpips-network", file, 2, size, device)
        if self.size != size:  # distances at another size are others
            raise self.refusal(
                f"takes pictures of {self.size[0]}x{self.size[1]} but these are "
                f"{size[0]}x{size[1]}",
                "export it with dynamic height and width",
            )
        output = self.try_out()
        if output.size != 1:
            raise self.refusal(
                f"gives {output.shape} of one pair", "export it to give one distance, not a map"
            )

    def __call__(self, picture: np.ndarray, photo: np.ndarray) -> float:
        """Two pictures (H, W, 3) uint8."""
        signed = [
            to_signed(torch.tensor(each)).permute(2, 0, 1).unsqueeze(0).numpy()
            for each in (picture, photo)
        ]
        return self.run(*map(np.ascontiguousarray, signed)).item()


class FeatureNetwork(_Network):
    """What FID and KID compare: pictures (N, 3, H, W) in [0, 1] -> features (N, C) or (N, C, 1,
    1)."""

    def __init__(self, file: str, size: Size, device: str = "cpu"):
        super().__init__("--fid-network", file, 1, size, device)
        self.resizes = self.size != size
        output = self.try_out()
        if (
            output.ndim not in (2, 4)
            or output.shape[0] != 1
            or output.shape[2:] not in ((), (1, 1))
        ):
            raise self.refusal(
                f"gives {output.shape} of one picture", "export it to give pooled features (N, C)"
            )
        self.channels = output.shape[1]

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (C,)"""
        return self.run(self.unit_range(picture)).reshape(-1)

    def caveats(self, pairs: int) -> list[str]:
        """What to bear in mind with the FID of that many pairs, in sentences."""
        if pairs < 2:
            return ["FID needs two pairs or more."]
        found = []
        if pairs < FEW_FOR_FID:
            rank = f"; more than {self.channels} are needed for a covariance of full rank"
            end = rank if pairs <= self.channels else ""
            found.append(
                f"FID of {pairs} pictures is biased: compare it only at the same number{end}."
            )
        if self.resizes:
            size = f"{self.size[0]}x{self.size[1]}"
            found.append(
                f"FID's network got pictures resized to {size} with antialiasing: other programs "
                "may do without."
            )
        return found


class FeatureScorer:
    """FID and KID of all pairs that were added; only their features are kept."""

    def __init__(self, network: FeatureNetwork):
        self.network = network
        self.features: list[np.ndarray] = []  # of the synthesised pictures, (C,) each
        self.real: list[np.ndarray] = []

    def add(self, picture: np.ndarray, photo: np.ndarray) -> None:
        """A pair (H, W, 3) uint8."""
        self.features.append(self.network(picture))
        self.real.append(self.network(photo))

    def fid(self) -> float | None:
        """None of fewer than two pairs, nan where the network gave such."""
        return self._compare(frechet_distance)

    def kid(self) -> float | None:
        """As `fid`."""
        return self._compare(kernel_distance)

    def caveats(self) -> list[str]:
        """What to bear in mind with both, in sentences."""
        pairs = len(self.features)
        few = (
            [f"KID of {pairs} pictures has no bias but scatters, below 0 too."]
            if 2 <= pairs < FEW_FOR_KID
            else []
        )
        return self.network.caveats(pairs) + few

    def _compare(self, distance) -> float | None:
        if len(self.features) < 2:
            return None
        features, real = np.stack(self.features), np.stack(self.real)
        return (
            distance(features, real)
            if np.isfinite(features).all() and np.isfinite(real).all()
            else float("nan")
        )


class SegmentationNetwork(_Network):
    """Pictures (N, 3, H, W) in [0, 1] -> scores (N, classes, h, w), or label ids (N, h, w) of the
    data set.

    As many classes as labels are the labels; 19 classes of 34 or 35 labels are Cityscapes'
    evaluated ones."""

    def __init__(self, file: str, size: Size, num_labels: int, device: str = "cpu"):
        """num_labels: of the data set; 0 is refused, as there is nothing to compare with."""
        super().__init__("--segmentation-network", file, 1, size, device)
        if not num_labels:
            raise InputError(
                f"{self.flag} needs label maps but the data set has pictures as input: leave it "
                "out."
            )
        self.num_labels = num_labels
        self.labels = np.arange(
            num_labels
        )  # those that it can tell: of the classes, in their order
        output = self.try_out()
        if output.ndim not in (3, 4) or output.shape[0] != 1:
            raise self.refusal(
                f"gives {output.shape} of one picture",
                "export it to give scores (N, classes, h, w) or ids (N, h, w)",
            )
        if output.ndim == 4 and output.shape[1] != num_labels:
            if (output.shape[1], num_labels) not in [
                (len(CITYSCAPES_CLASSES), n) for n in CITYSCAPES_NUM_LABELS
            ]:
                raise self.refusal(
                    f"tells {output.shape[1]} classes apart but the data set has {num_labels} "
                    "labels",
                    f"give one with {num_labels} classes (with 19 for the labels of Cityscapes)",
                )
            self.labels = np.array(CITYSCAPES_CLASSES)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (H, W) label ids; scores are brought to the picture's size before the
        largest is taken."""
        output, (height, width) = self.run(self.unit_range(picture)), picture.shape[:2]
        if output.ndim == 3:
            return resize_ids(output[0], height, width)
        scores = F.interpolate(torch.from_numpy(output), size=(height, width), mode="bilinear")
        return self.labels[scores[0].argmax(dim=0).numpy()]


class SegmentationScorer:
    """Whether the labels are found again in the synthesised pictures, over the pixels of all pairs
    that were added.

    Left out are pixels without label, and those of labels that the network does not know.
    """

    def __init__(self, network: SegmentationNetwork):
        self.network = network
        n = network.num_labels
        self.confusion = np.zeros(
            (n, n + 1), np.int64
        )  # pixels by true label and found label, n: found none of them

    def add(self, picture: np.ndarray, labels: np.ndarray) -> None:
        """A picture (H, W, 3) uint8 that was synthesised from labels (H, W) uint8."""
        found, n = self.network(picture).astype(np.int64), self.network.num_labels
        counted = np.isin(labels, self.network.labels)
        found = np.where((found >= 0) & (found < n), found, n)
        pixels = labels[counted].astype(np.int64) * (n + 1) + found[counted]
        self.confusion += np.bincount(pixels, minlength=n * (n + 1)).reshape(n, n + 1)

    def miou(self) -> float | None:
        """Mean over the labels that occur of intersection / union; None where none does."""
        hits, true, found = (
            np.diag(self.confusion),
            self.confusion.sum(axis=1),
            self.confusion.sum(axis=0)[:-1],
        )
        occurs = true > 0
        return (
            float((hits / np.maximum(true + found - hits, 1))[occurs].mean())
            if occurs.any()
            else None
        )

    def pixel_accuracy(self) -> float | None:
        pixels = self.confusion.sum()
        return float(np.trace(self.confusion) / pixels) if pixels else None


@dataclass(frozen=True)
class MeasuringNetworks:
    """Those that were given."""

    lpips: LpipsNetwork | None = None
    features: FeatureNetwork | None = None
    segmentation: SegmentationNetwork | None = None

    @classmethod
    def load(
        cls,
        size: Size,
        device: str,
        *,
        lpips: str = "",
        fid: str = "",
        segmentation: str = "",
        num_labels: int = 0,
    ) -> Self:
        """From files, '' = none, for pictures of `size`. Raises InputError for a file that cannot
        measure them."""
        return cls(
            LpipsNetwork(lpips, size, device) if lpips else None,
            FeatureNetwork(fid, size, device) if fid else None,
            SegmentationNetwork(segmentation, size, num_labels, device) if segmentation else None,
        )
