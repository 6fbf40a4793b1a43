"""Layers in the form in which they learn, beside torch's own."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from components.train.data.batches import collate
from components.train.networks import fast_layers
from components.train.networks.discriminators import build_discriminator
from components.train.networks.fast_layers import learn_fast
from shared.networks.build import build_generator
from tests import tiny
from tests.training import config, trainer_for

NHWC, NCHW = torch.channels_last, torch.contiguous_format


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Calls(TorchDispatchMode):
    """The form of each convolution forward, and which gradients each backward makes: of its input,
    its weights, its bias."""

    def __init__(self):
        super().__init__()
        self.forms, self.gradients = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("im2col", "col2im"):
            self.forms.append("product")
        elif name == "convolution":
            self.forms.append("nhwc" if args[0].is_contiguous(memory_format=NHWC) else "nchw")
        elif name == "convolution_backward":
            self.gradients.append(args[-1])
        return function(*args, **(kwargs or {}))


def learned(network: nn.Module, *given: Tensor) -> list[Tensor]:
    """What a network makes of it, and the gradients of what wants one."""
    y = network(*given) if len(given) == 1 else network(given)
    wanted = [*network.parameters(), *(part for part in given if part.requires_grad)]
    towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return [y, *torch.autograd.grad(y, wanted, towards)]


def same(ones: list[Tensor], others: list[Tensor]) -> None:
    torch.testing.assert_close(ones, others, rtol=1e-10, atol=1e-10)


PLAIN = dict(kernel_size=4, stride=2, padding=1)
CASES = [
    # 64 x 64 x 4 x 4 weights; positions, of all pictures, of which a product takes 4.
    (nn.Conv2d, (64, 64), PLAIN, (1, 4, 4), "product"),
    (nn.Conv2d, (64, 64), PLAIN | dict(bias=False), (2, 2, 4), "product"),
    (nn.Conv2d, (64, 64), dict(kernel_size=3), (1, 3, 6), "product"),
    (nn.Conv2d, (64, 64), PLAIN, (1, 4, 6), "nchw"),
    (nn.Conv2d, (64, 64), PLAIN, (2, 4, 4), "nchw"),
    (nn.ConvTranspose2d, (64, 64), PLAIN, (1, 2, 2), "product"),
    (nn.ConvTranspose2d, (64, 32), PLAIN | dict(bias=False), (2, 1, 2), "product"),
    (nn.ConvTranspose2d, (64, 32), dict(kernel_size=3, stride=2), (1, 2, 2), "product"),
    (
        nn.ConvTranspose2d,
        (64, 32),
        dict(kernel_size=3, stride=2, padding=1, output_padding=1),
        (1, 1, 3),
        "product",
    ),
    (nn.ConvTranspose2d, (64, 64), PLAIN, (1, 2, 3), "nchw"),
    (nn.ConvTranspose2d, (32, 64), PLAIN, (1, 2, 2), "nchw"),
    # Blocks of 16 channels that are not full.
    (nn.Conv2d, (36, 16), dict(kernel_size=7), (2, 9, 12), "nhwc"),
    (nn.Conv2d, (16, 3), dict(kernel_size=7), (1, 12, 9), "nhwc"),
    (nn.Conv2d, (32, 16), dict(kernel_size=7), (1, 12, 9), "nchw"),
    (nn.Conv2d, (8, 3), dict(kernel_size=7), (1, 12, 9), "nhwc"),
    (nn.Conv2d, (3, 8), dict(kernel_size=7), (1, 12, 9), "nhwc"),
    (nn.Conv2d, (3, 16), dict(kernel_size=7), (1, 12, 9), "nchw"),
    (nn.Conv2d, (36, 16), dict(kernel_size=3), (1, 12, 9), "nchw"),
]


@pytest.mark.parametrize("kind, channels, how, maps, form", CASES)
def test_a_form_is_the_same_convolution(monkeypatch, kind, channels, how, maps, form):
    """Forward and backward in float64, in the form that is expected; the maps are NCHW again."""
    monkeypatch.setattr(fast_layers, "LARGE", 2**14)
    torchs = nn.Sequential(kind(*channels, **how)).double()
    ours = copy.deepcopy(torchs)
    learn_fast(ours, in_any_form=True)
    x = torch.randn(maps[0], channels[0], *maps[1:], dtype=torch.float64, requires_grad=True)
    with Calls() as calls:
        found = learned(ours, x)
    assert set(calls.forms) == {form} and found[0].is_contiguous()
    same(found, learned(torchs, x))


def test_elsewhere_convolutions_are_torchs(monkeypatch):
    """Where no gradient is wanted, in networks in NHWC, and where no other form is allowed."""
    monkeypatch.setattr(fast_layers, "LARGE", 0)
    x = torch.randn(1, 64, 4, 4)
    network = nn.Sequential(nn.Conv2d(64, 64, **PLAIN), nn.ConvTranspose2d(64, 64, **PLAIN))
    other = copy.deepcopy(network)
    learn_fast(network, in_any_form=True)
    learn_fast(other, in_any_form=False)
    with Calls() as calls, torch.no_grad():
        network(x)
    network.to(memory_format=NHWC)(x.contiguous(memory_format=NHWC))
    with calls:
        network(x.contiguous(memory_format=NHWC))
        other(x)
    assert calls.forms == ["nchw"] * 2 + ["nhwc"] * 2 + ["nchw"] * 2


@pytest.mark.parametrize("format_", [NCHW, NHWC])
@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(netG="local", n_local_enhancers=2),
        dict(netG="unet_128", norm="batch", netD="n_layers"),
        dict(netG="resnet_6blocks", norm="batch", netD="n_layers"),
    ],
)
def test_of_channels_given_apart_gradients_are_made_that_are_wanted(changes, format_):
    """A generator of a condition and of features, beside each other: as of both in one, at a size
    that is padded; but no convolution makes a gradient of the condition."""
    a = tiny.architecture(**changes | dict(feat_num=3))
    torchs = build_generator(a).double().to(memory_format=format_)
    ours = copy.deepcopy(torchs)
    learn_fast(ours, in_any_form=True)
    condition = torch.randn(1, a.condition_channels, 40, 72, dtype=torch.float64)
    features = torch.randn(1, 3, 40, 72, dtype=torch.float64, requires_grad=True)
    with Calls() as calls:
        found = learned(ours, condition, features)
    whole = torch.cat([condition, features.detach()], dim=1).requires_grad_()
    *wanted, of_whole = learned(torchs, whole)
    same(found, [*wanted, of_whole[:, -3:]])
    readers = 1 + (a.n_local_enhancers if a.netG == "local" else 0)
    assert sum(not of_input for of_input, of_weights, _ in calls.gradients) == readers


CONDITION = 5  # channels


@pytest.mark.parametrize("format_", [NCHW, NHWC])
@pytest.mark.parametrize(
    "changes",
    [
        dict(num_D=3),
        dict(num_D=2, D_features=False, norm="batch"),
        dict(netD="n_layers"),
        dict(netD="pixel"),
    ],
)
def test_a_discriminator_that_shares_the_condition_is_the_one_that_sees_pairs(changes, format_):
    """Of two pictures that have one condition: maps, and gradients of weights and pictures. The
    condition's part is computed once a scale."""
    a = tiny.architecture(**changes | dict(num_labels=CONDITION, use_instances=False))
    D = build_discriminator(a).double().to(memory_format=format_)
    condition = torch.rand(2, CONDITION, 48, 64, dtype=torch.float64).contiguous(memory_format=NHWC)
    photo, fake = (torch.randn(2, 3, 48, 64, dtype=torch.float64) for _ in range(2))
    fake.requires_grad_()

    def gradients(scales_of: list) -> list[Tensor]:
        maps = [one for scales in scales_of for scale in scales for one in scale]
        loss = sum((place + 1) * one.square().mean() for place, one in enumerate(maps))
        return [*maps, *torch.autograd.grad(loss, [*D.parameters(), fake])]

    pairs = [D(torch.cat([condition, picture], dim=1)) for picture in (photo, fake)]
    with Calls() as calls:
        conditioned = D.of_condition(condition)
    scales = a.num_D if a.netD == "multiscale" else 1
    assert len(calls.forms) == scales
    found = [D(picture, conditioned) for picture in (photo, fake)]
    same(gradients(found), gradients(pairs))


TRAININGS = {
    "global": dict(feat_num=3),
    "local": dict(netG="local"),
    "unet": dict(netG="unet_128", norm="batch", netD="n_layers"),
}


@pytest.mark.parametrize("networks", TRAININGS.values(), ids=TRAININGS)
def test_a_training_in_any_form_is_that_in_torchs(tmp_path, monkeypatch, networks):
    """Losses of three steps, and files: the same keys, weights that can go on in the other."""
    monkeypatch.setattr(fast_layers, "LARGE", 2**8)
    options = dict(lambda_feature_matching=0.0) if networks.get("netD") else {}
    tiny.dataset(tmp_path)
    batch = collate([tiny.pairs(tmp_path, size=(128, 128))[i] for i in range(2)])
    a = tiny.architecture(**networks | dict(ngf=16))
    any_form, torchs = (
        trainer_for(a, config(**options, memory_format=format_)) for format_ in ("auto", "nchw")
    )
    with Calls() as calls:
        found = [any_form.step(batch) for _ in range(3)]
    assert {"nchw", "product" if networks.get("netD") else "nhwc"} <= set(calls.forms)
    for losses in found:
        for name, wanted in torchs.step(batch).items():
            torch.testing.assert_close(losses[name], wanted, rtol=2e-4, atol=1e-5, msg=name)
    torchs.load_state_dict(any_form.state_dict())


def dropping(share: float = 0.5) -> nn.Module:
    network = nn.Sequential(nn.Dropout(share))
    learn_fast(network, in_any_form=True)
    return network


@pytest.mark.parametrize("format_", [NCHW, NHWC])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_doubles_half_of_the_elements(format_, dtype):
    """Others become 0, gradients too, each by itself: of neighbours along any axis, and of draws,
    half are alike, to 5 deviations."""
    x = (torch.rand(2, 8, 41, 53) + 1).to(dtype).contiguous(memory_format=format_).requires_grad_()
    drop = dropping()
    y = drop(x)
    (gradient,) = torch.autograd.grad(y, x, torch.ones_like(y))
    kept, other = y != 0, drop(x) != 0
    assert torch.equal(y, torch.where(kept, 2 * x, 0)) and y.dtype is dtype
    assert torch.equal(gradient, kept.to(dtype) * 2)
    assert y.is_contiguous(memory_format=format_)
    near = 5 * 0.5 / kept.numel() ** 0.5
    assert abs(kept.float().mean() - 0.5) < near
    changes = [kept.diff(dim=axis) for axis in range(4)] + [kept ^ other]
    for changed in changes:
        assert abs(changed.float().mean() - 0.5) < 2 * near


def test_dropout_goes_by_the_seed_and_is_torchs_elsewhere():
    x = torch.randn(1, 4, 8, 8)
    drawn = [(torch.manual_seed(seed), dropping()(x))[1] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    for share in (0.0, 0.3):
        ours, torchs = (
            (torch.manual_seed(1), drop(x))[1] for drop in (dropping(share), nn.Dropout(share))
        )
        assert torch.equal(ours, torchs)
    assert torch.equal(dropping().eval()(x), x)
