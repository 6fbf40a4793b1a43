"""Networks beside a second implementation: what both are given, and what keys they have."""

import pytest
import torch
from torch import nn

from shared.networks.layers import instance_norm

NORMS = pytest.mark.parametrize("norm", [instance_norm, nn.BatchNorm2d], ids=["instance", "batch"])


def settled(network):
    """The network in float64, its BatchNorms as after some training: all their values count."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -1, 1),
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
            ):
                nn.init.uniform_(tensor, low, high)
    return network.double()


def equals(network, x, answer):
    """Assert that the network gives `answer(weights, x, training)`, of order 1, in both modes."""
    x = x.double()
    for training in (True, False):
        # Copies, since training moves the statistics.
        weights = {key: value.clone() for key, value in network.state_dict().items()}
        ours, wanted = network.train(training)(x), answer(weights, x, training)
        torch.testing.assert_close(ours, wanted, atol=1e-10, rtol=0)


def shapes(network):
    """The shapes of all convolution weights, by key."""
    state = network.state_dict()
    return {key: tuple(value.shape) for key, value in state.items() if value.ndim == 4}


def weights_only(*keys):
    return {f"{key}.weight" for key in keys}


def conv_keys(*keys):
    return {f"{key}.{name}" for key in keys for name in ("weight", "bias")}


def norm_keys(*keys):
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{key}.{name}" for key in keys for name in names}
