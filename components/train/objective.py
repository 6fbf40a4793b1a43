"""pix2pixHD's losses (Wang et al. 2018, section 3.3 and equation 8), each a function of network outputs."""

import torch
import torch.nn.functional as F
from torch import Tensor

Scales = list[list[Tensor]]  # of the discriminator: per scale its feature maps, last the patch scores

VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of relu1_1 .. relu5_1


def gan_loss(scales: Scales, is_real: bool) -> Tensor:
    """LSGAN: squared distance of the patch scores to 1 (real) or 0, averaged over patches, summed over scales."""
    return sum(_distance_to(float(is_real), maps[-1]) for maps in scales)


def _distance_to(target: float, scores: Tensor) -> Tensor:
    return (scores.float() - target).square().mean()


def feature_matching_loss(fake: Scales, real: Scales) -> Tensor:
    """L1 between D's features of fake and real, without the scores; weights 4 / layers / scales as in the reference."""
    layers = len(fake[0]) - 1
    weight = 4 / layers / len(fake)
    return weight * sum(
        F.l1_loss(f.float(), r.detach().float())
        for fake_maps, real_maps in zip(fake, real, strict=True)
        for f, r in zip(fake_maps[:-1], real_maps[:-1], strict=True)
    )


def vgg_loss(vgg: torch.nn.Module, fake: Tensor, real: Tensor) -> Tensor:
    """Weighted L1 between VGG19 features; pictures (N, 3, H, W) in [-1, 1]."""
    with torch.no_grad():
        wanted = vgg(real)
    pairs = zip(VGG_WEIGHTS, vgg(fake), wanted, strict=True)
    return sum(weight * F.l1_loss(f.float(), r.float()) for weight, f, r in pairs)
