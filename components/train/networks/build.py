"""The networks of a training: their architecture, their weights, and the model that they start
from."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from components.train.config import NetworkOptions, TrainConfig
from components.train.networks.discriminators import build_discriminator
from components.train.networks.init import initialise
from components.train.networks.partial import load_what_fits, modules
from components.train.networks.vgg import load_vgg
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture, ModelCard
from shared.errors import InputError
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import read_model, weights_path
from shared.registry import RegistryError
from shared.registry.trained import REGISTRY, trained_model

GLOBAL_PART = "model."  # what the tensors of the global network inside a local enhancer begin with


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
    )


def read_parent(init_from: Path, architecture: Architecture) -> ModelCard:
    """The card of the model to start from; also of NVIDIA's or junyanz's files alone, whose input
    channels are taken to be those of this architecture."""
    hints = architecture.model_dump(include={"num_labels", "use_instances", "feat_num"})
    return read_model(init_from, **hints)


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
    stage, and of `earlier`, a training of this stage.

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
        _begin_after_stage_one(init_from, networks, architecture)
    if earlier:
        _begin_at_earlier(earlier, networks, architecture, options.start_from)
    return networks


def build_empty(architecture: Architecture, with_encoder: bool) -> dict[str, nn.Module]:
    """The networks without memory for their weights, which have names and shapes alone.

    with_encoder: whether the features, where there are some, are learned along."""
    with torch.device("meta"):
        networks = {"G": build_generator(architecture), "D": build_discriminator(architecture)}
        if architecture.feat_num and with_encoder:
            networks["E"] = build_encoder(architecture)
    return networks


def _begin_after_stage_one(init_from: Path, networks: Networks, architecture: Architecture) -> None:
    """Load what fits of the model of the previous stage, and say what that is."""
    for name, network in networks.trained().items():
        if not weights_path(init_from, name).is_file():
            continue
        report = load_what_fits(network, weights_path(init_from, name))
        print("from the previous stage:", report, flush=True)
        if name == "G" and architecture.netG == "local":
            check_global_part(report.new, init_from)


def check_global_part(new: set[str], init_from: Path) -> None:
    """Raises InputError where the enhancer's global part is not that of the model it starts from.

    new: names of the tensors that did not come from there."""
    if differing := [key for key in new if key.startswith(GLOBAL_PART)]:
        raise InputError(
            f"--init-from {init_from}: its generator does not fit ({min(differing)} differs): "
            "stage local needs half the --ngf of its global model, and the same labels, features, "
            "blocks and stride."
        )


@contextmanager
def earlier_training(config: TrainConfig) -> Iterator[Path]:
    """The folder of the model that --start-from names, for a while. Raises InputError where there
    is none."""
    place = config.start_from
    if not place.startswith(REGISTRY) and not Path(place).is_dir():
        raise InputError(
            f"--start-from {place} is no folder: give that of a trained model, or "
            "models:/NAME/VERSION."
        )
    try:
        with trained_model(place, config.step_name) as folder:
            yield folder
    except RegistryError as error:
        raise InputError(f"--start-from {place}: {error}") from None


def check_earlier(config: TrainConfig, architecture: Architecture) -> None:
    """Raises InputError where --start-from names no model, or one of other networks."""
    with earlier_training(config) as folder:
        check_start(config.start_from, read_parent(folder, architecture).architecture, architecture)


def check_start(start_from: str, found: Architecture, wanted: Architecture) -> None:
    """Raises InputError where the generator of the model to start from is not built as the one that
    is to be trained."""
    names = ["netG", "norm", "num_labels", "input_nc", "use_instances", "feat_num", "ngf"]
    if not wanted.is_pix2pix:
        names += ["n_downsample_global", "n_blocks_global"]
    if wanted.netG == "local":
        names += ["n_local_enhancers", "n_blocks_local"]
    for name in names:
        here, there = getattr(wanted, name), getattr(found, name)
        if here != there:
            raise InputError(
                f"--start-from {start_from} has networks with {name} {there}, but {here} is asked "
                "for: give the same options and data, or start without it."
            )


def _begin_at_earlier(
    folder: Path, networks: Networks, architecture: Architecture, start_from: str
) -> None:
    """Load the networks of an earlier training of this stage, of D and E what fits, and print what
    was taken. The global network inside a local enhancer stays that of the previous stage."""
    check_start(start_from, read_parent(folder, architecture).architecture, architecture)
    rows = []
    for name, network in networks.trained().items():
        if not weights_path(folder, name).is_file():
            rows.append((name, "no file, stays as it is", "", ""))
            continue
        but = GLOBAL_PART if name == "G" and architecture.netG == "local" else None
        report = load_what_fits(network, weights_path(folder, name), but)
        if name == "G" and report.new:
            raise InputError(
                f"--start-from {start_from}: its generator does not fit ({min(report.new)} "
                "differs): give the same options, or start without it."
            )
        taken = f"{len(report.taken)} of {len(report.taken) + len(report.new)}"
        rows.append((name, taken, modules(report.new), modules(report.left)))
    headers = ("from --start-from", "tensors taken", "new", "left")
    print(tabulate(rows, headers, tablefmt="plain", disable_numparse=True), flush=True)
