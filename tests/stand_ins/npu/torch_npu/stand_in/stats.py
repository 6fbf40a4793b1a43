"""What the device did: kernels, copies and their directions, dtypes, options."""

import atexit
import json
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[5]


class Stats:
    """Counts of this process."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)  # as torch_npu found it when it was loaded
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all counts, though not what the device was told."""
        self.kernels: Counter[str] = Counter()  # by operator, without what only views a tensor
        self.views: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()  # by direction, such as "npu->cpu"
        self.fetches: Counter[str] = Counter()  # device to host, by the line that asked for it
        self.dtypes: dict[str, set[str]] = defaultdict(set)  # of the tensors given, by operator
        self.hf32: Counter[str] = Counter()  # kernels that computed in HF32
        self.fp16_cubes: Counter[str] = Counter()  # in fp16, of float32 that was given
        self.refused: Counter[str] = Counter()  # what the chip does not take, as a sentence
        self.unlisted: Counter[str] = Counter()  # operators whose dtypes nobody looked up
        self.streams: list[str] = []  # which copies, waits for, or reads what another made
        self.calls: Counter[str] = Counter()  # of torch.npu's functions, such as "synchronize"
        self.trace: list[dict] | None = None  # kernels one by one, while a profiler records
        self.options: dict[str, bool] = getattr(self, "options", {})  # as they were set

    def fetched(self) -> None:
        """Note a copy to the host, with the line of the project that asked for it."""
        self.copies["npu->cpu"] += 1
        self.fetches[place()] += 1

    def as_json(self) -> dict:
        dtypes = {name: sorted(found) for name, found in sorted(self.dtypes.items())}
        return vars(self) | {"argv": sys.orig_argv, "pid": os.getpid(), "dtypes": dtypes}


STATS = Stats()


def place() -> str:
    """The innermost line of the project that is being executed."""
    frame = sys._getframe(1)
    while frame:
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and not {"stand_ins", ".venv"} & set(file.parts):
            return f"{file.relative_to(ROOT).as_posix()}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


def write_at_exit() -> None:
    if os.environ.get("NPU_STAND_IN_STATS"):
        atexit.register(append)


def append() -> None:
    """Add what was done to the file of the environment, where there is one."""
    if file := os.environ.get("NPU_STAND_IN_STATS"):
        with open(file, "a") as out:
            out.write(json.dumps(STATS.as_json()) + "\n")
