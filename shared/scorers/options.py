"""Flags of the networks that measure pictures; `networks.py` loads them.

They stand apart from it, so that `--help` loads no torch."""

from shared.command import Options


class MeasuringOptions(Options):
    """The networks that measure pictures; what has none is not measured."""

    lpips_network: str = ""
    """What measures LPIPS: alex or vgg, whose weights are downloaded where they are not here; or an
    ONNX file: two pictures (N, 3, H, W) in [-1, 1] to a distance."""
    fid_network: str = ""
    """What finds the features of FID and KID: inception, whose weights are downloaded where they
    are not here; or an ONNX file: pictures (N, 3, H, W) in [0, 1] to (N, C)."""
