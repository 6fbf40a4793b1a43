"""Compiling with atc, against stand-ins for `atc` and `npu-smi` that speak as CANN's documentation
and sources have it.

What is real here: processes, exit statuses, signals, files, the folder of work. What is not:
atc.bin and npu-smi."""

import json
import re
import shlex
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.export.om.atc import Target, atc_command, check_atc, compile_om
from components.export.om.chip import soc_version
from shared.contracts.exported import TensorSpec
from tests.asking import refusal
from tests.stand_ins import npu_smi
from tests.stand_ins.npu_smi import A3, A3_CHIP, A910, B310, B910, P310, P950, P950_BOARD

# The installed `atc` is a shell script around atc.bin, as here: the process id in the logs is not
# the one we start.
ATC = """#!/bin/bash
"$(dirname "$(realpath "$0")")/atc.bin" "$@"
"""

# Speaks as hicann/ge does: main_impl.cc (words, exit status), error_codes/ (messages),
# option_utils.cc (checks). The model is a JSON file of the inputs' axes by name. ATC_DOES tells
# what it shall do with a good command line.
# A shell finds Python for it: the kernel takes no blank in a path behind #!.
ATC_BIN = """#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
' '''
import json, os, pathlib, subprocess, sys, time

FLAGS = '''model framework output input_format input_shape dynamic_batch_size dynamic_image_size dynamic_dims
    soc_version precision_mode precision_mode_v2 insert_op_conf output_type input_fp16_nodes log mode'''.split()
PRECISIONS = "fp16 origin cube_fp16in_fp32out mixed_float16 mixed_bfloat16 mixed_hif8 cube_hif8".split()
does, _, detail = os.environ.get("ATC_DOES", "succeed").partition(":")


def fail(code, reason):
    plogs = pathlib.Path(os.environ.get("ASCEND_PROCESS_LOG_PATH") or os.environ["HOME"] + "/ascend/log", "debug/plog")
    plogs.mkdir(parents=True, exist_ok=True)
    plog = plogs / f"plog-{{os.getpid()}}_20261121101010101.log"
    plog.write_text(os.environ.get("ATC_PLOG", "[ERROR] GE(1,atc.bin):2026-11-21-10:10:10.101.101 [main_impl.cc:9]"))
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    print(f"{{code}}: [PID: {{os.getpid()}}] 2026-11-21-10:10:10.101.101 {{reason}}")
    print("        TraceBack (most recent call last):\\n        the line below\\n")
    sys.exit(255)


def check():
    for flag in sys.argv[1:]:
        name, _, value = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or name not in FLAGS:
            fail("E10001", f"Value {{value}} for parameter --{{name}} is invalid. Reason: unknown flag.")
        given[name] = value
    for name in ("soc_version", "model", "output"):
        if not given.get(name):
            fail("E10054", f"The required parameter --{{name}} for ATC is empty.")
    if given.get("framework") != "5":
        fail("E10007", "--framework is required. The value must be 0(Caffe) or 5(Onnx).")
    if not given["soc_version"].startswith("Ascend"):
        fail("E10001", f"Value {{given['soc_version']}} for parameter --soc_version is invalid. Reason: not supported.")
    if given.get("input_format", "NCHW") not in ("NCHW", "NCDHW", "ND"):
        fail("E10001", f"Value {{given['input_format']}} for parameter --input_format is invalid. Reason: x")
    if given.get("log", "null") not in ("debug", "info", "warning", "error", "null"):
        fail("E10001", "Value for parameter --log is invalid. Reason: x")
    if given.get("precision_mode_v2", "fp16") not in PRECISIONS:
        fail("E10001", "Value for parameter --precision_mode_v2 is invalid. Reason: x")
    for name in ("model", "insert_op_conf"):
        if name in given and not pathlib.Path(given[name]).is_file():
            fail("E10001", f"Value {{given[name]}} for parameter --{{name}} is invalid. Reason: [No such file]")
    if "insert_op_conf" in given and given["input_format"] not in ("NCHW", "NHWC"):
        fail("E10001", "Value for parameter --insert_op_conf is invalid. Reason: x")

    model = json.loads(pathlib.Path(given["model"]).read_text())
    shapes = dict(entry.split(":") for entry in given["input_shape"].split(";"))
    for name, axes in shapes.items():
        if name not in model:
            fail("E10016", f"Op name {{name}} specified in --input_shape is not found in the model.")
        lengths = [int(axis) for axis in axes.split(",")]
        if len(lengths) != len(model[name]) or (given["input_format"] == "NCHW" and len(lengths) != 4):
            fail("E10001", "Value for parameter --input_shape is invalid. Reason: number of axes")
        if any(isinstance(m, int) and m != axis for m, axis in zip(model[name], lengths)):
            fail("E10001", "Value for parameter --input_shape is invalid. Reason: differs from the model")
        if any(axis < 1 and (i or "dynamic_batch_size" not in given) for i, axis in enumerate(lengths)):
            fail("E10018", "Only batch N can be -1 when set --dynamic_batch_size.")
    if "dynamic_batch_size" in given:
        if not 2 <= len(given["dynamic_batch_size"].split(",")) <= 100:
            fail("E10035", "--dynamic_batch_size has too few or too many profiles")
        if not any(axes.startswith("-1,") for axes in shapes.values()):
            fail("E10031", "At least one batch n must be equal to -1 when set dynamic_batch_size.")


print("ATC start working now, please wait for a moment.\\n...", flush=True)
given = {{}}
check()
pathlib.Path("kernel_meta").mkdir(exist_ok=True)
pathlib.Path("fusion_result.json").write_text("{{}}")
with open(os.environ["HOME"] + "/atc_calls", "a") as calls:
    print(json.dumps(given), file=calls)
om = pathlib.Path(given["output"] + (detail if does == "suffix" else "") + ".om")
if does == "fail" and given["output"].endswith(detail):
    fail(*os.environ["ATC_ERROR"].split(": ", 1))
if does == "hang":
    child = subprocess.Popen(["sleep", "60"])
    om.write_bytes(b"IMOD half")
    pathlib.Path(os.environ["HOME"], "child").write_text(str(child.pid))
    time.sleep(60)
if does == "loader":
    library = "libascend_hal.so: cannot open shared object file: No such file or directory"
    print(f"atc.bin: error while loading shared libraries: {{library}}", file=sys.stderr)
    sys.exit(127)
if does == "killed":
    os.kill(os.getpid(), 9)
if does != "write_nothing":
    om.write_bytes(b"" if does == "empty" else b"IMOD" + given["input_shape"].encode())
if does == "wrong_words":
    fail("E19999", "Internal Error!") if detail == "255" else sys.exit(0)
print("ATC run success, welcome to the next use.")
"""

LABELS = TensorSpec(name="labels", dtype="uint8", shape=["batch", 64, 128], meaning="")
INSTANCES = TensorSpec(name="instances", dtype="int32", shape=["batch", 64, 128], meaning="")
CONCAT = TensorSpec(name="input_concat", dtype="float32", shape=["batch", 36, 64, 128], meaning="")


def executable(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without CANN and driver: only the tools that a test puts into bin/."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ASCEND_PROCESS_LOG_PATH", raising=False)
    return tmp_path


@pytest.fixture
def cann(machine):
    executable(machine / "bin" / "atc", ATC)
    executable(machine / "bin" / "atc.bin", ATC_BIN.format(python=sys.executable))
    return machine


def onnx_file(folder, *inputs):
    folder.mkdir(exist_ok=True)
    file = folder / "generator.onnx"
    file.write_text(json.dumps({spec.name: spec.shape for spec in inputs}))
    return file


def compiled(
    folder,
    inputs=(LABELS, INSTANCES),
    batch_sizes=(1,),
    gears=False,
    soc="Ascend310P3",
    timeout_s=3600,
    **options,
):
    file, target = onnx_file(folder, *inputs), Target(soc, **options)
    return compile_om(file, list(inputs), tuple(batch_sizes), gears, target, timeout_s)


def calls(machine):
    """The flags of each call that the stand-in took."""
    file = machine / "atc_calls"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def left(folder):
    return sorted(path.name for path in folder.iterdir())


# The command line.


def test_the_seeds_command(tmp_path):
    """SEED_FACTS E.1, point 5."""
    concat = CONCAT.model_copy(update={"shape": ["batch", 36, 1024, 2048]})
    onnx_file, output = tmp_path / "pix2pixhd.onnx", tmp_path / "pix2pixhd_bs1"
    command = atc_command(onnx_file, output, [concat], (1,), Target("Ascend310P3"))
    assert shlex.join(command) == (
        f"atc --model={tmp_path}/pix2pixhd.onnx --framework=5 --output={tmp_path}/pix2pixhd_bs1 "
        "--input_format=NCHW --input_shape=input_concat:1,36,1024,2048 "
        "--soc_version=Ascend310P3 --log=error"
    )


def test_maps_have_three_axes_and_one_shape_each(tmp_path):
    onnx_file, target = tmp_path / "g.onnx", Target("Ascend910B3", "origin")
    command = atc_command(onnx_file, tmp_path / "g", [LABELS, INSTANCES], (4,), target)
    assert "--input_format=ND" in command
    assert "--input_shape=labels:4,64,128;instances:4,64,128" in command
    assert command[-1] == "--precision_mode_v2=origin"


def test_gears_leave_the_batch_open(tmp_path):
    command = atc_command(
        tmp_path / "g.onnx", tmp_path / "g", [LABELS, CONCAT], (1, 2, 8), Target("Ascend310P3")
    )
    assert "--input_shape=labels:-1,64,128;input_concat:-1,36,64,128" in command
    assert "--dynamic_batch_size=1,2,8" in command and "--input_format=ND" in command


def test_aipp_is_for_pictures(tmp_path):
    model, output, config = tmp_path / "g.onnx", tmp_path / "g", tmp_path / "a.cfg"
    command = atc_command(model, output, [CONCAT], (1,), Target("Ascend310P3", aipp=config))
    assert command[-1] == f"--insert_op_conf={config}"
    assert refusal(
        atc_command, model, output, [LABELS, CONCAT], (1,), Target("Ascend310P3", aipp=config)
    ) == (
        f"--om-aipp {config} prepares pictures (N, C, H, W), but the file has other inputs too "
        "(labels, input_concat): leave it out."
    )


@pytest.mark.parametrize(
    "shape, sizes, sentence",
    [
        (
            ["batch", 35, "height", 128],
            (1,),
            "--format om compiles for fixed shapes, but input x has an open axis 'height': export "
            "with a fixed size.",
        ),
        (
            [1, 35, 64, 128],
            (4,),
            "--om-batch-sizes asks for a batch of 4, but the ONNX file has a fixed batch of 1: "
            "export it with an open one.",
        ),
        (
            [1, 35, 64, 128],
            (1, 4),
            "--om-batch-sizes asks for gears, but the ONNX file has a fixed batch of 1: export it "
            "with an open one.",
        ),
    ],
)
def test_shapes_that_cannot_be_compiled(shape, sizes, sentence, tmp_path):
    spec = TensorSpec(name="x", dtype="float32", shape=shape, meaning="")
    assert (
        refusal(
            atc_command, tmp_path / "g.onnx", tmp_path / "g", [spec], sizes, Target("Ascend310P3")
        )
        == sentence
    )


def test_a_fixed_batch_that_fits(tmp_path):
    fixed = CONCAT.model_copy(update={"shape": [4, 36, 64, 128]})
    command = atc_command(tmp_path / "g.onnx", tmp_path / "g", [fixed], (4,), Target("Ascend310P3"))
    assert "--input_shape=input_concat:4,36,64,128" in command


def test_precision_modes(tmp_path):
    model, output = tmp_path / "g.onnx", tmp_path / "g"
    assert refusal(
        atc_command, model, output, [CONCAT], (1,), Target("Ascend310P3", "force_fp32")
    ) == (
        "--om-precision-mode 'force_fp32' is none of fp16, origin, cube_fp16in_fp32out, "
        "mixed_float16, mixed_bfloat16, "
        "mixed_hif8, cube_hif8."
    )


# Success.


def test_one_file_per_batch_size(cann, capsys):
    folder = cann / "exported"
    files = compiled(folder, batch_sizes=(4, 1, 4), precision_mode="mixed_float16")
    assert [file.model_dump() for file in files] == [
        dict(
            file="generator_bs1.om",
            soc_version="Ascend310P3",
            precision="mixed_float16",
            batch_sizes=[1],
        ),
        dict(
            file="generator_bs4.om",
            soc_version="Ascend310P3",
            precision="mixed_float16",
            batch_sizes=[4],
        ),
    ]
    assert (folder / "generator_bs1.om").read_bytes() == b"IMODlabels:1,64,128;instances:1,64,128"
    assert (folder / "generator_bs4.om").read_bytes() == b"IMODlabels:4,64,128;instances:4,64,128"
    assert {call["precision_mode_v2"] for call in calls(cann)} == {"mixed_float16"}
    # Neither atc's working files nor ours stay; its words do.
    assert left(folder) == [
        "atc_bs1.log", "atc_bs4.log", "generator.onnx", "generator_bs1.om", "generator_bs4.om",
    ]  # fmt: skip
    log = (folder / "atc_bs4.log").read_text().splitlines()
    assert (
        log[0].startswith("atc --model=") and log[-1] == "ATC run success, welcome to the next use."
    )
    assert "export: generator_bs4.om: 0.0 MB in 0 s\n" in capsys.readouterr().out


def test_one_file_with_gears(cann):
    files = compiled(cann / "exported", batch_sizes=(8, 1, 4), gears=True)
    assert [file.model_dump() for file in files] == [
        dict(
            file="generator_gears.om",
            soc_version="Ascend310P3",
            precision="fp16",
            batch_sizes=[1, 4, 8],
        )
    ]
    assert [call["dynamic_batch_size"] for call in calls(cann)] == ["1,4,8"]
    assert left(cann / "exported") == ["atc_gears.log", "generator.onnx", "generator_gears.om"]


def test_a_file_named_after_its_system_gets_the_expected_name(cann, monkeypatch, capsys):
    monkeypatch.setenv("ATC_DOES", "suffix:_linux_aarch64")
    assert [file.file for file in compiled(cann / "exported")] == ["generator_bs1.om"]
    assert left(cann / "exported") == ["atc_bs1.log", "generator.onnx", "generator_bs1.om"]
    assert "generator_bs1.om: 0.0 MB in 0 s, for linux aarch64 only" in capsys.readouterr().out


def test_aipp_file_and_relative_folder(cann, monkeypatch):
    monkeypatch.chdir(cann)
    (cann / "aipp.cfg").write_text("aipp_op { }")
    files = compiled(Path("exported"), inputs=(CONCAT,), aipp=Path("aipp.cfg"))
    assert [file.file for file in files] == ["generator_bs1.om"]
    assert calls(cann)[0]["insert_op_conf"] == str(cann / "aipp.cfg")


def test_files_of_an_earlier_run_go_first(cann, monkeypatch):
    compiled(cann / "exported", batch_sizes=(1, 4))
    monkeypatch.setenv("ATC_DOES", "write_nothing")
    with pytest.raises(RuntimeError, match="wrote no .om file"):
        compiled(cann / "exported", batch_sizes=(1,))
    assert not list((cann / "exported").glob("*.om"))


# Failure: what is told, and that no .om stays.


def failure(folder, **options):
    with pytest.raises(RuntimeError) as failed:
        compiled(folder, **options)
    assert not list(folder.rglob("*.om")) and (folder / "generator.onnx").is_file()
    assert {name for name in left(folder) if not name.endswith(".log")} == {"generator.onnx"}
    return str(failed.value)


@pytest.mark.parametrize(
    "does, problem",
    [
        ("write_nothing", "exit status 0, but it wrote no .om file"),
        ("empty", "exit status 0, but its .om file is empty"),
        ("wrong_words:0", "exit status 0, but without 'ATC run success'"),
        ("wrong_words:255", "exit status 255"),  # the .om is there
    ],
)
def test_status_words_and_file_must_agree(cann, monkeypatch, does, problem):
    monkeypatch.setenv("ATC_DOES", does)
    assert (
        failure(cann / "exported").splitlines()[0]
        == f"atc did not compile generator_bs1.om: {problem}."
    )


def test_the_error_block_and_both_logs_are_shown(cann, monkeypatch):
    monkeypatch.setenv("ATC_DOES", "fail:bs1")
    monkeypatch.setenv("ATC_ERROR", "E10041: Failed to load the model from /x.")
    older = cann / "ascend/log/debug/plog/plog-1_20260101010101001.log"
    older.parent.mkdir(parents=True)
    older.write_text("of another process, at the same time")
    message = failure(cann / "exported")
    pid = re.search(r"\[PID: (\d+)\]", message)[1]
    plog = cann / f"ascend/log/debug/plog/plog-{pid}_20261121101010101.log"
    assert message.splitlines() == [
        "atc did not compile generator_bs1.om: exit status 255.",
        f"  E10041: [PID: {pid}] 2026-11-21-10:10:10.101.101 Failed to load the model from /x.",
        "          TraceBack (most recent call last):",
        "          the line below",
        "  ",
        f"Logs: {cann / 'exported/atc_bs1.log'} and {plog}",
    ]
    assert plog.is_file()


@pytest.mark.parametrize(
    "error, advice",
    [
        (
            "E16005: The model has [2] [--domain_version] fields, but only one is allowed.",
            "the file imports several opset domains; atc takes one, of ai.onnx",
        ),
        (
            "E19010: No parser is registered for Op [X, optype [ai.onnx::20::Div]].",
            "this CANN cannot read that operator at this opset; try another --opset of 11 to 18, "
            "or a newer CANN",
        ),
        (
            "E16002: No ONNX parser is registered for optype ai.onnx::18::ReduceL1.",
            "this CANN cannot read that operator at this opset; try another --opset of 11 to 18, "
            "or a newer CANN",
        ),
        (
            "E10501: IR for Op X with optype Y is not registered.",
            "this CANN cannot read that operator at this opset; try another --opset of 11 to 18, "
            "or a newer CANN",
        ),
        (
            "E10001: Value Ascend1 for parameter --soc_version is invalid. Reason: x",
            "compare --soc-version with `npu-smi info`; since CANN 8.5 the ops package of that "
            "very chip must be installed (docker/npu.Dockerfile: the chip in CANN_TAG)",
        ),
        (
            "EZ3003: No supported Ops kernel and engine are found for [Pad_3], optype [PadV3].",
            "compare --soc-version with `npu-smi info`; since CANN 8.5 the ops package of that "
            "very chip must be installed (docker/npu.Dockerfile: the chip in CANN_TAG)",
        ),
        (
            "EC0010: Failed to import Python module [ModuleNotFoundError: No module named "
            "'decorator'.].",
            "the Python that atc uses lacks a package; run `pip install decorator` there",
        ),
    ],
)
def test_advice_for_known_failures(cann, monkeypatch, error, advice):
    monkeypatch.setenv("ATC_DOES", "fail:bs1")
    monkeypatch.setenv("ATC_ERROR", error)
    assert [line for line in failure(cann / "exported").splitlines() if "Advice" in line] == [
        f"Advice: {advice}."
    ]


def test_a_python_module_that_only_the_debug_log_misses(cann, monkeypatch):
    monkeypatch.setenv("ATC_DOES", "fail:bs1")
    monkeypatch.setenv("ATC_ERROR", "E19999: Inner Error!")
    monkeypatch.setenv(
        "ATC_PLOG", "[ERROR] TEFUSION(9,atc.bin):... ModuleNotFoundError: No module named 'attr'\n"
    )
    monkeypatch.setenv("ASCEND_PROCESS_LOG_PATH", str(cann / "logs"))
    message = failure(cann / "exported")
    assert (
        "Advice: the Python that atc uses lacks a package; run `pip install attr` there." in message
    )
    assert f" and {cann}/logs/debug/plog/plog-" in message


def test_a_machine_without_the_drivers_library(cann, monkeypatch):
    monkeypatch.setenv("ATC_DOES", "loader")
    message = failure(cann / "exported")
    assert "exit status 127." in message and "loading shared libraries" in message
    assert (
        "Advice: without the driver's libascend_hal.so put CANN's stubs on LD_LIBRARY_PATH, "
        "$ASCEND_TOOLKIT_HOME/$(uname -m)-linux/devlib." in message
    )


def test_a_killed_compiler(cann, monkeypatch):
    monkeypatch.setenv("ATC_DOES", "killed")
    message = failure(cann / "exported")
    assert message.startswith("atc did not compile generator_bs1.om: exit status 137.")
    assert "Advice: the system killed it, most likely for want of memory." in message


def test_all_files_or_none(cann, monkeypatch):
    monkeypatch.setenv("ATC_DOES", "fail:bs8")
    monkeypatch.setenv("ATC_ERROR", "E20001: Failed to compile Op [Conv_1].")
    assert failure(cann / "exported", batch_sizes=(1, 8)).startswith(
        "atc did not compile generator_bs8.om"
    )
    assert len(calls(cann)) == 2


def test_a_compiler_that_hangs_is_stopped_with_its_children(cann, monkeypatch):
    monkeypatch.setenv("ATC_DOES", "hang")
    message = failure(cann / "exported", timeout_s=0.7)
    assert message.startswith(
        "atc did not compile generator_bs1.om: stopped as it took more than 0.7 s."
    )
    child = cann / "child"
    deadline = time.monotonic() + 5
    while is_running(child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(child.read_text())


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_stand_in_refuses_what_atc_refuses(cann):
    """Else the tests above prove nothing."""
    folder = cann / "exported"
    onnx_file(folder, LABELS)
    with pytest.raises(
        RuntimeError, match="E10016: .* Op name instances specified in --input_shape is not found"
    ):
        compile_om(
            folder / "generator.onnx", [LABELS, INSTANCES], (1,), False, Target("Ascend310P3")
        )
    with pytest.raises(RuntimeError, match="E10001: .* for parameter --model is invalid"):
        compile_om(folder / "other.onnx", [LABELS], (1,), False, Target("Ascend310P3"))
    with pytest.raises(
        RuntimeError,
        match="(?s)E10001: .* for parameter --soc_version is invalid.*compare --soc-version",
    ):
        compiled(folder, soc="310P3")


# Refusals before anything is compiled.


def test_no_toolkit(machine):
    sentence = refusal(compiled, machine / "exported")
    assert sentence == refusal(check_atc)
    assert sentence == (
        "--format om needs atc, which is not on PATH: install the CANN toolkit and run `source "
        "/usr/local/Ascend/ascend-toolkit/set_env.sh`, or use the image of docker/npu.Dockerfile; "
        "the ONNX file stays as it is."
    )
    assert left(machine / "exported") == ["generator.onnx"]


def test_gears_need_two_batch_sizes(cann):
    assert refusal(compiled, cann / "exported", gears=True) == (
        "--om-gears takes 2 to 100 batch sizes, not 1: set --om-batch-sizes."
    )
    assert "not 101" in refusal(compiled, cann / "exported", gears=True, batch_sizes=range(1, 102))


def test_paths_that_atc_does_not_take(cann):
    folder = cann / "my export"
    assert refusal(compiled, folder) == (
        f"--exported is {str(folder / 'generator.onnx')!r}, but atc takes letters, digits and "
        "._-/ only: "
        "give another path."
    )
    assert [file.file for file in compiled(cann / "导出_1.0-a")] == ["generator_bs1.om"]


def test_an_aipp_file_that_is_not_there(cann):
    assert refusal(compiled, cann / "exported", inputs=(CONCAT,), aipp=cann / "none.cfg") == (
        f"--om-aipp {cann}/none.cfg is no file: give one in the format of atc's --insert_op_conf."
    )


# The chip.


@pytest.mark.parametrize(
    "answers, chip",
    [
        ({"info": P310}, "Ascend310P3"),
        ({"info": B310}, "Ascend310B4"),
        ({"info": A910}, "Ascend910A"),
        ({"info": B910}, "Ascend910B3"),
        ({"info": B910.replace("910B3  ", "910B4-1")}, "Ascend910B4-1"),
        ({"info": B910.replace("910B3", "910B2C")}, "Ascend910B2C"),
        ({"info": A3, "info -t board -i 2 -c 0": A3_CHIP}, "Ascend910_9392"),
        ({"info": P950, "info -t board -i 0": P950_BOARD}, "Ascend950PR_9579"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_chip_of_this_machine(machine, capsys, answers, chip):
    npu_smi.install(machine / "bin", answers)
    assert soc_version("auto") == chip
    assert soc_version(chip) == chip and capsys.readouterr().out == "", (
        "a name that we find must be one that we know"
    )


@pytest.mark.parametrize(
    "answers, found",
    [
        (None, "finds neither torch_npu with an NPU nor npu-smi here"),
        ({}, "found no chip in what npu-smi says ('Error parameter of -t')"),
        (
            {"info": "dcmi model initialized failed, because the device is used. ret is -8020"},
            "found no chip in what npu-smi says "
            "('dcmi model initialized failed, because the device is used; ret is -8020')",
        ),
        ({"info": ""}, "found no chip in what npu-smi says ('nothing')"),
        (
            {"info": B910.replace("1     910B3", "1     910B2")},
            "found chips of several kinds, Ascend910B2 and Ascend910B3",
        ),
        (
            {"info": A3},
            "found Ascend910, but `npu-smi info -t board -i 2` does not tell its NPU Name",
        ),
    ],
)
def test_no_chip_that_is_certain(machine, answers, found):
    if answers is not None:
        npu_smi.install(machine / "bin", answers)
    assert refusal(soc_version, "auto") == (
        f"--soc-version auto {found}: give the chip that the file is for, such as --soc-version "
        "Ascend310P3."
    )


@pytest.mark.parametrize(
    "name, chip", [("Ascend910_9391", "Ascend910_9391"), ("Unknown", "Ascend310P3")]
)
def test_torch_npu_is_asked_first(machine, monkeypatch, name, chip):
    npu = SimpleNamespace(get_device_name=lambda device: name)
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace(npu=npu))
    npu_smi.install(machine / "bin", {"info": P310})
    assert soc_version("auto") == chip


def test_torch_npu_without_cann_leaves_the_word_to_npu_smi(machine, monkeypatch):
    (machine / "torch_npu.py").write_text(
        "raise ImportError('libhccl.so: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(machine)
    npu_smi.install(machine / "bin", {"info": P310})
    assert soc_version("auto") == "Ascend310P3"


@pytest.mark.parametrize("name", ["310P3", "Ascend310P", "Ascend920", "ascend310P3"])
def test_a_given_name_that_is_not_known_is_only_warned_about(capsys, name):
    assert soc_version(name) == name
    assert capsys.readouterr().out == (
        f"export: --soc-version {name} is not among the known names, such as Ascend310P3: atc "
        "will tell\n"
    )
