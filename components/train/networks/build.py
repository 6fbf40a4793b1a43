"""The networks of a training: their architecture, their weights, and the model that they start
from."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from components.train.config import TrainConfig
from components.train.networks.discriminators import build_discriminator
from components.train.networks.init import initialise
from components.train.networks.partial import load_what_fits
from components.train.networks.vgg import load_vgg
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture, ModelCard
from shared.errors import InputError
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import read_model, weights_path


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
    config: TrainConfig, manifest: DatasetManifest, clusters: Path | None
) -> Architecture:
    """The networks that fit this data set."""
    feat_num = (
        ClusterTable.read(clusters).feat_num
        if clusters
        else config.feat_num
        if config.instance_features
        else 0
    )
    return Architecture.model_validate(
        config.model_dump(include=set(Architecture.model_fields))
        | {
            "netG": config.netG,
            "num_labels": manifest.num_labels,
            "input_nc": manifest.input_nc,
            "use_instances": config.use_instances and manifest.has_instances,
            "feat_num": feat_num,
            "D_features": config.lambda_feature_matching > 0,
        }
    )


def read_parent(init_from: Path, architecture: Architecture) -> ModelCard:
    """Also of NVIDIA's or junyanz's files alone, whose input channels are taken to be those of this
    architecture."""
    hints = architecture.model_dump(include={"num_labels", "use_instances", "feat_num"})
    return read_model(init_from, **hints)


def build(
    architecture: Architecture, config: TrainConfig, init_from: Path | None, clusters: Path | None
) -> Networks:
    """Networks with fresh weights from the seed, overlaid with those of `init_from`."""
    torch.manual_seed(config.seed)
    fresh = partial(
        initialise,
        init_type=config.init_type,
        gain=config.init_gain,
        zero_bias=architecture.is_pix2pix,
    )
    G, D = fresh(build_generator(architecture)), fresh(build_discriminator(architecture))
    learns_features = architecture.feat_num and clusters is None
    E = fresh(build_encoder(architecture)) if learns_features else None
    vgg = load_vgg(Path(config.vgg_weights)) if config.lambda_vgg else None
    if init_from:
        for name, network in {"G": G, "D": D, "E": E}.items():
            if network is not None and weights_path(init_from, name).is_file():
                report = load_what_fits(network, weights_path(init_from, name))
                print("from the previous stage:", report, flush=True)
                if (
                    name == "G"
                    and config.netG == "local"
                    and any(key.startswith("model.") for key in report.new)
                ):
                    raise InputError(
                        f"--init-from {init_from}: its generator does not fit ({min(report.new)} "
                        "differs): stage local "
                        "needs half the --ngf of its global model, and the same labels, features, "
                        "blocks and stride."
                    )
    return Networks(G, D, E, vgg)
