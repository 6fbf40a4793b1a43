"""`python -m tests.benchmarks.two_processes`: two processes that train one model beside one process
on the joined batch, in turn in one run, and what the exchange of gradients adds."""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

from components.train.data.batches import Batch
from components.train.devices.joined import joined
from components.train.devices.launch import launch
from components.train.devices.meeting import meeting
from components.train.devices.world import ALONE, World
from components.train.step import Trainer
from shared.command import command_line
from shared.device import pick
from tests.benchmarks.train_step import PIX2PIXHD, Case, batch_of
from tests.training import networks_for


def two_processes(rounds: int = 7, ngf: int = 16, height: int = 128, width: int = 256) -> None:
    """Compare two processes of one thread with one process of two, on two pairs a step.

    Args:
        rounds: Rounds in which they take turns.
        ngf: Channels of G's first layer.
        height: Of the pairs, in pixels.
        width: The same.

    Example:
        python -m tests.benchmarks.two_processes --rounds 3
    """
    case = Case(PIX2PIXHD | dict(ngf=ngf), height=height, width=width, batch_size=2)
    with tempfile.TemporaryDirectory() as folder, meeting(World.from_environment(2)) as place:
        launch(place, on_each_rank, case, rounds, Path(folder))
        seconds = json.loads((Path(folder) / "seconds.json").read_text())

    # For people and for programs.
    for name, one in seconds.items():
        print(f"{name:40} {one:8.4f} s")
    ratio = seconds["one process, two threads"] / seconds["two processes"]
    print(f"two processes are {ratio:.2f} times as fast as one")
    print(json.dumps(seconds | {"ratio": ratio}))


def on_each_rank(case: Case, rounds: int, folder: Path) -> int:
    """Rank 0 writes the medians of the seconds of a step."""
    world = World.from_environment()
    with meeting(world) as place, joined(place, pick("cpu")):
        # Trainings of the same weights, the one on both pairs, the others on this rank's.
        both = batch_of(case)
        own = replace(both, **_half(both, world.rank))
        one, together, apart = (_trainer(case, at) for at in (ALONE, world, ALONE))
        networks = together.networks.trained().values()
        weights = sum(weight.numel() for network in networks for weight in network.parameters())
        as_many = torch.zeros(weights)
        calls = {
            "two processes": lambda: together.step(own),
            "the same without exchange": lambda: apart.step(own),
            "all-reduce of as many bytes": lambda: dist.all_reduce(as_many),
        }
        seconds = {name: [] for name in ("one process, two threads", *calls)}

        # In turn; the first round is the warm-up.
        for _ in range(rounds + 1):
            torch.set_num_threads(2)
            if world.rank == 0:
                seconds["one process, two threads"].append(_timed(lambda: one.step(both)))
            torch.set_num_threads(1)
            for name, call in calls.items():
                dist.barrier()
                seconds[name].append(_timed(call))
            dist.barrier()
        if world.rank == 0:
            medians = {name: median(of_rounds[1:]) for name, of_rounds in seconds.items()}
            (folder / "seconds.json").write_text(json.dumps(medians))
    return 0


def _half(both: Batch, rank: int) -> dict[str, torch.Tensor]:
    tensors = {name: getattr(both, name) for name in ("inputs", "photos", "dense_ids", "regions")}
    return {name: tensor[rank : rank + 1] for name, tensor in tensors.items()}


def _trainer(case: Case, world: World) -> Trainer:
    networks = networks_for(case.architecture)
    return Trainer(networks, case.architecture, case.config, pick("cpu", "fp32"), world)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    command_line("python -m tests.benchmarks.two_processes", two_processes, {}, argv)


if __name__ == "__main__":
    main()
