"""How busy the machine is while a run is open: CPU, memory, GPUs and NPUs, under the names that
MLflow's UI shows as system metrics."""

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable

import psutil

EVERY_S = 10.0
PATIENCE_S = 8.0  # with the program of a vendor

# Of `npu-smi info`: the row of an NPU, `| 0  910B3 | OK | 94.7 54 0 / 0 |`, and the row of a chip
# below it, `| 0 | 0000:C1:00.0 | 0  0 / 0  3396 / 65536 |`, which ends with its memory in MB.
NPU_ROW = re.compile(
    r"^\|\s*(?P<npu>\d+)\s+(?:\|\s+)?(?:Ascend)?(?:310|610|910|950)\w*(?:-\d)?\s*\|\s*[A-Za-z]+\s*\|"
    r"\s*(?P<watts>[\d.]+|-)\s+(?P<celsius>[\d.]+|-)"
)
CHIP_ROW = re.compile(
    r"^\|\s*(?P<chip>\d+)\s[^|]*\|\s*[0-9A-Fa-f]{4}:[0-9A-Fa-f:.]+\s*\|\s*(?P<busy>\d+|-)\s+(?P<rest>.*?)\|\s*$"
)
MEMORY = re.compile(r"(\d+)\s*/\s*(\d+)")


class Sampler:
    """Measures every few seconds, in a thread, until it is stopped; a measure that fails is left
    out from then on."""

    def __init__(self, log: Callable[[dict[str, float]], None]):
        self._log = log
        self._stop = threading.Event()
        self._measures = [cpu_and_memory, *gpu_measures(), *npu_measures()]
        psutil.cpu_percent()  # the first call begins an interval
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(EVERY_S):
            figures: dict[str, float] = {}
            for measure in tuple(self._measures):
                try:
                    figures |= measure()
                except Exception:
                    self._measures.remove(measure)
            if figures and not self._stop.is_set():
                self._log({f"system/{name}": value for name, value in figures.items()})


def cpu_and_memory() -> dict[str, float]:
    """Of the whole machine, and the memory of this process and those it started."""
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / 1e6,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": _process_bytes() / 1e6,
    }


def _process_bytes() -> int:
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def gpu_measures() -> list[Callable[[], dict[str, float]]]:
    """One that measures the NVIDIA GPUs, where there is nvidia-smi."""
    query = "index,utilization.gpu,memory.used,memory.total,power.draw"
    options = [f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    return [lambda: of_nvidia_smi(_said("nvidia-smi", *options))] if _is_there("nvidia-smi") else []


def of_nvidia_smi(table: str) -> dict[str, float]:
    """The figures in a line per GPU: number, how busy it is, memory used and there in MiB, watts;
    `[N/A]` where a GPU does not tell."""
    figures: dict[str, float] = {}
    for line in table.splitlines():
        index, busy, used, total, watts = (part.strip() for part in line.split(","))
        named = {"utilization_percentage": busy, "power_usage_watts": watts}
        named["memory_usage_megabytes"] = used
        for name, value in named.items():
            with contextlib.suppress(ValueError):
                figures[f"gpu_{index}_{name}"] = float(value)
        with contextlib.suppress(ValueError):
            figures[f"gpu_{index}_memory_usage_percentage"] = 100 * float(used) / float(total)
    return figures


def npu_measures() -> list[Callable[[], dict[str, float]]]:
    """One that measures the Ascend NPUs, where there is npu-smi."""
    return [lambda: of_npu_smi(_said("npu-smi", "info"))] if _is_there("npu-smi") else []


def _is_there(program: str) -> bool:
    return shutil.which(program) is not None


def _said(*command: str) -> str:
    """What a program prints. Raises OSError or subprocess.SubprocessError."""
    quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    done = subprocess.run(command, timeout=PATIENCE_S, check=True, **quiet)
    return done.stdout.decode(errors="replace")


def of_npu_smi(table: str) -> dict[str, float]:
    """The figures in what `npu-smi info` prints: of each NPU watts and degrees, of each of its
    chips how busy its cores are, and its memory."""
    figures: dict[str, float] = {}
    npu = ""
    for line in table.splitlines():
        if found := NPU_ROW.match(line):
            npu = found["npu"]
            for name, unit in (("watts", "power_usage_watts"), ("celsius", "temperature_celsius")):
                if found[name] != "-":
                    figures[f"npu_{npu}_{unit}"] = float(found[name])
        elif npu and (found := CHIP_ROW.match(line)):
            # `npu_0` where an NPU is one chip, as it is but on A3.
            name = f"npu_{npu}" if found["chip"] == "0" else f"npu_{npu}_chip_{found['chip']}"
            if found["busy"] != "-":
                figures[f"{name}_utilization_percentage"] = float(found["busy"])
            memories = [(int(used), int(total)) for used, total in MEMORY.findall(found["rest"])]
            memories = [memory for memory in memories if memory[1]]  # HBM, or DDR where it has none
            if memories:
                used, total = memories[-1]
                figures[f"{name}_memory_usage_megabytes"] = used
                figures[f"{name}_memory_usage_percentage"] = 100 * used / total
    return figures
