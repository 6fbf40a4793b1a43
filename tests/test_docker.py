"""The images: what every Dockerfile promises, pins that agree, and the prepare step really run in
its image."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pipeline
from shared.ascend.versions import RELEASED_FOR, Installed, mismatch, release_of
from shared.code_version import code_version
from shared.contracts.dataset import DatasetManifest
from shared.flags import read_flags
from shared.pipeline.images.named import BuiltImage, BuiltImages
from shared.pipeline.schedules.foreground import GRACE_SECONDS
from shared.pipeline.schedules.manage import ScheduleOptions
from tests.places import ROOT, STEPS
from tests.shared.pipeline.engines.built import skip_where_nothing_can_be_built

DOCKERFILES = {path.stem: path for path in sorted((ROOT / "docker").glob("*.Dockerfile"))}

IMPORT_NAMES = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "scikit-image": "skimage",
    "mlflow-skinny": "mlflow",
    "pyyaml": "yaml",
}
# What a user's machine has or has not: the steps look.
VENDORS = {"torch_npu", "apex", "ais_bench", "openvino"}
PARTS = {"pydantic_core": "pydantic", "requests": "mlflow"}  # of what is installed
PARTS |= {"urllib3": "kubernetes"}
NODES = "train/nodes"  # starts a training on other machines, in an image of its own without torch
OF_TRACKING = {"mlflow", "PIL", "imagecodecs"}  # which it does not: the nodes do


def instructions(device: str) -> list[str]:
    """Lines of a Dockerfile without comments, continuations joined."""
    lines = DOCKERFILES[device].read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def arguments(device: str) -> dict[str, str]:
    """Build arguments and their defaults; no default is an empty string."""
    found = [line.split(maxsplit=1) for line in instructions(device)]
    found = [rest.partition("=") for word, rest in found if word == "ARG"]
    return {name: value for name, _, value in found}


def pins(text: str) -> dict[str, str]:
    """name==version, wherever they stand in a text; names in lower case, as pip takes them."""
    return {
        name.lower(): version
        for name, version in re.findall(r"\b([A-Za-z][\w.-]*)==([\w.]+)", text)
    }


def requirements(step: str) -> dict[str, str]:
    lines = (ROOT / "components" / step / "requirements.txt").read_text().splitlines()
    lines = [line.partition("#")[0].strip() for line in lines]
    for line in filter(None, lines):
        is_pin = re.fullmatch(r"[a-z][a-z0-9-]*==[0-9][\w.]*", line)
        assert is_pin, f"{step}: {line!r} is no exact pin"
    return pins("\n".join(lines))


def embedded() -> dict[str, str]:
    """What the embedded engine and the tests add to the requirements of the steps."""
    lists = ("requirements.txt", "shared/pipeline/requirements.txt")
    return pins("".join((ROOT / name).read_text() for name in lists))


def test_there_is_a_dockerfile_per_device():
    assert list(DOCKERFILES) == ["cpu", "cuda", "npu"]


@pytest.mark.parametrize("device", DOCKERFILES)
def test_image_is_of_one_known_step_and_does_not_run_as_root(device):
    lines = instructions(device)
    assert arguments(device)["COMPONENT"] == "", "COMPONENT has no default: it must be given"
    known = re.search(r'case "\$COMPONENT" in ([a-z|]+)\)', "\n".join(lines))
    folders = [path.parent.name for path in ROOT.glob("components/*/__init__.py")]
    assert sorted(known[1].split("|")) == sorted(STEPS) == sorted(folders)

    assert [line for line in lines if line.startswith("USER ")] == ["USER 1000"]
    assert not any(line.startswith("ENTRYPOINT") for line in lines)
    assert lines[-1].startswith("CMD ["), "kfp's runners replace the command"


@pytest.mark.parametrize("device", DOCKERFILES)
def test_nothing_floats(device):
    given = arguments(device)
    base = given["BASE_IMAGE"].replace("${CANN_TAG}", given.get("CANN_TAG", ""))
    assert re.search(r":[0-9][^:]*$", base), f"{base} has no version"
    assert "latest" not in DOCKERFILES[device].read_text()
    assert pins("\n".join(instructions(device)))["kfp"] == embedded()["kfp"]


@pytest.mark.parametrize("device", DOCKERFILES)
def test_requirements_are_a_layer_below_the_code(device):
    lines = instructions(device)
    layers = [
        "ARG REQUIREMENTS=components/${COMPONENT}/requirements.txt",
        "COPY constraints.txt ${REQUIREMENTS} /tmp/",
        "COPY components /app/components",
        "COPY shared /app/shared",
        'ARG CODE_VERSION=""',
    ]
    order = [lines.index(layer) for layer in layers]
    assert order == sorted(order)


def test_code_of_the_whole_pipeline_is_in_no_image():
    """The last pattern that matches decides, for docker and podman."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    assert patterns.index("shared/pipeline") > patterns.index("!shared")
    assert "!shared/pipeline" not in patterns
    imported = [name for path in in_images() for name in all_imports(path)]
    assert "shared.tracking" in imported
    assert not [name for name in imported if name.startswith("shared.pipeline")]


def in_images() -> list[Path]:
    files = [*ROOT.glob("components/**/*.py"), *ROOT.glob("shared/**/*.py")]
    return [path for path in files if ROOT / "shared" / "pipeline" not in path.parents]


def all_imports(module: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def test_dockerfiles_differ_only_in_base_and_torch():
    """Three short files instead of a clever one; what comes after the packages is the same in
    all."""
    tails = set()
    for device in DOCKERFILES:
        lines = instructions(device)
        tail = lines[next(i for i, line in enumerate(lines) if "kfp==" in line) :]
        tails.add("\n".join(tail).replace("/app:${PYTHONPATH}", "/app"))
    assert len(tails) == 1


def test_npu_versions_are_a_supported_row():
    given = arguments("npu")
    cann = given["CANN_TAG"].split("-")[0]
    assert given["TORCH_NPU"] in RELEASED_FOR and release_of(cann)
    assert mismatch(Installed(given["TORCH"], given["TORCH_NPU"], cann, driver="")) == ""
    assert given["TORCH"] == requirements("train")["torch"]


def test_versions_agree():
    """One version of a package in all images and in the environment of the embedded engine."""
    everywhere = {"requirements.txt": embedded() | {"mlflow-skinny": embedded()["mlflow"]}}
    everywhere |= {step: requirements(step) for step in STEPS}
    everywhere["constraints.txt"] = pins((ROOT / "constraints.txt").read_text())
    for name in set().union(*everywhere.values()) - {"torch"}:
        assert name in everywhere["constraints.txt"], f"{name}: run `make constraints`"
    for step in (*STEPS, NODES):
        for name, version in requirements(step).items():
            for place, others in everywhere.items():
                assert others.get(name, version) == version, f"{name} in {step} and in {place}"


def test_prepare_has_no_torch():
    assert [step for step in STEPS if "torch" not in requirements(step)] == ["prepare"]


@pytest.mark.parametrize("step", [*STEPS, NODES])
def test_requirements_are_what_the_code_imports(step):
    """No package less and none more: by the step's modules and the shared ones that they use, also
    inside of functions."""
    own = sorted((ROOT / "components" / step).rglob("*.py"))
    todo = [path for path in own if path.name != "component.py"]
    if step != NODES:
        todo = [path for path in todo if NODES not in path.as_posix()]
    seen, found = set(), set()
    while todo:
        module = todo.pop()
        seen.add(module)
        for name in all_imports(module):
            package = name.partition(".")[0]
            if package in ("components", "shared"):
                place = ROOT / name.replace(".", "/")
                files = (place.with_suffix(".py"), place / "__init__.py")
                todo += [file for file in files if file.is_file() and file not in seen]
            else:
                found.add(PARTS.get(package, package))
    installed = {IMPORT_NAMES.get(name, name) for name in requirements(step)}
    others = VENDORS | (OF_TRACKING if step == NODES else set())
    assert found - sys.stdlib_module_names - others == installed


def test_compose_file_serves_mlflow_of_the_same_version_to_this_machine_only():
    mlflow = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["mlflow"]
    version = requirements("prepare")["mlflow-skinny"]
    assert mlflow["image"].endswith(f":{version}")
    assert f"mlflow=={version}" in mlflow["build"]["dockerfile_inline"]
    assert all(port.startswith("127.0.0.1:") for port in mlflow["ports"])


def test_compose_file_keeps_the_nights_without_the_socket_of_the_engine():
    night = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["nightly"]
    assert night["restart"] == "unless-stopped" and "runs:/runs" in night["volumes"]
    assert not [volume for volume in night["volumes"] if "sock" in volume]
    assert int(night["stop_grace_period"].removesuffix("m")) * 60 > GRACE_SECONDS

    # It installs what the steps and the pipeline do.
    dockerfile = night["build"]["dockerfile_inline"].replace("\\\n", " ")
    (pip,) = re.findall(r"RUN pip install .* -r /tmp/benchmark.txt (.*)", dockerfile)
    lists = re.findall(r"COPY components/(\w+)/requirements.txt /tmp/\1.txt", dockerfile)
    assert sorted(lists) == sorted(STEPS)
    assert {*pip.split()} == pins((ROOT / "shared/pipeline/requirements.txt").read_text()).keys()


def test_compose_file_gives_schedule_the_words_of_nightly_as_a_shell_does(tmp_path):
    night = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]["nightly"]
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    defaults = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
        for name, value in night["environment"].items()
    }

    def asked(**given: str) -> ScheduleOptions:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | defaults | given
        command = [word.replace("$$", "$") for word in night["command"]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        program, verb, *words = done.stdout.splitlines()
        assert (program, verb) == ("/app/pipeline.py", "schedule")
        return ScheduleOptions.check(read_flags(pipeline.schedule, "", words))

    usual = asked()
    assert usual.foreground and usual.wish == "create" and str(usual.runs) == "/runs"
    assert (usual.cron, usual.timezone, usual.recipe) == ("0 2 * * *", "UTC", "demo")
    mine = asked(CRON="@daily", NIGHTLY="--raw-data /raw --notify \"mail -s 'a night' me\"")
    assert (mine.cron, mine.raw_data, mine.notify) == ("@daily", "/raw", "mail -s 'a night' me")


# In containers.


@pytest.fixture(scope="module")
def engine() -> str:
    """podman or docker, whichever answers."""
    reasons = []
    for name in ("podman", "docker"):
        if shutil.which(name):
            done = subprocess.run([name, "info"], capture_output=True, text=True)
            if done.returncode == 0:
                return name
            reasons.append(f"{name} info: {done.stderr.strip().splitlines()[-1:]}")
    pytest.skip(f"no container engine: {reasons or 'neither podman nor docker on PATH'}")


@pytest.fixture(scope="module")
def prepare_image(engine, tmp_path_factory) -> BuiltImage:
    """Built by `make images`' program. BASE_IMAGE and BUILD_FLAGS in the environment adapt the
    build to a machine without image registry."""
    flags = os.environ.get("BUILD_FLAGS", "") if engine == "podman" else ""
    if base := os.environ.get("BASE_IMAGE"):
        flags += f" --build-arg BASE_IMAGE={base}"
    file = tmp_path_factory.mktemp("built") / "images.cpu.json"
    command = [sys.executable, "-m", "shared.pipeline.images.build", "--engine", engine]
    command += ["--only", "prepare", "--tag", "test", f"--build-args={flags}", "--out", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    skip_where_nothing_can_be_built(done)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return BuiltImages.model_validate_json(file.read_text()).images["prepare"]


@pytest.fixture
def run_in_image(engine, prepare_image, tmp_path):
    """Runs a command in the prepare image with tmp_path at /out, as the image's user or, not being
    root, as oneself."""
    tmp_path.chmod(0o777)
    user = []
    if os.getuid():
        user = ["--user", f"{os.getuid()}:{os.getgid()}"]
        user += ["--userns=keep-id"] if engine == "podman" else []

    def run(*command: str) -> subprocess.CompletedProcess:
        start = [engine, "run", "--rm", *user, "-v", f"{tmp_path}:/out", prepare_image.id]
        return subprocess.run([*start, *command], capture_output=True, text=True)

    return run


@pytest.mark.containers
@pytest.mark.slow
def test_prepare_runs_in_its_image(run_in_image, prepare_image, tmp_path):
    about = run_in_image(
        "sh",
        "-c",
        'id -u; echo "$CODE_VERSION"; ls /app/components; touch "$HOME/writable"; pip list; '
        "test ! -e /app/shared/pipeline",
    )
    uid, commit, *rest = about.stdout.split("\n")
    assert about.returncode == 0, about.stderr
    assert uid != "0" and {*STEPS} <= {*rest}
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)
    ours = "from shared.code_version import code_version; print(code_version('prepare'))"
    held = run_in_image("python", "-c", ours).stdout.strip()
    assert held == prepare_image.code_version == code_version("prepare"), "the image's own answer"
    assert not re.search(r"^(torch|nvidia)", about.stdout, re.MULTILINE)
    assert run_in_image().stdout.startswith("usage: python -m components.prepare")

    for command in (scenes("/out/raw"), prepare("/out/raw", "/out/dataset")):
        done = run_in_image("python", *command)
        assert done.returncode == 0, done.stderr
    manifest = DatasetManifest.read(tmp_path / "dataset")
    assert len(manifest.train) == 2 and len(manifest.test) == 1

    # Outside, with the same versions of the packages, the pixels are the same.
    outside = prepare(f"{tmp_path}/raw", f"{tmp_path}/outside")
    subprocess.run([sys.executable, *outside], cwd=ROOT, check=True, capture_output=True)
    assert DatasetManifest.read(tmp_path / "outside").digest == manifest.digest

    refused = run_in_image("python", *prepare("/out/nowhere", "/out/other"))
    assert refused.returncode == 2
    assert "/out/nowhere" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.containers
@pytest.mark.slow
def test_kfp_starts_the_step_in_its_image(run_in_image, tmp_path):
    """The command that KFP compiles into the pipeline, as its engines run it."""
    from components.prepare import component

    assert run_in_image("python", *scenes("/out/raw")).returncode == 0
    container = component.prepare.component_spec.implementation.container
    parameters = {"raw_data": "/out/raw", "config": {"size": "32x64"}, "given": {}}
    parameters |= {"code_version": code_version("prepare"), "files_version": "", "workspace": ""}
    task = {
        "inputs": {"parameterValues": parameters},
        "outputs": {
            "artifacts": {
                "dataset": {"artifacts": [artifact("Dataset", "/out/task/dataset")]},
                "metrics": {"artifacts": [artifact("Metrics", "/out/task/metrics")]},
            },
            "outputFile": "/out/task/executor_output.json",
        },
    }
    arguments = [json.dumps(task) if value == "{{$}}" else value for value in container.args]
    done = run_in_image(*container.command, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(DatasetManifest.read(tmp_path / "task" / "dataset").train) == 2
    output = json.loads((tmp_path / "task" / "executor_output.json").read_text())
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"]["train_pairs"] == 2


@pytest.mark.containers
@pytest.mark.slow
def test_any_uid_runs_it(engine, prepare_image):
    """As OpenShift does: a number that no passwd knows, without capabilities."""
    command = [engine, "run", "--rm", "--user", "123456:0", "--cap-drop", "ALL", "--read-only"]
    command += ["--tmpfs", "/home/app:mode=1777", "--tmpfs", "/tmp", prepare_image.id]
    command += ["python", "-m", "components.prepare", "demo", "--out", "scenes", "--train", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def scenes(out: str) -> list[str]:
    return f"-m components.prepare demo --out {out} --train 2 --test 1 --size 64x128".split()


def prepare(raw_data: str, dataset: str) -> list[str]:
    return f"-m components.prepare --raw-data {raw_data} --dataset {dataset} --size 32x64".split()


def artifact(kind: str, path: str) -> dict:
    return {
        "name": kind.lower(),
        "type": {"schemaTitle": f"system.{kind}"},
        "uri": path,
        "metadata": {},
    }
