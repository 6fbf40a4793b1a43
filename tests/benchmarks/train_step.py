"""`python -m tests.benchmarks.train_step`: our training step beside a plain one, side by side in
one run."""

import json
from functools import partial

import numpy as np
import torch
from torch import Tensor

from components.train.config import TrainConfig
from components.train.data.batches import Batch
from shared.command import command_line
from shared.condition import instance_mean, paint
from tests import tiny
from tests.benchmarks.plain_step import PlainStep, pooling_loop
from tests.benchmarks.street import street
from tests.benchmarks.turns import Turns, interleaved
from tests.training import trainer_for

PIX2PIXHD = dict(n_downsample_global=4, n_blocks_global=9, num_D=2, ndf=64, n_layers_D=3)
PIX2PIXHD |= dict(nef=16, n_downsample_E=4)


def street_batch(height: int, width: int) -> Batch:
    """One image of a street."""
    maps = street(np.random.default_rng(0), height, width)
    arrays = maps.inputs, maps.photo, maps.dense_ids
    inputs, photos, dense = (torch.from_numpy(array[None]) for array in arrays)
    return Batch(inputs, photos, dense, regions=dense, num_regions=len(maps.ids), features=None)


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
