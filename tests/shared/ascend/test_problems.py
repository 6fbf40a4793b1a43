"""What a person is told whose torch_npu, CANN, driver or card does not do, in processes of its
own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shared.ascend.versions import numbers
from tests import tiny
from tests.asking import as_flags, one_sentence
from tests.calling import environment
from tests.places import ROOT
from tests.shared.ascend import fake_torch_npu as fake

TORCH = numbers(torch.__version__)
CPU = "or use --device cpu."

# Runs the train step in a copy of one process, which has loaded torch, for each machine: a folder
# for sys.path, environment, and where its /dev and its driver are.
IN_COPIES = """
import json, os, sys, tempfile
from pathlib import Path
import components.train.run
from components.train.__main__ import main
from shared.ascend import problems, versions
said = {}
for name, machine in json.load(sys.stdin).items():
    with tempfile.TemporaryFile("w+") as errors:
        if child := os.fork():
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            os.dup2(errors.fileno(), 2)
            os.environ |= machine["environment"]
            problems.DEV, versions.DRIVER = Path(machine["dev"]), Path(machine["driver"])
            problems.os.access = lambda path, mode: os.stat(path).st_mode & 0o006
            sys.path.insert(0, machine["packages"])
            asked = ["--dataset", "no", "--model", machine["model"], "--device", machine["device"]]
            try:
                main(asked)
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(end.code)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        errors.seek(0)
        said[name] = [code, errors.read()]
print(json.dumps(said))
"""


def machine(
    folder: Path, code: str | None, version: str = TORCH, device: str = "npu", **of
) -> dict:
    """A machine on which torch_npu runs `code` when it is loaded, None = it is not installed.

    of: `cann` and `driver`, versions; `cards`, numbers of those in /dev, `mode` of these;
    further environment."""
    packages = folder / "packages"
    if code is None:
        packages.mkdir(parents=True)
    else:
        fake.install(packages, code, version)
    environment = {name: str(of[name]) for name in of if name.isupper()}
    if cann := of.get("cann"):
        environment["ASCEND_HOME_PATH"] = str(fake.toolkit(folder / "cann", cann))
    if driver := of.get("driver"):
        (folder / "driver").mkdir()
        text = f"Version={driver}\nascendhal_version=7.35.23\n"
        (folder / "driver/version.info").write_text(text)
    (folder / "dev").mkdir()
    for name in [f"davinci{number}" for number in of.get("cards", ())] + of.get("control", []):
        (folder / "dev" / name).touch()
        (folder / "dev" / name).chmod(of.get("mode", 0o666))
    places = dict(packages=packages, dev=folder / "dev", driver=folder / "driver")
    places |= dict(model=folder / "model", device=device)
    return {name: str(place) for name, place in places.items()} | {"environment": environment}


CARDS = dict(cards=(0, 1), control=["davinci_manager"])
MACHINES = {
    "no torch_npu": dict(code=None),
    "CANN is not sourced": dict(code=fake.lacks("libhccl.so")),
    "the path of CANN is not there": dict(code="", ASCEND_HOME_PATH="/opt/cann-8.0"),
    "a part of CANN is not there": dict(code=fake.lacks("libge_runner.so"), cann="9.1.0"),
    "CANN's check fails": dict(code=fake.CHECK_FAILS),
    "another torch": dict(code="", version="2.9.0.post2"),
    "an older CANN": dict(code=fake.lacks_symbol("libtorch_npu.so", "aclrtX"), cann="8.3.RC1"),
    "a newer CANN": dict(code=fake.lacks_symbol("libtorch_npu.so", "aclX"), cann="9.9.0"),
    "a CUDA torch": dict(code=fake.BESIDE_CUDA),
    "no driver": dict(code=fake.lacks("libascend_hal.so"), cann="9.1.0"),
    "no card": dict(code=fake.SEES_NONE, cann="9.1.0"),
    "no card but a driver": dict(code=fake.SEES_NONE, cann="9.1.0", driver="25.5.0"),
    "no manager of cards": dict(code=fake.SEES_NONE, cards=(0,)),
    "no permission": dict(code=fake.SEES_NONE, mode=0o660, **CARDS),
    "hidden cards": dict(code=fake.SEES_NONE, ASCEND_RT_VISIBLE_DEVICES="7", **CARDS),
    "an older driver": dict(code=fake.SEES_NONE, cann="9.2.0", driver="25.0.rc1.1", **CARDS),
    "a busy card": dict(code=fake.DRIVER_FAILS, cann="9.2.0", driver="26.2.rc1", **CARDS),
    "a card that fails": dict(code=fake.CARD_FAILS, cann="9.1.0", driver="25.5.0", **CARDS),
    "a card, an older driver": dict(code=fake.CARD_FAILS, cann="9.2.0", driver="25.0.0", **CARDS),
    "a card": dict(code=fake.SEES_ONE, cann="9.1.0", driver="25.5.0", **CARDS),
}
AUTO = ("no torch_npu", "CANN is not sourced", "no card", "no card but a driver", "another torch")


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Exit code of `components.train --device npu` and what it says, by machine; and of
    `--device auto`, where `auto: ` stands before."""
    folder = tmp_path_factory.mktemp("machines")
    asked = {
        name: machine(folder / str(number), **of)
        for number, (name, of) in enumerate(MACHINES.items())
    }
    asked |= {f"auto: {name}": asked[name] | {"device": "auto"} for name in AUTO}
    clean = {name: one for name, one in environment().items() if not name.startswith("ASCEND")}
    done = subprocess.run(
        [sys.executable, "-c", IN_COPIES],
        input=json.dumps(asked),
        env=clean,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return {name: tuple(found) for name, found in json.loads(done.stdout).items()}


@pytest.mark.parametrize(
    "name, words",
    [
        (
            "no torch_npu",
            f"torch_npu is not installed; install it with CANN (`pip install torch-npu=={TORCH}`)",
        ),
        (
            "CANN is not sourced",
            "torch_npu cannot load CANN (libhccl.so: cannot open shared object file",
        ),
        (
            "the path of CANN is not there",
            "ASCEND_HOME_PATH is /opt/cann-8.0, which is not there: run `source",
        ),
        (
            "a part of CANN is not there",
            "has no libge_runner.so, which torch_npu needs: run `source",
        ),
        (
            "CANN's check fails",
            "torch_npu cannot load CANN (ASCEND_RUNTIME_PATH : /cann/runtime does not exist",
        ),
        (
            "another torch",
            "torch_npu 2.9.0.post2 is for torch 2.9.0, but torch is ",
        ),
        (
            "an older CANN",
            f"CANN 8.3.RC1 is older than 8.5, with which torch_npu {TORCH} does not work: install",
        ),
        ("a newer CANN", f"its version and CANN's do not match (torch_npu {TORCH}, CANN 9.9.0)"),
        ("a CUDA torch", "torch_npu is installed beside a CUDA build of torch"),
        (
            "no driver",
            "torch_npu finds no driver (libascend_hal.so is not there): install the driver",
        ),
        ("no card", "/davinci0 here: on a machine with a card give the container its devices"),
        ("no manager of cards", "/davinci_manager here: give the container that device too"),
        ("no permission", "/davinci0, which belongs to group"),
        (
            "hidden cards",
            "ASCEND_RT_VISIBLE_DEVICES=7 hides every NPU of this machine, which are 0, 1: name",
        ),
        (
            "an older driver",
            "the driver 25.0.rc1.1 is older than 25.3, with which CANN 9.2.0 does not work",
        ),
        (
            "a card that fails",
            "the NPU cannot be used (error 507899: The driver reports an error): check `npu-smi",
        ),
        (
            "a card, an older driver",
            "(error 507899: The driver reports an error): the driver 25.0.0 is older than 25.3",
        ),
        (
            "a busy card",
            "sees no NPU (error 507899: The driver reports an error); check `npu-smi info`",
        ),
    ],
)
def test_what_lacks_is_one_sentence(said, name, words):
    code, text = said[name]
    assert code == 2
    assert text.startswith("train refused: --device npu: ") and text.endswith("\n")
    sentence = one_sentence(text.removesuffix("\n"))
    assert words in sentence
    assert sentence.endswith((CPU, "or use --device cuda or cpu."))


def test_a_card_is_taken(said):
    """So that it goes on to the data set, which is not there."""
    code, text = said["a card"]
    assert code == 2 and "--dataset no" in text and "npu" not in text


def test_auto_passes_over_no_npu_that_somebody_wants(said):
    for name in ("CANN is not sourced", "no card but a driver", "another torch"):
        code, text = said[f"auto: {name}"]
        assert code == 2 and text == said[name][1].replace("--device npu", "--device auto")
    for name in ("no torch_npu", "no card"):
        assert "--dataset no" in said[f"auto: {name}"][1]
    assert "npu" not in said["auto: no torch_npu"][1]
    told, _ = said["auto: no card"][1].split("\n", 1)
    assert told.startswith("--device auto takes cpu: torch_npu is installed but there is no /")


# As a person calls them, on a machine where `import torch` itself fails.


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    """A folder with a data set and a model on a machine whose CANN was not sourced."""
    folder = tmp_path_factory.mktemp("broken")
    fake.install(folder / "packages", fake.lacks("libhccl.so"), TORCH)
    tiny.dataset(folder / "dataset")
    tiny.model(folder / "model", tiny.architecture())
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    """A command of Python, where torch loads its back-ends by itself."""
    paths = {"PYTHONPATH": f"{folder / 'packages'}:{ROOT}", "TORCH_DEVICE_BACKEND_AUTOLOAD": "1"}
    quiet = {"MLFLOW_TRACKING_URI": "", "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment() | paths | quiet,
        cwd=folder,
        capture_output=True,
        text=True,
    )


CANN = "torch_npu cannot load CANN (libhccl.so: "


def test_the_cpu_is_there_where_torch_cannot_be_imported(broken):
    """One process for them all, since each would load torch."""
    assert "Failed to load the backend extension" in run(broken, "-c", "import torch").stderr
    train = tiny.TRAIN | dict(dataset="dataset", model="trained", device="cpu", epochs=1)
    train |= dict(epochs_decay=0, validate_every_epochs=0)
    train = {name: value for name, value in train.items() if value != ""}
    steps = {
        "train": as_flags(**train),
        "export": as_flags(model="model", exported="exported"),
        "export synthesise": as_flags(model="model", dataset="dataset", out="pictures"),
        "benchmark": as_flags(exported="exported", dataset="dataset", model="model", report="r"),
        "cluster": as_flags(dataset="dataset", model="model", clusters="clusters"),
    }
    calls = """
import importlib, json, sys
for step, words in json.loads(sys.argv[1]).items():
    component, *command = step.split()
    try:
        importlib.import_module(f"components.{component}.__main__").main([*command, *words])
    except SystemExit as end:
        assert end.code == 2
"""
    done = run(broken, "-c", calls, json.dumps(steps))
    assert done.returncode == 0, done.stderr
    assert (broken / "trained/latest_net_G.pth").exists()
    assert (broken / "exported/generator.onnx").exists()
    refused = [line for line in done.stderr.splitlines() if "refused" in line]
    assert [line.split(CANN)[0] for line in refused] == [
        f"{step} refused: --device auto: " for step in ("synthesise", "benchmark", "cluster")
    ]


@pytest.mark.slow
def test_every_program_says_one_sentence(broken):
    for step in ("prepare", "train", "cluster", "export", "benchmark"):
        done = run(broken, "-m", f"components.{step}", "--help")
        assert done.returncode == 0 and not done.stderr
    done = run(broken, "-m", "components.train", *as_flags(dataset="dataset", model="m"))
    assert done.returncode == 2 and CANN in one_sentence(done.stderr.removesuffix("\n"))

    # The pipeline, which asks its steps in a process of their own.
    done = run(broken, ROOT / "pipeline.py", "doctor")
    assert done.returncode == 2 and done.stderr == "doctor: missing: npu\n"
    row = next(line for line in done.stdout.splitlines() if line.startswith("npu"))
    assert row.split()[1] == "missing" and f"--device npu: {CANN}" in row
    done = run(broken, ROOT / "pipeline.py", "submit", "--set", "train_global.device=npu")
    first = done.stderr.splitlines()[0]
    assert done.returncode == 2
    assert first.startswith(f"train_global: --set train_global.device=npu: {CANN}")
    assert one_sentence(first).endswith("or --set train_global.device=cpu.")
    cpu = [f"{step}.device=cpu" for step in ("train_global", "train_local", "cluster", "benchmark")]
    done = run(broken, ROOT / "pipeline.py", "preflight", "--set", *cpu)
    assert done.returncode == 0 and done.stdout.endswith("preflight: all there\n"), done.stderr
