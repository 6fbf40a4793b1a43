"""Exponential moving average of a network's weights."""

import copy

import torch
from torch import nn


class Ema:
    """average = decay * average + (1 - decay) * now; `network` has the averages and is there to
    evaluate and save.

    It starts from the weights as they are, in float32, and stays in the mode (train or eval) they
    are in. Not torch's AveragedModel: it moves its counter between host and device in every update,
    and each of these copies waits for the accelerator."""

    def __init__(self, network: nn.Module, decay: float):
        self.source, self.decay = network, decay
        self.network = copy.deepcopy(network).float().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of a step. Buffers (BatchNorm's statistics) are averages already:
        they are copied."""
        now = [parameter.float() for parameter in self.source.parameters()]
        torch._foreach_lerp_(list(self.network.parameters()), now, 1 - self.decay)
        for average, buffer in zip(self.network.buffers(), self.source.buffers(), strict=True):
            average.copy_(buffer)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(state)
