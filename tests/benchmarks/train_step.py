"""`python -m tests.benchmarks.train_step`: our training step beside a plain one, side by side in
one run.

The plain step is written as the reference has it: a pass of D on the fake for each of its two
losses, gradients of D's weights that the generator's losses leave behind and nobody uses,
activations in place, pooling in a loop over instances, Adam as it comes."""

import copy
import json
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.losses import Scales, feature_matching_loss
from components.train.networks.build import Networks
from shared.command import command_line
from shared.condition import instance_mean, paint, to_signed
from shared.networks.layers import InstanceNorm
from tests import tiny
from tests.benchmarks.street import street
from tests.benchmarks.turns import Turns, interleaved
from tests.training import trainer_for

NUM_LABELS = 35
PIX2PIXHD = dict(n_downsample_global=4, n_blocks_global=9, num_D=2, ndf=64, n_layers_D=3)
PIX2PIXHD |= dict(nef=16, n_downsample_E=4)


def street_batch(height: int, width: int) -> Batch:
    """One image of a street."""
    maps = street(np.random.default_rng(0), height, width)
    arrays = maps.inputs, maps.photo, maps.dense_ids
    inputs, photos, dense = (torch.from_numpy(array[None]) for array in arrays)
    return Batch(inputs, photos, dense, regions=dense, num_regions=len(maps.ids), features=None)


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
        one_hot = torch.zeros(len(batch), NUM_LABELS, *ids.shape[1:])
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


def compare_steps(
    features: bool, height: int, width: int, ngf: int, rounds: int
) -> dict[str, Turns]:
    """Our step beside the plain one, fp32 and bf16, after a look at the losses of the first
    step."""
    # The same weights everywhere.
    config = TrainConfig(ngf=ngf, instance_features=features, n_downsample_E=4, device="cpu")
    architecture = tiny.architecture(**PIX2PIXHD | dict(ngf=ngf, feat_num=3 * features))
    fp32, bf16 = (trainer_for(architecture, config, precision=name) for name in ("fp32", "bf16"))
    plain, ours = PlainStep(fp32.networks, config), {"fp32": fp32, "bf16": bf16}

    # The losses.
    batch = street_batch(height, width)
    wanted = plain.step(batch)
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 3e-2)):
        for name, loss in ours[precision].step(batch).items():
            torch.testing.assert_close(
                loss, wanted[name], rtol=tolerance, atol=tolerance, msg=f"{precision} {name}"
            )

    # The clock.
    steps = {"plain fp32": plain} | {f"ours {name}": trainer for name, trainer in ours.items()}
    calls = {name: partial(one.step, batch) for name, one in steps.items()}
    return interleaved(calls, rounds)


def compare_pooling(height: int, width: int, rounds: int) -> dict[str, Turns]:
    """The scatter-mean beside the loop, forward and backward, after a look at the values."""
    batch = street_batch(height, width)
    ids, features = batch.dense_ids, torch.randn(1, 3, height, width, requires_grad=True)

    def ours() -> Tensor:
        return paint(instance_mean(features, ids, batch.num_regions), ids)

    torch.testing.assert_close(ours(), pooling_loop(features, ids), rtol=1e-4, atol=1e-4)
    both_ways = {"loop": lambda: pooling_loop(features, ids), "scatter-mean": ours}
    calls = {name: lambda pool=pool: pool().sum().backward() for name, pool in both_ways.items()}
    return interleaved(calls, rounds)


def train_step(rounds: int = 7, ngf: int = 16) -> None:
    """Compare our training step with a plain one, side by side in one run.

    First the losses are compared, then the clock; ratios hold, seconds are of this machine.

    Args:
        rounds: Rounds in which the steps take turns.
        ngf: Channels of G's first layer.

    Example:
        python -m tests.benchmarks.train_step --rounds 3
    """
    results = {
        f"step, {name}, 128x256, ngf {ngf}": compare_steps(features, 128, 256, ngf, rounds)
        for name, features in (("labels", False), ("features", True))
    }
    results["pooling, forward and backward, 512x1024"] = compare_pooling(512, 1024, rounds)

    print(
        f"speed-ups, medians of {rounds} rounds in turn; CPU, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    speedups = {
        case: {name: one.speedup for name, one in turns.items()} for case, turns in results.items()
    }
    for case, of_case in speedups.items():
        print(f"{case:42} " + "  ".join(f"{name} {ratio:.2f}x" for name, ratio in of_case.items()))
    print(json.dumps(speedups))


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.train_step", train_step, {}, argv)


if __name__ == "__main__":
    main()
