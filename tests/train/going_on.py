"""Commands that go on with a stopped training, and what becomes of it: a case for each decision of
`continuing.TABLE`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from components.train.step import Trainer

# Two pairs, three epochs; everything on that has a memory.
SMALL = dict(ngf=2, ndf=2, n_blocks_global=0, n_downsample_global=1, n_layers_D=1, num_D=1)
BASE = SMALL | dict(epochs=2, epochs_decay=1, learning_rate=1e-3, ema_decay=0.5, pool_size=2)
BASE |= dict(save_every_steps=1, validate_every_epochs=1)
PAIRS = 2


@dataclass
class Case:
    """What the command that goes on has otherwise, and what becomes of it."""

    after: dict[str, Any] = field(default_factory=dict)  # options
    before: dict[str, Any] = field(default_factory=dict)  # of the stopped one
    facts: dict[str, Any] = field(default_factory=dict)  # that the state is to remember instead
    within: bool = True  # stopped within the second epoch, else after the first
    says: str = ""  # in the line or the refusal
    # Of the trainer and the batch before the first step: whether they are as they should be.
    effect: Callable[[Trainer, Any], bool] = lambda trainer, batch: True


def rate_is(value: float) -> Callable[[Trainer, Any], bool]:
    return lambda trainer, batch: trainer.learning_rate == pytest.approx(value)


REFUSALS = {
    "networks": Case(dict(ngf=4), says="holds a training with ngf 2, but 4 is asked for"),
    "seed": Case(
        dict(seed=1),
        says="cannot go on with --seed 1 (was 0): it stands within epoch 2, of which pairs would "
        "be left out or repeated; give --seed 0 to the end of that epoch.",
    ),
    "dataset": Case(
        facts=dict(dataset="other"),
        within=False,
        says="cannot go on with --dataset of other content: the model would be credited to one and "
        "have learned from two; give the former, or an empty folder with --start-from",
    ),
    "clusters": Case(
        facts=dict(clusters="of others"),
        says="cannot go on with --clusters of other content: G has learned what the features",
    ),
    "amp_backend": Case(
        facts=dict(amp_backend="apex"), says="cannot go on with --amp-backend torch (was apex)"
    ),
}

LINES = {
    # What only a beginning reads.
    "init_gain": Case(dict(init_gain=0.5), says="--init-gain 0.5 (was 0.02): no effect"),
    "init_type": Case(dict(init_type="xavier"), says="--init-type xavier (was normal)"),
    "start_from": Case(dict(start_from="gone"), says="--start-from gone (was ''): no effect"),
    "init_from": Case(facts=dict(init_from="")),
    # Losses.
    "gan_mode": Case(
        dict(gan_mode="vanilla"),
        says="--gan-mode vanilla (was lsgan): D has to learn",
        effect=lambda trainer, batch: trainer.sums == {},
    ),
    "lambda_L1": Case(
        dict(lambda_L1=5),
        says="--lambda-L1 5 (was 0): mean losses of epoch 2 are of its pairs from here on",
        effect=lambda trainer, batch: trainer.sums == {},
    ),
    "lambda_feature_matching": Case(
        dict(lambda_feature_matching=0),
        says="--lambda-feature-matching 0 (was 10)",
        effect=lambda trainer, batch: "layer0.0.weight" in trainer.networks.D.state_dict(),
    ),
    "lambda_feature_matching on": Case(
        dict(lambda_feature_matching=10),
        dict(lambda_feature_matching=0),
        says="--lambda-feature-matching 10 (was 0)",
    ),
    "pool_size": Case(
        dict(pool_size=1),
        says="--pool-size 1 (was 2)",
        effect=lambda trainer, batch: len(trainer.pool.images) == 1,
    ),
    # Pairs.
    "size": Case(
        dict(size="32x16"),
        says="--size 32x16 (was ''): the pool begins again",
        effect=lambda trainer, batch: (
            batch.photos.shape[-2:] == (32, 16) and trainer.pool.images == []
        ),
    ),
    "crop": Case(
        dict(crop="16x16"),
        says="--crop 16x16 (was ''): the pool begins again",
        effect=lambda trainer, batch: (
            batch.photos.shape[-2:] == (16, 16) and trainer.pool.images == []
        ),
    ),
    "flip": Case(dict(flip=False), says="--no-flip (was --flip)"),
    "batch_size": Case(
        dict(batch_size=2),
        within=False,
        says="--batch-size 2 (was 1)",
        effect=lambda trainer, batch: len(batch) == 2,
    ),
    "seed": Case(
        dict(seed=1), within=False, says="--seed 1 (was 0): order, crops and flips of the epochs"
    ),
    # Steps. linear_hd is flat to one epoch after --epochs; the third epoch is never reached here.
    "epochs": Case(
        dict(epochs=9, epochs_decay=3),
        says="--epochs-decay 3 (was 1): learning rate 0.001 in epoch 2, as before",
        effect=rate_is(1e-3),
    ),
    "learning_rate": Case(
        dict(learning_rate=0.25),
        says="--learning-rate 0.25 (was 0.001): learning rate 0.25 in epoch 2, before 0.001",
        effect=rate_is(0.25),
    ),
    "lr_policy": Case(
        dict(lr_policy="step", lr_decay_epochs=1),
        says="learning rate 0.0001 in epoch 2, before 0.001",
        effect=rate_is(1e-4),
    ),
    "lr_policy plateau": Case(dict(lr_policy="plateau"), effect=rate_is(1e-3), says="plateau"),
    "learning_rate of plateau": Case(
        dict(learning_rate=0.5),
        before=dict(lr_policy="plateau"),
        says="learning rate 0.5 in epoch 2, before 0.001",
        effect=rate_is(0.5),
    ),
    "lr_scaling": Case(dict(lr_scaling="sqrt"), says="--lr-scaling sqrt (was none)"),
    "beta1": Case(
        dict(beta1=0.75),
        says="--beta1 0.75 (was 0.5): for the steps from here on",
        effect=lambda trainer, batch: all(
            group["betas"] == (0.75, 0.999)
            for update in (trainer.update_G, trainer.update_D)
            for group in update.optimizer.param_groups
        ),
    ),
    "clip_gradient_norm": Case(
        dict(clip_gradient_norm=0.5),
        says="--clip-gradient-norm 0.5 (was 0)",
        effect=lambda trainer, batch: trainer.update_G.max_norm == trainer.update_D.max_norm == 0.5,
    ),
    "ema_decay": Case(
        dict(ema_decay=0.25),
        says="--ema-decay 0.25 (was 0.5)",
        effect=lambda trainer, batch: trainer.ema.decay == 0.25 and not average_is_G(trainer),
    ),
    "ema_decay off": Case(
        dict(ema_decay=0), says="--ema-decay 0 (was 0.5)", effect=lambda t, batch: t.ema is None
    ),
    "ema_decay on": Case(
        dict(ema_decay=0.5),
        dict(ema_decay=0),
        says="--ema-decay 0.5 (was 0): a new average begins at G as it is",
        effect=lambda trainer, batch: average_is_G(trainer),
    ),
    # Machine and arithmetic.
    "devices": Case(
        dict(lr_scaling="linear"),
        dict(lr_scaling="linear"),
        facts=dict(devices=4),
        says="--devices 1 (was 4): a step has a batch of each; learning rate 0.001 in epoch 2, "
        "before 0.004",
        effect=rate_is(1e-3),
    ),
    "device": Case(
        facts=dict(device="npu"), says="--device cpu (was npu): the same up to rounding"
    ),
    "precision": Case(dict(precision="bf16"), says="--precision bf16 (was fp32)"),
    "memory_format": Case(dict(memory_format="nhwc"), says="--memory-format nhwc (was auto)"),
    "torch": Case(facts=dict(torch="1.0"), says=f"torch {torch.__version__} (was 1.0)"),
    "code": Case(facts=dict(code="a1"), says="code of train b2 (was a1): as the code has it now"),
    # The best epoch, and copies.
    "best_by": Case(dict(best_by="L1"), within=False, says="--best-by L1 (was psnr_db)"),
    "validate_pairs": Case(dict(validate_pairs=1), says="--validate-pairs 1 (was 50)"),
    "keep_checkpoints": Case(dict(keep_checkpoints=1), says="--keep-checkpoints 1 (was 0)"),
}

EXACTLY = {
    "the same": Case(),
    "the same, after an epoch": Case(within=False),
    "workers": Case(dict(workers=1)),
    "cache": Case(dict(cache="memory")),
    "what is shown and saved when": Case(
        dict(log_every_steps=1, sample_every_epochs=2, save_every_epochs=2, save_every_steps=0)
        | dict(validate_every_epochs=0, max_skipped_updates=3)
    ),
    "activation_checkpointing": Case(dict(activation_checkpointing=True)),
    "opt_level": Case(dict(opt_level="O2")),
    "loss_scale": Case(dict(loss_scale="static", loss_scale_initial=2, loss_scale_hysteresis=3)),
    "compress_gradients": Case(dict(compress_gradients=True)),
    "epochs_fix_global": Case(dict(epochs_fix_global=1)),
    "a state of an earlier version": Case(facts={"": None}),
}


def average_is_G(trainer: Trainer) -> bool:
    pairs = zip(trainer.ema.network.parameters(), trainer.networks.G.parameters(), strict=True)
    return all(torch.equal(average, now) for average, now in pairs)
