"""The Inception of FID (Heusel et al. 2017): InceptionV3 as TensorFlow published it in 2015, with
the weights as pytorch-fid ported them.

It differs from torchvision's: averages leave out the padding, and the last block takes maxima."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 299  # pixels

Link = tuple[int, int | tuple[int, int]]  # channels and kernel of a convolution
Chain = list[Link | tuple[Link, Link]]  # a pair: two convolutions side by side


class Convolution(nn.Module):
    """Convolution, norm and ReLU."""

    def __init__(self, inputs: int, link: Link, stride: int = 1, pads: bool = True):
        """pads: whether pictures stay as large, but for the stride."""
        super().__init__()
        channels, kernel = link
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = tuple(side // 2 for side in kernel) if pads else 0
        self.conv = nn.Conv2d(inputs, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Chains of convolutions side by side, and a pooling; their channels are joined.

    A chain's convolutions are called after it: `branch1x1` where it is one, `branch5x5_1` and
    `branch5x5_2` where they are two, `..._2a` and `..._2b` where two stand side by side."""

    def __init__(
        self,
        inputs: int,
        chains: Mapping[str, Chain],
        pool: Literal["average", "maximum"],
        pool_channels: int = 0,
    ):
        """pool_channels: of the convolution behind the pooling; 0 = there is none, and the block
        halves the picture."""
        super().__init__()
        self.pool, self.halves = pool, pool_channels == 0
        self.chains: list[list[list[str]]] = []  # names of the convolutions, those side by side
        for name, chain in chains.items():
            self._add(name, inputs, chain)
        if pool_channels:
            self.branch_pool = Convolution(inputs, (pool_channels, 1))

    def _add(self, name: str, inputs: int, chain: Chain) -> None:
        steps = []
        for number, step in enumerate(chain, 1):
            is_last = number == len(chain)
            links = {"": step} if isinstance(step[0], int) else dict(zip("ab", step, strict=True))
            base = f"{name}_{number}" if len(chain) > 1 else name
            for letter, link in links.items():
                stride = 2 if self.halves and is_last else 1
                layer = Convolution(inputs, link, stride, pads=stride == 1)
                self.add_module(f"{base}{letter}", layer)
            steps.append([f"{base}{letter}" for letter in links])
            inputs = sum(link[0] for link in links.values())
        self.chains.append(steps)

    def forward(self, x: Tensor) -> Tensor:
        joined = []
        for steps in self.chains:
            y = x
            for names in steps:
                y = torch.cat([getattr(self, name)(y) for name in names], dim=1)
            joined.append(y)
        if self.halves:
            return torch.cat([*joined, F.max_pool2d(x, 3, stride=2)], dim=1)
        if self.pool == "average":
            pooled = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        else:
            pooled = F.max_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([*joined, self.branch_pool(pooled)], dim=1)


def _of_35(inputs: int, pool_channels: int) -> Block:
    """A block at 35x35."""
    triple = [(64, 1), (96, 3), (96, 3)]
    chains = {"branch1x1": [(64, 1)], "branch5x5": [(48, 1), (64, 5)], "branch3x3dbl": triple}
    return Block(inputs, chains, "average", pool_channels)


def _of_17(width: int) -> Block:
    """A block at 17x17, with so many channels inside."""
    row, column = (1, 7), (7, 1)
    single = [(width, 1), (width, row), (192, column)]
    double = [(width, 1), (width, column), (width, row), (width, column), (192, row)]
    chains = {"branch1x1": [(192, 1)], "branch7x7": single, "branch7x7dbl": double}
    return Block(768, chains, "average", 192)


def _of_8(inputs: int, pool: Literal["average", "maximum"]) -> Block:
    """A block at 8x8."""
    fork = ((384, (1, 3)), (384, (3, 1)))
    chains = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), fork],
        "branch3x3dbl": [(448, 1), (384, 3), fork],
    }
    return Block(inputs, chains, pool, 192)


class FidInception(nn.Module):
    """Features (N, 2048) of pictures (N, 3, H, W) in [0, 1], which it brings to 299x299 without
    antialiasing, as pytorch-fid does."""

    CHANNELS = 2048

    def __init__(self):
        super().__init__()
        # To 35x35.
        self.Conv2d_1a_3x3 = Convolution(3, (32, 3), stride=2, pads=False)
        self.Conv2d_2a_3x3 = Convolution(32, (32, 3), pads=False)
        self.Conv2d_2b_3x3 = Convolution(32, (64, 3))
        self.maxpool1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = Convolution(64, (80, 1))
        self.Conv2d_4a_3x3 = Convolution(80, (192, 3), pads=False)
        self.maxpool2 = nn.MaxPool2d(3, stride=2)

        # At 35x35, 17x17 and 8x8, with what leads from one to the next.
        self.Mixed_5b = _of_35(192, 32)
        self.Mixed_5c = _of_35(256, 64)
        self.Mixed_5d = _of_35(288, 64)
        halving = {"branch3x3": [(384, 3)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)]}
        self.Mixed_6a = Block(288, halving, "maximum")
        self.Mixed_6b = _of_17(128)
        self.Mixed_6c = _of_17(160)
        self.Mixed_6d = _of_17(160)
        self.Mixed_6e = _of_17(192)
        triple = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
        halving = {"branch3x3": [(192, 1), (320, 3)], "branch7x7x3": triple}
        self.Mixed_7a = Block(768, halving, "maximum")
        self.Mixed_7b = _of_8(1280, "average")
        self.Mixed_7c = _of_8(self.CHANNELS, "maximum")

    def forward(self, picture: Tensor) -> Tensor:
        x = F.interpolate(picture, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        x = 2 * x - 1
        for layer in self.children():
            x = layer(x)
        return x.mean(dim=(2, 3))
