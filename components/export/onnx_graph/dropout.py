"""Dropout that goes on in the exported file."""

import torch
from onnx import ModelProto
from torch import Tensor, nn

from shared.deployed.replace_layers import replace_layers
from shared.deployed.synthesiser import Synthesiser


class RandomMask(nn.Module):
    """Dropout as elementary operators: ONNX Runtime removes the one of that name, also where it is
    in training mode."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) > self.p).to(x.dtype) / (1 - self.p)


def with_dropout(synthesiser: Synthesiser) -> Synthesiser:
    """A copy, which shares the weights, whose dropouts drop."""
    return replace_layers(synthesiser, nn.Dropout, lambda dropout: RandomMask(dropout.p))


def check_drops(model: ModelProto, synthesiser: Synthesiser) -> None:
    """The file drops where the network does; all else was proven without."""
    layers = sum(isinstance(module, nn.Dropout) for module in synthesiser.modules())
    places = sum(node.op_type == "RandomUniformLike" for node in model.graph.node)
    if places != layers:
        raise RuntimeError(f"the exported file drops in {places} places, the network in {layers}.")
    print(f"export: dropout goes on in {layers} layers of the file: its pictures are random")
