"""The discriminators of pix2pixHD (Wang et al. 2018) and of pix2pix (Isola et al. 2017).

Module names and indices follow NVIDIA's and junyanz's programs, so that their `*_net_D.pth` load
strictly. A D gives, per scale, its feature maps, last the patch scores.

It sees a picture and the condition that it was made from, in one input; or, where several pictures
have the same condition, what `of_condition` made of that once, and the picture alone."""

from itertools import chain, pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.contracts.model import Architecture
from shared.networks.build import norm_layer
from shared.networks.layers import Norm, halve, instance_norm


def build_discriminator(a: Architecture) -> nn.Module:
    """Input channels: one-hot labels or picture, edge, photo; D never sees the instance
    features."""
    channels, norm = a.condition_channels + a.output_nc, norm_layer(a)
    match a.netD:
        case "multiscale":
            size = a.ndf, a.n_layers_D, a.num_D
            return MultiscaleDiscriminator(channels, *size, a.D_features, norm)
        case "n_layers":
            return NLayerDiscriminator(channels, a.ndf, a.n_layers_D, norm)
        case "pixel":
            return PixelDiscriminator(channels, a.ndf, norm)


def patchgan(
    in_channels: int, widths: list[int], norm: Norm, padding: int, bias: bool = True
) -> list[list[nn.Module]]:
    """Layers of 4x4 convolutions: one per width, all but the last at half the size, then the patch
    scores."""
    layers = [[nn.Conv2d(in_channels, widths[0], 4, stride=2, padding=padding), nn.LeakyReLU(0.2)]]
    for i, (narrow, wide) in enumerate(pairwise(widths), start=2):
        stride = 2 if i < len(widths) else 1
        conv = nn.Conv2d(narrow, wide, 4, stride, padding, bias=bias)
        layers.append([conv, norm(wide), nn.LeakyReLU(0.2)])
    return [*layers, [nn.Conv2d(widths[-1], 1, 4, padding=padding)]]


class Conditioned(NamedTuple):
    """The first convolution of a D with its part of the condition done."""

    maps: Tensor  # (N, ndf, h, w), what it makes of the condition, with the bias
    weight: Tensor  # of the picture's channels


def _of_condition(layers: nn.Sequential, condition: Tensor) -> Conditioned:
    first, channels = layers[0], condition.shape[1]
    parts = first.weight.split([channels, first.in_channels - channels], dim=1)
    nhwc = first.weight.is_contiguous(memory_format=torch.channels_last)
    format_ = torch.channels_last if nhwc else torch.contiguous_format
    of_condition, of_picture = (part.contiguous(memory_format=format_) for part in parts)
    maps = F.conv2d(condition, of_condition, first.bias, first.stride, first.padding)
    return Conditioned(maps.contiguous(memory_format=format_), of_picture)


def _through(layers: nn.Sequential, x: Tensor, conditioned: Conditioned | None) -> Tensor:
    """layers(x); of a picture alone where its condition is done."""
    if conditioned is None:
        return layers(x)
    first, *rest = layers
    of_picture = F.conv2d(x, conditioned.weight, None, first.stride, first.padding)
    x = of_picture + conditioned.maps
    for layer in rest:
        x = layer(x)
    return x


class MultiscaleDiscriminator(nn.Module):
    """num_D PatchGANs on an image pyramid (section 3.2).

    The last one sees the full size, number 0 the coarsest, as in NVIDIA's files: two scales fit
    into a D of three. With `features`, which feature matching needs, every layer is a module of its
    own: `scale{number}_layer{j}`; otherwise a scale is one module, `layer{number}`."""

    def __init__(
        self,
        in_channels: int,
        ndf: int,
        n_layers: int,
        num_D: int,
        features: bool = True,
        norm: Norm = instance_norm,
    ):
        super().__init__()
        self.num_D, self.n_layers, self.features = num_D, n_layers, features
        widths = [min(ndf * 2**i, 512) for i in range(n_layers + 1)]
        for scale in range(num_D):
            layers = patchgan(in_channels, widths, norm, padding=2)
            if features:
                for j, layer in enumerate(layers):
                    self.add_module(f"scale{scale}_layer{j}", nn.Sequential(*layer))
            else:
                self.add_module(f"layer{scale}", nn.Sequential(*chain.from_iterable(layers)))

    def forward(
        self, x: Tensor, conditioned: list[Conditioned] | None = None
    ) -> list[list[Tensor]]:
        """(N, C, H, W) -> per scale, finest first: n_layers + 1 feature maps, last the (N, 1, h, w)
        patch scores.

        Without `features` the scores alone.
        """
        scales = []
        for scale, own in zip(self._scales(), conditioned or [None] * self.num_D, strict=True):
            scales.append(self._judge(scale, x, own))
            x = halve(x) if scale else x
        return scales

    def of_condition(self, condition: Tensor) -> list[Conditioned]:
        """(N, C, H, W) -> what pictures of this condition share, per scale, finest first."""
        conditioned = []
        for scale in self._scales():
            conditioned.append(_of_condition(self._layers(scale)[0], condition))
            condition = halve(condition) if scale else condition
        return conditioned

    def _scales(self) -> range:
        return range(self.num_D - 1, -1, -1)

    def _layers(self, scale: int) -> list[nn.Sequential]:
        """Modules of which each gives maps."""
        if not self.features:
            return [self.get_submodule(f"layer{scale}")]
        names = (f"scale{scale}_layer{j}" for j in range(self.n_layers + 2))
        return [self.get_submodule(name) for name in names]

    def _judge(self, scale: int, x: Tensor, conditioned: Conditioned | None) -> list[Tensor]:
        first, *rest = self._layers(scale)
        maps = [_through(first, x, conditioned)]
        for layer in rest:
            maps.append(layer(maps[-1]))
        return maps


class NLayerDiscriminator(nn.Module):
    """PatchGAN (appendix 6.1.2); three layers judge patches of 70x70 pixels."""

    def __init__(self, in_channels: int, ndf: int, n_layers: int, norm: Norm):
        super().__init__()
        widths = [ndf * min(2**i, 8) for i in range(n_layers + 1)]
        layers = patchgan(in_channels, widths, norm, padding=1, bias=norm is instance_norm)
        self.model = nn.Sequential(*chain.from_iterable(layers))

    def forward(
        self, x: Tensor, conditioned: list[Conditioned] | None = None
    ) -> list[list[Tensor]]:
        """(N, C, H, W) -> one scale of one map: the (N, 1, h, w) patch scores."""
        return [[_through(self.model, x, *(conditioned or [None]))]]

    def of_condition(self, condition: Tensor) -> list[Conditioned]:
        return [_of_condition(self.model, condition)]


class PixelDiscriminator(nn.Module):
    """Judges each pixel by itself (the 1x1 PixelGAN of section 4.4)."""

    def __init__(self, in_channels: int, ndf: int, norm: Norm):
        super().__init__()
        bias = norm is instance_norm
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, ndf, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf, ndf * 2, 1, bias=bias),
            norm(ndf * 2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(ndf * 2, 1, 1, bias=bias),
        )

    def forward(
        self, x: Tensor, conditioned: list[Conditioned] | None = None
    ) -> list[list[Tensor]]:
        """(N, C, H, W) -> one scale of one map: the (N, 1, H, W) scores."""
        return [[_through(self.net, x, *(conditioned or [None]))]]

    def of_condition(self, condition: Tensor) -> list[Conditioned]:
        return [_of_condition(self.net, condition)]
