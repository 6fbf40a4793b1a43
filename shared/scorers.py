"""Networks that measure pictures, LPIPS and the features of FID and KID, and the meter that asks
them. Each is an ONNX file that the user gives."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from shared.condition import to_signed
from shared.contracts.forecast import Forecast
from shared.data.images import resize_picture
from shared.errors import InputError
from shared.flags import as_flag
from shared.measuring import MeasuringOptions
from shared.quality import metrics_of

Size = tuple[int, int]  # (height, width)

FEW_FOR_FID = 10_000  # pictures; what Heusel et al. 2017 advise to have at least
FEW_FOR_KID = 1_000  # of the subsets that other programs average it over


class MeasuringNetwork:
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

        # It must take as many pictures, one of each at a time; names instead of numbers are any.
        inputs = self.session.get_inputs()
        if len(inputs) != pictures:
            names = ", ".join(each.name for each in inputs)
            raise self.refusal(
                f"has {len(inputs)} inputs ({names})", f"give one that takes {pictures}"
            )
        for each in inputs:
            fits = each.type == "tensor(float)" and len(each.shape) == 4
            batch_and_channels = zip(each.shape, (1, 3), strict=False)
            if not fits or any(isinstance(n, int) and n != m for n, m in batch_and_channels):
                raise self.refusal(
                    f"takes {each.type} of shape {each.shape}",
                    "export it for float32 pictures (1, 3, height, width) with a batch of 1 or of "
                    "any number",
                )

        # Its own size, where it has one.
        sides = zip(inputs[0].shape[2:], size, strict=True)
        self.size: Size = tuple(own if isinstance(own, int) else side for own, side in sides)
        self.names = [each.name for each in inputs]

    def _load(self, device: str):
        """The file as a session of ONNX Runtime.

        Raises InputError where there is no such file, no ONNX Runtime, or the file is broken."""
        check_file(self.flag, self.file)
        try:
            # Here, as a training without measuring networks needs no ONNX Runtime.
            from shared.deployed.runners import open_session
        except ModuleNotFoundError:
            raise InputError(
                f"{self.flag} needs ONNX Runtime: `pip install onnxruntime`, or leave it out."
            ) from None
        try:
            return open_session(self.file, device)
        except Exception as error:  # ONNX Runtime has a class for every reason
            raise self.refusal(
                f"cannot be loaded ({_reason(error)})", "give a complete ONNX file"
            ) from None

    def refusal(self, found: str, remedy: str) -> InputError:
        """A sentence that names the flag and the file."""
        return InputError(f"{self.flag} {self.file} {found}: {remedy}.")

    def run(self, *pictures: np.ndarray) -> np.ndarray:
        """Run it on pictures (1, 3, height, width) float32; returns its first output."""
        return self.session.run(None, dict(zip(self.names, pictures, strict=True)))[0]

    def try_out(self) -> np.ndarray:
        """Run it on black pictures; returns its first output.

        Raises InputError where it cannot run at this size."""
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
        """Bring a picture (3, H, W) uint8 to the network's size, bicubic with antialiasing.

        Returns (1, 3, height, width) float32 in [0, 1]."""
        resized = resize_picture(picture, *self.size)
        return np.ascontiguousarray(resized[None], np.float32) / 255


def check_file(flag: str, file: str) -> None:
    """Raises InputError where a measuring network is not there."""
    if not Path(file).is_file():
        raise InputError(f"{flag} {file} is no file: give an ONNX file, or leave it out.")


def _reason(error: Exception) -> str:
    """The first sentence of an error's message."""
    return str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__


class LpipsNetwork(MeasuringNetwork):
    """Measures the perceptual distance of a pair (LPIPS, Zhang et al. 2018).

    Its file: two pictures (N, 3, H, W) in [-1, 1] -> (N,) or (N, 1, 1, 1)."""

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
        """The distance of two pictures (3, H, W) uint8."""
        pictures = [to_signed(torch.tensor(each))[None].numpy() for each in (picture, photo)]
        return self.run(*map(np.ascontiguousarray, pictures)).item()


class FeatureNetwork(MeasuringNetwork):
    """Finds the features that FID and KID compare.

    Its file: pictures (N, 3, H, W) in [0, 1] -> (N, C) or (N, C, 1, 1)."""

    def __init__(self, file: str, size: Size, device: str = "cpu"):
        super().__init__("--fid-network", file, 1, size, device)
        self.resizes = self.size != size
        output = self.try_out()
        pooled = output.ndim in (2, 4) and output.shape[2:] in ((), (1, 1))
        if not pooled or output.shape[0] != 1:
            raise self.refusal(
                f"gives {output.shape} of one picture", "export it to give pooled features (N, C)"
            )
        self.channels = output.shape[1]

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The features (C,) of a picture (3, H, W) uint8."""
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
        self.real: list[np.ndarray] = []  # of the photos

    def add(self, picture: np.ndarray, photo: np.ndarray) -> None:
        """Keep the features of a pair, both (3, H, W) uint8."""
        self.features.append(self.network(picture))
        self.real.append(self.network(photo))

    def figures(self) -> dict[str, float]:
        """The figures by name of the metric; {} of fewer than two pairs, nan where a feature is."""
        if len(self.features) < 2:
            return {}
        features, real = np.stack(self.features), np.stack(self.real)
        metrics = metrics_of("features")
        if not (np.isfinite(features).all() and np.isfinite(real).all()):
            return {metric.name: math.nan for metric in metrics}
        return {metric.name: metric.function(features, real) for metric in metrics}

    def caveats(self) -> list[str]:
        """What to bear in mind with both, in sentences."""
        pairs = len(self.features)
        found = self.network.caveats(pairs)
        if 2 <= pairs < FEW_FOR_KID:
            found.append(f"KID of {pairs} pictures has no bias but scatters, below 0 too.")
        return found


@dataclass(frozen=True)
class MeasuringNetworks:
    """The networks that were given, of those that need nothing but pictures."""

    lpips: LpipsNetwork | None = None
    features: FeatureNetwork | None = None

    @classmethod
    def load(cls, size: Size, device: str, files: MeasuringOptions) -> Self:
        """Load the files that were given, for pictures of `size`.

        Raises InputError for a file that cannot measure them.
        """
        lpips, fid = files.lpips_network, files.fid_network
        return cls(
            LpipsNetwork(lpips, size, device) if lpips else None,
            FeatureNetwork(fid, size, device) if fid else None,
        )


def foresee(files: MeasuringOptions, size: Size | None, device: str, forecast: Forecast) -> None:
    """Add to a step's forecast what `MeasuringNetworks.load` will refuse, file by file.

    size: None = not known yet: then the files must be there, and are not tried."""
    for name in MeasuringOptions.model_fields:
        if file := getattr(files, name):
            flag, one = as_flag(name), MeasuringOptions(**{name: file})
            if size is None:
                forecast.refusals.of(check_file, flag, file)
                forecast.unknown.append(f"{flag} {file}: not tried, as the size is not known yet")
            else:
                forecast.refusals.of(MeasuringNetworks.load, size, device, one)


class PictureMeter:
    """Measures synthesised pictures against their photos, pair after pair."""

    def __init__(self, networks: MeasuringNetworks):
        self.lpips = networks.lpips
        self.features = FeatureScorer(networks.features) if networks.features else None
        self.pairs: list[dict[str, float]] = []  # what can be said of each pair alone

    def add(self, picture: np.ndarray, photo: np.ndarray) -> dict[str, float]:
        """Measure a pair, both (3, H, W) uint8.

        Returns the figures of this pair alone, by name of the metric.
        """
        pair = {metric.name: metric.function(picture, photo) for metric in metrics_of("")}
        if self.lpips:
            pair["lpips"] = self.lpips(picture, photo)
        if self.features:
            self.features.add(picture, photo)
        self.pairs.append(pair)
        return pair

    def figures(self) -> dict[str, float]:
        """The figures of all pairs so far, by name of the metric; {} of none."""
        if not self.pairs:
            return {}
        names = self.pairs[0]
        means = {name: float(np.mean([pair[name] for pair in self.pairs])) for name in names}
        return means | (self.features.figures() if self.features else {})

    def caveats(self) -> list[str]:
        """What to bear in mind with the figures, in sentences."""
        return self.features.caveats() if self.features and self.pairs else []
