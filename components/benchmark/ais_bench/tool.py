"""A compiled .om measured, or run over files, by ais_bench, Ascend's own tool."""

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from components.benchmark.ais_bench.failures import AisBenchFailed, failure_of
from components.benchmark.ais_bench.figures import AisResult, read_printed, read_summary
from shared.contracts.exported import ExportCard
from shared.errors import InputError
from shared.files.exchanged import UNFINISHED
from shared.files.owned import LOCK

OUTPUTS = "outputs"  # folder of the result files, inside of the one that ais_bench is given
LIMIT_S = 3600.0  # of one measurement: minutes at most, where the card does not hang
FOLDER_MODE = 0o750  # it writes into no folder that others may look into
INPUT_SUFFIXES = (".bin", ".BIN", ".npy", ".NPY")


@dataclass(frozen=True)
class AisBench:
    """ais_bench on a compiled file, at one batch size.

    Its methods raise InputError where ais_bench or the NPU is not there, AisBenchFailed for
    everything else, such as want of memory at this batch size."""

    om: Path
    batch_size: int
    gears: bool = False  # the file has several batch sizes, of which this is one
    device: int = 0  # number of the NPU in `npu-smi info`
    warmup: int = 1  # executions before those that count

    def pure(self, loop: int) -> AisResult:
        """Execute the file `loop` times on zeros."""
        with tempfile.TemporaryDirectory(prefix="ais_bench_") as output:
            return self._run(Path(output), ["--loop", str(loop)])

    def over_inputs(self, inputs: list[Path], out: Path, outfmt: str = "BIN") -> AisResult:
        """Execute the file over the files of `inputs`, one folder per input of the network, as
        `python -m components.export offline inputs` writes them.

        The network's outputs are `<out>/outputs/<name>_0.bin` (or .npy), one per input file; none
        is left where the run fails. A last batch that is not full is filled up, and counts as full
        in the figures."""
        # The folders.
        for folder in inputs:
            if not folder.is_dir():
                raise InputError(
                    f"--inputs {folder} is not a folder: give what `python -m components.export "
                    "offline inputs` wrote."
                )
            if any((place / UNFINISHED).exists() for place in (folder, folder.parent)):
                raise InputError(
                    f"--inputs {folder} is not whole, as its command has not come to its end: say "
                    "that again."
                )
        try:
            out.mkdir(parents=True, exist_ok=True)
            if any(path.name != LOCK for path in out.iterdir()):
                raise InputError(f"--out {out} is not empty: give a new or empty folder.")
            out.chmod(FOLDER_MODE)
        except OSError as error:
            raise InputError(
                f"--out {out} cannot be written ({error.strerror}): give a place you can write to."
            ) from None

        # The run; nothing stays of one that fails.
        folders = ",".join(str(folder.resolve()) for folder in inputs)
        wanted = sum(path.suffix in INPUT_SUFFIXES for path in inputs[0].iterdir())
        try:
            result = self._run(out, ["--input", folders, "--outfmt", outfmt])
            suffix = f".{outfmt.lower()}"
            written = sum(path.suffix == suffix for path in (out / OUTPUTS).iterdir())
            if written != wanted:
                raise AisBenchFailed(f"there are {written} result files for {wanted} inputs")
        except BaseException:
            shutil.rmtree(out / OUTPUTS, ignore_errors=True)
            summary_file(out).unlink(missing_ok=True)
            raise
        reader = "`python -m components.export offline pictures`"
        print(f"benchmark: results for {reader}: {out / OUTPUTS}")
        return result

    def _run(self, output: Path, arguments: list[str]) -> AisResult:
        """Run ais_bench in the folder `output`, and read its figures.

        arguments: what differs between pure inference and a run over files."""
        om = self.om
        if not om.is_file():
            raise InputError(
                f"--om {om} is not a file: compile one with `python -m components.export --format "
                "om`."
            )

        # Without --batchsize: it takes the file's own, and a wrong one would be a wrong throughput.
        command = [sys.executable, "-m", "ais_bench", "--model", str(om.resolve()), *arguments]
        command += ["--device", str(self.device), "--warmup_count", str(self.warmup)]
        command += ["--output", str(output.resolve()), "--output_dirname", OUTPUTS]
        command += ["--dymBatch", str(self.batch_size)] if self.gears else []

        # In that folder, since it looks at --output_dirname as a path from where it runs.
        print(f"benchmark: {shlex.join(command)}", flush=True)
        said = dict(capture_output=True, text=True, errors="replace", timeout=LIMIT_S)
        try:
            done = subprocess.run(command, cwd=output, **said)
        except subprocess.TimeoutExpired:
            raise AisBenchFailed(f"ais_bench was stopped, since it took {LIMIT_S:g} s") from None
        if done.returncode:
            raise failure_of(done, self.device)

        # Its figures, which are of the file's own batch size.
        summary = summary_file(output)
        if summary.is_file():
            result = read_summary(summary.read_bytes())
        else:
            result = read_printed(done.stdout)
        if result.batch_size != self.batch_size:
            raise AisBenchFailed(
                f"{om.name} takes batches of {result.batch_size}, not of {self.batch_size}"
            )
        return result


def refuse_exchanged(om: Path) -> None:
    """Raises InputError for a compiled file that is not the one that the card of an export beside
    it was written with."""
    if (om.parent / ExportCard.FILE).is_file():
        with ExportCard.read(om.parent).promise(om.parent, f"--om {om}").kept([om.name]):
            pass


def summary_file(output: Path) -> Path:
    """The file of figures that it writes into the folder it is given."""
    return output / f"{OUTPUTS}_summary.json"


@contextlib.contextmanager
def failures_exit() -> Iterator[None]:
    """Say in a line why ais_bench failed, and exit with 1."""
    try:
        yield
    except AisBenchFailed as failure:
        print(f"ais_bench failed: {failure}", file=sys.stderr)
        sys.exit(1)


def print_figures(om: Path, result: AisResult) -> None:
    """Print the figures as a table and as JSON."""
    print(table(om, result))
    print(json.dumps({"om": str(om)} | result.figures()))


def table(om: Path, result: AisResult) -> str:
    """The figures as aligned text, under their names."""

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
        [columns.keys(), columns.values()],
        tablefmt="plain",
        stralign="right",
        disable_numparse=True,
    )
