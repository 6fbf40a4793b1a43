"""InstanceNorm as the file has it: written out, or the operator of that name."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.export.config import OnnxOptions
from shared.deployed.replace_layers import replace_layers
from shared.deployed.synthesiser import Synthesiser
from shared.networks.layers import varies


class GraphNorm(nn.Module):
    """`shared.networks.layers.InstanceNorm` on (N, C, H, W), in operators of ONNX."""

    def __init__(self, norm: nn.InstanceNorm2d, arithmetic: torch.dtype):
        """arithmetic: of the convolutions in the file."""
        super().__init__()
        self.eps, self.arithmetic = norm.eps, arithmetic
        self.weight, self.bias = norm.weight, norm.bias  # None without affine

    def scale(self, x: Tensor) -> Tensor:
        """What the normalised maps are multiplied by, (N, C or 1, 1, 1)."""
        scale = varies(x, self.arithmetic)
        return scale if self.weight is None else scale * self.weight[:, None, None]

    def shifted(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias[:, None, None]


class PreciseInstanceNorm(GraphNorm):
    """Written out; means go over each row first, then over the rows, and of what they leave again.

    ONNX Runtime's InstanceNormalization on a CPU adds up H * W float32 values one after the other.
    On flat label maps the roundings all go one way: a whole network was off by 8e-5 at 128x256 and
    1e-3 at 256x512 (pictures in [-1, 1]), against 4e-6 and 9e-6 with this one. It takes as long,
    within the noise of the clock.

    The second mean takes away the rounding of the first, which is large beside a small deviation:
    a picture with one dark spot at 256x512 was off by 3e-4 with one mean, by 6e-5 with two, which
    is what PyTorch's fp32 is off by."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - mean(x)
        centred = centred - mean(centred)
        deviation = torch.sqrt(mean(centred * centred) + self.eps)
        return self.shifted(centred * (self.scale(x) / deviation))


class NativeInstanceNorm(GraphNorm):
    """The one operator, and what is around it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.shifted(F.instance_norm(x, eps=self.eps) * self.scale(x))


def mean(x: Tensor) -> Tensor:
    """The mean over each map, (N, C, H, W) -> (N, C, 1, 1)."""
    return x.mean(3, keepdim=True).mean(2, keepdim=True)


def with_graph_norm(synthesiser: Synthesiser, options: OnnxOptions) -> Synthesiser:
    """A copy, which shares the weights, with every InstanceNorm2d as `options` has it."""
    kind = PreciseInstanceNorm if options.instance_norm == "precise" else NativeInstanceNorm
    arithmetic = torch.float16 if options.precision == "fp16" else torch.float32
    return replace_layers(synthesiser, nn.InstanceNorm2d, partial(kind, arithmetic=arithmetic))
