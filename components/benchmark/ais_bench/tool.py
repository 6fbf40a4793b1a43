"""A compiled .om measured, or run over files, by ais_bench.

That is Ascend's own tool. Its time of a batch is that of the NPU alone. The time of a call
with its copies is made here, of the mean that it tells for the copy of one tensor, and the number
of tensors."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from shared.contracts.exported import OmFile
from shared.contracts.measured import SpeedRow
from shared.deployed.om_runner import one_clause, unavailable
from shared.errors import InputError

OUTPUTS = "outputs"  # folder of the result files, inside of the one that ais_bench is given
FOLDER_MODE = 0o750  # it writes into no folder that others may look into
INPUT_SUFFIXES = (".bin", ".BIN", ".npy", ".NPY")

# What it prints; used where its summary file lacks.
PRINTED_THROUGHPUT = re.compile(
    r"throughput 1000\*batchsize(?:\.mean)?\((\d+(?:\.\d+)?)\)/NPU_compute_time\.mean\(([\d.]+)\)",
    re.IGNORECASE,
)
PRINTED_TIMES = re.compile(
    r"NPU_compute_time \(ms\): min = .*, median = ([\d.]+), percentile\(99%\) = ([\d.]+)"
)

IMPORT_FAILED = re.compile(
    r"^(?:ImportError|ModuleNotFoundError): (.+)|^.*: (No module named ais_bench.*)", re.MULTILINE
)
NO_DEVICE = re.compile(
    r"acl open device \d+ failed|acl init failed|Failed to get all devices count"
)
OTHER_CHIP = re.compile(r"supported socVersion=(\w+), but the model socVersion=(\w+)")
# 207001 is ACL_ERROR_RT_MEMORY_ALLOCATION; EL0004 its entry in the error block of CANN; the rest is
# of ais_bench.
OUT_OF_MEMORY = re.compile(
    r"EL0004|207001|Malloc ptrData failed|memory allocation fail|MemoryError|bad_alloc"
)
KILLED = -9


class AisBenchFailed(RuntimeError):
    """ais_bench ran, and came to no figures: why, mostly in its own words."""


@dataclass(frozen=True)
class AisResult:
    """Times of one batch. Copies are those of all its inputs, and of its picture."""

    batch_size: int
    compute_ms_mean: float
    compute_ms_p50: float
    compute_ms_p90: float | None  # None: not among what is printed, and there was no summary file
    compute_ms_p99: float
    h2d_ms: float | None
    d2h_ms: float | None

    @property
    def device_images_per_second(self) -> float:
        """Without copies, and without reading or writing files."""
        return 1000 * self.batch_size / self.compute_ms_mean

    @property
    def images_per_second(self) -> float | None:
        """With copies, one batch after the other."""
        call_ms = self.with_copies(self.compute_ms_mean)
        return call_ms and 1000 * self.batch_size / call_ms

    def with_copies(self, compute_ms: float | None) -> float | None:
        """The time of a call from host memory to host memory."""
        parts = (compute_ms, self.h2d_ms, self.d2h_ms)
        return None if None in parts else sum(parts)

    def figures(self) -> dict[str, float | None]:
        rates = {
            name: getattr(self, name) for name in ("device_images_per_second", "images_per_second")
        }
        return asdict(self) | rates


def pure_inference(
    om: Path,
    batch_size: int,
    loop: int,
    device: int = 0,
    warmup: int = 1,
    dynamic_batch: bool = False,
) -> AisResult:
    """`loop` executions on zeros. dynamic_batch: the file has gears, and this batch size is one of
    them.

    Raises InputError where ais_bench or the NPU is not there, AisBenchFailed for everything else,
    such as want of memory at this batch size."""
    with tempfile.TemporaryDirectory(prefix="ais_bench_") as output:
        arguments = ["--loop", str(loop)]
        return _run(om, Path(output), batch_size, device, warmup, dynamic_batch, arguments)


def over_inputs(
    om: Path,
    inputs: list[Path],
    out: Path,
    batch_size: int,
    outfmt: str = "BIN",
    device: int = 0,
    warmup: int = 1,
    dynamic_batch: bool = False,
) -> AisResult:
    """Runs over the files of `inputs`, one folder per input of the network as
    `python -m components.export offline inputs` writes them.

    The network's outputs are `<out>/outputs/<name>_0.bin` (or .npy), one per input file; none is
    left where the run fails. A last batch that is not full is filled up, and counts as full in the
    figures. Raises as `pure_inference`."""
    for folder in inputs:
        if not folder.is_dir():
            raise InputError(
                f"--inputs {folder} is not a folder: "
                "give what `python -m components.export offline inputs` wrote."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"--out {out} is not empty: give a new or empty folder.")
        out.chmod(FOLDER_MODE)
    except OSError as error:
        raise InputError(
            f"--out {out} cannot be written ({error.strerror}): give a place you can write to."
        ) from None
    arguments = [
        "--input",
        ",".join(str(folder.resolve()) for folder in inputs),
        "--outfmt",
        outfmt,
    ]
    wanted = sum(path.suffix in INPUT_SUFFIXES for path in inputs[0].iterdir())
    try:
        result = _run(om, out, batch_size, device, warmup, dynamic_batch, arguments)
        written = sum(path.suffix == f".{outfmt.lower()}" for path in (out / OUTPUTS).iterdir())
        if written != wanted:
            raise AisBenchFailed(f"there are {written} result files for {wanted} inputs")
    except BaseException:
        shutil.rmtree(out / OUTPUTS, ignore_errors=True)
        summary_file(out).unlink(missing_ok=True)
        raise
    print(f"benchmark: results for `python -m components.export offline pictures`: {out / OUTPUTS}")
    return result


def measure_om(
    folder: Path, files: list[OmFile], batch_sizes: tuple[int, ...], loop: int, warmup: int
) -> list[SpeedRow]:
    """One row per batch size, of the first of `files` (in `folder`) that takes it; what fails is a
    row that says why.

    Raises InputError where ais_bench or the NPU is not there.
    """
    rows = []
    for batch_size in batch_sizes:
        file = next((file for file in files if batch_size in file.batch_sizes), None)
        try:
            if file is None:
                raise AisBenchFailed("no file was compiled for this batch size")
            gears = len(file.batch_sizes) > 1
            outcome = pure_inference(
                folder / file.file, batch_size, loop, warmup=warmup, dynamic_batch=gears
            )
        except AisBenchFailed as failure:
            outcome = failure
        rows.append(speed_row(outcome, batch_size, file.precision if file else files[0].precision))
    return rows


def speed_row(outcome: AisResult | AisBenchFailed, batch_size: int, precision: str) -> SpeedRow:
    """Latencies are those of the executions, with the mean time of the copies."""
    result = None if isinstance(outcome, AisBenchFailed) else outcome
    return SpeedRow(
        runtime="ais_bench",
        device="npu",
        precision=precision,
        batch_size=batch_size,
        problem="" if result else str(outcome),
        device_images_per_second=result and result.device_images_per_second,
        images_per_second=result and result.images_per_second,
        end_to_end_images_per_second=None,
        latency_ms_p50=result and result.with_copies(result.compute_ms_p50),
        latency_ms_p90=result and result.with_copies(result.compute_ms_p90),
        latency_ms_p99=result and result.with_copies(result.compute_ms_p99),
        peak_memory_mb=None,
        speedup=None,
    )


def _run(
    om: Path,
    output: Path,
    batch_size: int,
    device: int,
    warmup: int,
    dynamic_batch: bool,
    arguments: list[str],
) -> AisResult:
    if not om.is_file():
        raise InputError(
            f"--om {om} is not a file: compile one with `python -m components.export --format om`."
        )
    command = [sys.executable, "-m", "ais_bench", "--model", str(om.resolve()), *arguments]
    command += ["--device", str(device), "--warmup_count", str(warmup)]
    command += ["--output", str(output.resolve()), "--output_dirname", OUTPUTS]
    # Without --batchsize it takes the file's own: a wrong one here would be a wrong throughput
    # there.
    command += ["--dymBatch", str(batch_size)] if dynamic_batch else []
    print(f"benchmark: {shlex.join(command)}", flush=True)
    # In that folder, since it looks at --output_dirname as a path from where it runs.
    done = subprocess.run(command, cwd=output, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise _failure(done, device)
    summary = summary_file(output)
    result = (
        read_summary(json.loads(summary.read_text()))
        if summary.is_file()
        else read_printed(done.stdout)
    )
    if result.batch_size != batch_size:
        raise AisBenchFailed(f"{om.name} takes batches of {result.batch_size}, not of {batch_size}")
    return result


def summary_file(output: Path) -> Path:
    return output / f"{OUTPUTS}_summary.json"


def read_summary(summary: dict) -> AisResult:
    """Of the summary file."""
    times = np.array(summary["npu_compute_time_list"])
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    tensors = summary["filesinfo"][
        "0"
    ]  # of the first sample: a file for each input and each output
    return AisResult(
        batch_size=round(summary["throughput"] * times.mean() / 1000),
        compute_ms_mean=float(times.mean()),
        compute_ms_p50=float(p50),
        compute_ms_p90=float(p90),
        compute_ms_p99=float(p99),
        h2d_ms=summary["H2D_latency"]["mean"] * len(tensors["infiles"]),
        d2h_ms=summary["D2H_latency"]["mean"] * len(tensors["outfiles"]),
    )


def read_printed(stdout: str) -> AisResult:
    """Of the lines that every version prints, with what they tell. Raises AisBenchFailed without
    them."""
    throughput, times = PRINTED_THROUGHPUT.search(stdout), PRINTED_TIMES.search(stdout)
    if throughput is None or times is None:
        raise AisBenchFailed("ais_bench ended well but left no summary file and printed no figures")
    median, p99 = map(float, times.groups())
    return AisResult(
        batch_size=round(float(throughput[1])),
        compute_ms_mean=float(throughput[2]),
        compute_ms_p50=median,
        compute_ms_p90=None,
        compute_ms_p99=p99,
        h2d_ms=None,
        d2h_ms=None,
    )


def _failure(done: subprocess.CompletedProcess, device: int) -> InputError | AisBenchFailed:
    """What the words of a run that failed mean."""
    words = f"{done.stdout}\n{done.stderr}"
    if found := IMPORT_FAILED.search(done.stderr):
        return unavailable(found[1] or found[2])
    # The first of its error lines is the cause, those after it are the way up to the top.
    said = re.search(r"\[ERROR\] *(.+)", words, re.IGNORECASE) or re.search(
        r"error: (argument .+)", done.stderr
    )
    said = one_clause(said[1] if said else (words.strip().splitlines() or ["it said nothing"])[-1])
    if NO_DEVICE.search(words):
        return InputError(
            f"--device {device} cannot be opened by ais_bench ({said}): look at `npu-smi info`, "
            "and in a container "
            "pass it the device and the driver."
        )
    if found := OTHER_CHIP.search(words):
        return AisBenchFailed(f"compiled for {found[2]} but the NPU is an {found[1]}")
    if OUT_OF_MEMORY.search(words):
        return AisBenchFailed(f"out of memory ({said})")
    if done.returncode == KILLED:
        return AisBenchFailed("killed by the system, most likely for want of memory on the host")
    return AisBenchFailed(said)


def print_figures(om: Path, measure: Callable[[], AisResult]) -> None:
    """Measure, and print the figures as a table and as JSON; exit with 1 where ais_bench fails."""
    try:
        result = measure()
    except AisBenchFailed as failure:
        print(f"ais_bench failed: {failure}", file=sys.stderr)
        sys.exit(1)
    print(table(om, result))
    print(json.dumps({"om": str(om)} | result.figures()))


def table(om: Path, result: AisResult) -> str:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    columns = {
        "file": om.name,
        "batch": str(result.batch_size),
        "NPU alone, images/s": number(result.device_images_per_second),
        "with copies, images/s": number(result.images_per_second),
        "NPU ms p50": number(result.compute_ms_p50),
        "p90": number(result.compute_ms_p90),
        "p99": number(result.compute_ms_p99),
        "copy in ms": number(result.h2d_ms),
        "copy out ms": number(result.d2h_ms),
    }
    return tabulate(
        [columns.values()],
        columns.keys(),
        tablefmt="plain",
        stralign="right",
        disable_numparse=True,
    )
