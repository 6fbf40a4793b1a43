"""Fresh weights have the deviations of the references."""

import pytest
import torch
from torch import nn

from components.train.networks.init import init_weights, initialise
from shared.networks.layers import instance_norm
from shared.networks.pix2pix import ResnetGenerator
from shared.networks.pix2pixhd import GlobalGenerator


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_init_is_normal_with_deviation_of_one_fiftieth():
    network = GlobalGenerator(8, 32, 2, 2).apply(init_weights)
    weight = network.model[4].weight
    assert abs(weight.std().item() - 0.02) < 5e-4 and abs(weight.mean().item()) < 5e-4
    assert network.model[4].bias.abs().max() > 0  # torch's own uniform init, as in the reference


def test_init_of_batch_norm_is_around_one():
    network = GlobalGenerator(3, 64, 3, 0, nn.BatchNorm2d).apply(init_weights)
    weight = network.model[11].weight  # 512 channels
    assert abs(weight.mean().item() - 1) < 0.005 and abs(weight.std().item() - 0.02) < 0.003
    assert not network.model[11].bias.any()


@pytest.mark.parametrize(
    "init_type, deviation",
    [
        ("normal", 0.1),
        ("xavier", 0.1 * (2 / ((32 + 64) * 9)) ** 0.5),
        ("kaiming", (2 / (32 * 9)) ** 0.5),
        ("orthogonal", 0.1 / (32 * 9) ** 0.5),  # 64 rows of length 0.1 and 32 * 9 elements
    ],
)
@pytest.mark.parametrize("zero_bias", [True, False])
def test_initialise_as_pix2pix(init_type, deviation, zero_bias):
    network = ResnetGenerator(3, 32, 1, instance_norm, dropout=False)
    before = network.model[4].bias.clone()
    assert initialise(network, init_type, 0.1, zero_bias) is network
    conv = network.model[4]  # 32 -> 64 channels, 3x3
    assert abs(conv.weight.std().item() / deviation - 1) < 0.03
    assert torch.equal(conv.bias, torch.zeros(64) if zero_bias else before)
    if init_type == "orthogonal":
        rows = conv.weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, 0.01 * torch.eye(64), atol=1e-6, rtol=0)
