"""Layers of a network in another form."""

import copy
import itertools
from collections.abc import Callable

from torch import nn

from shared.deployed.synthesiser import Synthesiser


def replace_layers(
    synthesiser: Synthesiser,
    kind: type[nn.Module] | tuple[type[nn.Module], ...],
    make: Callable[[nn.Module], nn.Module],
) -> Synthesiser:
    """A copy, which shares the weights, where every layer of that kind is what `make` makes of
    it."""
    tensors = itertools.chain(synthesiser.parameters(), synthesiser.buffers())
    synthesiser = copy.deepcopy(synthesiser, memo={id(tensor): tensor for tensor in tensors})
    for module in list(synthesiser.modules()):
        for name, child in module.named_children():
            if isinstance(child, kind):
                setattr(module, name, make(child))
    return synthesiser
