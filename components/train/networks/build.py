"""The networks of a training: their architecture and their weights."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from components.train.config import NetworkOptions
from components.train.networks.discriminators import build_discriminator
from components.train.networks.init import initialise
from components.train.networks.start import begin_at_earlier, begin_at_parent
from components.train.networks.vgg import load_vgg
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture
from shared.networks.build import build_encoder, build_generator


@dataclass
class Networks:
    """What is trained. E is there when the features are learned along; VGG is frozen."""

    G: nn.Module
    D: nn.Module
    E: nn.Module | None
    vgg: nn.Module | None

    def trained(self) -> dict[str, nn.Module]:
        return {"G": self.G, "D": self.D} | ({"E": self.E} if self.E else {})


def architecture_for(
    options: NetworkOptions,
    matches_features: bool,
    manifest: DatasetManifest,
    clusters: ClusterTable | None,
) -> Architecture:
    """The networks that fit this data set.

    matches_features: whether the loss asks D for its features. clusters: of the cluster step, whose
    features take the encoder's place."""
    if clusters:
        feat_num = clusters.feat_num
    else:
        feat_num = options.feat_num if options.instance_features else 0
    return Architecture(
        netG=options.netG,
        norm=options.norm,
        dropout=options.dropout,
        netD=options.netD,
        D_features=matches_features,
        num_labels=manifest.num_labels,
        input_nc=manifest.input_nc,
        use_instances=options.use_instances and manifest.has_instances,
        feat_num=feat_num,
        feature_regions=options.feature_regions,
        ngf=options.ngf,
        n_downsample_global=options.n_downsample_global,
        n_blocks_global=options.n_blocks_global,
        n_local_enhancers=options.n_local_enhancers,
        n_blocks_local=options.n_blocks_local,
        num_D=options.num_D,
        ndf=options.ndf,
        n_layers_D=options.n_layers_D,
        nef=options.nef,
        n_downsample_E=options.n_downsample_E,
        output_nc=options.output_nc,
    )


def build(
    architecture: Architecture,
    options: NetworkOptions,
    seed: int,
    vgg_file: Path | None = None,
    init_from: Path | None = None,
    clusters: Path | None = None,
    earlier: Path | None = None,
) -> Networks:
    """Networks with fresh weights from the seed, overlaid with those of `init_from`, the previous
    stage or a model of this one, and of `earlier`, a training of this stage.

    vgg_file: torchvision's VGG19, None = no VGG loss. With the features of `clusters` there is no
    encoder. Raises InputError where stage local does not fit its global model."""
    torch.manual_seed(seed)
    how = dict(init_type=options.init_type, gain=options.init_gain)
    fresh = partial(initialise, **how, zero_bias=architecture.is_pix2pix)
    G, D = fresh(build_generator(architecture)), fresh(build_discriminator(architecture))
    learns_features = architecture.feat_num and clusters is None
    E = fresh(build_encoder(architecture)) if learns_features else None
    networks = Networks(G, D, E, vgg=load_vgg(vgg_file) if vgg_file else None)
    if init_from:
        begin_at_parent(init_from, networks.trained(), architecture)
    if earlier:
        place, has_parent = options.start_from, init_from is not None
        begin_at_earlier(earlier, networks.trained(), architecture, place, has_parent)
    return networks


def build_empty(architecture: Architecture, with_encoder: bool) -> dict[str, nn.Module]:
    """The networks without memory for their weights, which have names and shapes alone.

    with_encoder: whether the features, where there are some, are learned along."""
    with torch.device("meta"):
        networks = {"G": build_generator(architecture), "D": build_discriminator(architecture)}
        if architecture.feat_num and with_encoder:
            networks["E"] = build_encoder(architecture)
    return networks
