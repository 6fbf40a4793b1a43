"""The discriminators of pix2pixHD (Wang et al. 2018) and of pix2pix (Isola et al. 2017).

Module names and indices follow NVIDIA's and junyanz's programs, so that their `*_net_D.pth` load
strictly. A D gives, per scale, its feature maps, last the patch scores."""

from itertools import chain, pairwise

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

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(N, C, H, W) -> per scale, finest first: n_layers + 1 feature maps, last the (N, 1, h, w)
        patch scores.

        Without `features` the scores alone.
        """
        scales = []
        for scale in range(self.num_D - 1, -1, -1):
            scales.append(self._judge(scale, x))
            x = halve(x) if scale else x
        return scales

    def _judge(self, scale: int, x: Tensor) -> list[Tensor]:
        if not self.features:
            return [self.get_submodule(f"layer{scale}")(x)]
        maps = [x]
        for j in range(self.n_layers + 2):
            maps.append(self.get_submodule(f"scale{scale}_layer{j}")(maps[-1]))
        return maps[1:]


class NLayerDiscriminator(nn.Module):
    """PatchGAN (appendix 6.1.2); three layers judge patches of 70x70 pixels."""

    def __init__(self, in_channels: int, ndf: int, n_layers: int, norm: Norm):
        super().__init__()
        widths = [ndf * min(2**i, 8) for i in range(n_layers + 1)]
        layers = patchgan(in_channels, widths, norm, padding=1, bias=norm is instance_norm)
        self.model = nn.Sequential(*chain.from_iterable(layers))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(N, C, H, W) -> one scale of one map: the (N, 1, h, w) patch scores."""
        return [[self.model(x)]]


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

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(N, C, H, W) -> one scale of one map: the (N, 1, H, W) scores."""
        return [[self.net(x)]]
