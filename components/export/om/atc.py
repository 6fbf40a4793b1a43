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
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from shared.contracts.exported import OmFile, TensorSpec
from shared.errors import InputError

PrecisionMode = Literal[
    "fp16",
    "origin",
    "cube_fp16in_fp32out",
    "mixed_float16",
    "mixed_bfloat16",
    "mixed_hif8",
    "cube_hif8",
]  # of --precision_mode_v2; without it atc takes fp16
MAX_GEARS = 100  # of a dynamic batch
FILE_MODE = 0o640  # ais_bench loads nothing that group or others can write to
SUCCESS = "ATC run success"
SHOWN_LINES = 25  # of atc's output when it fails

# Chips that CANN 8.1 knows, and the 950 family, which is named Ascend950PR_9579 and so on.
KNOWN_SOC = re.compile(
    r"Ascend(310|310B[1-4]|310P[1-9]|610|910(A|B(\d(C|-1)?)?|Pro[AB]|PremiumA)|910_\d{2,4}.*|950\w*_\d+\w*)"
)
# `| 0       310P3     | OK     |`: the row of an NPU in `npu-smi info`; a 950's is `| 0      |
# Ascend950PR      | OK `. Rows of chips and processes are alike, but have no such name, or no word
# of health after it.
NPU_ROW = re.compile(
    r"^\|\s*(\d+)\s+(?:\|\s+)?((?:Ascend)?(?:310|610|910|950)\w*(?:-\d)?)\s*\|\s*[A-Za-z]+\s*\|",
    re.MULTILINE,
)
# What atc takes in a path: `IsPathCharsValid` in hicann/ge.
PATH = re.compile(r"[A-Za-z0-9._/\u4e00-\u9fa5-]+")

# What atc's words mean to the user; {} is what the group matched.
ADVICE = (
    (r"E16005|domain_version", "the file imports several opset domains; atc takes one, of ai.onnx"),
    (
        r"E16002|E19010|E10501|No (?:ONNX )?parser is registered",
        "this CANN cannot read that operator at this opset; try another --opset of 11 to 18, or a "
        "newer CANN",
    ),
    (
        r"E\d{5}:.*soc_version|EZ3003|No supported Ops kernel",
        "compare --soc-version with `npu-smi info`; since CANN 8.5 the ops package of that very "
        "chip must be installed "
        "(docker/npu.Dockerfile: the chip in CANN_TAG)",
    ),
    (
        r"No module named '?([\w.]+)",
        "the Python that atc uses lacks a package; run `pip install {}` there",
    ),
    (
        r"(lib(?:ascend_hal|drv\w*)\.so)\S*: cannot open shared object file",
        "without the driver's {} put CANN's stubs on LD_LIBRARY_PATH, "
        "$ASCEND_TOOLKIT_HOME/$(uname -m)-linux/devlib",
    ),
    (r"^exit status 137|^signal 9", "the system killed it, most likely for want of memory"),
)


def find_atc() -> str:
    """Path of `atc`. Raises InputError without one."""
    atc = shutil.which("atc")
    if atc is None:
        raise InputError(
            "--format om needs atc, which is not on PATH: install the CANN toolkit and run `source "
            "/usr/local/Ascend/ascend-toolkit/set_env.sh`, or use the image of "
            "docker/npu.Dockerfile; "
            "the ONNX file stays as it is."
        )
    return atc


def soc_version(wanted: str) -> str:
    """Name of the chip as atc has it, such as Ascend310P3. "auto": that of this machine's NPU, else
    InputError."""
    if wanted == "auto":
        return _chip_of_torch() or _chip_of_npu_smi()
    if not KNOWN_SOC.fullmatch(wanted):
        print(
            f"export: --soc-version {wanted} is not among the known names, such as Ascend310P3: "
            "atc will tell"
        )
    return wanted


def _chip_of_torch() -> str | None:
    try:
        import torch_npu

        name = torch_npu.npu.get_device_name(0)
    except (
        Exception
    ):  # without torch_npu, CANN or NPU: ImportError, RuntimeError, a bare one from its own check
        return None
    return name if KNOWN_SOC.fullmatch(name) else None


def _chip_of_npu_smi() -> str:
    give = "give the chip that the file is for, such as --soc-version Ascend310P3"
    if shutil.which("npu-smi") is None:
        raise InputError(
            f"--soc-version auto finds neither torch_npu with an NPU nor npu-smi here: {give}."
        )
    output = _npu_smi()
    npus = {name: npu for npu, name in NPU_ROW.findall(output)}  # one of each kind
    if not npus:
        first = next(
            (line.strip(" |.") for line in output.splitlines() if line.strip(" |+-=")), "nothing"
        )
        raise InputError(
            "--soc-version auto found no chip in what npu-smi says "
            f"({first.replace('. ', '; ')!r}): {give}."
        )
    chips = sorted(_full_name(name, npu, give) for name, npu in npus.items())
    if len(chips) > 1:
        raise InputError(
            f"--soc-version auto found chips of several kinds, {' and '.join(chips)}: {give}."
        )
    return chips[0]


def _full_name(name: str, npu: str, give: str) -> str:
    """310P3 -> Ascend310P3; of A3 and 950 the table says Ascend910 or Ascend950PR, and the board
    the rest."""
    if not name.startswith("Ascend"):
        return f"Ascend{name}"
    for chip in ((), ("-c", "0")):  # A3 tells of a chip only
        board = _npu_smi("-t", "board", "-i", npu, *chip)
        names = dict(re.findall(r"^\s*(Chip Name|NPU Name)\s*:\s*(\S+)\s*$", board, re.MULTILINE))
        if len(names) == 2:
            return f"{names['Chip Name']}_{names['NPU Name']}"
    raise InputError(
        f"--soc-version auto found {name}, but `npu-smi info -t board -i {npu}` does not tell its "
        f"NPU Name: {give}."
    )


def _npu_smi(*arguments: str) -> str:
    command = ["npu-smi", "info", *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except subprocess.TimeoutExpired:
        return "no answer within 60 s"
    return done.stdout.decode(errors="replace")


def atc_command(
    onnx_file: Path,
    output: Path,
    inputs: list[TensorSpec],
    batch_sizes: tuple[int, ...],
    soc: str,
    precision_mode: str | None = None,
    aipp: Path | None = None,
) -> list[str]:
    """The command line of one compilation.

    Args:
        onnx_file, output, aipp: Absolute paths; atc adds .om to `output`. An AIPP file makes the
        input uint8 pictures.
        inputs: Of the ONNX file: fixed shapes, but for the first axis.
        batch_sizes: One, or the gears of a dynamic batch.
    """
    assert all(path.is_absolute() for path in (onnx_file, output, aipp) if path)
    dynamic = len(batch_sizes) > 1
    batch = -1 if dynamic else batch_sizes[0]
    shapes = [_shape(spec, batch) for spec in inputs]
    # One format for all inputs; ND is any number of axes up to four: label maps have three.
    layout = "NCHW" if all(len(shape) == 4 for shape in shapes) else "ND"
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
        f"--soc_version={soc}",
        "--log=error",
    ]
    if dynamic:
        command.append(f"--dynamic_batch_size={','.join(map(str, batch_sizes))}")
    if precision_mode is not None:
        if precision_mode not in get_args(PrecisionMode):
            raise InputError(
                f"--om-precision-mode {precision_mode!r} is none of "
                f"{', '.join(get_args(PrecisionMode))}."
            )
        command.append(f"--precision_mode_v2={precision_mode}")
    if aipp is not None:
        if layout != "NCHW":
            raise InputError(
                f"--om-aipp {aipp} prepares pictures (N, C, H, W), but the file has other inputs "
                "too "
                f"({', '.join(spec.name for spec in inputs)}): leave it out."
            )
        command.append(f"--insert_op_conf={aipp}")
    return command


def _shape(spec: TensorSpec, batch: int) -> list[int]:
    first, *rest = spec.shape
    for axis in rest:
        if isinstance(axis, str):
            raise InputError(
                f"--format om compiles for fixed shapes, but input {spec.name} has an open axis "
                f"{axis!r}: "
                "export with a fixed size."
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
    folder: Path,
    inputs: list[TensorSpec],
    batch_sizes: tuple[int, ...],
    gears: bool,
    soc: str,
    precision_mode: str | None = None,
    aipp: Path | None = None,
    timeout_s: float = 3600,
) -> list[OmFile]:
    """Compile to `folder`: <name>_bs<N>.om for each batch size, or one <name>_gears.om for all; all
    files or none.

    What atc says stays in atc_bs<N>.log or atc_gears.log beside them, with its warnings where it
    succeeds. .om files of an earlier run are removed first. `timeout_s` is for one file.

    Raises InputError where atc is missing or cannot take what is asked, RuntimeError with atc's
    words where it fails."""
    name = onnx_file.stem
    for earlier in folder.glob(f"{glob.escape(name)}_*.om"):
        earlier.unlink()
    find_atc()
    batch_sizes = tuple(sorted(set(batch_sizes)))
    if gears and not 2 <= len(batch_sizes) <= MAX_GEARS:
        raise InputError(
            f"--om-gears takes 2 to {MAX_GEARS} batch sizes, not {len(batch_sizes)}: set "
            "--om-batch-sizes."
        )
    if aipp is not None and not aipp.is_file():
        raise InputError(
            f"--om-aipp {aipp} is no file: give one in the format of atc's --insert_op_conf."
        )
    onnx_file, folder = _place("--exported", onnx_file), _place("--exported", folder)
    aipp = aipp and _place("--om-aipp", aipp)

    jobs = {"gears": batch_sizes} if gears else {f"bs{size}": (size,) for size in batch_sizes}
    # In a folder of its own any .om is new, and what atc leaves in its working directory goes with
    # it.
    with tempfile.TemporaryDirectory(prefix=".atc-", dir=folder) as work:
        outputs = {job: Path(work, f"{name}_{job}") for job in jobs}
        commands = {
            job: atc_command(onnx_file, outputs[job], inputs, sizes, soc, precision_mode, aipp)
            for job, sizes in jobs.items()
        }
        made = {
            job: _compile(commands[job], outputs[job], folder / f"atc_{job}.log", timeout_s)
            for job in jobs
        }
        for job, path in made.items():
            path.chmod(FILE_MODE)
            os.replace(path, folder / f"{outputs[job].name}.om")
    precision = precision_mode or "fp16"
    return [
        OmFile(
            file=f"{outputs[job].name}.om",
            soc_version=soc,
            precision=precision,
            batch_sizes=list(sizes),
        )
        for job, sizes in jobs.items()
    ]


def _place(flag: str, path: Path) -> Path:
    real = path.resolve()
    if not PATH.fullmatch(str(real)):
        raise InputError(
            f"{flag} is {str(real)!r}, but atc takes letters, digits and ._-/ only: give another "
            "path."
        )
    return real


def _compile(command: list[str], output: Path, log: Path, timeout_s: float) -> Path:
    """Run atc to its end; returns the .om that it wrote. Its exit status, its words and the file
    must agree."""
    print(f"export: {output.name}.om: atc compiles, its words are in {log}", flush=True)
    started = time.time()
    pid, ending = _run(command, output.parent, log, timeout_s)
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

    plogs = _plogs({str(pid), *re.findall(r"\[PID: (\d+)\]", text)}, started)
    missing = [
        line
        for path in plogs
        for line in path.read_text(errors="replace").splitlines()
        if "No module" in line
    ]
    raise RuntimeError(
        "\n".join(
            [
                f"atc did not compile {output.name}.om: {problem}.",
                *(f"  {line}" for line in _telling_lines(text)),
                *_advice("\n".join([problem, text, *missing])),
                f"Logs: {' and '.join(map(str, [log, *plogs[:1]]))}",
            ]
        )
    )


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


def _telling_lines(text: str) -> list[str]:
    """The block that starts with an error code, such as E10001 or EZ3003; without one the end of
    the output."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"E[0-9A-Z]\d{4}\b", line)), None)
    return lines[-SHOWN_LINES:] if start is None else lines[start : start + SHOWN_LINES]


def _advice(words: str) -> Iterator[str]:
    for pattern, advice in ADVICE:
        if match := re.search(pattern, words, re.MULTILINE):
            yield f"Advice: {advice.format(*match.groups())}."
