"""LPIPS, the perceptual distance of two pictures (Zhang et al. 2018), version 0.1."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from shared.networks.vgg import vgg_features

# What brings pictures in [-1, 1] to the range that the classifiers were trained on.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # against division by 0 where all channels are


class Head(nn.Module):
    """Weighs the differences of the channels of one layer."""

    def __init__(self, channels: int):
        super().__init__()
        # The weights are the second module, as behind the dropout that they were trained with.
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Lpips(nn.Module):
    """Distances (N,) of two pictures (N, 3, H, W) in [-1, 1]: of the features of a classifier after
    five of its ReLUs, each normalised over its channels, squared, weighed and averaged.

    The tensors of `features` are torchvision's, those of `lin0` to `lin4` the authors'."""

    taps: ClassVar[tuple[int, ...]]  # indices of the five ReLUs in `features`
    channels: ClassVar[tuple[int, ...]]
    smallest_side: ClassVar[int]  # pixels, of pictures that reach the last of them

    def __init__(self, features: nn.Sequential):
        super().__init__()
        self.features = features
        for number, channels in enumerate(self.channels):
            setattr(self, f"lin{number}", Head(channels))
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor, photo: Tensor) -> Tensor:
        x = (torch.cat([picture, photo]) - self.shift) / self.scale
        distance, number = 0, 0
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                one, other = (x / (x.norm(dim=1, keepdim=True) + EPSILON)).chunk(2)
                weighed = getattr(self, f"lin{number}")((one - other) ** 2)
                distance, number = distance + weighed.mean(dim=(1, 2, 3)), number + 1
        return distance


class AlexLpips(Lpips):
    """Over AlexNet, the authors' choice for measuring."""

    taps = (1, 4, 7, 9, 11)
    channels = (64, 192, 384, 256, 256)
    smallest_side = 31

    def __init__(self):
        super().__init__(
            nn.Sequential(
                *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU()),
                nn.MaxPool2d(3, stride=2),
                *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
                nn.MaxPool2d(3, stride=2),
                *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
            )
        )


class VggLpips(Lpips):
    """Over VGG16, which many papers report."""

    taps = (3, 8, 15, 22, 29)
    channels = (64, 128, 256, 512, 512)
    smallest_side = 16

    def __init__(self):
        plan = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
        super().__init__(vgg_features(plan))
