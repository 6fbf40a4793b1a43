"""torch_npu.profiler: kernels of the steps that it was to record, where the real one writes them.

Source: torch_npu 2.13.0, profiler/{profiler,scheduler,_profiler_path_creator}.py. The real one
catches its own errors and says nothing of them."""

import csv
import json
import os
import socket
from datetime import datetime
from enum import Enum
from pathlib import Path

from torch.profiler import ProfilerAction as ProfilerAction
from torch.profiler import schedule as _schedule

from torch_npu.stand_in.stats import STATS


class ProfilerActivity(Enum):
    CPU = 0
    NPU = 1


def supported_activities():
    return set(ProfilerActivity)


class Schedule:
    """What is done at each step."""

    def __init__(self, wait, active, warmup=0, repeat=0, skip_first=0, skip_first_wait=0):
        counts = dict(wait=wait, warmup=warmup, active=active, repeat=repeat)
        self._of_torch = _schedule(**counts, skip_first=skip_first, skip_first_wait=skip_first_wait)

    def __call__(self, step: int) -> ProfilerAction:
        return self._of_torch(step)


schedule = Schedule


def tensorboard_trace_handler(dir_name=None, worker_name=None, analyse_flag=True, async_mode=False):
    """What writes a folder of each recording."""

    def write(profiler: "profile") -> None:
        worker = f"{worker_name or socket.gethostname()}_{os.getpid()}"
        name = f"{worker}_{datetime.now():%Y%m%d%H%M%S%f}"[:-3] + "_ascend_pt"
        folder = Path(dir_name or ".") / name / "ASCEND_PROFILER_OUTPUT"
        folder.mkdir(parents=True)
        profiler.export_chrome_trace(str(folder / "trace_view.json"))
        profiler._write_kernels(folder / "kernel_details.csv")

    return write


class profile:
    """Records kernels between `start` and `stop`, in the steps that a schedule names."""

    def __init__(
        self,
        *,
        activities=None,
        schedule=None,
        on_trace_ready=None,
        record_shapes=False,
        profile_memory=False,
        with_stack=False,
        with_flops=False,
        with_modules=False,
        experimental_config=None,
        execution_trace_observer=None,
        custom_trace_id_callback=None,
        use_cuda=None,
    ):
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.on_trace_ready = on_trace_ready
        self.step_num = 0
        self._kernels: list[dict] = []

    def __enter__(self) -> "profile":
        self.start()
        return self

    def __exit__(self, exe_type, exe_val, exc_tb) -> None:
        self.stop()

    def start(self) -> None:
        self._begin()

    def step(self) -> None:
        action = self.schedule(self.step_num)
        self.step_num += 1
        if action is ProfilerAction.RECORD_AND_SAVE:
            self._end()
        self._begin()

    def stop(self) -> None:
        if STATS.trace is not None:
            self._end()

    def _begin(self) -> None:
        if self.schedule(self.step_num).name.startswith("RECORD"):
            if STATS.trace is None:
                STATS.trace = self._kernels = []
        else:
            STATS.trace = None

    def _end(self) -> None:
        STATS.trace = None
        if self.on_trace_ready:
            self.on_trace_ready(self)

    def export_chrome_trace(self, output_path: str) -> None:
        Path(output_path).write_text(json.dumps(self._kernels))

    def _write_kernels(self, file: Path) -> None:
        """Columns of OP_SUMMARY_KERNEL_BASE_HEADERS in analysis/prof_common_func/_csv_headers.py;
        the type of a kernel is the name of its operator without the domain."""
        with open(file, "w", newline="") as table:
            rows = csv.writer(table)
            names = ["Device_id", "Name", "Type", "Accelerator Core", "Start Time(us)"]
            rows.writerow([*names, "Duration(us)", "Wait Time(us)"])
            for kernel in self._kernels:
                kind = kernel["name"].partition("::")[2]
                rows.writerow([0, kernel["name"], kind, "AI_CORE", kernel["ts"], kernel["dur"], 0])
