"""LPIPS and FID's Inception a second time, from their descriptions and slowly, on tensors by the
names of the published weight files."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

# Facts of the published files: names and shapes of InceptionV3's convolutions, a line each.
CONVOLUTIONS = {
    name: tuple(map(int, shape))
    for name, *shape in map(
        str.split, Path(__file__).with_name("inception_convolutions.txt").read_text().splitlines()
    )
}

# Of AlexNet's and VGG16's `features`: index -> (channels, channels before, kernel).
ALEXNET = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
VGG16 = {
    **{0: (64, 3, 3), 2: (64, 64, 3), 5: (128, 64, 3), 7: (128, 128, 3), 10: (256, 128, 3)},
    **{12: (256, 256, 3), 14: (256, 256, 3), 17: (512, 256, 3), 19: (512, 512, 3)},
    **{21: (512, 512, 3), 24: (512, 512, 3), 26: (512, 512, 3), 28: (512, 512, 3)},
}
HEADS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


# Random tensors of these shapes.


def features_state(shapes: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """As torchvision saves a classifier: weights that keep the size of what goes through."""
    draw, state = torch.Generator().manual_seed(seed), {}
    for index, (channels, before, side) in shapes.items():
        scale = (2 / (before * side * side)) ** 0.5
        weight = torch.randn(channels, before, side, side, generator=draw) * scale
        state[f"features.{index}.weight"] = weight
        state[f"features.{index}.bias"] = torch.randn(channels, generator=draw) * 0.1
    return state | {"classifier.6.bias": torch.zeros(1000)}


def heads_state(channels: Iterable[int]) -> dict[str, torch.Tensor]:
    """As the authors of LPIPS save their heads."""
    draw = torch.Generator().manual_seed(1)
    return {
        f"lin{number}.model.1.weight": torch.rand(1, count, 1, 1, generator=draw)
        for number, count in enumerate(channels)
    }


def inception_state() -> dict[str, torch.Tensor]:
    """As pytorch-fid saves Inception."""
    draw, state = torch.Generator().manual_seed(2), {}
    for name, shape in CONVOLUTIONS.items():
        count, before = shape[0], shape[1] * shape[2] * shape[3]
        state[f"{name}.conv.weight"] = torch.randn(shape, generator=draw) * (2 / before) ** 0.5
        state[f"{name}.bn.weight"] = torch.rand(count, generator=draw) + 0.5
        state[f"{name}.bn.bias"] = torch.randn(count, generator=draw) * 0.1
        state[f"{name}.bn.running_mean"] = torch.randn(count, generator=draw) * 0.1
        state[f"{name}.bn.running_var"] = torch.rand(count, generator=draw) + 0.5
    return state | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


# LPIPS in numpy.


def windows(x: np.ndarray, side: int, stride: int) -> np.ndarray:
    """(C, H, W) -> (C, rows, columns, side, side)."""
    found = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    return found[:, ::stride, ::stride]


def convolved(x: np.ndarray, state: dict, index: int, stride: int, padding: int) -> np.ndarray:
    weight = state[f"features.{index}.weight"].double().numpy()
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    y = np.tensordot(weight, windows(padded, weight.shape[-1], stride), ((1, 2, 3), (0, 3, 4)))
    y += state[f"features.{index}.bias"].double().numpy()[:, None, None]
    return np.maximum(y, 0)


def alexnet_taps(x: np.ndarray, state: dict) -> list[np.ndarray]:
    taps = []
    for index, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
        taps.append(x := convolved(x, state, index, stride, padding))
        if index < 6:
            x = windows(x, 3, 2).max(axis=(3, 4))
    return taps


def vgg16_taps(x: np.ndarray, state: dict) -> list[np.ndarray]:
    """The last ReLU of each of five groups of convolutions."""
    taps = []
    for group in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        for index in group:
            x = convolved(x, state, index, 1, 1)
        taps.append(x)
        x = windows(x, 2, 2).max(axis=(3, 4)) if index < 28 else x
    return taps


def lpips(name: str, state: dict, picture: np.ndarray, photo: np.ndarray) -> float:
    """Of two pictures (3, H, W) in [-1, 1]."""
    shift = np.array([-0.030, -0.088, -0.188])[:, None, None]
    scale = np.array([0.458, 0.448, 0.450])[:, None, None]
    of = {"alex": alexnet_taps, "vgg": vgg16_taps}[name]
    taps = [of((x.astype(float) - shift) / scale, state) for x in (picture, photo)]
    distance = 0.0
    for number, (a, b) in enumerate(zip(*taps, strict=True)):
        weight = state[f"lin{number}.model.1.weight"].double().numpy()[0, :, 0, 0]
        a, b = (x / (np.sqrt((x**2).sum(axis=0)) + 1e-10) for x in (a, b))
        distance += (weight[:, None, None] * (a - b) ** 2).sum(axis=0).mean()
    return distance


# FID's Inception, layer by layer.


def to_299(picture: np.ndarray) -> torch.Tensor:
    """(3, H, W) in [0, 1] -> (1, 3, 299, 299) in [-1, 1]: linear between the centres of the two
    nearest pixels of each axis, whatever the size."""

    def along(x: np.ndarray, axis: int) -> np.ndarray:
        length = x.shape[axis]
        place = np.clip((np.arange(299) + 0.5) * length / 299 - 0.5, 0, length - 1)
        low = np.minimum(place.astype(int), length - 1)
        high = np.minimum(low + 1, length - 1)
        part = (place - low).reshape([-1 if i == axis else 1 for i in range(3)])
        return x.take(low, axis) * (1 - part) + x.take(high, axis) * part

    resized = along(along(picture.astype(float), 1), 2)
    return torch.tensor(2 * resized - 1, dtype=torch.float32)[None]


def inception(picture: np.ndarray, state: dict) -> np.ndarray:
    """Features (2048,) of a picture (3, H, W) in [0, 1]."""

    def conv(x, name, stride=1, padding=0):
        x = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        parts = (state[f"{name}.bn.{part}"] for part in "running_mean running_var".split())
        mean, variance = (part.view(-1, 1, 1) for part in parts)
        gain, bias = (state[f"{name}.bn.{part}"].view(-1, 1, 1) for part in ("weight", "bias"))
        return (gain * (x - mean) / (variance + 0.001).sqrt() + bias).clamp(min=0)

    def average(x):
        """Of the up to nine neighbours that there are."""
        ones = F.pad(torch.ones_like(x[:, :1]), (1, 1, 1, 1))
        count = F.avg_pool2d(ones, 3, 1) * 9
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) * 9 / count

    def maximum(x):
        """Of them: after a ReLU none is below 0."""
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)

    def at_35(x, b):
        five = conv(conv(x, f"{b}.branch5x5_1"), f"{b}.branch5x5_2", padding=2)
        three = conv(conv(x, f"{b}.branch3x3dbl_1"), f"{b}.branch3x3dbl_2", padding=1)
        three = conv(three, f"{b}.branch3x3dbl_3", padding=1)
        pool = conv(average(x), f"{b}.branch_pool")
        return torch.cat([conv(x, f"{b}.branch1x1"), five, three, pool], 1)

    def at_17(x, b):
        row, column = dict(padding=(0, 3)), dict(padding=(3, 0))
        seven = conv(conv(x, f"{b}.branch7x7_1"), f"{b}.branch7x7_2", **row)
        seven = conv(seven, f"{b}.branch7x7_3", **column)
        double = conv(x, f"{b}.branch7x7dbl_1")
        for number, how in ((2, column), (3, row), (4, column), (5, row)):
            double = conv(double, f"{b}.branch7x7dbl_{number}", **how)
        pool = conv(average(x), f"{b}.branch_pool")
        return torch.cat([conv(x, f"{b}.branch1x1"), seven, double, pool], 1)

    def at_8(x, b, pooling):
        def fork(y, name):
            row = conv(y, f"{b}.{name}a", padding=(0, 1))
            return torch.cat([row, conv(y, f"{b}.{name}b", padding=(1, 0))], 1)

        three = fork(conv(x, f"{b}.branch3x3_1"), "branch3x3_2")
        double = conv(conv(x, f"{b}.branch3x3dbl_1"), f"{b}.branch3x3dbl_2", padding=1)
        double = fork(double, "branch3x3dbl_3")
        pool = conv(pooling(x), f"{b}.branch_pool")
        return torch.cat([conv(x, f"{b}.branch1x1"), three, double, pool], 1)

    # To 35x35.
    x = conv(to_299(picture), "Conv2d_1a_3x3", stride=2)
    x = conv(conv(x, "Conv2d_2a_3x3"), "Conv2d_2b_3x3", padding=1)
    x = conv(conv(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = F.max_pool2d(x, 3, 2)
    assert x.shape == (1, 192, 35, 35)

    # 35x35, 17x17, 8x8.
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = at_35(x, name)
    three = conv(conv(x, "Mixed_6a.branch3x3dbl_1"), "Mixed_6a.branch3x3dbl_2", padding=1)
    three = conv(three, "Mixed_6a.branch3x3dbl_3", stride=2)
    x = torch.cat([conv(x, "Mixed_6a.branch3x3", stride=2), three, F.max_pool2d(x, 3, 2)], 1)
    assert x.shape == (1, 768, 17, 17)
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = at_17(x, name)
    three = conv(conv(x, "Mixed_7a.branch3x3_1"), "Mixed_7a.branch3x3_2", stride=2)
    seven = conv(x, "Mixed_7a.branch7x7x3_1")
    seven = conv(seven, "Mixed_7a.branch7x7x3_2", padding=(0, 3))
    seven = conv(seven, "Mixed_7a.branch7x7x3_3", padding=(3, 0))
    seven = conv(seven, "Mixed_7a.branch7x7x3_4", stride=2)
    x = torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)
    x = at_8(at_8(x, "Mixed_7b", average), "Mixed_7c", maximum)
    assert x.shape == (1, 2048, 8, 8)
    return x.mean(dim=(0, 2, 3)).numpy()
