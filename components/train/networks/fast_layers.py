"""Layers in the form that is fastest on a CPU while they learn: the same values but for the order
of sums, of the same weights.

torch convolves by oneDNN there, which brings maps and weights into blocks of 16 channels first and
gradients back. Two kinds are faster without: the numbers in this file are the times of torch's own
form by those of the other, forward and backward on one core of an AMD EPYC (Zen 4), torch 2.13."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.networks.layers import Maps, is_nhwc

BLOCK = 16  # channels
LARGE = 2**18  # weights; of 1 MiB in fp32


def learn_fast(network: nn.Module, in_any_form: bool) -> None:
    """Let the layers of a network take the fastest form where gradients are wanted. Elsewhere they
    are torch's, and so is what is exported.

    in_any_form: otherwise all stay in torch's."""
    in_any_form = in_any_form and torch.backends.mkldnn.is_available()
    for module in network.modules():
        match type(module):
            case nn.Conv2d:
                module.__class__, module.in_any_form = LearningConv2d, in_any_form
            case nn.ConvTranspose2d:
                module.__class__, module.in_any_form = LearningConvTranspose2d, in_any_form
            case nn.Dropout if in_any_form:
                module.__class__ = LearningDropout


class LearningConv2d(nn.Conv2d):
    """nn.Conv2d of maps (N, C, H, W), or of several whose channels lie beside each other: of the 39
    of labels, edges and learned features it then makes 3 gradients."""

    in_any_form = False

    def forward(self, x: Maps) -> Tensor:
        if not isinstance(x, tuple):
            return self._convolve(x, self.weight, self.bias)
        weights = self.weight.split([part.shape[1] for part in x], dim=1)
        y = self._convolve(x[0], weights[0], self.bias)
        for part, weight in zip(x[1:], weights[1:], strict=True):
            y = y + self._convolve(part, weight, None)
        return y

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _has_forms(x, self):
            height, width = self._positions(x.shape[2]), self._positions(x.shape[3])
            if _outnumber(weight, len(x) * height * width):
                return self._as_product(x, weight, bias, height)
            # Kernels of 7x7, 36 -> 16 channels: 1.4; 16 -> 3: 1.35; 8 -> 3: 1.4; both in bf16 1.3
            # to 3.7. Few channels have a kernel of their own in NCHW, which fills blocks: 3 -> 16
            # 0.9.
            into, out_of = weight.shape[1], len(weight)
            is_ragged = out_of % BLOCK or (into > BLOCK and into % BLOCK)
            if self.kernel_size[0] >= 7 and is_ragged:
                x = x.contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, weight, bias, self.stride, self.padding)
        return y if is_nhwc(self.weight) else y.contiguous()

    def _positions(self, side: int) -> int:
        return (side + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1

    def _as_product(self, x: Tensor, weight: Tensor, bias: Tensor | None, height: int) -> Tensor:
        columns = F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride)
        rows = columns.transpose(1, 2).contiguous()  # (N, positions, C k k)
        y = F.linear(rows, weight.flatten(1), bias)
        return y.transpose(1, 2).unflatten(2, (height, -1)).contiguous()


class LearningConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d of maps (N, C, H, W)."""

    in_any_form = False

    def forward(self, x: Tensor) -> Tensor:
        n, height, width = len(x), *x.shape[2:]
        if not (_has_forms(x, self) and _outnumber(self.weight, n * height * width)):
            return super().forward(x)
        rows = x.flatten(2).transpose(1, 2).contiguous()  # (N, H W, C)
        columns = (rows @ self.weight.flatten(1)).transpose(1, 2)  # (N, C k k, H W)
        sides = [self._side(side) for side in (height, width)]
        y = F.fold(columns, sides, self.kernel_size, padding=self.padding, stride=self.stride)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def _side(self, side: int) -> int:
        inside = (side - 1) * self.stride[0] - 2 * self.padding[0]
        return inside + self.kernel_size[0] + self.output_padding[0]


def _has_forms(x: Tensor, convolution: nn.Module) -> bool:
    """Whether another form may be faster: where oneDNN convolves in NCHW, and gradients are
    wanted."""
    learns = torch.is_grad_enabled() and convolution.in_any_form
    return learns and x.device.type == "cpu" and not is_nhwc(convolution.weight)


def _outnumber(weight: Tensor, positions: int) -> bool:
    """Whether a product of matrices is faster: where weights are many and maps are small, as inside
    a U-Net. Positions stand in rows, also in memory: as columns of four MKL took ten times as long.

    512 channels by 4x4 at 2x2: 3.5; bf16 2.3. At 8x8: 1.7; 2.1. Transposed, 1024 -> 512 at 2x2:
    2.1; 2.3. At 8x8: 1.2; 1.5. At eight channels a position, 1024 by 3x3 at 8x16, 0.96; 0.97."""
    return weight.numel() >= LARGE and len(weight) >= 16 * positions


class LearningDropout(nn.Dropout):
    """nn.Dropout of maps (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p != 0.5 or x.device.type != "cpu":
            return super().forward(x)
        if is_nhwc(x):
            return _half(x.movedim(1, -1)).movedim(-1, 1)
        return _half(x)


def _half(x: Tensor) -> Tensor:
    """Each element doubled or 0, by the bits of random words: 5.5; bf16 5.6. torch draws a number
    an element, which takes a twelfth of a ResNet's step on CPUs that are not Intel's."""
    words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 64),))
    bits = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)
    kept = (words.view(torch.uint8)[:, None] & bits).bool().flatten()[: x.numel()]
    return x * (kept.view(x.shape).to(x.dtype) * 2)
