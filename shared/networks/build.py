"""The generator and the encoder of an Architecture."""

from torch import nn

from shared.contracts.model import Architecture
from shared.networks.layers import Norm, instance_norm
from shared.networks.pix2pix import ResnetGenerator, UnetGenerator
from shared.networks.pix2pixhd import Encoder, GlobalGenerator, LocalEnhancer


def norm_layer(a: Architecture) -> Norm:
    match a.norm:
        case "instance":
            return instance_norm
        case "batch":
            return nn.BatchNorm2d


def build_generator(a: Architecture) -> nn.Module:
    """The generator, not yet initialised. Its input channels: one-hot labels or picture, edge,
    instance features, in this order."""
    channels, norm = a.condition_channels + a.feat_num, norm_layer(a)
    match a.netG:
        case "global":
            size = a.ngf, a.n_downsample_global, a.n_blocks_global
            return GlobalGenerator(channels, *size, norm, a.output_nc)
        case "local":
            return LocalEnhancer(
                channels,
                a.ngf,
                a.n_downsample_global,
                a.n_blocks_global,
                a.n_local_enhancers,
                a.n_blocks_local,
                norm,
                a.output_nc,
            )
        case "unet_128":
            return UnetGenerator(channels, a.ngf, 7, norm, a.dropout, a.output_nc)
        case "unet_256":
            return UnetGenerator(channels, a.ngf, 8, norm, a.dropout, a.output_nc)
        case "resnet_6blocks":
            return ResnetGenerator(channels, a.ngf, 6, norm, a.dropout, a.output_nc)
        case "resnet_9blocks":
            return ResnetGenerator(channels, a.ngf, 9, norm, a.dropout, a.output_nc)


def build_encoder(a: Architecture) -> Encoder:
    return Encoder(a.feat_num, a.nef, a.n_downsample_E, norm_layer(a), a.output_nc)
