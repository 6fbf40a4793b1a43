"""Images a second of training and of the generator alone, in every precision that the card has; on
a GPU also compiled, and beside a plain step."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import torch

from components.train.networks.memory import compile_networks
from shared.device import Runtime, pick
from tests.benchmarks.card_check.work import Case, precisions
from tests.benchmarks.plain_step import PlainStep

TRAINED = [
    Case("training, 512p labels with VGG", 512, 1024, ngf=64, vgg=True),
    Case("training, 512p features", 512, 1024, ngf=64, feat_num=3),
]
OF_GPU = [
    Case("training, 512p labels", 512, 1024, ngf=64),
    Case("training, 1024p labels", 1024, 2048, ngf=32, netG="local"),
    Case("training, resnet_9blocks", 256, 256, ngf=64, netG="resnet_9blocks", batch_size=32),
    Case("training, unet_256", 256, 256, ngf=64, netG="unet_256"),
]
PAINTED = [
    Case("generator, 512p", 512, 1024, ngf=64),
    Case("generator, 1024p", 1024, 2048, ngf=32, netG="local"),
]
ROUNDS = 5
TURN_SECONDS = 1.0  # of one call in one round, about
COMPILED = ("bf16", "compiled")  # a compiler takes a minute for each
TRIED = ("training, 512p features", "generator, 512p")  # where it is but tried


@dataclass(frozen=True)
class Way:
    """A call, and the precision that it is to be made in."""

    precision: str
    call: Callable[[], object]


def run(given) -> None:
    available = precisions(given)
    for case in [*TRAINED, *([] if given.device == "npu" else OF_GPU), *PAINTED]:
        case = case.small() if given.tiny else case
        ways = {}
        compiles = given.device != "npu" and (not given.tiny or case.name in TRIED)
        for name, precision, make in wanted(case, given.device, available, compiles):
            with given.attempt(f"{case.title}, {name}"):
                way = Way(precision, make(case, pick(given.device, precision)))
                timed(way, given.device, 2)  # kernels are compiled and chosen
                ways[name] = way
        rounds, seconds = (2, 0.0) if given.tiny else (ROUNDS, TURN_SECONDS)
        with given.attempt(case.title):
            for name, of_calls in in_turn(ways, given.device, rounds, seconds).items():
                rate = case.batch_size / statistics.median(of_calls)
                given.say(f"{case.title}, {name}", rate, "img/s")
        ways.clear()
        runtime = pick(given.device, "fp32" if "fp32" in available else "auto")
        given.say(f"{case.name}, most memory so far", runtime.peak_memory_mb(), "MiB")
        runtime.free_unused_memory()


def wanted(
    case: Case, device: str, available: list[str], compiles: bool
) -> Iterator[tuple[str, str, Callable]]:
    """Name, precision and maker of each call."""
    make = training if case.name.startswith("training") else painting
    if make is training and device != "npu" and not (case.is_pix2pix or case.vgg):
        yield "fp32, plain", "fp32", plain_training
    for precision in available:
        yield precision, precision, make
    if compiles and COMPILED[0] in available:
        yield ", ".join(COMPILED), COMPILED[0], compiled(make)


def training(case: Case, runtime: Runtime, compiles: bool = False) -> Callable[[], object]:
    trainer = case.trainer(runtime)
    if compiles:
        compile_networks(trainer.networks, runtime)
    batch = case.batch().to(runtime.torch_device)
    return lambda: trainer.step(batch)


def plain_training(case: Case, runtime: Runtime) -> Callable[[], object]:
    """As the reference writes it."""
    plain = PlainStep(case.trainer(runtime).networks, case.config(runtime.name, "fp32"))
    batch = case.batch().to(runtime.torch_device)
    return lambda: plain.step(batch)


def painting(case: Case, runtime: Runtime, compiles: bool = False) -> Callable[[], object]:
    trainer = case.trainer(runtime)
    if compiles:
        compile_networks(trainer.networks, runtime)
    batch = case.batch().to(runtime.torch_device)
    condition, G = trainer.condition(batch), trainer.networks.G.eval()

    @torch.inference_mode()
    def paint() -> torch.Tensor:
        with runtime.autocast():
            return G(condition)

    return paint


def compiled(make: Callable) -> Callable:
    return lambda case, runtime: make(case, runtime, compiles=True)


def in_turn(
    ways: dict[str, Way], device: str, rounds: int, turn_seconds: float
) -> dict[str, list[float]]:
    """Seconds of a call, of each round; the calls take turns of so many seconds."""
    once = {name: timed(way, device, 1) for name, way in ways.items()}
    repeats = {name: max(1, int(turn_seconds / seconds)) for name, seconds in once.items()}
    seconds = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way, device, repeats[name]))
    return seconds


def timed(way: Way, device: str, times: int) -> float:
    """Seconds of one call; the device is idle before and after them."""
    runtime = pick(device, way.precision)  # of the whole process: see `precisions`
    runtime.synchronize()
    start = perf_counter()
    for _ in range(times):
        way.call()
    runtime.synchronize()
    return (perf_counter() - start) / times
