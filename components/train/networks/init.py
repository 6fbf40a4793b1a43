"""Fresh weights of the networks, as the references draw them."""

from functools import partial

from torch import nn

from components.train.config import InitType


def init_weights(
    module: nn.Module, init_type: InitType = "normal", gain: float = 0.02, zero_bias: bool = False
) -> None:
    """Draw the weights of one layer anew; use with `network.apply`. As it stands it is pix2pixHD's
    initialisation.

    Convolutions: of deviation `gain` (normal), or scaled by their fan (kaiming knows no gain);
    biases zero or left as torch made them. BatchNorm: weights ~ N(1, gain), biases zero."""
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            match init_type:
                case "normal":
                    nn.init.normal_(module.weight, 0.0, gain)
                case "xavier":
                    nn.init.xavier_normal_(module.weight, gain)
                case "kaiming":
                    nn.init.kaiming_normal_(module.weight)
                case "orthogonal":
                    nn.init.orthogonal_(module.weight, gain)
            if zero_bias and module.bias is not None:
                nn.init.zeros_(module.bias)
        case nn.BatchNorm2d():
            nn.init.normal_(module.weight, 1.0, gain)
            nn.init.zeros_(module.bias)


def initialise(network: nn.Module, init_type: InitType, gain: float, zero_bias: bool) -> nn.Module:
    """`init_weights` on every layer; pix2pix has zero_bias, pix2pixHD not. Returns the network."""
    return network.apply(partial(init_weights, init_type=init_type, gain=gain, zero_bias=zero_bias))
