"""A training step on the card against the same on the CPU, by losses and gradients."""

import torch
from torch import Tensor

from components.train.step import Trainer
from shared.device import pick
from tests.benchmarks.card_check.work import Case, precisions

CASES = [
    Case("global, labels", 128, 256, ngf=16),
    Case("global, features", 128, 256, ngf=16, feat_num=3),
    Case("local, labels", 128, 256, ngf=8, netG="local"),
    Case("resnet_9blocks", 128, 128, ngf=16, netG="resnet_9blocks"),
]
# Of the largest loss, and of a gradient's norm. G's gradients grow 10,000 times what its weights
# are rounded by: fp32 is 0.005 from fp64 (measured on a CPU), HF32 0.04 to 0.09 from fp32
# (simulated with 11 bits). Of 16 bits no limit is known for gradients.
LIMITS = {"fp32": (1e-5, 0.02), "hf32": (0.01, None), "tf32": (0.01, None)}
LIMITS |= {"fp16": (0.05, None), "bf16": (0.1, None)}
LOSS_SCALE = 64.0  # the seeds': fp16 does not overflow with it


def run(given) -> None:
    available = precisions(given)  # first: what comes after autograd has begun it does not know
    for case in CASES:
        case = case.small() if given.tiny else case
        of_cpu = first_step(case.trainer(pick("cpu", "fp32")), case)
        for precision in available:
            what = f"{case.name}, {precision}"
            with given.attempt(what):
                compare(given, what, pick(given.device, precision), case, of_cpu)


def first_step(trainer: Trainer, case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses, and the gradients of each network in one row, on the CPU."""
    batch = case.batch().to(trainer.runtime.torch_device)
    losses = {name: loss.float().cpu() for name, loss in trainer.step(batch).items()}
    gradients = {}
    for name, network in trainer.networks.trained().items():
        of_network = [one.grad for one in network.parameters() if one.grad is not None]
        gradients[name] = torch.cat([one.float().cpu().flatten() for one in of_network])
    return losses, gradients


def compare(given, what: str, runtime, case: Case, of_cpu) -> None:
    """One row for the losses, one for the gradients of each network."""
    trainer = case.trainer(runtime, loss_scale_initial=LOSS_SCALE)
    losses, gradients = first_step(trainer, case)
    of_losses, of_gradients = LIMITS[runtime.precision]
    largest = max(float(loss.abs()) for loss in of_cpu[0].values())
    apart = max(float((losses[name] - loss).abs()) for name, loss in of_cpu[0].items()) / largest
    said = [(f"{what}: losses", apart, of_losses)]
    for name, gradient in of_cpu[1].items():
        apart = float((gradients[name] - gradient).norm() / gradient.norm())
        said.append((f"{what}: gradients of {name}", apart, of_gradients))
    for row, value, limit in said:
        wanted = f"at most {limit:g}" if limit else ""
        given.say(row, value, "of the CPU's", wanted, holds=value <= limit if limit else None)
