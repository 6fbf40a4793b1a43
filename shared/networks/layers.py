"""The parts that the networks of pix2pixHD and pix2pix are made of, in the order of their published
checkpoints.

ReLUs are out of place: an in-place one on InstanceNorm's output, which is a view, costs a copy in
the backward pass; the values are equal."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.device import in_own_precision, pads_to_nchw

Norm = Callable[[int], nn.Module]  # channels -> layer: instance_norm or nn.BatchNorm2d

# What a generator reads: (N, C, H, W), or in training also several, whose channels lie beside each
# other, so that gradients are made of those alone that need some.
Maps = Tensor | tuple[Tensor, ...]


def of_each(function: Callable[[Tensor], Tensor], x: Maps) -> Maps:
    """What works on each channel by itself, of all that lie beside each other."""
    return tuple(map(function, x)) if isinstance(x, tuple) else function(x)


# How far apart the numbers of a channel may lie where exact ones are equal, in epsilons of the
# largest number of any channel. Of fp32: convolutions of constant maps, 8 to 49 * 40 terms in any
# order or by FFT, came to 19; one grey level of one pixel is 4000. 16 bits: the neighbours of a
# number that is summed in fp32 and then rounded, by a convolution and by its bias.
ROUNDINGS = {torch.bfloat16: 2, torch.float16: 2, torch.float32: 256, torch.float64: 256}


def is_nhwc(maps: Tensor) -> bool:
    """Whether (N, C, H, W) lie in memory as (N, H, W, C)."""
    return maps.is_contiguous(memory_format=torch.channels_last) and not maps.is_contiguous()


@torch.no_grad()
def varies(x: Tensor, arithmetic: torch.dtype) -> Tensor:
    """(N, C, H, W) -> (N, 1, 1, 1), 1 or 0: whether any channel is more than a constant and the
    rounding of the convolution before.

    A norm divides by the deviation: of rounding alone it makes numbers 316 times as large (eps is
    1e-5), and the next norms again. All channels decide together: where some vary, what others
    round is small beside it; and a sum of large terms that is nearly 0 rounds like the others.

    arithmetic: of the convolution before."""
    high, low = x.amax((2, 3), keepdim=True), x.amin((2, 3), keepdim=True)  # (N, C, 1, 1)
    if x.dtype in (torch.bfloat16, torch.float16):
        high, low = high.float(), low.float()
    spread = (high - low).amax(1, keepdim=True)
    size = high.abs().amax(1, keepdim=True)  # of constants: low is as large
    return (spread / (ROUNDINGS[arithmetic] * torch.finfo(arithmetic).eps) > size).to(size.dtype)


class InstanceNorm(nn.InstanceNorm2d):
    """InstanceNorm2d that makes exactly 0 of constant maps, before weights and bias; gradients too.

    The statistics of 16-bit input are fp32 on a CPU too: without weights they would be 16-bit."""

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        scale = varies(x, x.dtype).repeat(1, c, 1, 1)  # expanded, it took the kernel four times
        if self.affine:
            scale = scale * self.weight[:, None, None]
        # BatchNorm of one picture, with a scale for each sample: not a number that is not finite is
        # hidden by 0. In NHWC picture by picture, else all in one of N * C channels, as torch's
        # instance_norm has it.
        if is_nhwc(x):
            whole = dict(training=True, eps=self.eps)
            pictures = zip(x.split(1), scale.view(n, c), strict=True)
            parts = [F.batch_norm(x, None, None, own, self.bias, **whole) for x, own in pictures]
            return parts[0] if n == 1 else torch.cat(parts)
        bias = self.bias.repeat(n) if self.affine else None
        maps = x.contiguous().view(1, n * c, height, width)
        y = F.batch_norm(maps, None, None, scale.view(-1), bias, training=True, eps=self.eps)
        # A view of one picture gives its gradient in NHWC strides that batch_norm's backward on a
        # CPU misreads (torch 2.13).
        return y if n == 1 else y.view(n, c, height, width)


def instance_norm(channels: int) -> nn.Module:
    """InstanceNorm without affine parameters or running statistics: it adds no keys to a
    checkpoint."""
    return InstanceNorm(channels, affine=False, track_running_stats=False)


class ReflectionPad(nn.ReflectionPad2d):
    """ReflectionPad2d that keeps NHWC, on a GPU too."""

    def forward(self, x: Maps) -> Maps:
        return of_each(lambda part: reflect(part, self.padding), x)


def reflect(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """(N, C, H, W) -> (N, C, top + H + bottom, left + W + right); padding: left, right, top,
    bottom, each less than its side.

    torch's kernel gives NCHW on a GPU. That of three axes, of which the channels get no padding,
    reads and writes NHWC as it lies in memory."""
    if not (is_nhwc(x) and pads_to_nchw(x.device)):
        with in_own_precision(x.device):
            return F.pad(x, padding, mode="reflect")
    maps = x.movedim(1, -1)  # (N, H, W, C), contiguous
    return F.pad(maps, (0, 0, *padding), mode="reflect").movedim(-1, 1)


def halve(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2)): the image pyramid of generator and
    discriminator."""
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


class ResnetBlock(nn.Module):
    """x + conv(conv(x)), reflection padding, no activation after the sum; dropout shifts the keys
    behind it by one."""

    def __init__(self, channels: int, norm: Norm, bias: bool = True, dropout: bool = False):
        super().__init__()

        def convolution() -> list[nn.Module]:
            conv = nn.Conv2d(channels, channels, 3, bias=bias)
            return [ReflectionPad(1), conv, norm(channels)]

        between = [nn.ReLU(), nn.Dropout(0.5)] if dropout else [nn.ReLU()]
        self.conv_block = nn.Sequential(*convolution(), *between, *convolution())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def stem(in_channels: int, out_channels: int, norm: Norm, bias: bool = True) -> list[nn.Module]:
    """7x7 convolution at full size."""
    conv = nn.Conv2d(in_channels, out_channels, 7, bias=bias)
    return [ReflectionPad(3), conv, norm(out_channels), nn.ReLU()]


def down(channels: int, norm: Norm, bias: bool = True) -> list[nn.Module]:
    """Half the size, twice the channels."""
    conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=bias)
    return [conv, norm(2 * channels), nn.ReLU()]


def up(channels: int, norm: Norm, bias: bool = True) -> list[nn.Module]:
    """Twice the size, half the channels."""
    twice = dict(stride=2, padding=1, output_padding=1)
    conv = nn.ConvTranspose2d(channels, channels // 2, 3, **twice, bias=bias)
    return [conv, norm(channels // 2), nn.ReLU()]


def head(in_channels: int, out_channels: int) -> list[nn.Module]:
    """7x7 convolution to a picture in [-1, 1]."""
    return [ReflectionPad(3), nn.Conv2d(in_channels, out_channels, 7), nn.Tanh()]


def hourglass(
    in_channels: int,
    out_channels: int,
    base: int,
    n_downsample: int,
    n_blocks: int,
    norm: Norm,
    bias: bool = True,
    dropout: bool = False,
) -> nn.Sequential:
    """stem, down-samplings, residual blocks, up-samplings, head; H and W must be multiples of
    2^n_downsample.

    bias: of the convolutions before a norm; dropout: in the residual blocks.
    """
    layers = stem(in_channels, base, norm, bias)
    for i in range(n_downsample):
        layers += down(base * 2**i, norm, bias)
    layers += [ResnetBlock(base * 2**n_downsample, norm, bias, dropout) for _ in range(n_blocks)]
    for i in range(n_downsample, 0, -1):
        layers += up(base * 2**i, norm, bias)
    return nn.Sequential(*layers, *head(base, out_channels))


def at_stride(
    network: Callable[[Maps], Tensor], stride: int, x: Maps, least_strides: int
) -> Tensor:
    """network(x) for any H, W: x is reflected at right and bottom up to the stride, the result
    cropped back.

    least_strides: two where the coarsest maps get a reflection padding of their own, which needs
    two rows and columns; else one."""
    any_part = x[0] if isinstance(x, tuple) else x
    size = tuple(map(int, any_part.shape[-2:]))  # numbers, also while the network is traced
    wanted = tuple(padded_side(side, stride, least_strides) for side in size)
    if size == wanted:
        return network(x)
    bottom, right = wanted[0] - size[0], wanted[1] - size[1]
    if bottom < size[0] and right < size[1]:
        # Faster, and what ATC has kernels for.
        x = of_each(lambda part: reflect(part, (0, right, 0, bottom)), x)
    else:
        x = of_each(lambda part: reflected(part, size, wanted), x)
    return network(x)[..., : size[0], : size[1]]


def padded_side(side: int, stride: int, least_strides: int) -> int:
    """The next multiple of the stride, from so many strides on; traced ones too."""
    return _larger(side + -side % stride, least_strides * stride)


def reflected(x: Tensor, size: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """(N, C, *size) -> (N, C, *wanted), of larger sides: reflected at bottom and right in as many
    turns as it takes, as NumPy pads, in the memory format of x. Both may be of a traced graph."""
    is_nhwc = x.is_contiguous(memory_format=torch.channels_last)
    for axis, side, new in zip((-2, -1), size, wanted, strict=True):
        turn = _larger(2 * (side - 1), 1)  # there and back
        beyond = torch.arange(side, new, device=x.device) % turn
        x = torch.cat([x, x.index_select(axis, side - 1 - abs(beyond - side + 1))], dim=axis)
    return x.contiguous(memory_format=torch.channels_last) if is_nhwc else x


def _larger(a: int, b: int) -> int:
    """ONNX has Max of whole numbers from opset 12 on only."""
    return (a + b + abs(a - b)) // 2


def with_picture_statistics(network: nn.Module) -> nn.Module:
    """Replace every BatchNorm in place: a picture is normalised by its own statistics, not by those
    of the training.

    pix2pix tests so by default (BatchNorm in training mode with batches of one); InstanceNorm with
    the same weights computes the same for batches of any size."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                own = InstanceNorm(child.num_features, child.eps, affine=True)
                own.load_state_dict({"weight": child.weight.detach(), "bias": child.bias.detach()})
                own = own.to(child.weight.device).train(child.training).requires_grad_(False)
                setattr(module, name, own)
    return network
