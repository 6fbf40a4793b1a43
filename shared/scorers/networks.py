"""The networks that measure pictures, for LPIPS and for the features of FID and KID: each a
published one that comes by its name, or an ONNX file that the user gives."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch

from shared.condition import to_signed
from shared.contracts.forecast import Forecast
from shared.data.pictures import to_rgb
from shared.errors import InputError
from shared.flags import as_flag
from shared.published.download import look_for
from shared.published.files import FID_NETWORKS, LPIPS_NETWORKS, published_in
from shared.scorers.inception import FidInception
from shared.scorers.lpips import AlexLpips, VggLpips
from shared.scorers.onnx_file import OnnxFile, Size, check_file, unit_range
from shared.scorers.options import MeasuringOptions
from shared.scorers.published import PublishedNetwork

FEW_FOR_FID = 10_000  # pictures; what Heusel et al. 2017 advise to have at least


class LpipsNetwork:
    """Measures the perceptual distance of a pair (LPIPS, Zhang et al. 2018).

    An ONNX file: two pictures (N, 3, H, W) in [-1, 1] -> (N,) or (N, 1, 1, 1)."""

    FLAG: ClassVar[str] = "--lpips-network"
    MODULES: ClassVar[dict] = {"alex": AlexLpips, "vgg": VggLpips}

    def __init__(self, named: str, size: Size, device: str = "cpu"):
        """named: a name of LPIPS_NETWORKS, or a file. Raises InputError where it cannot measure
        pictures of `size`."""
        if named in LPIPS_NETWORKS:
            check_smallest(named, size)
            module, files = self.MODULES[named](), LPIPS_NETWORKS[named]
            self.network = PublishedNetwork(module, files, f"{self.FLAG} {named}", device)
            return
        check_file(self.FLAG, named, LPIPS_NETWORKS)
        self.network = OnnxFile(self.FLAG, named, 2, size, device)
        if self.network.size != size:  # distances at another size are others
            height, width = self.network.size
            raise self.network.refusal(
                f"takes pictures of {height}x{width} but these are {size[0]}x{size[1]}",
                "export it with dynamic height and width",
            )
        output = self.network.try_out()
        if output.size != 1:
            raise self.network.refusal(
                f"gives {output.shape} of one pair", "export it to give one distance, not a map"
            )

    def __call__(self, picture: np.ndarray, photo: np.ndarray) -> float:
        """The distance of two pictures (1 or 3, H, W) uint8."""
        pictures = [to_signed(torch.tensor(to_rgb(each)))[None] for each in (picture, photo)]
        return self.network.run(*(each.contiguous().numpy() for each in pictures)).item()


def check_smallest(named: str, size: Size) -> None:
    """Raises InputError for pictures too small for a published network of LPIPS."""
    smallest = LpipsNetwork.MODULES[named].smallest_side
    if min(size) < smallest:
        raise InputError(
            f"{LpipsNetwork.FLAG} {named} needs pictures of {smallest} pixels a side or more but "
            f"these are {size[0]}x{size[1]}: give another one, or leave it out."
        )


class FeatureNetwork:
    """Finds the features that FID and KID compare.

    An ONNX file: pictures (N, 3, H, W) in [0, 1] -> (N, C) or (N, C, 1, 1)."""

    FLAG: ClassVar[str] = "--fid-network"

    def __init__(self, named: str, size: Size, device: str = "cpu"):
        """named: a name of FID_NETWORKS, or a file. Raises InputError where it cannot measure
        pictures of `size`."""
        if named in FID_NETWORKS:
            flag = f"{self.FLAG} {named}"
            self.network = PublishedNetwork(FidInception(), FID_NETWORKS[named], flag, device)
            self.size, self.resizes, self.channels = size, False, FidInception.CHANNELS
            return
        check_file(self.FLAG, named, FID_NETWORKS)
        self.network = OnnxFile(self.FLAG, named, 1, size, device)
        self.size, self.resizes = self.network.size, self.network.size != size
        output = self.network.try_out()
        pooled = output.ndim in (2, 4) and output.shape[2:] in ((), (1, 1))
        if not pooled or output.shape[0] != 1:
            raise self.network.refusal(
                f"gives {output.shape} of one picture", "export it to give pooled features (N, C)"
            )
        self.channels = output.shape[1]

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """The features (C,) of a picture (1 or 3, H, W) uint8."""
        return self.network.run(unit_range(picture, self.size)).reshape(-1)

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


def foresee(
    files: MeasuringOptions, size: Size | None, device: str, forecast: Forecast
) -> list[str]:
    """Add to a step's forecast what `MeasuringNetworks.load` will refuse, network by network;
    returns what was found of them, in a few words each.

    size: None = not known yet: then the files must be there, and are not tried."""
    ask, words = forecast.refusals.of, []
    published = published_in(files.model_dump())
    for name in MeasuringOptions.model_fields:
        if not (named := getattr(files, name)):
            continue
        flag, one = as_flag(name), MeasuringOptions(**{name: named})
        if name in published:
            found = [ask(look_for, file, f"{flag} {named}") for file in published[name]]
            words += filter(None, found)
            if size and named in LPIPS_NETWORKS:
                ask(check_smallest, named, size)
            continue

        # A file of the user's.
        names = {LpipsNetwork.FLAG: LPIPS_NETWORKS, FeatureNetwork.FLAG: FID_NETWORKS}[flag]
        if size is None:
            ask(check_file, flag, named, names)
            forecast.unknown.append(f"{flag} {named}: not tried, as the size is not known yet")
        else:
            ask(MeasuringNetworks.load, size, device, one)
        words.append(Path(named).name)
    return words
