"""The deployed function: what an exported file computes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.condition import encode_maps, to_uint8
from shared.contracts.exported import Graph
from shared.contracts.model import GeneratorInput

CHANNELS, FAKE = "input_concat", "fake_image"  # input and output of the seed's file


class Synthesiser(nn.Module):
    """Generator with all that is around it in the form that `graph` asks for.

    Args:
        style: (num_labels + 1, feat_num) in [-1, 1], the last row for pixels without label; for
            graph.style "fixed".
        graph: None = maps in, the given style fixed.
    """

    def __init__(
        self,
        generator: nn.Module,
        reads: GeneratorInput,
        style: Tensor | None,
        graph: Graph | None = None,
    ):
        super().__init__()
        self.generator = generator
        self.reads = reads
        self.graph = graph or Graph(style="none" if style is None else "fixed")
        self.register_buffer("style", style if self.graph.style == "fixed" else None)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs of the file, in their order."""
        return input_names(self.reads, self.graph)

    @property
    def output_name(self) -> str:
        """Name of the output of the file."""
        return FAKE if self.graph.form == "onehot" else "picture"

    def forward(self, *arrays: Tensor) -> Tensor:
        """Inputs by position, as `input_names` has them (see Graph) -> picture (N, output_nc, H,
        W), float or uint8."""
        given = dict(zip(self.input_names, arrays, strict=True))
        picture = self.generator(given[CHANNELS] if CHANNELS in given else self._encode(given))
        return to_uint8(picture) if self.graph.output == "uint8" else picture

    def _encode(self, given: dict[str, Tensor]) -> Tensor:
        """Maps and styles -> input of the generator, (N, channels, H, W)."""
        reads, num_labels = self.reads, self.reads.num_labels

        # One-hot labels or the picture, and edges.
        instances = given["instances"] if reads.use_instances else None
        x = encode_maps(given[reads.input_name], instances, num_labels)

        # Instance features, (N, feat_num, H, W).
        match self.graph.style:
            case "none":
                return x
            case "fixed":
                features = F.conv2d(_rows(x, num_labels), self.style.t()[:, :, None, None])
            case "label":
                rows = _rows(x, num_labels)
                painted = given["style"].transpose(1, 2) @ rows.flatten(2)  # (N, feat_num, H * W)
                n, height, width = painted.shape[0], rows.shape[2], rows.shape[3]
                features = painted.view(n, reads.feat_num, height, width)
            case "instance":
                n, k, f = given["style"].shape
                first = torch.arange(n, device=x.device).view(-1, 1, 1) * k  # of each sample's rows
                rows = given["instances"].long() + first
                features = F.embedding(rows, given["style"].reshape(-1, f)).movedim(3, 1)
            case "map":
                features = given["features"]
        return torch.cat([x, features], dim=1)


def input_names(reads: GeneratorInput, graph: Graph) -> list[str]:
    """Names of the inputs of a deployed file, in their order."""
    if graph.form == "onehot":
        return [CHANNELS]
    names = [reads.input_name]
    if reads.use_instances or graph.style == "instance":
        names.append("instances")
    match graph.style:
        case "label" | "instance":
            names.append("style")
        case "map":
            names.append("features")
    return names


def to_pixels(picture: np.ndarray) -> np.ndarray:
    """Output (C, H, W) of a deployed file, float in [-1, 1] or uint8 -> (C, H, W) uint8."""
    return picture if picture.dtype == np.uint8 else to_uint8(torch.from_numpy(picture)).numpy()


def _rows(x: Tensor, num_labels: int) -> Tensor:
    """Which row of a style table each pixel takes, (N, num_labels + 1, H, W) of 0 and 1; the last:
    no label."""
    rows = torch.ones_like(x[:, :1])
    if not num_labels:
        return rows
    one_hot = x[:, :num_labels]
    return torch.cat([one_hot, rows - one_hot.sum(dim=1, keepdim=True)], dim=1)
