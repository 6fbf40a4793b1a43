"""Steps of trainings on the stand-in of an NPU and on the CPU, beside each other in one process.

    python -m tests.train.devices.stepping

with the environment of tests/on_npu.py writes a line of JSON: what a step of each case costs, and
how far its weights are from the CPU's with Adam in the same form."""

import json

import torch
from torch_npu.stand_in.stats import STATS

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from components.train.step import Trainer
from shared.device import pick
from tests import tiny
from tests.training import config, networks_for

STEPS = 3
INSTANCES = 5
PIX2PIX = dict(netG="resnet_6blocks", netD="n_layers", gan_mode="vanilla", lambda_L1=100.0)
PIX2PIX |= dict(lambda_feature_matching=0.0, pool_size=2, norm="batch")


def batch() -> Batch:
    ids = torch.arange(32 * 64).view(1, 32, 64) % INSTANCES
    return Batch(
        inputs=torch.randint(35, (1, 32, 64), dtype=torch.uint8),
        photos=torch.randint(256, (1, 3, 32, 64), dtype=torch.uint8),
        dense_ids=ids.to(torch.uint8),
        regions=ids.to(torch.uint8),
        num_regions=INSTANCES,
        features=None,
    )


def trainer(options: TrainConfig, **of_networks) -> Trainer:
    architecture = tiny.architecture(**of_networks)
    networks = networks_for(architecture)
    trainer = Trainer(networks, architecture, options, pick(options.device, options.precision))
    trainer.start_epoch(1)
    return trainer


def train(trainer: Trainer, steps: int) -> list[dict]:
    """The losses of each step; batches are the same for every trainer."""
    torch.manual_seed(1)
    losses = []
    for _ in range(steps):
        losses.append(trainer.step(trainer.carrier.carry(batch())))
        trainer.count(losses[-1], 1)
    return losses


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """And moments and numbers of steps."""
    found = {
        f"{name}.{key}": value
        for name, network in trainer.networks.trained().items()
        for key, value in network.state_dict().items()
    }
    for name, update in (("G", trainer.update_G), ("D", trainer.update_D)):
        for key, moments in update.optimizer.state_dict()["state"].items():
            found |= {f"{name}.{key}.{kind}": value for kind, value in moments.items()}
    return {key: value.detach().cpu().clone() for key, value in found.items()}


def different(ones: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> list[str]:
    """The names of tensors that are not equal to the bit."""
    assert ones.keys() == others.keys() and len(ones) > 20
    return [name for name, one in ones.items() if not torch.equal(one, others[name])]


def case(options: dict, like: dict | None = None, **of_networks) -> dict:
    """What a step costs on the device, and what is different from the CPU; like: options of the
    training that it is compared with, None = with none."""
    of_networks = {"use_instances": True} | of_networks
    ours = trainer(config(device="npu", **options), **of_networks)
    train(ours, 1)
    kernels, fetches = sum(STATS.kernels.values()), STATS.copies["npu->cpu"]
    order = len(STATS.streams)
    train(ours, STEPS - 1)
    kernels = (sum(STATS.kernels.values()) - kernels) / (STEPS - 1)
    fetches = (STATS.copies["npu->cpu"] - fetches) / (STEPS - 1)
    order = [line for line in STATS.streams[order:] if not line.endswith(("npu->npu", "npu->cpu"))]
    found = dict(kernels=kernels, fetches=fetches, streams=order)
    if like is not None:
        other = trainer(config(**options | like), **of_networks)
        train(other, 1), train(other, STEPS - 1)
        found["different"] = different(weights(ours), weights(other))
    return found


def overflow(options: dict, players: str, **of_networks) -> dict:
    """What a step by gradients that are not finite changes of these players, and how many updates
    of each are skipped; a step before and one after are good."""
    ours = trainer(config(device="npu", **options), use_instances=True, **of_networks)
    train(ours, 1)
    before = weights(ours)
    scalers = {"G": ours.update_G.scaler, "D": ours.update_D.scaler}
    scales = {name: scaler.scaler.get_scale() for name, scaler in scalers.items()}
    for name in players:
        scalers[name].scaler.update(float("inf"))
    fetches = STATS.copies["npu->cpu"]
    train(ours, 1)
    fetches = STATS.copies["npu->cpu"] - fetches
    changed = {name for name in different(before, weights(ours)) if "running" not in name}

    # The scale was spoiled by hand: it is to go on from what it was.
    for name in players:
        scalers[name].scaler.update(scales[name])
    after = weights(ours)
    train(ours, 1)
    moved = {name.partition(".")[0] for name in different(after, weights(ours))}
    changed = {name for name in changed if name[0] in players and "num_batches" not in name}
    skipped = {name: scaler.state_dict()["skipped"] for name, scaler in scalers.items()}
    return dict(changed=sorted(changed), skipped=skipped, fetches=fetches, moved=sorted(moved))


def main() -> None:
    fp32, on_cpu = dict(precision="fp32"), dict(adam="foreach", device="cpu", memory_format="nchw")
    fp16 = dict(precision="fp16", ema_decay=0.9, clip_gradient_norm=1.0, loss_scale_initial=64.0)
    local = dict(netG="local", epochs_fix_global=1)
    has_fp32 = pick("npu").has_bf16  # chips before Ascend910B have neither
    found = {
        "global fp16": case(fp16),
        "pix2pix fp16": case(fp16 | PIX2PIX, **pix2pix_networks()),
    }
    if has_fp32:
        found |= {
            "global": case(fp32, on_cpu),
            "features": case(fp32, on_cpu, feat_num=3),
            "local": case(fp32 | local, on_cpu, netG="local"),
            "pix2pix": case(fp32 | PIX2PIX, on_cpu, **pix2pix_networks()),
            "global bf16": case(dict(precision="bf16")),
        }
    found["global npu-fused"] = case(dict(precision="fp16", adam="npu-fused"))
    overflows = {"pix2pix D": overflow(fp16 | PIX2PIX, "D", **pix2pix_networks())}
    overflows["pix2pix GD"] = overflow(fp16 | PIX2PIX, "GD", **pix2pix_networks())
    for players in ("G", "D", "GD"):
        overflows[f"dynamic {players}"] = overflow(fp16, players)
    overflows["static"] = overflow(fp16 | dict(loss_scale="static"), "GD")
    overflows["hysteresis"] = overflow(fp16 | dict(loss_scale_hysteresis=2), "GD")
    if has_fp32:
        overflows["fp32"] = overflow(fp32, "GD")
    print(json.dumps(dict(steps=found, overflows=overflows)))


def pix2pix_networks() -> dict:
    names = ("netG", "netD", "norm")
    return {name: PIX2PIX[name] for name in names} | {"num_D": 1}


if __name__ == "__main__":
    main()
