"""Images a second of training and of the generator alone in every precision that the card has, and
of a plain step beside it; compiled, captured as a CUDA graph, or both, in parts of their own.
`speed` is of an NPU, `speed_NAME`, `compiled_NAME`, `graph_NAME` and `both_NAME` are of one
network."""

import copy
import gc
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from time import perf_counter

import torch

from components.train.networks.build import Networks
from components.train.step import Trainer
from shared.device import Runtime, pick
from tests.benchmarks.card_check.work import REFERENCE, Case, precisions
from tests.benchmarks.step_counts.steps import count

RESNET = dict(netG="resnet_9blocks", batch_size=32)
CASES = {
    "512p_labels": Case("training, 512p labels with VGG", 512, 1024, ngf=64, vgg=True),
    "512p_features": Case("training, 512p features with VGG", 512, 1024, 64, "global", 3, vgg=True),
    "1024p_labels": Case("training, 1024p labels with VGG", 1024, 2048, 32, "local", vgg=True),
    "resnet_9blocks": Case("training, resnet_9blocks", 256, 256, ngf=64, **RESNET),
    "unet_256": Case("training, unet_256", 256, 256, ngf=64, netG="unet_256"),
    "generator_512p": Case("generator, 512p", 512, 1024, ngf=64),
    "generator_1024p": Case("generator, 1024p", 1024, 2048, ngf=32, netG="local"),
}
OF_NPU = ("512p_labels", "512p_features", "generator_512p", "generator_1024p")
ROUNDS = 5
TURN_SECONDS = 0.5  # of one call in one round, about
WAYS = {"compiled": dict(compiles=True), "graph": dict(captures=True)}
WAYS["both"] = WAYS["compiled"] | WAYS["graph"]
NAMES = {"compiled": "compiled", "graph": "graph", "both": "compiled graph"}
AGREEING_STEPS = 16  # of two batches, each of a form of its own; most are repeated by a graph
APART = 0.05  # of the largest loss after these: 16 bits, in sums of another order
PEAK_SIDE = 8192  # of the matrices whose product is the most that a card computes


@dataclass(frozen=True)
class Way:
    """A call, and the precision that it is to be made in."""

    precision: str
    call: Callable[[], object]


def run(given) -> None:
    kind, _, name = given.name.partition("_")
    available = precisions(given)
    peaks = Peaks(given, available) if name else None
    for one in [name] if name else OF_NPU:
        case = CASES[one].small() if given.tiny else CASES[one]
        if kind in ("graph", "both"):
            agree(given, case, available, kind)
        ways = eager_ways if kind == "speed" else partial(ways_beside, kind)
        compare(given, case, ways(case, given.device, available), peaks)


def is_training(case: Case) -> bool:
    return case.name.startswith("training")


# What takes turns: its name, its precision, what makes it.


def eager_ways(
    case: Case, device: str, available: list[str]
) -> Iterator[tuple[str, str, Callable]]:
    for precision in REFERENCE[device] if is_training(case) else ():
        if precision in available:
            yield f"plain {precision}", precision, plain_training
    for precision in available:
        yield precision, precision, training if is_training(case) else painting


def ways_beside(
    kind: str, case: Case, device: str, available: list[str]
) -> Iterator[tuple[str, str, Callable]]:
    """compiled, graph or both, beside a way without. In one precision: a compiler takes a minute
    for each."""
    precision = one_of(available)
    make = training if is_training(case) else painting
    yield precision, precision, make
    yield f"{precision} {NAMES[kind]}", precision, partial(make, **WAYS[kind])


def one_of(available: list[str]) -> str:
    return "bf16" if "bf16" in available else available[-1]


@lru_cache(maxsize=1)
def first_weights(case: Case) -> Networks:
    return case.networks()


def weights(case: Case) -> Networks:
    """The same for each way; a copy takes a tenth of the time of new ones."""
    return copy.deepcopy(first_weights(case))


def training(
    case: Case, runtime: Runtime, compiles: bool = False, captures: bool = False
) -> Callable[[], object]:
    trainer = trainer_of(case, runtime, compiles, captures)
    batch = case.batch().to(runtime.torch_device)
    return lambda: trainer.step(batch)


def trainer_of(
    case: Case, runtime: Runtime, compiles: bool = False, captures: bool = False
) -> Trainer:
    trainer = case.trainer(runtime, weights(case))
    if compiles:
        trainer.compile()
    if captures and runtime.captures_steps:  # else, where this is tried, steps are eager
        trainer.capture()
    return trainer


def plain_training(case: Case, runtime: Runtime) -> Callable[[], object]:
    """As the reference writes it."""
    _, step = case.plain_step(runtime, weights(case))
    batch = case.batch().to(runtime.torch_device)
    return lambda: step(batch)


def painting(case: Case, runtime: Runtime, compiles: bool = False) -> Callable[[], object]:
    trainer = case.trainer(runtime, weights(case))
    if compiles:
        trainer.compile()
    batch = case.batch().to(runtime.torch_device)
    condition, G = trainer.condition(batch), trainer.networks.G.eval()

    @torch.inference_mode()
    def paint() -> torch.Tensor:
        with runtime.autocast():
            return G(condition)

    return paint


# Whether they learn the same.


def agree(given, case: Case, available: list[str], kind: str) -> None:
    """One row: how far losses are from those of eager steps, over batches that change."""
    what = f"{case.title}, {one_of(available)} {NAMES[kind]}: losses"
    with given.attempt(what):
        runtime = pick(given.device, one_of(available))
        trainers = [trainer_of(case, runtime), trainer_of(case, runtime, **WAYS[kind])]
        batches = [case.batch(seed).to(runtime.torch_device) for seed in (0, 1)]
        apart, largest = 0.0, 0.0
        for number in range(AGREEING_STEPS):
            wanted, losses = (one.step(batches[number % 2]) for one in trainers)
            for name, loss in wanted.items():
                largest = max(largest, abs(loss.item()))
                apart = max(apart, abs(losses[name].item() - loss.item()))
        holds = apart <= APART * largest
        given.say(what, apart / largest, "of eager ones'", f"at most {APART:g}", holds=holds)
    gc.collect()  # a trainer and its captured step know each other


# Their speed.


def compare(given, case: Case, wanted, peaks: "Peaks | None") -> None:
    """Rows of each way: images a second, milliseconds, memory, times the first, share of the
    floor."""
    # Made and warmed up, which compiles and chooses kernels.
    made, memory = {}, {}
    for name, precision, make in wanted:
        with given.attempt(f"{case.title}, {name}"):
            runtime = pick(given.device, precision)
            held = begin_memory(runtime)
            way = Way(precision, make(case, runtime))
            timed(way, given.device, 2)
            memory[name] = runtime.peak_memory_mb() - held
            made[name] = way

    # In turn; then one by one beside what they cost at least.
    rounds, seconds = (2, 0.0) if given.tiny else (ROUNDS, TURN_SECONDS)
    with given.attempt(case.title):
        of_calls = in_turn(made, given.device, rounds, seconds)
        median = {name: statistics.median(of_call) for name, of_call in of_calls.items()}
        first = next(iter(median))
        for name, seconds in median.items():
            what = f"{case.title}, {name}"
            given.say(what, case.batch_size / seconds, "img/s")
            given.say(f"{what}: time", 1000 * seconds, "ms")
            if name != first:
                ratios = (a / b for a, b in zip(of_calls[first], of_calls[name], strict=True))
                given.say(f"{what}: times as fast as {first}", statistics.median(ratios))
            if given.device != "cpu":
                given.say(f"{what}: most memory", memory[name], "MiB")
        for name, seconds in median.items() if peaks and is_training(case) else ():
            floor = peaks.floor_seconds(case, made[name].precision)
            what = f"{case.title}, {name}: counted floor by the time"
            given.say(what, 100 * floor / seconds, "%")


def begin_memory(runtime: Runtime) -> float:
    """What is held now, in MiB, from where the most is measured on."""
    if runtime.name == "cpu":
        return 0.0
    module = getattr(torch, runtime.name)
    module.reset_peak_memory_stats()
    return module.memory_allocated() / 2**20


class Peaks:
    """What this card reaches: products of large matrices by precision, and copies."""

    def __init__(self, given, available: list[str]):
        self.flops: dict[str, float] = {}
        self.counts = {}
        side = 256 if given.tiny else PEAK_SIDE
        for precision in available:
            with given.attempt(f"products of matrices, {precision}"):
                runtime = pick(given.device, precision)
                matrix = torch.ones(side, side, dtype=runtime.dtype, device=runtime.torch_device)
                product = Way(precision, partial(torch.mm, matrix, matrix))
                self.flops[precision] = 2 * side**3 / fastest(product, given.device)
                given.say(
                    f"products of matrices, {precision}", self.flops[precision] / 1e12, "TFLOP/s"
                )
        to = torch.empty(16 * side**2 // 4, device=runtime.torch_device)
        copy = Way(available[0], partial(to.copy_, torch.ones_like(to)))
        self.bandwidth = 2 * to.nbytes / fastest(copy, given.device)
        given.say("copies", self.bandwidth / 1e12, "TB/s read and written")

    def floor_seconds(self, case: Case, precision: str) -> float:
        """What a step of ours takes at least; see `tests.benchmarks.step_counts`."""
        width = "bf16" if precision in ("bf16", "fp16") else "fp32"
        if (case, width) not in self.counts:
            self.counts[case, width] = count(case, "ours", width)
        return self.counts[case, width].floor_seconds(self.flops[precision], self.bandwidth)


def fastest(way: Way, device: str) -> float:
    timed(way, device, 3)
    return min(timed(way, device, 5) for _ in range(3))


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
