"""Losses of pix2pixHD (Wang et al. 2018, section 3.3, equation 8) and pix2pix (Isola et al. 2017,
equations 1 and 3).

Each is a function of network outputs and is computed in float32, whatever their precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from components.train.config import GanMode, LossOptions

# What the discriminator gives: per scale its feature maps, last the patch scores.
Scales = list[list[Tensor]]

VGG_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of relu1_1 .. relu5_1


def generator_losses(
    options: LossOptions,
    vgg: torch.nn.Module | None,
    fake_scales: Scales,
    real_scales: Scales | None,
    fake: Tensor,
    photo: Tensor,
) -> dict[str, Tensor]:
    """What G learns from: fool D, match its features, match VGG's, match the pixels; those that
    have a weight, by name and weighted.

    fake_scales, real_scales: what D says of fake and photo; the latter is for feature matching
    alone. fake, photo: (N, output_nc, H, W) in [-1, 1]."""
    losses = {"G_GAN": gan_loss(fake_scales, is_real=True, mode=options.gan_mode)}
    if options.lambda_feature_matching:
        matching = feature_matching_loss(fake_scales, real_scales)
        losses["G_GAN_Feat"] = options.lambda_feature_matching * matching
    if vgg is not None:
        losses["G_VGG"] = options.lambda_vgg * vgg_loss(vgg, fake, photo)
    if options.lambda_L1:
        losses["G_L1"] = options.lambda_L1 * l1_loss(fake, photo)
    return losses


def losses_of_pictures(
    options: LossOptions,
    D: torch.nn.Module,
    vgg: torch.nn.Module | None,
    condition: Tensor,
    photo: Tensor,
    fake: Tensor,
    shown: Tensor | None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What D and G learn from by the same D, which judges each picture once.

    fake: cut off from G. shown: what D learns from in place of the fake, with its condition; None =
    the fake."""
    conditioned = D.of_condition(condition)
    real_scales = D(photo, conditioned)
    fake_scales = shown_scales = D(fake, conditioned)
    if shown is not None:
        shown_scales = D(shown)
    return (
        discriminator_losses(options, real_scales, shown_scales),
        generator_losses(options, vgg, fake_scales, real_scales, fake, photo),
    )


def losses_and_gradients(
    options: LossOptions,
    D: torch.nn.Module,
    vgg: torch.nn.Module | None,
    condition: Tensor,
    photo: Tensor,
    fake: Tensor,
    shown: Tensor | None,
    scale_D: Tensor,
    scale_G: Tensor,
) -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[Tensor, ...], Tensor]:
    """Losses of D and of G, and their scaled gradients, D's by its weights and G's by the fake:
    one graph without an end in it, to be compiled. To be called under autocast.

    The backward pass of a compiled D would make both gradients each time that one is taken."""
    losses_D, losses_G = losses_of_pictures(options, D, vgg, condition, photo, fake, shown)
    with torch.autocast(fake.device.type, enabled=False):
        loss_D, loss_G = scale_D * D_total(losses_D), scale_G * G_total(losses_G)
        of_weights = torch.autograd.grad(loss_D, list(D.parameters()), retain_graph=True)
        (of_fake,) = torch.autograd.grad(loss_G, fake)
    detached = ({name: loss.detach() for name, loss in of.items()} for of in (losses_D, losses_G))
    return *detached, of_weights, of_fake


def D_total(losses: dict[str, Tensor]) -> Tensor:
    """What D's gradients are of."""
    return 0.5 * sum(losses.values())


def G_total(losses: dict[str, Tensor]) -> Tensor:
    """What G's gradients are of."""
    return sum(losses.values())


def discriminator_losses(
    options: LossOptions, real_scales: Scales, fake_scales: Scales
) -> dict[str, Tensor]:
    """What D learns from, by name: photos are real, fakes are not."""
    return {
        "D_real": gan_loss(real_scales, is_real=True, mode=options.gan_mode),
        "D_fake": gan_loss(fake_scales, is_real=False, mode=options.gan_mode),
    }


def gan_loss(scales: Scales, is_real: bool, mode: GanMode) -> Tensor:
    """Distance of the patch scores from their target, averaged over patches, summed over scales.

    Scores are raw, without a sigmoid; lsgan: least squares, vanilla: cross entropy."""
    return sum(_distance_to(float(is_real), maps[-1].float(), mode) for maps in scales)


def _distance_to(target: float, scores: Tensor, mode: GanMode) -> Tensor:
    match mode:
        case "lsgan":
            return (scores - target).square().mean()
        case "vanilla":
            return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


def l1_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of two tensors of one shape: pictures (N, C, H, W) in [-1, 1], or
    features.

    Summed in float32 from differences of the maps' own precision, which have the signs, and so the
    gradients, of exact ones: copies in float32 took two to five times as long. torch sums what lies
    in memory in another order than its axes are element by element."""
    differences = (fake - real).abs()
    if not differences.is_contiguous() and differences.dim() == 4:
        differences = differences.movedim(1, -1)  # of channels_last: as it lies in memory
    return differences.sum(dtype=torch.float32) / differences.numel()


def feature_matching_loss(fake: Scales, real: Scales) -> Tensor:
    """L1 between D's features of fake and real, without the scores; weights 4 / layers / scales as
    in the reference."""
    layers = len(fake[0]) - 1
    weight = 4 / layers / len(fake)
    return weight * sum(
        l1_loss(f, r.detach())
        for fake_maps, real_maps in zip(fake, real, strict=True)
        for f, r in zip(fake_maps[:-1], real_maps[:-1], strict=True)
    )


def vgg_loss(vgg: torch.nn.Module, fake: Tensor, real: Tensor) -> Tensor:
    """Weighted L1 between VGG19 features; pictures (N, 1 or 3, H, W) in [-1, 1]."""
    with torch.no_grad():
        wanted = vgg(real)
    pairs = zip(VGG_WEIGHTS, vgg(fake), wanted, strict=True)
    return sum(weight * l1_loss(f, r) for weight, f, r in pairs)
