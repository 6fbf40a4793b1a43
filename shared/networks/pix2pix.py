"""The networks of pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional
Adversarial Networks").

Module names and indices follow junyanz/pytorch-CycleGAN-and-pix2pix, so its `*_net_G.pth` load
strictly. Convolutions before a BatchNorm, which has a shift of its own, have no bias."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from shared.networks.layers import Maps, Norm, at_stride, hourglass, instance_norm


class UnetBlock(nn.Module):
    """One level of the U-Net: half the size, the levels inside, twice the size; (N, C, H, W) -> (N,
    2 C, H, W)."""

    def __init__(
        self,
        outer: int,
        inner: int,
        norm: Norm,
        inside: nn.Module | None = None,
        dropout: bool = False,
    ):
        super().__init__()
        bias = norm is instance_norm
        layers = [nn.LeakyReLU(0.2), nn.Conv2d(outer, inner, 4, stride=2, padding=1, bias=bias)]
        if inside:
            layers += [norm(inner), inside]
        width = 2 * inner if inside else inner
        up = nn.ConvTranspose2d(width, outer, 4, stride=2, padding=1, bias=bias)
        layers += [nn.ReLU(), up, norm(outer)]
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        # The reference's in-place LeakyReLU has changed x before it is concatenated. What follows
        # is a ReLU, of which both have the same values and gradients: relu(leaky_relu(x)) =
        # relu(x).
        return torch.cat([x, self.model(x)], dim=1)


class UnetGenerator(nn.Module):
    """U-Net of n_downsample levels (appendix 6.1.1): (N, C, H, W) -> (N, out_channels, H, W) in
    [-1, 1], any H and W."""

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        n_downsample: int,
        norm: Norm,
        dropout: bool,
        out_channels: int = 3,
    ):
        super().__init__()
        self.stride, self.least_strides = 2**n_downsample, 1
        block = UnetBlock(ngf * 8, ngf * 8, norm)
        for _ in range(n_downsample - 5):
            block = UnetBlock(ngf * 8, ngf * 8, norm, block, dropout)
        for outer in (ngf * 4, ngf * 2, ngf):
            block = UnetBlock(outer, outer * 2, norm, block)
        outermost = nn.Sequential(
            nn.Conv2d(in_channels, ngf, 4, stride=2, padding=1, bias=norm is instance_norm),
            block,
            nn.ReLU(),
            nn.ConvTranspose2d(ngf * 2, out_channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.model = nn.Sequential(OrderedDict(model=outermost))  # keys model.model.0, ...

    def forward(self, x: Maps) -> Tensor:
        return at_stride(self.model, self.stride, x, self.least_strides)


class ResnetGenerator(nn.Module):
    """Johnson et al.'s network with reflection padding: (N, C, H, W) -> (N, out_channels, H,
    W) in [-1, 1], any H and W."""

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        n_blocks: int,
        norm: Norm,
        dropout: bool,
        out_channels: int = 3,
    ):
        super().__init__()
        self.stride, self.least_strides = 4, 2
        how = dict(bias=norm is instance_norm, dropout=dropout)
        self.model = hourglass(in_channels, out_channels, ngf, 2, n_blocks, norm, **how)

    def forward(self, x: Maps) -> Tensor:
        return at_stride(self.model, self.stride, x, self.least_strides)
