"""A plain training step, written as the reference has it: a pass of D on the fake for each of its
two losses, gradients of D's weights that the generator's losses leave behind and nobody uses,
activations in place, pooling in a loop over instances, Adam as it comes."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.losses import Scales, feature_matching_loss
from components.train.networks.build import Networks
from shared.condition import to_signed
from shared.networks.layers import InstanceNorm

NUM_LABELS = 35


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

    def __init__(self, networks: Networks, config: TrainConfig):
        self.G, self.D, self.E = (
            None if network is None else _in_place(copy.deepcopy(network))
            for network in (networks.G, networks.D, networks.E)
        )
        self.config = config
        synthesis = [*self.G.parameters(), *(self.E.parameters() if self.E else ())]
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

        # G, then D.
        self.optimizer_G.zero_grad()
        (losses["G_GAN"] + losses["G_GAN_Feat"]).backward(retain_graph=True)
        self.optimizer_G.step()
        self.optimizer_D.zero_grad()
        (0.5 * (losses["D_real"] + losses["D_fake"])).backward()
        self.optimizer_D.step()
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
