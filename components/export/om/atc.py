"""An ONNX file compiled for Ascend NPUs by `atc`, the compiler of CANN. No NPU is needed for it."""

import contextlib
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from components.export.om.words import advice_on, telling_lines
from shared.contracts.exported import OmFile, TensorSpec
from shared.errors import InputError, WorkFailed
from shared.files.writing import put_in_place

# Of --precision_mode_v2; without it atc takes fp16.
PrecisionMode = Literal[
    "fp16",
    "origin",
    "cube_fp16in_fp32out",
    "mixed_float16",
    "mixed_bfloat16",
    "mixed_hif8",
    "cube_hif8",
]
MAX_GEARS = 100  # of a dynamic batch
FILE_MODE = 0o640  # ais_bench loads nothing that group or others can write to
SUCCESS = "ATC run success"

# What atc takes in a path: `IsPathCharsValid` in hicann/ge.
PATH = re.compile(r"[A-Za-z0-9._/\u4e00-\u9fa5-]+")


class AtcFailed(WorkFailed):
    """atc did not compile a file."""

    def __init__(self, text: str, words: str):
        """words: of atc, to the last line."""
        super().__init__(text)
        self.words = words


def check_atc() -> None:
    """Raises InputError where `atc` is not on PATH."""
    if shutil.which("atc") is None:
        raise InputError(
            "--format om needs atc, which is not on PATH: install the CANN toolkit and run "
            "`source /usr/local/Ascend/ascend-toolkit/set_env.sh`, or use the image of "
            "docker/npu.Dockerfile; the ONNX file stays as it is."
        )


@dataclass(frozen=True)
class Target:
    """What atc compiles for, and how."""

    soc_version: str  # chip, such as Ascend310P3
    precision_mode: str | None = None  # of --precision_mode_v2, None = atc's own choice, fp16
    aipp: Path | None = None  # file of --insert_op_conf; makes the input uint8 pictures


def atc_command(
    onnx_file: Path,
    output: Path,
    inputs: list[TensorSpec],
    batch_sizes: tuple[int, ...],
    target: Target,
) -> list[str]:
    """The command line of one compilation.

    Args:
        onnx_file, output, target.aipp: Absolute paths; atc adds .om to `output`.
        inputs: Of the ONNX file: fixed shapes, but for the first axis.
        batch_sizes: One, or the gears of a dynamic batch.

    Raises InputError for what atc cannot take.
    """
    mode, aipp = target.precision_mode, target.aipp
    assert all(path.is_absolute() for path in (onnx_file, output, aipp) if path)

    # Shapes and their format.
    dynamic = len(batch_sizes) > 1
    shapes = [_shape(spec, -1 if dynamic else batch_sizes[0]) for spec in inputs]
    # One format for all inputs; ND is any number of axes up to four: label maps have three.
    layout = "NCHW" if all(len(shape) == 4 for shape in shapes) else "ND"

    # What atc would refuse in words of its own.
    if mode is not None and mode not in get_args(PrecisionMode):
        raise InputError(
            f"--om-precision-mode {mode!r} is none of {', '.join(get_args(PrecisionMode))}."
        )
    if aipp is not None and layout != "NCHW":
        raise InputError(
            f"--om-aipp {aipp} prepares pictures (N, C, H, W), but the file has other inputs too "
            f"({', '.join(spec.name for spec in inputs)}): leave it out."
        )

    # The command.
    named = (
        f"{spec.name}:{','.join(map(str, shape))}"
        for spec, shape in zip(inputs, shapes, strict=True)
    )
    command = [
        "atc",
        f"--model={onnx_file}",
        "--framework=5",  # ONNX
        f"--output={output}",
        f"--input_format={layout}",
        f"--input_shape={';'.join(named)}",
        f"--soc_version={target.soc_version}",
        "--log=error",
    ]
    if dynamic:
        command.append(f"--dynamic_batch_size={','.join(map(str, batch_sizes))}")
    if mode is not None:
        command.append(f"--precision_mode_v2={mode}")
    if aipp is not None:
        command.append(f"--insert_op_conf={aipp}")
    return command


def _shape(spec: TensorSpec, batch: int) -> list[int]:
    first, *rest = spec.shape
    for axis in rest:
        if isinstance(axis, str):
            raise InputError(
                f"--format om compiles for fixed shapes, but input {spec.name} has an open axis "
                f"{axis!r}: export with a fixed size."
            )
    if isinstance(first, int) and first != batch:
        wanted = "gears" if batch == -1 else f"a batch of {batch}"
        raise InputError(
            f"--om-batch-sizes asks for {wanted}, but the ONNX file has a fixed batch of {first}: "
            "export it with an open one."
        )
    return [batch, *rest]


def compile_om(
    onnx_file: Path,
    inputs: list[TensorSpec],
    batch_sizes: tuple[int, ...],
    gears: bool,
    target: Target,
    timeout_s: float = 3600,
    logs: Path | None = None,
) -> list[OmFile]:
    """Compile beside the ONNX file: <name>_bs<N>.om for each batch size, or one <name>_gears.om for
    all; all files or none.

    What atc says stays in atc_bs<N>.log or atc_gears.log in `logs`, None = beside them, with its
    warnings where it succeeds. .om files of an earlier run are removed first. `timeout_s` is for
    one file.

    Raises InputError where atc is missing or cannot take what is asked, AtcFailed with atc's words
    where it fails."""
    # What an earlier run left goes first; then what cannot be compiled.
    name = onnx_file.stem
    for earlier in onnx_file.parent.glob(f"{glob.escape(name)}_*.om"):
        earlier.unlink()
    check_atc()
    check_gears(batch_sizes, gears)
    batch_sizes = tuple(sorted(set(batch_sizes)))
    target = replace(target, aipp=check_aipp(target.aipp))
    onnx_file = check_place("--exported", onnx_file)
    folder = check_place("--exported", onnx_file.parent)

    # Each file in a folder of its own: any .om there is new, and what atc leaves in its working
    # directory goes with it.
    jobs = {"gears": batch_sizes} if gears else {f"bs{size}": (size,) for size in batch_sizes}
    with tempfile.TemporaryDirectory(prefix=".atc-", dir=folder) as work:
        outputs = {job: Path(work, f"{name}_{job}") for job in jobs}
        commands = {
            job: atc_command(onnx_file, outputs[job], inputs, sizes, target)
            for job, sizes in jobs.items()
        }
        made = {}
        for job, command in commands.items():
            made[job] = _compile(
                command, outputs[job], (logs or folder) / f"atc_{job}.log", timeout_s
            )
        for job, path in made.items():
            path.chmod(FILE_MODE)
            put_in_place(path, folder / f"{name}_{job}.om")

    return [
        OmFile(
            file=f"{name}_{job}.om",
            soc_version=target.soc_version,
            precision=target.precision_mode or "fp16",
            batch_sizes=list(sizes),
        )
        for job, sizes in jobs.items()
    ]


def check_gears(batch_sizes: tuple[int, ...], gears: bool) -> None:
    """Raises InputError for a number of gears that atc does not take."""
    count = len(set(batch_sizes))
    if gears and not 2 <= count <= MAX_GEARS:
        raise InputError(
            f"--om-gears takes 2 to {MAX_GEARS} batch sizes, not {count}: set --om-batch-sizes."
        )


def check_aipp(aipp: Path | None) -> Path | None:
    """The file of preprocessing, its path without links. Raises InputError where there is none."""
    if aipp is None:
        return None
    if not aipp.is_file():
        raise InputError(
            f"--om-aipp {aipp} is no file: give one in the format of atc's --insert_op_conf."
        )
    return check_place("--om-aipp", aipp)


def check_place(flag: str, path: Path) -> Path:
    """The path without links. Raises InputError for one that atc cannot take."""
    real = path.resolve()
    if not PATH.fullmatch(str(real)):
        raise InputError(
            f"{flag} is {str(real)!r}, but atc takes letters, digits and ._-/ only: give another "
            "path."
        )
    return real


def _compile(command: list[str], output: Path, log: Path, timeout_s: float) -> Path:
    """Run atc to its end; returns the .om that it wrote. Its exit status, its words and the file
    must agree, else AtcFailed."""
    print(f"export: {output.name}.om: atc compiles, its words are in {log}", flush=True)
    started = time.time()
    pid, ending = _run(command, output.parent, log, timeout_s)

    # Did it succeed?
    text = log.read_text(errors="replace")
    # A file that only one system can load is <output>_linux_aarch64.om and so on.
    files = [*output.parent.glob(f"{output.name}.om"), *output.parent.glob(f"{output.name}_*.om")]
    if ending != "exit status 0":
        problem = ending
    elif SUCCESS not in text:
        problem = f"exit status 0, but without {SUCCESS!r}"
    elif not files:
        problem = "exit status 0, but it wrote no .om file"
    elif not files[0].stat().st_size:
        problem = "exit status 0, but its .om file is empty"
    else:
        megabytes, seconds = files[0].stat().st_size / 2**20, time.time() - started
        system = files[0].stem.removeprefix(output.name).replace("_", " ")
        only = f", for{system} only" if system else ""
        print(f"export: {output.name}.om: {megabytes:.1f} MB in {seconds:.0f} s{only}", flush=True)
        return files[0]

    # Why not: its words, and those of CANN's own logs.
    plogs = _plogs({str(pid), *re.findall(r"\[PID: (\d+)\]", text)}, started)
    said = "\n".join(path.read_text(errors="replace") for path in plogs)
    missing = [line for line in said.splitlines() if "No module" in line]
    lines = [
        f"atc did not compile {output.name}.om: {problem}.",
        *(f"  {line}" for line in telling_lines(text)),
        *advice_on("\n".join([problem, text, *missing])),
        f"Logs: {' and '.join(map(str, [log, *plogs[:1]]))}",
    ]
    raise AtcFailed("\n".join(lines), words=text.partition("\n")[2])


def _run(command: list[str], work: Path, log: Path, timeout_s: float) -> tuple[int, str]:
    """Process id and how the process ended; both its streams go to `log`."""
    with open(log, "wb") as file:
        file.write(f"{shlex.join(command)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            command,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except BaseException as stop:
            # atc is a shell script around atc.bin, which starts compilers: they are one process
            # group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(stop, subprocess.TimeoutExpired):
                return process.pid, f"stopped as it took more than {timeout_s:g} s"
            raise
    return process.pid, f"signal {-status}" if status < 0 else f"exit status {status}"


def _plogs(pids: set[str], since: float) -> list[Path]:
    """CANN's debug logs of these processes, or where none is, all written since; the newest
    first."""
    logs = Path(os.environ.get("ASCEND_PROCESS_LOG_PATH") or Path.home() / "ascend" / "log")
    times = {path: path.stat().st_mtime for path in logs.glob("debug/plog/plog-[0-9]*.log")}
    new = sorted((path for path in times if times[path] > since - 1), key=times.get, reverse=True)
    return [path for path in new if re.match(r"plog-(\d+)", path.name)[1] in pids] or new
