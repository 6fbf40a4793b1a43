"""How many operators a step gives the device, and how often the host waits for a number from it."""

from collections import Counter
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from components.train.devices.profiling import WARMUP as PROFILED_AFTER
from components.train.devices.profiling import Profiler
from shared.device import Runtime, pick
from tests.benchmarks.card_check.work import Case, precisions

CASES = [
    Case("global, labels", 128, 256, ngf=16),
    Case("global, features", 128, 256, ngf=16, feat_num=3),
    Case("local, labels", 128, 256, ngf=8, netG="local"),
]
WARMUP, STEPS = 2, 3
DEAREST = 10  # kinds of kernels
MOST_FETCHES = 1  # a step; between two points of the curves (--log-every-steps)
aten = torch.ops.aten


class Count(TorchDispatchMode):
    """Counts what reaches the device: operators that only view a tensor give it nothing."""

    def __init__(self, device: str):
        super().__init__()
        self.device = device
        self.operators: Counter[str] = Counter()
        self.fetches: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = self.compute(function, args, kwargs)
        if self.is_fetch(function, args, result):
            self.fetches[function._schema.name] += 1
            return result
        # What writes into lists of tensors, as optimisers do, returns nothing.
        touched = tree_leaves(args if result is None else result)
        if not is_view(function) and any(map(self.is_there, touched)):
            self.operators[function._schema.name] += 1
            self.note(function, args, kwargs, result)
        return result

    def compute(self, function, args: tuple, kwargs: dict):
        return function(*args, **kwargs)

    def note(self, function, args: tuple, kwargs: dict, result) -> None:
        """What else is counted of an operator."""

    def is_there(self, value: object) -> bool:
        return isinstance(value, torch.Tensor) and value.device.type == self.device

    def is_fetch(self, function, args, result) -> bool:
        """Whether the host waits for it: a number, or a copy to it."""
        if function.overloadpacket is aten._local_scalar_dense:
            return self.is_there(args[0])
        copies = function.overloadpacket in (aten._to_copy, aten.copy_)
        if not copies or self.device == "cpu":
            return False
        source = args[0] if function.overloadpacket is aten._to_copy else args[1]
        return self.is_there(source) and result.device.type == "cpu"


def is_view(function) -> bool:
    """Whether what it returns shares the memory of an argument that it does not write to."""
    return any(
        one.alias_info is not None and not one.alias_info.is_write
        for one in function._schema.returns
    )


@contextmanager
def counted(device: str):
    with Count(device) as count:
        yield count


def run(given) -> None:
    available = precisions(given)
    for case in CASES:
        case = case.small() if given.tiny else case
        for precision in available:
            if precision in ("tf32", "hf32"):  # the operators of fp32
                continue
            what = f"{case.name}, {precision}"
            with given.attempt(what):
                count_steps(given, what, case, pick(given.device, precision))
    if given.device == "npu":
        case = CASES[0].small() if given.tiny else CASES[0]
        with given.attempt("torch_npu.profiler"):
            profile_steps(given, case, pick("npu", "fp16"))


def count_steps(given, what: str, case: Case, runtime: Runtime) -> None:
    trainer = case.trainer(runtime)
    batch = case.batch().to(runtime.torch_device)
    for _ in range(WARMUP):
        trainer.step(batch)
    with counted(runtime.name) as count:
        for _ in range(STEPS):
            trainer.step(batch)
    given.say(f"{what}: operators a step", count.operators.total() / STEPS)
    fetches = count.fetches.total() / STEPS
    holds = fetches <= MOST_FETCHES
    given.say(f"{what}: fetches a step", fetches, "", f"at most {MOST_FETCHES}", holds)


def profile_steps(given, case: Case, runtime: Runtime) -> None:
    """The kernels that torch_npu itself records, and which take the most of a step."""
    trainer = case.trainer(runtime)
    batch = case.batch().to(runtime.torch_device)
    with Profiler(STEPS, runtime, given.work / "model") as profiler:
        for _ in range(PROFILED_AFTER + STEPS):
            trainer.step(batch)
            profiler.step()
    if not profiler.calls:
        raise RuntimeError(f"no kernels were recorded: {profiler.trouble or profiler.folder}")
    what = f"{case.name}, {runtime.precision}, torch_npu.profiler"
    given.say(f"{what}: kernels a step", profiler.calls.total() / STEPS)
    for name, microseconds in profiler.times.most_common(DEAREST):
        given.say(f"{what}: {name}", microseconds / STEPS / 1000, "ms a step")
