"""What the parts compute: networks of random weights, batches of drawn streets."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.networks.build import Networks
from components.train.networks.discriminators import build_discriminator
from components.train.networks.init import initialise
from components.train.networks.vgg import VGG19Features
from components.train.step import Trainer
from shared.contracts.model import Architecture
from shared.device import Runtime, pick
from shared.errors import InputError
from shared.networks.build import build_encoder, build_generator
from tests.benchmarks.plain_step import PlainPix2Pix, PlainStep
from tests.benchmarks.street import street

REFERENCE = {"cuda": ("fp32", "fp16"), "cpu": ("fp32", "bf16"), "npu": ()}  # of the plain step
PRECISIONS = {"npu": ["fp32", "hf32", "fp16", "bf16"], "cuda": ["fp32", "tf32", "bf16", "fp16"]}
PRECISIONS |= {"cpu": ["fp32", "bf16"]}
NUM_LABELS = 35
HD = dict(n_downsample_global=4, n_blocks_global=9, n_blocks_local=3, n_local_enhancers=1)
HD |= dict(ndf=64, n_layers_D=3, nef=16, n_downsample_E=4, num_D=2)
TINY = dict(n_downsample_global=2, n_blocks_global=1, n_blocks_local=1, ndf=2, n_layers_D=2)
TINY |= dict(nef=2, n_downsample_E=2)
PIX2PIX = dict(norm="batch", netD="n_layers", num_labels=0, input_nc=3, use_instances=False)


@dataclass(frozen=True)
class Case:
    """A network, and the pictures that it gets."""

    name: str
    height: int
    width: int
    ngf: int
    netG: str = "global"
    feat_num: int = 0
    vgg: bool = False
    batch_size: int = 1
    tiny: bool = False

    @property
    def is_pix2pix(self) -> bool:
        return self.netG not in ("global", "local")

    @property
    def title(self) -> str:
        batch = f", batch {self.batch_size}" if self.batch_size > 1 else ""
        return f"{self.name}, ngf {self.ngf}, {self.height}x{self.width}{batch}"

    def small(self) -> "Case":
        """The same of next to nothing, to try a check."""
        large = self.netG == "unet_256"  # it halves its input eight times
        size = dict(height=256 if large else 32, width=256 if large else 64)
        same = dict(name=self.name, netG=self.netG, feat_num=self.feat_num, vgg=self.vgg)
        return Case(**same, **size, ngf=2, batch_size=min(self.batch_size, 2), tiny=True)

    def architecture(self) -> Architecture:
        values = HD | (TINY if self.tiny else {}) | dict(num_D=3 if self.netG == "local" else 2)
        values |= dict(num_labels=NUM_LABELS, input_nc=0, use_instances=True)
        values |= PIX2PIX if self.is_pix2pix else {}
        return Architecture(**values, netG=self.netG, ngf=self.ngf, feat_num=self.feat_num)

    def batch(self, seed: int = 0) -> Batch:
        """Streets with their instances, or pictures."""
        rng = np.random.default_rng(seed)
        if self.is_pix2pix:
            shape = (2, self.batch_size, 3, self.height, self.width)
            inputs, photos = torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8))
            return Batch(inputs, photos, None, regions=None, num_regions=0, features=None)
        drawn = [street(rng, self.height, self.width) for _ in range(self.batch_size)]
        inputs = torch.from_numpy(np.stack([one.inputs for one in drawn]))
        photos = torch.from_numpy(np.stack([one.photo for one in drawn]))
        dense = torch.from_numpy(np.stack([one.dense_ids for one in drawn]))
        most = max(len(one.ids) for one in drawn)
        return Batch(inputs, photos, dense, regions=dense, num_regions=most, features=None)

    def config(self, device: str, precision: str, **changes) -> TrainConfig:
        values = dict(netG=self.netG, ngf=self.ngf, instance_features=self.feat_num > 0)
        values |= dict(device=device, precision=precision, workers=0)
        if self.is_pix2pix:
            values |= dict(gan_mode="vanilla", lambda_L1=100, lambda_feature_matching=0)
        values |= dict(lambda_vgg=10) if self.vgg else {}
        return TrainConfig.check(values | changes)

    def networks(self) -> Networks:
        """The same weights at every call; of a large G it takes seconds."""
        torch.manual_seed(0)
        architecture = self.architecture()
        made = [build_generator(architecture), build_discriminator(architecture)]
        made += [build_encoder(architecture)] if self.feat_num else [None]
        for network in filter(None, made):
            initialise(network, "normal", 0.02, zero_bias=self.is_pix2pix)
        # Speed does not ask what VGG has learned: no file is needed.
        return Networks(*made, vgg=VGG19Features() if self.vgg else None)

    def trainer(self, runtime: Runtime, networks: Networks | None = None, **changes) -> Trainer:
        """networks: to train, in place of new ones."""
        config = self.config(runtime.name, runtime.precision, **changes)
        trainer = Trainer(networks or self.networks(), self.architecture(), config, runtime)
        trainer.start_epoch(1)
        return trainer

    def plain_step(
        self, runtime: Runtime, networks: Networks | None = None
    ) -> tuple[Networks, Callable[[Batch], object]]:
        """As the references write it: in NCHW, and in 16 bits as apex's O1, which casts in
        functions and scales the losses of fp16."""
        fp32 = pick(runtime.name, "fp32")
        kept = self.trainer(fp32, networks, memory_format="nchw").networks
        scaler = torch.amp.GradScaler(runtime.name, enabled=runtime.scales_losses)
        kind = PlainPix2Pix if self.is_pix2pix else PlainStep
        plain = kind(kept, self.config(runtime.name, runtime.precision), scaler)

        def step(batch: Batch) -> None:
            with runtime.autocast():
                plain.step(batch)

        return kept, step


def precisions(given) -> list[str]:
    """Those that the device has; of the others a row says why not. What is computed in one is to be
    picked anew before: TF32 and HF32 are switches of the whole process. Raises InputError where the
    device itself is not there."""
    pick(given.device, "auto")
    found = []
    for precision in PRECISIONS[given.device]:
        try:
            pick(given.device, precision)
            found.append(precision)
        except InputError as refusal:
            given.say(precision, str(refusal))
    return found
