"""NVIDIA's pix2pixHD and junyanz' pix2pix from a copy of theirs, brought to a CPU and to today's
torch while they run: a step of each, with our weights."""

import contextlib
import copy
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.networks.build import Networks
from shared.condition import to_signed
from shared.contracts.model import Architecture
from shared.errors import InputError

HERE = dict(gpu_ids=[], device=torch.device("cpu"), checkpoints_dir="", name="", isTrain=True)
SIZES = ("output_nc", "ngf", "ndf", "nef", "n_layers_D", "num_D", "n_local_enhancers", "netG")
SIZES += ("n_downsample_global", "n_blocks_global", "n_blocks_local", "n_downsample_E", "norm")


class NvidiaStep:
    """An iteration of NVIDIA's train.py, with fp16 off."""

    def __init__(
        self,
        folder: Path,
        networks: Networks,
        architecture: Architecture,
        config: TrainConfig,
        batch: Batch,
    ):
        a, vgg = architecture, networks.vgg
        options = _options(a, config) | dict(input_nc=3, feat_num=3, label_nc=a.num_labels)
        options |= dict(no_lsgan=False, no_ganFeat_loss=False, no_vgg_loss=vgg is None)
        options |= dict(lambda_feat=config.lambda_feature_matching, no_instance=False)
        options |= dict(instance_feat=a.feat_num > 0, label_feat=False, load_features=False)
        options |= dict(niter_fix_global=config.epochs_fix_global if a.netG == "local" else 0)
        options |= dict(resize_or_crop="none", data_type=32, load_pretrain="")
        with _without_gpu(), _torchvision(vgg), contextlib.redirect_stdout(io.StringIO()):
            self.model = _imported(folder, "models.pix2pixHD_model").Pix2PixHDModel()
            self.model.initialize(SimpleNamespace(**options))
        self.networks = {"G": self.model.netG, "D": self.model.netD}
        if networks.E:
            self.networks["E"] = self.model.netE
        _take_weights(self.networks, networks)
        ids = batch.dense_ids.int()
        self.batch = batch.inputs[:, None].float(), ids[:, None], to_signed(batch.photos), 0

    def step(self) -> dict[str, Tensor]:
        with _without_gpu():
            values, _ = self.model(*self.batch)
        losses = dict(zip(self.model.loss_names, values, strict=True))
        loss_D = 0.5 * (losses["D_fake"] + losses["D_real"])
        loss_G = sum(loss for name, loss in losses.items() if name.startswith("G_"))
        players = (self.model.optimizer_G, loss_G), (self.model.optimizer_D, loss_D)
        for optimizer, loss in players:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}


class JunyanzStep:
    """`optimize_parameters` of junyanz' pix2pix."""

    def __init__(
        self,
        folder: Path,
        networks: Networks,
        architecture: Architecture,
        config: TrainConfig,
        batch: Batch,
    ):
        a = architecture
        options = _options(a, config) | dict(input_nc=a.input_nc, netD=a.netD, direction="AtoB")
        options |= dict(no_dropout=not a.dropout, init_type="normal", init_gain=0.02)
        options |= dict(gan_mode=config.gan_mode, lambda_L1=config.lambda_L1, preprocess="none")
        with contextlib.redirect_stdout(io.StringIO()):
            module = _imported(folder, "models.pix2pix_model")
            self.model = module.Pix2PixModel(SimpleNamespace(**options))
        self.networks = {"G": self.model.netG, "D": self.model.netD}
        _take_weights(self.networks, networks)
        photo, picture = to_signed(batch.photos), to_signed(batch.inputs)
        self.batch = {"A": picture, "B": photo, "A_paths": [], "B_paths": []}

    def step(self) -> dict[str, Tensor]:
        self.model.set_input(self.batch)
        self.model.optimize_parameters()
        losses = {name: getattr(self.model, f"loss_{name}") for name in self.model.loss_names}
        return {name: loss.detach() for name, loss in losses.items()}


def _options(a: Architecture, config: TrainConfig) -> dict[str, object]:
    """What both programs call alike, and as we do."""
    learning = dict(lr=config.learning_rate, beta1=config.beta1, pool_size=0)
    unused = dict(verbose=False, continue_train=False)
    return HERE | {name: getattr(a, name) for name in SIZES} | learning | unused


def _take_weights(theirs: dict[str, nn.Module], ours: Networks) -> None:
    for name, network in theirs.items():
        network.load_state_dict(ours.trained()[name].state_dict())


def _imported(folder: Path, module: str) -> ModuleType:
    """A module of a program whose packages have the names of the other's: models and util."""
    if not (folder / module.replace(".", "/")).with_suffix(".py").is_file():
        raise InputError(f"{folder} has no {module}: give the folder of the program.")
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        found = importlib.import_module(module)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("models", "util"):
            del sys.modules[name]
    return found


@contextlib.contextmanager
def _without_gpu() -> Iterator[None]:
    """What asks for the GPU gets the CPU."""

    def here(tensor_or_module):
        return tensor_or_module

    with (
        mock.patch.object(Tensor, "cuda", here),
        mock.patch.object(nn.Module, "cuda", here),
        mock.patch.object(torch.cuda, "FloatTensor", torch.FloatTensor),
        mock.patch.object(torch.cuda, "ByteTensor", torch.ByteTensor),
    ):
        yield


@contextlib.contextmanager
def _torchvision(vgg: nn.Module | None) -> Iterator[None]:
    """A torchvision whose VGG19 has our weights, and activations in place as its own."""
    features = copy.deepcopy(vgg.features) if vgg else None
    for module in features or ():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    stub, installed = ModuleType("torchvision"), sys.modules.get("torchvision")
    stub.models = SimpleNamespace(vgg19=lambda pretrained: SimpleNamespace(features=features))
    sys.modules["torchvision"] = stub
    try:
        yield
    finally:
        del sys.modules["torchvision"]
        if installed:
            sys.modules["torchvision"] = installed
