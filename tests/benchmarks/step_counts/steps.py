"""Hollow steps: ours, and a plain one."""

from collections.abc import Callable
from functools import partial
from unittest import mock

import torch

from components.train.data.batches import Batch
from components.train.networks.build import Networks
from shared.device import pick
from shared.networks import layers
from tests.benchmarks import plain_step
from tests.benchmarks.card_check.work import Case
from tests.benchmarks.step_counts.hollow import Hollow


def count(case: Case, who: str, precision: str) -> Hollow:
    """What the second step does, in the memory format of a GPU: in the first one Adam makes its
    moments. who: ours or plain."""
    in_its_padding = mock.patch.object(layers, "pads_to_nchw", lambda device: True)
    with Hollow() as found, in_its_padding:
        batch = case.batch()
        if who == "ours":
            format_ = "nchw" if precision == "fp32" else "nhwc"
            trainer = case.trainer(pick("cpu", precision), memory_format=format_)
            networks, step = trainer.networks, partial(trainer.step, batch)
        else:
            networks, step = plain(case, precision, batch)
        step()
        found.forget()
        step()
    trained = networks.trained().values()
    found.weights = sum(one.numel() for network in trained for one in network.parameters())
    return found


def plain(case: Case, precision: str, batch: Batch) -> tuple[Networks, Callable[[], object]]:
    """A plain step on a GPU, where Adam comes in its foreach form, without the loop over instances,
    which goes by their values: see `loop_over_instances`."""
    with mock.patch.object(torch.optim, "Adam", partial(torch.optim.Adam, foreach=True)):
        networks, step = case.plain_step(pick("cpu", precision))

    def without_loop() -> None:
        with mock.patch.object(plain_step, "pooling_loop", lambda features, _: features):
            step(batch)

    return networks, without_loop
