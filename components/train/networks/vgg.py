"""VGG19's features, of which the VGG loss is a distance."""

from pathlib import Path

from torch import Tensor, nn

from shared.errors import InputError
from shared.networks.checkpoint import load_state
from shared.networks.foreign import normalise


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


def load_vgg(path: Path) -> VGG19Features:
    """VGG19 features with torchvision's weights; the classifier in the file is left out."""
    vgg, state = VGG19Features(), normalise(load_state(path))
    lacking = vgg.state_dict().keys() - state.keys()
    if lacking:
        raise InputError(
            f"--vgg-weights {path} lacks {min(lacking)}: give torchvision's vgg19 state dict."
        )
    vgg.load_state_dict({key: state[key] for key in vgg.state_dict()})
    return vgg
