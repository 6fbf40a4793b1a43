"""InstanceNorm of maps that hold one number: exactly 0, where rounding would become a pattern."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from components.train.networks.discriminators import build_discriminator
from components.train.networks.memory import checkpoint_activations
from shared.networks.build import build_encoder, build_generator
from shared.networks.layers import InstanceNorm, varies, with_picture_statistics
from tests import reference, tiny
from tests.tiny import one_thread  # noqa: F401 - a fixture

EPSILON = {
    torch.float32: 2**-23,
    torch.float64: 2**-52,
    torch.bfloat16: 2**-7,
    torch.float16: 2**-10,
}
FLOATS = pytest.mark.parametrize("dtype", EPSILON, ids=str)
NETWORKS = ["global", "local", "resnet_6blocks", "unet_128"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def generator(netG: str, **changes) -> nn.Module:
    """Of deep networks: rounding grows 316 times with each norm. Biases are not 0."""
    depth = dict(n_downsample_global=3, n_blocks_global=3, n_blocks_local=2)
    return build_generator(tiny.architecture(netG=netG, **depth | changes)).eval()


def maps_of(*kinds: str) -> torch.Tensor:
    """(N, 36, 128, 128): blank has one label, ignored none, normal blocks of several."""
    x = torch.zeros(len(kinds), 36, 128, 128)
    for sample, kind in zip(x, kinds, strict=True):
        if kind == "blank":
            sample[5] = 1
        elif kind == "normal":
            labels = torch.randint(35, (1, 16, 16)).repeat_interleave(8, 1).repeat_interleave(8, 2)
            sample.scatter_(0, labels, 1.0)
    return x


def plain(network: nn.Module) -> nn.Module:
    """The same network with torch's own InstanceNorm, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, InstanceNorm):
                setattr(module, name, nn.InstanceNorm2d(child.num_features))
    return network


@FLOATS
def test_a_constant_map_becomes_0_and_its_neighbours_stay(dtype):
    """Rounding as a convolution leaves it: of all channels as large as of the largest number."""
    rounding = (8 if dtype in (torch.float32, torch.float64) else 0.5) * EPSILON[dtype]
    flat = torch.tensor([1.7, 1e-3, -0.3, 0.0])[:, None, None].expand(4, 8, 9).double()
    rounded = (flat + rounding * (2 * torch.rand(4, 8, 9) - 1)).to(dtype)
    x = torch.stack([rounded, torch.randn(4, 8, 9).to(dtype), torch.zeros(4, 8, 9, dtype=dtype)])
    assert rounded.unique().numel() > 4, "it is not constant"

    assert varies(x, dtype).flatten().tolist() == [0, 1, 0]
    found = InstanceNorm(4)(x)
    assert (found[0] == 0).all() and (found[2] == 0).all()
    wanted = reference.normalised(x[1:2].double(), *reference.moments(x[1:2].double(), (2, 3)))[0]
    torch.testing.assert_close(found[1].double(), wanted, rtol=0, atol=20 * EPSILON[dtype])


@pytest.mark.parametrize("channels", [4, 64])
def test_one_grey_level_of_one_pixel_is_seen(channels):
    """In a black picture of any size."""
    picture = torch.full((1, 3, 64, 96), -1.0)
    picture[0, 0, 30, 40] += 1 / 127.5
    x = nn.Conv2d(3, channels, 7)(picture)
    torch.testing.assert_close(InstanceNorm(channels)(x), F.instance_norm(x), rtol=0, atol=0)
    assert varies(x, torch.float32) == 1


def test_weights_follow_the_guard_and_gradients_are_0():
    norm = InstanceNorm(3, affine=True)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 8, 8)
    x[0] = 0.7
    x.requires_grad_()
    y = norm(x)
    assert torch.equal(y[0], norm.bias[:, None, None].expand(3, 8, 8))
    assert torch.equal(y[1:], F.instance_norm(x[1:], weight=norm.weight, bias=norm.bias))

    slope = torch.randn_like(y)
    y.backward(slope)
    assert (x.grad[0] == 0).all() and x.grad[1].abs().max() > 0.1
    torch.testing.assert_close(norm.bias.grad, slope.sum((0, 2, 3)))
    normal = F.instance_norm(x[1].detach()[None])[0]
    torch.testing.assert_close(norm.weight.grad, (slope[1] * normal).sum((1, 2)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(value):
    x = torch.ones(1, 2, 4, 4)
    x[0, 0, 1, 1] = value
    assert InstanceNorm(2)(x)[0, 0].isnan().all()


@pytest.mark.parametrize("netG", NETWORKS[:3])
@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
def test_a_blank_map_gives_the_picture_that_algebra_says(netG, nhwc):
    """Behind the first norm all is 0: the picture is the head's bias. With torch's own norm it is
    rounding."""
    network, x = generator(netG), maps_of("blank", "ignored", "normal")
    layout = torch.channels_last if nhwc else torch.contiguous_format
    network, x = network.to(memory_format=layout), x.to(memory_format=layout)
    head = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    with torch.no_grad():
        wanted, found = head.bias.tanh()[:, None, None].expand(3, 128, 128), network(x)
        for picture in found[:2]:
            torch.testing.assert_close(picture, wanted, rtol=0, atol=1e-7)
        assert found[2].std() > 0.01
        assert (plain(network)(x)[:2] - wanted).abs().max() > 0.01


@pytest.mark.parametrize("netG", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_normal_maps_give_the_same_pictures_to_the_bit(netG, dtype):
    """As torch's InstanceNorm gives them, with which published weights were made."""
    network, x = generator(netG).to(dtype), maps_of("normal").to(dtype)
    with torch.no_grad():
        ours = network(x)
        assert torch.equal(ours, plain(network)(x)) and ours.std() > 0.01


def test_a_discriminator_and_an_encoder_are_the_same_to_the_bit():
    a = tiny.architecture(feat_num=3)
    photo, x = torch.rand(1, 3, 64, 64), torch.rand(1, 39, 64, 64)
    for network, given in ((build_encoder(a), photo), (build_discriminator(a), x)):
        with torch.no_grad():
            ours, theirs = network(given), plain(network)(given)
        flat = [ours] if isinstance(ours, torch.Tensor) else sum(ours, [])
        twins = [theirs] if isinstance(theirs, torch.Tensor) else sum(theirs, [])
        assert all(torch.equal(one, twin) for one, twin in zip(flat, twins, strict=True))


def test_a_photo_of_one_colour_has_the_features_of_the_bias():
    network = build_encoder(tiny.architecture(feat_num=3, n_downsample_E=3)).eval()
    head = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
    photo = torch.tensor([0.3, -0.7, 0.1])[None, :, None, None].expand(1, 3, 64, 64)
    with torch.no_grad():
        found, wanted = network(photo), head.bias.tanh()[:, None, None].expand(3, 64, 64)
    torch.testing.assert_close(found[0], wanted, rtol=0, atol=1e-7)


def test_picture_statistics_of_a_blank_map_are_reproducible():
    """BatchNorm's shift is what is left of it, and zero padding gives that a border."""
    changes = dict(norm="batch", num_labels=0, input_nc=3, use_instances=False)
    networks = [generator("resnet_6blocks", **changes) for _ in range(2)]
    for module in networks[0].modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    networks[1].load_state_dict(networks[0].state_dict())
    fp32, fp64 = (with_picture_statistics(network) for network in networks)
    fp64.double()
    white = torch.ones(1, 3, 64, 64)
    with torch.no_grad():
        difference = (fp32(white) - fp64(white.double())).abs().max()
    assert difference < 1e-4


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_blank_maps_train(precision):
    """Gradients are finite, of the head alone, and the same with recomputed activations."""
    network, x = generator("global").train(), maps_of("blank")
    gradients = []
    for again in (False, True):
        if again:
            checkpoint_activations(network)
        network.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            network(x).float().square().mean().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.isfinite().all() and torch.equal(gradient, gradients[1][name])
        assert name == list(gradients[0])[-1] or not gradient.any(), name
