"""Losses against their formulas, the image pool, the average of the weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from components.train.losses import feature_matching_loss, gan_loss, l1_loss, vgg_loss
from components.train.networks.ema import Ema
from components.train.networks.vgg import VGG19Features
from components.train.pool import ImagePool
from shared.networks.checkpoint import save_tensors
from shared.networks.weight_file import load_tensors

# Losses.


def two_scales(first: float, second: float) -> list[list[torch.Tensor]]:
    """Scores `first` and `second`, and a feature map that a GAN loss has no business with."""
    return [
        [torch.full((1, 4, 3, 3), 9.0), torch.full((1, 1, 2, 2), first)],
        [torch.zeros(1), torch.full((1, 1, 1, 1), second)],
    ]


def test_lsgan_sums_over_scales_and_takes_the_last_map_only():
    scales = two_scales(0.25, 3.0)
    assert gan_loss(scales, is_real=True, mode="lsgan").item() == pytest.approx(0.75**2 + 2**2)
    assert gan_loss(scales, is_real=False, mode="lsgan").item() == pytest.approx(0.25**2 + 3**2)


def test_vanilla_is_the_cross_entropy_of_the_sigmoid_of_raw_scores():
    scales = two_scales(0.25, -3.0)
    first, second = 1 / (1 + math.exp(-0.25)), 1 / (1 + math.exp(3.0))
    wanted_real, wanted_fake = (
        -math.log(first) - math.log(second),
        -math.log(1 - first) - math.log(1 - second),
    )
    assert gan_loss(scales, is_real=True, mode="vanilla").item() == pytest.approx(
        wanted_real, rel=1e-6
    )
    assert gan_loss(scales, is_real=False, mode="vanilla").item() == pytest.approx(
        wanted_fake, rel=1e-6
    )


def test_vanilla_stays_finite_where_a_sigmoid_would_be_0():
    """-log(sigmoid(s)) = -s up to exp(s): the loss and its gradient, -1, survive."""
    score = torch.full((1, 1, 1, 1), -200.0, requires_grad=True)
    loss = gan_loss([[score]], is_real=True, mode="vanilla")
    loss.backward()
    assert loss.item() == 200 and score.grad.item() == -1


@pytest.mark.parametrize("mode", ["lsgan", "vanilla"])
def test_gan_losses_of_half_precision_scores_are_taken_in_float32(mode):
    """300² = 90,000 is beyond float16; the mean over patches is of exactly these scores."""
    scores = torch.tensor([300.0, -300.0, 0.5, 0.25], dtype=torch.float16).reshape(1, 1, 2, 2)
    loss = gan_loss([[scores]], is_real=False, mode=mode)
    assert loss.dtype == torch.float32
    wanted = {"lsgan": lambda s: s * s, "vanilla": lambda s: math.log1p(math.exp(s))}[mode]
    assert loss.item() == pytest.approx(sum(map(wanted, (300.0, -300.0, 0.5, 0.25))) / 4)


def test_l1_is_the_mean_distance_in_float32():
    fake, real = torch.tensor([[1.0, -1.0]], dtype=torch.bfloat16), torch.tensor([[0.25, -0.875]])
    loss = l1_loss(fake, real)
    assert loss.dtype == torch.float32 and loss.item() == (0.75 + 0.125) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_l1_of_maps_in_any_form_has_the_gradient_of_copies_in_float32(dtype, memory_format):
    maps = [torch.randn(2, 8, 31, 17).to(dtype, memory_format=memory_format) for _ in range(2)]
    fake, real = maps[0].requires_grad_(), maps[1]
    gradients = []
    wanted = F.l1_loss(fake.float(), real.float())
    for loss in (wanted, l1_loss(fake, real)):
        (gradient,) = torch.autograd.grad(loss, fake)
        gradients.append(gradient)
    assert loss.dtype == torch.float32
    exact = dtype is torch.float32
    torch.testing.assert_close(loss, wanted, rtol=0 if exact else 1e-3, atol=1e-7 if exact else 0)
    assert torch.equal(*gradients)


def test_l1_of_16_bits_is_summed_in_float32():
    """In float16 the sum of 2 million ones would be infinite, in bfloat16 256."""
    for dtype in (torch.float16, torch.bfloat16):
        ones = torch.ones(1, 2, 1024, 1024, dtype=dtype)
        assert l1_loss(ones, torch.zeros_like(ones)).item() == 1.0


def test_feature_matching_ignores_scores_and_gives_no_gradient_to_real():
    def scales(value, score):
        return [
            [torch.full((1, 2, 2, 2), value, requires_grad=True) for _ in range(4)]
            + [torch.tensor(score)]
            for _ in range(2)
        ]

    fake, real = scales(1.0, 5.0), scales(4.0, 7.0)
    loss = feature_matching_loss(fake, real)
    assert loss.item() == pytest.approx(2 * 4 * 3.0 * (4 / 4) * (1 / 2))
    loss.backward()
    assert fake[0][0].grad is not None and real[0][0].grad is None


def test_vgg_loss_weighs_the_five_layers():
    torch.manual_seed(0)
    vgg = VGG19Features()
    fake, real = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    expected = sum(
        w * (f - r).abs().mean()
        for w, f, r in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), vgg(fake), vgg(real), strict=True)
    )
    assert vgg_loss(vgg, fake, real).item() == pytest.approx(expected.item(), rel=1e-5)


# Image pool.


def numbered(first: int, count: int) -> torch.Tensor:
    """(count, 2, 1, 3) images, each filled with its own number."""
    return torch.arange(first, first + count).float().reshape(-1, 1, 1, 1).expand(-1, 2, 1, 3)


def ask(pool: ImagePool, first: int, count: int) -> list[int]:
    answer = pool.query(numbered(first, count))
    first_pixels = answer[:, :1, :1, :1].expand(count, 2, 1, 3)
    assert torch.equal(answer, first_pixels), "images come back whole"
    return answer[:, 0, 0, 0].int().tolist()


def test_pool_fills_up_then_exchanges_half_of_the_images():
    pool = ImagePool(size=5, seed=0)
    assert ask(pool, 0, 3) + ask(pool, 3, 2) == [0, 1, 2, 3, 4]
    kept, exchanged = {0, 1, 2, 3, 4}, 0
    for new in range(5, 1005):
        (answer,) = ask(pool, new, 1)
        if answer != new:  # it was in the pool, leaves it, and the new one is there instead
            assert answer in kept
            kept, exchanged = kept - {answer} | {new}, exchanged + 1
        assert {int(image[0, 0, 0, 0]) for image in pool.images} == kept
    assert 437 < exchanged < 563  # 500 within 4 standard deviations, sqrt(1000) / 2


def test_pool_of_size_0_passes_images_through_without_gradient():
    images = torch.rand(2, 4, 3, 3, requires_grad=True)
    answer = ImagePool(size=0, seed=0).query(images)
    assert torch.equal(answer, images) and not answer.requires_grad


def test_pool_gives_no_gradient_and_shares_no_memory_with_the_batches():
    pool = ImagePool(size=1, seed=1)
    for value in range(1, 20):
        images = torch.full((3, 4, 3, 3), float(value), requires_grad=True)
        assert not pool.query(images).requires_grad
        with torch.no_grad():
            images.zero_()
        (kept,) = pool.images
        assert kept.min() == kept.max() > 0 and not kept.requires_grad
        assert kept.untyped_storage().nbytes() == kept.nbytes


def test_pool_keeps_single_images_of_any_size():
    """Batches of one may differ in size; an image comes back in its own."""
    pool = ImagePool(size=2, seed=0)
    sizes = {tuple(pool.query(torch.zeros(1, 1, 2 + i % 3, 4)).shape) for i in range(50)}
    assert sizes == {(1, 1, 2, 4), (1, 1, 3, 4), (1, 1, 4, 4)}


def test_a_saved_pool_goes_on_as_if_it_had_never_stopped(tmp_path):
    pool, again = ImagePool(size=4, seed=7), ImagePool(size=4, seed=8)
    ask(pool, 0, 10)
    save_tensors(tmp_path / "state.pth", {"pool": pool.state_dict()})
    expected = ask(pool, 10, 40)
    again.load_state_dict(load_tensors(tmp_path / "state.pth")["pool"])
    assert ask(again, 10, 40) == expected
    assert expected != list(range(10, 50))


def test_a_saved_pool_fits_one_of_another_size():
    pool, smaller, larger = (ImagePool(size, seed=0) for size in (4, 2, 6))
    ask(pool, 0, 4)
    for other in (smaller, larger):
        other.load_state_dict(pool.state_dict())
    assert [int(image[0, 0, 0, 0]) for image in smaller.images] == [0, 1]
    assert ask(larger, 4, 2) == [4, 5] and len(larger.images) == 6
    for first in range(4, 100):
        ask(smaller, first, 1)
    assert len(smaller.images) == 2


# Average of the weights.


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def test_average_has_its_closed_form():
    """After n updates: decay^n * first + (1 - decay) * sum over k of decay^(n - k) * weights after
    step k."""
    trained, decay, steps = network(), 0.9, 8
    ema = Ema(trained, decay)
    seen = [{key: value.double().clone() for key, value in trained.named_parameters()}]
    for _ in range(steps):
        with torch.no_grad():
            for parameter in trained.parameters():
                parameter += torch.randn_like(parameter)
        seen.append({key: value.double().clone() for key, value in trained.named_parameters()})
        ema.update()
    for key, average in ema.network.named_parameters():
        recent = (decay ** (steps - k) * seen[k][key] for k in range(1, steps + 1))
        expected = decay**steps * seen[0][key] + (1 - decay) * sum(recent)
        assert torch.allclose(average.double(), expected, atol=1e-6), key
        assert not torch.allclose(average, dict(trained.named_parameters())[key])


def test_batch_statistics_are_copied_and_the_trained_network_stays_as_it_is():
    trained = network()
    ema = Ema(trained, 0.5)
    trained(torch.rand(4, 2, 3, 3))
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    assert not torch.equal(ema.network[1].running_mean, trained[1].running_mean)
    ema.update()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(ema.network[1], name), getattr(trained[1], name))
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    assert all(p.requires_grad for p in trained.parameters())
    assert not any(p.requires_grad for p in ema.network.parameters())


def test_average_of_a_half_precision_network_is_float32():
    """A change of 2^-10 of a weight of 1 would be lost in bfloat16, whose next number is 1 +
    2^-7."""
    trained = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.constant_(trained.weight, 1.0)
    ema = Ema(trained, 1 - 2**-10)
    nn.init.constant_(trained.weight, 2.0)
    ema.update()
    assert ema.network.weight.dtype == torch.float32 and ema.network.weight.item() == 1 + 2**-10


def test_a_saved_average_goes_on_as_if_it_had_never_stopped(tmp_path):
    trained = network()
    ema = Ema(trained, 0.9)
    save_tensors(tmp_path / "state.pth", ema.state_dict())
    with torch.no_grad():
        trained[0].weight.add_(1)
    again = Ema(trained, 0.9)
    again.load_state_dict(load_tensors(tmp_path / "state.pth"))
    for one in (ema, again):
        one.update()
    assert torch.equal(ema.network[0].weight, again.network[0].weight)


class Reads(TorchDispatchMode):
    """Counts the times that the program asks for a number in a tensor."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_an_average_never_waits_for_the_device():
    """torch's AveragedModel does: the reason why it is not ours, and the same to the bit."""
    trained, decay = network(), 0.9
    ours, theirs = (
        Ema(trained, decay),
        AveragedModel(trained, None, None, get_ema_multi_avg_fn(decay)),
    )
    theirs.n_averaged.fill_(1)  # else its first update copies
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter += torch.randn_like(parameter)
    with Reads() as reads:
        ours.update()
    assert reads.count == 0
    with Reads() as reads:
        theirs.update_parameters(trained)
    assert reads.count == 2
    for key, average in ours.network.state_dict().items():
        assert torch.equal(average, theirs.module.state_dict()[key]), key
