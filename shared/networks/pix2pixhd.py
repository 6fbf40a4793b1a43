"""The networks of pix2pixHD (Wang et al. 2018, "High-Resolution Image Synthesis ... with
Conditional GANs").

Module names and indices follow NVIDIA/pix2pixHD, so its `latest_net_{G,E}.pth` load strictly. Its
discriminator is needed for training alone and stands in `components/train/networks`."""

from torch import Tensor, nn

from shared.networks.layers import (
    Maps,
    Norm,
    ResnetBlock,
    at_stride,
    down,
    halve,
    head,
    hourglass,
    instance_norm,
    of_each,
    stem,
    up,
)


class GlobalGenerator(nn.Module):
    """G1, the coarse generator (section 3.2): (N, C, H, W) -> (N, out_channels, H, W) in [-1,
    1], any H and W."""

    def __init__(
        self,
        in_channels: int,
        ngf: int,
        n_downsample: int,
        n_blocks: int,
        norm: Norm = instance_norm,
        out_channels: int = 3,
    ):
        super().__init__()
        self.stride, self.least_strides = 2**n_downsample, 2
        self.model = hourglass(in_channels, out_channels, ngf, n_downsample, n_blocks, norm)

    def forward(self, x: Maps) -> Tensor:
        return at_stride(self.model, self.stride, x, self.least_strides)


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
        out_channels: int = 3,
    ):
        super().__init__()
        self.n_local_enhancers = n_local_enhancers
        self.stride, self.least_strides = 2 ** (n_downsample_global + n_local_enhancers), 2
        width = ngf * 2**n_local_enhancers
        inside = width, n_downsample_global, n_blocks_global, norm
        self.model = hourglass(in_channels, out_channels, *inside)[:-3]
        for n in range(1, n_local_enhancers + 1):
            channels = ngf * 2 ** (n_local_enhancers - n)
            entry = nn.Sequential(*stem(in_channels, channels, norm), *down(channels, norm))
            blocks = [ResnetBlock(2 * channels, norm) for _ in range(n_blocks_local)]
            last = head(channels, out_channels) if n == n_local_enhancers else []
            self.add_module(f"model{n}_1", entry)
            self.add_module(f"model{n}_2", nn.Sequential(*blocks, *up(2 * channels, norm), *last))

    def forward(self, x: Maps) -> Tensor:
        return at_stride(self._enhance, self.stride, x, self.least_strides)

    def _enhance(self, x: Maps) -> Tensor:
        pyramid = [x]  # full size first; coarse levels hold soft labels
        for _ in range(self.n_local_enhancers):
            pyramid.append(of_each(halve, pyramid[-1]))
        y = self.model(pyramid.pop())
        for n in range(1, self.n_local_enhancers + 1):
            entry, rest = (self.get_submodule(f"model{n}_{part}") for part in (1, 2))
            y = rest(entry(pyramid.pop()) + y)
        return y

    def outermost_enhancer(self) -> list[nn.Parameter]:
        """Parameters that stage two trains alone during its first epochs (`niter_fix_global`)."""
        prefix = f"model{self.n_local_enhancers}_"
        return [parameter for name, parameter in self.named_parameters() if name.startswith(prefix)]


class Encoder(nn.Module):
    """E (section 3.4): photo (N, in_channels, H, W) -> features (N, feat_num, H, W), both in
    [-1, 1], before pooling."""

    def __init__(
        self,
        feat_num: int,
        nef: int,
        n_downsample: int,
        norm: Norm = instance_norm,
        in_channels: int = 3,
    ):
        super().__init__()
        self.stride, self.least_strides = 2**n_downsample, 2
        self.model = hourglass(in_channels, feat_num, nef, n_downsample, 0, norm)

    def forward(self, photo: Tensor) -> Tensor:
        return at_stride(self.model, self.stride, photo, self.least_strides)
