"""The discriminators against a second implementation, and against the key layout of NVIDIA's and
junyanz' checkpoints."""

import itertools

import pytest
import torch
from torch import nn

from components.train.networks.discriminators import (
    MultiscaleDiscriminator,
    NLayerDiscriminator,
    PixelDiscriminator,
    build_discriminator,
)
from shared.networks.layers import instance_norm
from tests import reference, tiny
from tests.twins import (
    NORMS,
    conv_keys,
    equals,
    norm_keys,
    settled,
    shapes,
    weights_only,
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@NORMS
@pytest.mark.parametrize("features", [True, False])
def test_multiscale_discriminator_in_both_layouts_equals_reference(features, norm):
    network = settled(
        MultiscaleDiscriminator(6, 4, n_layers=3, num_D=2, features=features, norm=norm)
    )
    equals(
        network,
        torch.randn(2, 6, 32, 48),
        lambda w, x, t: reference.discriminator(w, x, 2, 3, features, t),
    )


@NORMS
@pytest.mark.parametrize("n_layers, side", [(1, 13), (3, 29), (5, 128)])
def test_patchgan_equals_reference(n_layers, side, norm):
    network = settled(NLayerDiscriminator(6, ndf=2, n_layers=n_layers, norm=norm))
    equals(
        network,
        torch.randn(2, 6, side, side),
        lambda w, x, t: [[reference.n_layer_discriminator(w, x, n_layers, t)]],
    )


@NORMS
def test_pixel_discriminator_equals_reference(norm):
    network = settled(PixelDiscriminator(6, ndf=4, norm=norm))
    equals(
        network, torch.randn(2, 6, 5, 7), lambda w, x, t: [[reference.pixel_discriminator(w, x, t)]]
    )


def test_patchgan_of_three_layers_judges_70_pixels():
    """What one score depends on, found by its gradient; in evaluation mode BatchNorm looks at no
    neighbours."""
    network = NLayerDiscriminator(1, ndf=2, n_layers=3, norm=nn.BatchNorm2d).eval()
    x = torch.randn(1, 1, 256, 256, requires_grad=True)
    ((scores,),) = network(x)
    assert scores.shape == (1, 1, 30, 30)
    (gradient,) = torch.autograd.grad(scores[0, 0, 15, 15], x)
    rows, columns = gradient[0, 0].nonzero(as_tuple=True)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == 70


def test_keys_of_the_pix2pix_discriminators():
    patch = NLayerDiscriminator(6, 4, 3, nn.BatchNorm2d)
    ends, inner = ["model.0", "model.11"], ["model.2", "model.5", "model.8"]
    norms = ["model.3", "model.6", "model.9"]
    assert patch.state_dict().keys() == conv_keys(*ends) | weights_only(*inner) | norm_keys(*norms)
    assert NLayerDiscriminator(6, 4, 3, instance_norm).state_dict().keys() == conv_keys(
        *ends, *inner
    )
    widths = [6, 4, 8, 16, 32, 1]
    assert list(shapes(patch).values()) == [
        (wide, narrow, 4, 4) for narrow, wide in itertools.pairwise(widths)
    ]
    deep = shapes(NLayerDiscriminator(6, 4, 5, instance_norm))
    assert deep["model.14.weight"] == (32, 32, 4, 4), "at most 8 ndf"

    pixel = PixelDiscriminator(6, 4, nn.BatchNorm2d)
    assert pixel.state_dict().keys() == conv_keys("net.0") | weights_only(
        "net.2", "net.5"
    ) | norm_keys("net.3")
    assert PixelDiscriminator(6, 4, instance_norm).state_dict().keys() == conv_keys(
        "net.0", "net.2", "net.5"
    )
    assert list(shapes(pixel).values()) == [(4, 6, 1, 1), (8, 4, 1, 1), (1, 8, 1, 1)]


@pytest.mark.parametrize(
    "change, kind, parameters",
    [
        (dict(netD="n_layers", norm="batch"), NLayerDiscriminator, 2_768_705),
        (
            dict(netD="n_layers"),
            NLayerDiscriminator,
            2_768_705 - 2 * 896 + 896,
        ),  # biases where norms had two
        (dict(netD="pixel", norm="batch"), PixelDiscriminator, 7 * 64 + 64 * 128 + 2 * 128 + 128),
        (dict(netD="multiscale", num_D=1), MultiscaleDiscriminator, 2_768_705 - 896),
        (
            dict(netD="multiscale", num_D=2, D_features=False),
            MultiscaleDiscriminator,
            2 * (2_768_705 - 896),
        ),
    ],
)
def test_sizes_of_the_discriminators_for_condition_and_photo(change, kind, parameters):
    settings = dict(
        netG="unet_256", num_labels=0, input_nc=3, use_instances=False, ndf=64, n_layers_D=3
    )
    with torch.device("meta"):
        network = build_discriminator(tiny.architecture(**settings | change))
    assert isinstance(network, kind)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_discriminator_equals_reference_finest_first():
    network = MultiscaleDiscriminator(6, ndf=4, n_layers=3, num_D=3)
    x = torch.randn(2, 6, 64, 32)
    ours, theirs = network(x), reference.discriminator(network.state_dict(), x, 3, 3)
    assert [len(maps) for maps in ours] == [5, 5, 5]
    for our_maps, their_maps in zip(ours, theirs, strict=True):
        for a, b in zip(our_maps, their_maps, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
