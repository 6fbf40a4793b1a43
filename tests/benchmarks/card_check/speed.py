"""Images a second of training and of the generator alone, in every precision that the card has."""

import statistics
from collections.abc import Callable
from time import perf_counter

import torch

from shared.device import Runtime, pick
from tests.benchmarks.card_check.work import Case, precisions

TRAINED = [
    Case("training, 512p labels with VGG", 512, 1024, ngf=64, vgg=True),
    Case("training, 512p features", 512, 1024, ngf=64, feat_num=3),
]
PAINTED = [
    Case("generator, 512p", 512, 1024, ngf=64),
    Case("generator, 1024p", 1024, 2048, ngf=32, netG="local"),
]
ROUNDS = 5
TURN_SECONDS = 1.0  # of one call in one round, about


def run(given) -> None:
    available = precisions(given)
    for case in TRAINED + PAINTED:
        case = case.small() if given.tiny else case
        make = training if case.name.startswith("training") else painting
        turns = {one: make(case, pick(given.device, one)) for one in available}
        rounds, seconds = (2, 0.0) if given.tiny else (ROUNDS, TURN_SECONDS)
        for precision, of_calls in in_turn(turns, given.device, rounds, seconds).items():
            rate = case.batch_size / statistics.median(of_calls)
            given.say(f"{case.title}, {precision}", rate, "img/s")
        turns.clear()
        runtime = pick(given.device, "fp32")
        given.say(f"{case.name}, most memory so far", runtime.peak_memory_mb(), "MiB")
        runtime.free_unused_memory()


def training(case: Case, runtime: Runtime) -> Callable[[], object]:
    trainer = case.trainer(runtime)
    batch = case.batch().to(runtime.torch_device)
    return lambda: trainer.step(batch)


def painting(case: Case, runtime: Runtime) -> Callable[[], object]:
    trainer = case.trainer(runtime)
    batch = case.batch().to(runtime.torch_device)
    condition, G = trainer.condition(batch), trainer.networks.G.eval()

    @torch.inference_mode()
    def paint() -> torch.Tensor:
        with runtime.autocast():
            return G(condition)

    return paint


def in_turn(
    calls: dict[str, Callable], device: str, rounds: int, turn_seconds: float
) -> dict[str, list[float]]:
    """Seconds of a call, of each round, by precision; the calls take turns of so many seconds. The
    first two of each, in which kernels are compiled and chosen, do not count."""
    repeats, seconds = {}, {name: [] for name in calls}
    for name, call in calls.items():
        timed(call, pick(device, name), 2)
        repeats[name] = max(1, int(turn_seconds / timed(call, pick(device, name), 1)))
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call, pick(device, name), repeats[name]))
    return seconds


def timed(call: Callable, runtime: Runtime, times: int) -> float:
    """Seconds of one call; the device is idle before and after them."""
    runtime.synchronize()
    start = perf_counter()
    for _ in range(times):
        call()
    runtime.synchronize()
    return (perf_counter() - start) / times
