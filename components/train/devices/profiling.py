"""A trace of some training steps, as `--profile` asks for it."""

import csv
import os
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tabulate import tabulate

from shared import tracking
from shared.device import Runtime
from shared.files.owned import refuse_unwritable

WARMUP = 3  # steps before the first that is recorded, in which memory and kernels are found
MOST_SHOWN = 10  # operators
MOST_LOGGED_BYTES = 100_000_000  # of a file; a larger one stays on this machine alone


class Profiler:
    """Records the steps of a training inside its block: one of the main rank, since the others
    compute the same. What they compute stays as it is, bit for bit.

    In `<model>.profile`, beside the model folder, whose digest does not know of it: of a CPU or GPU
    `trace.json.gz` for ui.perfetto.dev or chrome://tracing, of an NPU a folder for MindStudio
    Insight as torch_npu names it."""

    def __init__(self, steps: int, runtime: Runtime, model: Path):
        """steps: how many are recorded, 0 = none. Raises InputError where no trace can be
        written."""
        self.steps, self.runtime = steps, runtime
        self.folder = model.absolute().with_name(f"{model.name}.profile")
        self.files: list[Path] = []
        self.done = 0  # steps
        self._profile: Any = None  # torch's or torch_npu's, inside the block
        self.trouble = ""  # why there is none
        self.times: Counter[str] = Counter()  # microseconds by operator
        self.calls: Counter[str] = Counter()
        if self.steps:
            refuse_unwritable(self.folder, "--model", ["trace.json.gz"])
            self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        if self.steps:
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells when it starts and stops
            module = self.runtime.profiler()
            is_torchs = self.runtime.name != "npu"
            plan = dict(wait=WARMUP - 1, warmup=1, active=self.steps, repeat=1)
            self._earlier = set(self.folder.iterdir())
            self._profile = module.profile(
                schedule=module.schedule(**plan),
                on_trace_ready=self._keep if is_torchs else self._kept_by(module),
            )
            self._profile.start()
        return self

    def step(self) -> None:
        """To be called after each step."""
        if self._profile:
            self.done += 1
            self._profile.step()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._profile:
            self._profile.stop()
            self._profile = None
            if self.runtime.name == "npu":
                self._read_folders()

    def tell(self) -> None:
        """Print the most expensive operators and where the trace is; log it."""
        if not self.steps:
            return
        recorded = min(self.done - WARMUP, self.steps)
        if not self.files or recorded < 1:
            reason = self.trouble or f"it begins after {WARMUP} steps, and they were fewer"
            print(f"profile: no trace was written: {reason}", flush=True)
            return
        total = sum(self.times.values()) or 1
        rows = [
            (name, self.calls[name], f"{time / 1e3:.2f}", f"{time / total:.1%}")
            for name, time in self.times.most_common(MOST_SHOWN)
        ]
        heads = ("operator", "calls", f"ms on {self.runtime.name}", "share")
        print(tabulate(rows, heads, tablefmt="plain", disable_numparse=True))
        for file in self.files:
            if (size := file.stat().st_size) > MOST_LOGGED_BYTES:
                print(f"profile: {file.name} has {size / 1e6:.0f} MB and is not sent to MLflow")
            else:
                tracking.log_files(file, "profile")
        print(f"profile: a trace of {recorded} steps is in {self.folder}", flush=True)

    # What torch records.

    def _keep(self, profile: Any) -> None:
        """Write the trace; take the time of each operator without those that it calls."""
        file = self.folder / "trace.json.gz"
        try:
            profile.export_chrome_trace(str(file))
        except OSError as error:  # the training goes on
            self.trouble = f"{file}: {error.strerror}"
            return
        self.files.append(file)
        for row in profile.key_averages():
            on_device = self.runtime.name != "cpu"
            time = row.self_device_time_total if on_device else row.self_cpu_time_total
            if time and not row.key.startswith("ProfilerStep"):
                self.times[row.key] += time
                self.calls[row.key] += row.count

    # What torch_npu records.

    def _kept_by(self, module: Any) -> Any:
        return module.tensorboard_trace_handler(str(self.folder), worker_name="rank0")

    def _read_folders(self) -> None:
        """The files for people in what it has written, and the durations of kernels by their type:
        columns of kernel_details.csv, as of `CsvHeaders` in torch_npu.profiler.analysis."""
        for folder in sorted(set(self.folder.iterdir()) - self._earlier):
            self.files += sorted((folder / "ASCEND_PROFILER_OUTPUT").glob("*.*"))
        for file in self.files:
            if file.name == "kernel_details.csv":
                with open(file, newline="") as table:
                    for row in csv.DictReader(table):
                        self.times[row["Type"]] += float(row["Duration(us)"])
                        self.calls[row["Type"]] += 1
