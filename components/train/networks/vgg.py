"""VGG19's features, of which the VGG loss is a distance."""

from pathlib import Path

from torch import Tensor, nn

from components.train.config import LossOptions
from shared.errors import InputError
from shared.networks.foreign import normalise
from shared.networks.vgg import vgg_features
from shared.networks.weight_file import check_values, load_state
from shared.published.download import fetch, look_for
from shared.published.files import AUTO, VGG19

VGG_AUTO = f"--vgg-weights {AUTO}"


class VGG19Features(nn.Module):
    """relu1_1, relu2_1, relu3_1, relu4_1, relu5_1 of VGG19, frozen; loads torchvision's `vgg19`
    state dict.

    Pictures go in as they are, in [-1, 1], without ImageNet normalisation, as in the reference;
    grey ones as three equal channels.
    """

    PLAN = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
    TAPS = (1, 6, 11, 20, 29)  # indices of the five ReLUs

    def __init__(self):
        super().__init__()
        self.features = vgg_features(self.PLAN)
        self.requires_grad_(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        taps, picture = [], picture.expand(-1, 3, -1, -1)
        for i, layer in enumerate(self.features):
            picture = layer(picture)
            if i in self.TAPS:
                taps.append(picture)
        return taps


def find_vgg(options: LossOptions) -> Path | None:
    """The file of the VGG loss, downloaded where it is the published one and not there; None where
    the loss is off. Raises InputError where it cannot be had."""
    if not options.lambda_vgg:
        return None
    if options.vgg_weights == AUTO:
        return fetch(VGG19, VGG_AUTO)
    check_own_vgg(options)
    return Path(options.vgg_weights)


def check_own_vgg(options: LossOptions) -> None:
    """Raises InputError where --vgg-weights names no file."""
    if not Path(options.vgg_weights).is_file():
        raise InputError(
            f"--lambda-vgg is {options.lambda_vgg:g} but --vgg-weights {options.vgg_weights!r} is "
            "no file: leave it out for torchvision's, name a file, or set --lambda-vgg 0."
        )


def look_for_vgg(options: LossOptions) -> str:
    """Which file the VGG loss will have, in a few words; "" where it is off. Raises InputError
    where there is none, or it is another's."""
    if not options.lambda_vgg:
        return ""
    if options.vgg_weights != AUTO:
        check_own_vgg(options)
        load_vgg(Path(options.vgg_weights))
        return Path(options.vgg_weights).name
    return look_for(VGG19, VGG_AUTO)


def vgg_of_pods(options: LossOptions) -> list[str]:
    """What pods of a cluster must have for the VGG loss and nobody can see from here, in a
    sentence; none where it is off. Raises InputError for a path that is none of theirs."""
    if not options.lambda_vgg:
        return []
    if options.vgg_weights == AUTO:
        return [f"{VGG_AUTO}: whether pods can download it, or have it in their TORCH_HOME"]
    if not Path(options.vgg_weights).is_absolute():
        raise InputError(
            f"--vgg-weights {options.vgg_weights} is a path from here, which leads nowhere in a "
            "pod: give the whole path at which pods see it on a volume, or leave it out for "
            "torchvision's."
        )
    return [f"--vgg-weights {options.vgg_weights}: whether pods see it on a volume"]


def load_vgg(path: Path) -> VGG19Features:
    """VGG19 features with torchvision's weights; the classifier in the file is left out."""
    vgg, state = VGG19Features(), normalise(load_state(path))
    lacking = vgg.state_dict().keys() - state.keys()
    if lacking:
        raise InputError(
            f"--vgg-weights {path} lacks {min(lacking)}: give torchvision's vgg19 state dict."
        )
    check_values(state, vgg.state_dict(), path)
    vgg.load_state_dict({key: state[key] for key in vgg.state_dict()})
    return vgg
