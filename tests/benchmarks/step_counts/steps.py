"""Hollow steps: ours, and a plain one."""

from collections.abc import Callable
from functools import partial
from unittest import mock

import torch

from components.train.data.batches import Batch
from components.train.step import Trainer
from shared.device import pick
from tests.benchmarks import plain_step
from tests.benchmarks.card_check.work import Case
from tests.benchmarks.step_counts.hollow import Hollow


def count(case: Case, who: str, precision: str) -> Hollow:
    """What the second step does: in the first one Adam makes its moments. who: ours or plain."""
    with Hollow() as found:
        trainer, batch = case.trainer(pick("cpu", precision)), case.batch()
        step = partial(trainer.step, batch) if who == "ours" else plain(case, trainer, batch)
        step()
        found.forget()
        step()
    networks = trainer.networks.trained().values()
    found.weights = sum(one.numel() for network in networks for one in network.parameters())
    return found


def plain(case: Case, trainer: Trainer, batch: Batch) -> Callable[[], object]:
    """As the references write it, on a GPU, where Adam comes in its foreach form; 16 bits as by
    apex's O1, which casts in functions. Without the loop over instances, which goes by their
    values: see `loop_over_instances`."""
    kind = plain_step.PlainPix2Pix if case.is_pix2pix else plain_step.PlainStep
    runtime, foreach = trainer.runtime, partial(torch.optim.Adam, foreach=True)
    with mock.patch.object(torch.optim, "Adam", foreach):
        one = kind(trainer.networks, case.config(runtime.name, runtime.precision))

    def step() -> None:
        loop = mock.patch.object(plain_step, "pooling_loop", lambda features, _: features)
        with runtime.autocast(), loop:
            one.step(batch)

    return step
