"""The convolutions of VGG, in torchvision's order."""

from collections.abc import Iterable

from torch import nn

POOL = 0  # in a plan: halves the picture


def vgg_features(plan: Iterable[int]) -> nn.Sequential:
    """3x3 convolutions with so many channels, each with a ReLU, and poolings."""
    layers, channels = [], 3
    for width in plan:
        if width == POOL:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)
