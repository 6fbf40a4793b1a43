"""The networks of pix2pixHD (Wang et al. 2018, "High-Resolution Image Synthesis ... with
Conditional GANs").

Module names and indices follow NVIDIA/pix2pixHD, so its `latest_net_*.pth` load strictly. At the
end are the functions that build the networks of an Architecture, those of pix2pix among them."""

from functools import partial
from itertools import chain
from typing import Literal

from torch import Tensor, nn

from shared.networks.layers import (
    Norm,
    ResnetBlock,
    at_stride,
    down,
    halve,
    head,
    hourglass,
    instance_norm,
    patchgan,
    stem,
    up,
)

InitType = Literal["normal", "xavier", "kaiming", "orthogonal"]


def init_weights(
    module: nn.Module, init_type: InitType = "normal", gain: float = 0.02, zero_bias: bool = False
) -> None:
    """Draw the weights of one layer anew; use with `network.apply`. As it stands it is pix2pixHD's
    initialisation.

    Convolutions: of deviation `gain` (normal), or scaled by their fan (kaiming knows no gain);
    biases zero or left as torch made them. BatchNorm: weights ~ N(1, gain), biases zero."""
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            match init_type:
                case "normal":
                    nn.init.normal_(module.weight, 0.0, gain)
                case "xavier":
                    nn.init.xavier_normal_(module.weight, gain)
                case "kaiming":
                    nn.init.kaiming_normal_(module.weight)
                case "orthogonal":
                    nn.init.orthogonal_(module.weight, gain)
            if zero_bias and module.bias is not None:
                nn.init.zeros_(module.bias)
        case nn.BatchNorm2d():
            nn.init.normal_(module.weight, 1.0, gain)
            nn.init.zeros_(module.bias)


def initialise(network: nn.Module, init_type: InitType, gain: float, zero_bias: bool) -> nn.Module:
    """`init_weights` on every layer; pix2pix has zero_bias, pix2pixHD not. Returns the network."""
    return network.apply(partial(init_weights, init_type=init_type, gain=gain, zero_bias=zero_bias))


class GlobalGenerator(nn.Module):
    """G1, the coarse generator (section 3.2): (N, C, H, W) -> (N, 3, H, W) in [-1, 1], any H and
    W."""

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        n_downsample: int,
        n_blocks: int,
        norm: Norm = instance_norm,
    ):
        super().__init__()
        self.stride = 2**n_downsample
        self.model = hourglass(in_channels, 3, ngf, n_downsample, n_blocks, norm)

    def forward(self, x: Tensor) -> Tensor:
        return at_stride(self.model, self.stride, x)


class LocalEnhancer(nn.Module):
    """G1 without its head inside, and G2 enhancers around it, each at twice the size (section 3.2,
    figure 2).

    `model` has the keys of a GlobalGenerator of ngf * 2^n_local_enhancers: stage two starts from
    stage one's weights."""

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        n_downsample_global: int,
        n_blocks_global: int,
        n_local_enhancers: int,
        n_blocks_local: int,
        norm: Norm = instance_norm,
    ):
        super().__init__()
        self.n_local_enhancers = n_local_enhancers
        self.stride = 2 ** (n_downsample_global + n_local_enhancers)
        whole = hourglass(
            in_channels, 3, ngf * 2**n_local_enhancers, n_downsample_global, n_blocks_global, norm
        )
        self.model = whole[:-3]
        for n in range(1, n_local_enhancers + 1):
            channels = ngf * 2 ** (n_local_enhancers - n)
            entry = nn.Sequential(*stem(in_channels, channels, norm), *down(channels, norm))
            blocks = [ResnetBlock(2 * channels, norm) for _ in range(n_blocks_local)]
            last = head(channels, 3) if n == n_local_enhancers else []
            self.add_module(f"model{n}_1", entry)
            self.add_module(f"model{n}_2", nn.Sequential(*blocks, *up(2 * channels, norm), *last))

    def forward(self, x: Tensor) -> Tensor:
        return at_stride(self._enhance, self.stride, x)

    def _enhance(self, x: Tensor) -> Tensor:
        pyramid = [x]  # full size first; coarse levels hold soft labels
        for _ in range(self.n_local_enhancers):
            pyramid.append(halve(pyramid[-1]))
        y = self.model(pyramid.pop())
        for n in range(1, self.n_local_enhancers + 1):
            y = self.get_submodule(f"model{n}_2")(
                self.get_submodule(f"model{n}_1")(pyramid.pop()) + y
            )
        return y

    def outermost_enhancer(self) -> list[nn.Parameter]:
        """Parameters that stage two trains alone during its first epochs (`niter_fix_global`)."""
        prefix = f"model{self.n_local_enhancers}_"
        return [parameter for name, parameter in self.named_parameters() if name.startswith(prefix)]


class Encoder(nn.Module):
    """E (section 3.4): photo (N, 3, H, W) -> features (N, feat_num, H, W), both in [-1, 1], before
    pooling."""

    def __init__(self, feat_num: int, nef: int, n_downsample: int, norm: Norm = instance_norm):
        super().__init__()
        self.stride = 2**n_downsample
        self.model = hourglass(3, feat_num, nef, n_downsample, 0, norm)

    def forward(self, photo: Tensor) -> Tensor:
        return at_stride(self.model, self.stride, photo)


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
        self.num_D = num_D
        self.n_layers = n_layers
        self.features = features
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


class VGG19Features(nn.Module):
    """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of VGG19, frozen; loads torchvision's `vgg19`
    state dict.

    Pictures go in as they are, in [-1, 1], without ImageNet normalisation, as in the reference.
    """

    CHANNELS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
    TAPS = (1, 6, 11, 20, 29)  # indices of the five ReLUs

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in self.CHANNELS:
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.requires_grad_(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        taps = []
        for i, layer in enumerate(self.features):
            picture = layer(picture)
            if i in self.TAPS:
                taps.append(picture)
        return taps
