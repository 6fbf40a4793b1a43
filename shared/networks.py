"""The networks of pix2pixHD (Wang et al. 2018, "High-Resolution Image Synthesis ... with Conditional GANs").

Module names and indices follow NVIDIA/pix2pixHD, so its `latest_net_*.pth` load strictly. ReLUs are out of place: an
in-place one on InstanceNorm's output, which is a view, costs a copy in the backward pass; the values are equal.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.condition import encode_maps
from shared.contracts import Architecture


def instance_norm(channels: int) -> nn.Module:
    """InstanceNorm without affine parameters or running statistics: it adds no keys to a checkpoint."""
    return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)


def init_weights(module: nn.Module) -> None:
    """Convolution weights ~ N(0, 0.02), biases left as torch made them; use with `network.apply(init_weights)`."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)


def halve(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2)): the image pyramid of generator and discriminator."""
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


class ResnetBlock(nn.Module):
    """x + conv(conv(x)), reflection padding, no activation after the sum."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), instance_norm(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), instance_norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def stem(in_channels: int, out_channels: int) -> list[nn.Module]:
    """7x7 convolution at full size."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, out_channels, 7), instance_norm(out_channels), nn.ReLU()]


def down(channels: int) -> list[nn.Module]:
    """Half the size, twice the channels."""
    return [nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), instance_norm(2 * channels), nn.ReLU()]


def up(channels: int) -> list[nn.Module]:
    """Twice the size, half the channels."""
    conv = nn.ConvTranspose2d(channels, channels // 2, 3, stride=2, padding=1, output_padding=1)
    return [conv, instance_norm(channels // 2), nn.ReLU()]


def head(in_channels: int, out_channels: int) -> list[nn.Module]:
    """7x7 convolution to a picture in [-1, 1]."""
    return [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, out_channels, 7), nn.Tanh()]


def hourglass(in_channels: int, out_channels: int, base: int, n_downsample: int, n_blocks: int) -> nn.Sequential:
    """stem, down-samplings, residual blocks, up-samplings, head; H and W must be multiples of 2^n_downsample."""
    layers = stem(in_channels, base)
    for i in range(n_downsample):
        layers += down(base * 2**i)
    layers += [ResnetBlock(base * 2**n_downsample) for _ in range(n_blocks)]
    for i in range(n_downsample, 0, -1):
        layers += up(base * 2**i)
    return nn.Sequential(*layers, *head(base, out_channels))


def at_stride(network: Callable[[Tensor], Tensor], stride: int, x: Tensor) -> Tensor:
    """network(x) for any H, W >= 2: x is reflected at right and bottom up to the stride, the result cropped back.

    At least to two strides: the coarsest maps need two rows and columns for a reflection padding of their own.
    """
    height, width = map(int, x.shape[-2:])  # numbers, also while the network is traced
    assert min(height, width) >= 2, (height, width)
    wanted_height, wanted_width = (max(-(-side // stride), 2) * stride for side in (height, width))
    if (height, width) == (wanted_height, wanted_width):
        return network(x)
    padded_height, padded_width = height, width
    while (bottom := wanted_height - padded_height) + (right := wanted_width - padded_width):
        # A side can be reflected by one pixel less than it has: tiny ones take several turns.
        bottom, right = min(bottom, padded_height - 1), min(right, padded_width - 1)
        x = F.pad(x, (0, right, 0, bottom), mode="reflect")
        padded_height, padded_width = padded_height + bottom, padded_width + right
    return network(x)[..., :height, :width]


class GlobalGenerator(nn.Module):
    """G1, the coarse generator (section 3.2): (N, C, H, W) -> (N, 3, H, W) in [-1, 1], any H and W."""

    def __init__(self, in_channels: int, ngf: int, n_downsample: int, n_blocks: int):
        super().__init__()
        self.stride = 2**n_downsample
        self.model = hourglass(in_channels, 3, ngf, n_downsample, n_blocks)

    def forward(self, x: Tensor) -> Tensor:
        return at_stride(self.model, self.stride, x)


class LocalEnhancer(nn.Module):
    """G1 without its head inside, and G2 enhancers around it, each at twice the size (section 3.2, figure 2).

    `model` has the keys of a GlobalGenerator of ngf * 2^n_local_enhancers: stage two starts from stage one's weights.
    """

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        n_downsample_global: int,
        n_blocks_global: int,
        n_local_enhancers: int,
        n_blocks_local: int,
    ):
        super().__init__()
        self.n_local_enhancers = n_local_enhancers
        self.stride = 2 ** (n_downsample_global + n_local_enhancers)
        whole = hourglass(in_channels, 3, ngf * 2**n_local_enhancers, n_downsample_global, n_blocks_global)
        self.model = whole[:-3]
        for n in range(1, n_local_enhancers + 1):
            channels = ngf * 2 ** (n_local_enhancers - n)
            entry = nn.Sequential(*stem(in_channels, channels), *down(channels))
            blocks = [ResnetBlock(2 * channels) for _ in range(n_blocks_local)]
            last = head(channels, 3) if n == n_local_enhancers else []
            self.add_module(f"model{n}_1", entry)
            self.add_module(f"model{n}_2", nn.Sequential(*blocks, *up(2 * channels), *last))

    def forward(self, x: Tensor) -> Tensor:
        return at_stride(self._enhance, self.stride, x)

    def _enhance(self, x: Tensor) -> Tensor:
        pyramid = [x]  # full size first; coarse levels hold soft labels
        for _ in range(self.n_local_enhancers):
            pyramid.append(halve(pyramid[-1]))
        y = self.model(pyramid.pop())
        for n in range(1, self.n_local_enhancers + 1):
            y = self.get_submodule(f"model{n}_2")(self.get_submodule(f"model{n}_1")(pyramid.pop()) + y)
        return y

    def outermost_enhancer(self) -> list[nn.Parameter]:
        """Parameters that stage two trains alone during its first epochs (`niter_fix_global`)."""
        prefix = f"model{self.n_local_enhancers}_"
        return [parameter for name, parameter in self.named_parameters() if name.startswith(prefix)]


class Encoder(nn.Module):
    """E (section 3.4): photo (N, 3, H, W) -> features (N, feat_num, H, W), both in [-1, 1], before pooling."""

    def __init__(self, feat_num: int, nef: int, n_downsample: int):
        super().__init__()
        self.stride = 2**n_downsample
        self.model = hourglass(3, feat_num, nef, n_downsample, n_blocks=0)

    def forward(self, photo: Tensor) -> Tensor:
        return at_stride(self.model, self.stride, photo)


class MultiscaleDiscriminator(nn.Module):
    """num_D PatchGANs on an image pyramid (section 3.2); every layer's output is kept for feature matching.

    `scale{num_D-1}` sees the full size, `scale0` the coarsest, as in NVIDIA's files: two scales fit into a D of three.
    """

    def __init__(self, in_channels: int, ndf: int, n_layers: int, num_D: int):
        super().__init__()
        self.num_D = num_D
        self.n_layers = n_layers
        widths = [min(ndf * 2**i, 512) for i in range(n_layers + 1)]
        for scale in range(num_D):
            layers = [nn.Sequential(nn.Conv2d(in_channels, ndf, 4, stride=2, padding=2), nn.LeakyReLU(0.2))]
            for i in range(1, n_layers + 1):
                conv = nn.Conv2d(widths[i - 1], widths[i], 4, stride=2 if i < n_layers else 1, padding=2)
                layers.append(nn.Sequential(conv, instance_norm(widths[i]), nn.LeakyReLU(0.2)))
            layers.append(nn.Sequential(nn.Conv2d(widths[-1], 1, 4, padding=2)))
            for j, layer in enumerate(layers):
                self.add_module(f"scale{scale}_layer{j}", layer)

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """(N, C, H, W) -> per scale, finest first: n_layers + 1 feature maps, last the (N, 1, h, w) patch scores."""
        scales = []
        for scale in range(self.num_D - 1, -1, -1):
            maps = [x]
            for j in range(self.n_layers + 2):
                maps.append(self.get_submodule(f"scale{scale}_layer{j}")(maps[-1]))
            scales.append(maps[1:])
            x = halve(x) if scale else x
        return scales


class VGG19Features(nn.Module):
    """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of VGG19, frozen; loads torchvision's `vgg19` state dict.

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


def build_generator(a: Architecture) -> GlobalGenerator | LocalEnhancer:
    """Input channels: one-hot labels or picture, edge, instance features, in this order."""
    channels = a.condition_channels + a.feat_num
    match a.netG:
        case "global":
            return GlobalGenerator(channels, a.ngf, a.n_downsample_global, a.n_blocks_global)
        case "local":
            return LocalEnhancer(
                channels, a.ngf, a.n_downsample_global, a.n_blocks_global, a.n_local_enhancers, a.n_blocks_local
            )


def build_discriminator(a: Architecture) -> MultiscaleDiscriminator:
    """Input channels: one-hot labels or picture, edge, photo; D never sees the instance features."""
    return MultiscaleDiscriminator(a.condition_channels + 3, a.ndf, a.n_layers_D, a.num_D)


def build_encoder(a: Architecture) -> Encoder:
    return Encoder(a.feat_num, a.nef, a.n_downsample_E)


class Synthesiser(nn.Module):
    """The deployed function: inputs, instances (N, H, W) int32 -> picture (N, 3, H, W) in [-1, 1].

    Inputs are labels (N, H, W) uint8 or pictures (N, C, H, W) uint8. `style` (num_labels + 1, feat_num), its last row
    for pixels without label, is painted by label where the generator takes instance features.
    """

    def __init__(self, generator: nn.Module, architecture: Architecture, style: Tensor | None):
        super().__init__()
        self.generator = generator
        self.architecture = architecture
        self.register_buffer("style", style)

    def forward(self, inputs: Tensor, instances: Tensor | None = None) -> Tensor:
        num_labels = self.architecture.num_labels
        x = encode_maps(inputs, instances if self.architecture.use_instances else None, num_labels)
        if self.style is not None:
            rows = torch.ones_like(x[:, :1])
            if num_labels:
                one_hot = x[:, :num_labels]
                rows = torch.cat([one_hot, rows - one_hot.sum(dim=1, keepdim=True)], dim=1)
            x = torch.cat([x, F.conv2d(rows, self.style.t()[:, :, None, None])], dim=1)
        return self.generator(x)
