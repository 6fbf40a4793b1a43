"""Plain training steps, written as the references have them: in pix2pixHD's a pass of D on the fake
for each of its two losses, gradients of D's weights that the generator's losses leave behind and
nobody uses, pooling in a loop over instances; in both activations in place, Adam as it comes."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import GradScaler

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.losses import VGG_WEIGHTS, Scales, feature_matching_loss
from components.train.networks.build import Networks
from shared.condition import to_signed
from shared.networks.layers import InstanceNorm
from shared.networks.pix2pixhd import LocalEnhancer

NUM_LABELS = 35
UNSCALED = GradScaler(enabled=False)


def pooling_loop(features: Tensor, ids: Tensor) -> Tensor:
    """Instance-wise average pooling as the reference does it: over ids, images and channels, in
    place."""
    pooled = features.clone()
    for ident in np.unique(ids.cpu().numpy()):
        for image in range(len(features)):
            at = (ids[image] == int(ident)).nonzero()
            if len(at) == 0:
                continue
            for channel in range(features.shape[1]):
                mean = features[image, channel, at[:, 0], at[:, 1]].mean()
                pooled[image, channel, at[:, 0], at[:, 1]] = mean
    return pooled


class PlainStep:
    """pix2pixHD's step as in its train.py and models/pix2pixHD_model.py."""

    def __init__(self, networks: Networks, config: TrainConfig, scaler: GradScaler = UNSCALED):
        self.G, self.D, self.E, self.vgg = (
            None if network is None else _in_place(copy.deepcopy(network))
            for network in (networks.G, networks.D, networks.E, networks.vgg)
        )
        self.config, self.scaler = config, scaler
        of_G = self.G.parameters()
        if isinstance(self.G, LocalEnhancer) and config.epochs_fix_global:
            of_G = self.G.outermost_enhancer()  # the others get gradients all the same
        synthesis = [*of_G, *(self.E.parameters() if self.E else ())]
        adam = dict(lr=config.learning_rate, betas=(config.beta1, 0.999))
        self.optimizer_G = torch.optim.Adam(synthesis, **adam)
        self.optimizer_D = torch.optim.Adam(self.D.parameters(), **adam)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        # The condition: labels, edges of the instances, pooled features.
        photo, ids = to_signed(batch.photos), batch.dense_ids
        one_hot = torch.zeros(len(batch), NUM_LABELS, *ids.shape[1:], device=ids.device)
        one_hot.scatter_(1, batch.inputs[:, None].long(), 1.0)
        edge = torch.zeros_like(ids, dtype=torch.bool)
        across, down = ids[:, :, 1:] != ids[:, :, :-1], ids[:, 1:] != ids[:, :-1]
        edge[:, :, 1:] |= across
        edge[:, :, :-1] |= across
        edge[:, 1:] |= down
        edge[:, :-1] |= down
        condition = torch.cat([one_hot, edge[:, None].float()], dim=1)
        features = [pooling_loop(self.E(photo), ids)] if self.E else []
        fake = self.G(torch.cat([condition, *features], dim=1))

        # D sees the fake twice.
        def target(scales: Scales, value: float) -> Tensor:
            scores = [maps[-1] for maps in scales]
            return sum(F.mse_loss(score, torch.full_like(score, value)) for score in scores)

        fake_cut = self.D(torch.cat([condition, fake.detach()], dim=1))
        real = self.D(torch.cat([condition, photo], dim=1))
        fake_live = self.D(torch.cat([condition, fake], dim=1))
        matching = feature_matching_loss(fake_live, real)
        losses = {
            "G_GAN": target(fake_live, 1.0),
            "G_GAN_Feat": self.config.lambda_feature_matching * matching,
            "D_real": target(real, 1.0),
            "D_fake": target(fake_cut, 0.0),
        }
        if self.vgg:
            pairs = zip(VGG_WEIGHTS, self.vgg(fake), self.vgg(photo), strict=True)
            distance = sum(weight * F.l1_loss(f, r.detach()) for weight, f, r in pairs)
            losses["G_VGG"] = self.config.lambda_vgg * distance

        # G, then D.
        self.optimizer_G.zero_grad()
        of_G = sum(loss for name, loss in losses.items() if name.startswith("G_"))
        self.scaler.scale(of_G).backward(retain_graph=True)
        self.scaler.step(self.optimizer_G)
        self.optimizer_D.zero_grad()
        self.scaler.scale(0.5 * (losses["D_real"] + losses["D_fake"])).backward()
        self.scaler.step(self.optimizer_D)
        self.scaler.update()
        return {name: loss.detach() for name, loss in losses.items()}


class PlainPix2Pix:
    """pix2pix's step as in its models/pix2pix_model.py."""

    def __init__(self, networks: Networks, config: TrainConfig, scaler: GradScaler = UNSCALED):
        self.G, self.D = (_in_place(copy.deepcopy(one)) for one in (networks.G, networks.D))
        self.config, self.scaler = config, scaler
        adam = dict(lr=config.learning_rate, betas=(config.beta1, 0.999))
        self.optimizer_G = torch.optim.Adam(self.G.parameters(), **adam)
        self.optimizer_D = torch.optim.Adam(self.D.parameters(), **adam)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        photo, picture = to_signed(batch.photos), to_signed(batch.inputs)
        fake = self.G(picture)

        def target(pair: Tensor, value: float) -> Tensor:
            ((scores,),) = self.D(pair)
            wanted = torch.full_like(scores, value)
            return F.binary_cross_entropy_with_logits(scores, wanted)

        # D.
        self.D.requires_grad_(True)
        self.optimizer_D.zero_grad()
        losses = {"D_fake": target(torch.cat([picture, fake], dim=1).detach(), 0.0)}
        losses["D_real"] = target(torch.cat([picture, photo], dim=1), 1.0)
        self.scaler.scale(0.5 * (losses["D_fake"] + losses["D_real"])).backward()
        self.scaler.step(self.optimizer_D)

        # G.
        self.D.requires_grad_(False)
        self.optimizer_G.zero_grad()
        losses["G_GAN"] = target(torch.cat([picture, fake], dim=1), 1.0)
        losses["G_L1"] = self.config.lambda_L1 * F.l1_loss(fake, photo)
        self.scaler.scale(losses["G_GAN"] + losses["G_L1"]).backward()
        self.scaler.step(self.optimizer_G)
        self.scaler.update()
        return {name: loss.detach() for name, loss in losses.items()}


def _in_place(network: nn.Module) -> nn.Module:
    """The network with activations in place, and with torch's own InstanceNorm."""
    for module in list(network.modules()):
        if isinstance(module, nn.ReLU | nn.LeakyReLU):
            module.inplace = True
        for name, child in module.named_children():
            if isinstance(child, InstanceNorm):
                setattr(module, name, nn.InstanceNorm2d(child.num_features))
    return network
