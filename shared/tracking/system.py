"""How busy the machine is while a run is open: CPU, memory, GPUs and NPUs, under the names that
MLflow's UI shows as system metrics."""

import contextlib
import shutil
import threading
from collections.abc import Callable

import psutil

from shared.ascend import smi
from shared.servers import answer_of, said
from shared.tracking.journal import warn
from shared.tracking.thinning import is_kept

EVERY_S = 10.0
PATIENCE_S = 8.0  # with the program of a vendor

Measure = Callable[[], dict[str, float]]


class Sampler:
    """Measures every few seconds, in a thread, until it is stopped; a measure that fails is left
    out from then on, and a line says so."""

    def __init__(self, log: Callable[[dict[str, float]], None], points: int = 0):
        """points: how many there may be of it already."""
        self._log, self._points = log, points
        self._stop = threading.Event()
        self._measures = {"psutil": cpu_and_memory} | measures_of_cards()
        psutil.cpu_percent()  # the first call begins an interval
        self._thread = threading.Thread(target=self._work, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Measure no more."""
        self._stop.set()

    def _work(self) -> None:
        while not self._stop.wait(EVERY_S):
            figures: dict[str, float] = {}
            for name, measure in tuple(self._measures.items()):
                try:
                    figures |= measure()
                except Exception as error:
                    del self._measures[name]
                    if not self._stop.is_set():
                        warn(f"the run goes on without figures of {name} ({said(error)}).")
            self._points += 1
            if figures and is_kept(self._points) and not self._stop.is_set():
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


def measures_of_cards() -> dict[str, Measure]:
    """Of NVIDIA's GPUs and Ascend's NPUs, where there are the programs that tell of them."""
    found: dict[str, Measure] = {}
    if shutil.which("nvidia-smi"):
        found["nvidia-smi"] = gpus
    if smi.is_there():
        found["npu-smi"] = npus
    return found


def gpus() -> dict[str, float]:
    """Raises ValueError with its words where nvidia-smi tells of none; see also `answer_of`."""
    query = "index,utilization.gpu,memory.used,memory.total,power.draw"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    text = answer_of(command, PATIENCE_S)
    try:
        return of_nvidia_smi(text)
    except ValueError:
        raise ValueError(text) from None


def npus() -> dict[str, float]:
    """Raises ValueError with its words where npu-smi tells of none; see also `answer_of`."""
    table = smi.ask(seconds=PATIENCE_S)
    if figures := smi.figures_of(table):
        return figures
    raise ValueError(smi.first_words(table))


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
