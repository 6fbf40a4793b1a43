"""Flags of the networks that measure pictures; `scorers.py` loads the files.

They stand apart from it, so that `--help` loads no torch."""

from shared.command import Options


class MeasuringOptions(Options):
    """The networks that measure pictures; what has none is not measured."""

    lpips_network: str = ""
    """ONNX file that measures LPIPS: two pictures (N, 3, H, W) in [-1, 1] to a distance."""
    fid_network: str = ""
    """ONNX file of the features of FID and KID: pictures (N, 3, H, W) in [0, 1] to (N, C)."""
