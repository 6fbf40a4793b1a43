"""What is on this machine: packages, devices, disk, MLflow, container engine and images."""

import http.client
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from importlib import metadata
from pathlib import Path
from shutil import disk_usage

from docker.errors import ImageNotFound

import docker
from shared import servers
from shared.code_version import code_version
from shared.errors import InputError
from shared.pipeline.doctor.findings import Finding
from shared.pipeline.engines.daemon import SILENT, connect
from shared.pipeline.images.named import CODE
from shared.pipeline.images.registry import CODE_LABEL
from shared.pipeline.preflight import ROOT, STORE, check_runs_folder, check_store
from shared.secrets import without_secrets

FEW_BYTES = 10e9  # below, a training soon stops
# In a process of its own: torch takes seconds and a gigabyte, and a broken one may crash.
DEVICES = """
import json
from shared.ascend.problems import mismatch_remark
from shared.device import pick
from shared.errors import InputError
found = {}
for name in ("cuda", "npu", "cpu", "auto"):
    try:
        runtime = pick(name, trains=True)
        remark = mismatch_remark() if name == "npu" else ""
        about = f"{runtime.count} x {runtime.describe()}"
        found[name] = "there", f"{about}; {remark}" if remark else about
    except InputError as refusal:
        found[name] = "not there", str(refusal)
print(json.dumps(found))
"""


def packages() -> list[Finding]:
    """Versions against those that are tested, where the file of these is there."""
    constraints = ROOT / "constraints.txt"
    lines = constraints.read_text().splitlines() if constraints.is_file() else []
    tested = dict(line.partition(" ")[0].split("==") for line in lines if "==" in line)
    other, gone = [], []
    needed = (ROOT / "shared/pipeline/requirements.txt").read_text()
    for name in re.findall(r"^([\w.-]+)==", needed, re.MULTILINE):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            gone.append(name)
            continue
        if version != tested.get(name, version):
            other.append(f"{name} {version} (tested: {tested[name]})")
    if gone:
        what = (
            f"{', '.join(gone)} not installed: `pip install -c constraints.txt -r requirements.txt`"
        )
        return [Finding("packages", "missing", what)]
    about = f"kfp {metadata.version('kfp')}, mlflow {metadata.version('mlflow')}"
    return [Finding("packages", "there", ", ".join([about, *other]))]


def devices() -> list[Finding]:
    """What torch sees."""
    command = [sys.executable, "-c", DEVICES]
    limit_s = 2 * servers.patience_s()
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return [Finding("devices", "missing", f"torch did not load in {limit_s:g} s")]
    if done.returncode:
        reason = servers.said((done.stderr.strip().splitlines() or ["it crashed"])[-1])
        return [Finding("devices", "missing", f"torch cannot be loaded: {reason}")]
    found = json.loads(done.stdout.splitlines()[-1])
    if found.pop("auto")[0] == "not there":  # an NPU that somebody wants stops every step
        found["npu"][0] = "missing"
    return [Finding(name, *row) for name, row in found.items()]


def disk(runs: Path) -> list[Finding]:
    """Raises InputError where no run can be written."""
    place = check_runs_folder(runs.resolve())
    free = disk_usage(place).free
    state = "there" if free > FEW_BYTES else "missing"
    remedy = "" if free > FEW_BYTES else ": make room, or name another disk with --runs"
    return [Finding("disk", state, f"{free / 1e9:.3g} GB free in {place}{remedy}")]


def mlflow(uri: str, runs: Path, is_of_cluster: bool = False) -> list[Finding]:
    """The server that steps would tell, or the store of the runs. Raises InputError.

    is_of_cluster: whether its pods call it so, and this machine perhaps cannot."""
    if not uri.startswith(("http://", "https://")):
        check_store()
        store = uri or f"mlflow.db in {runs}, made by the first run"
        return [Finding("MLflow", "there", f"without a server: {without_secrets(store)}")]
    shown = without_secrets(uri)
    servers.bound()
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=10) as answer:
            version = answer.read(100).decode("ascii", "replace").strip()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return [Finding("MLflow", "not seen", f"{shown} wants a login (HTTP {error.code})")]
        version = f"HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = servers.said(getattr(error, "reason", None) or error)
        if is_of_cluster:
            return [Finding("MLflow", "not seen", f"{shown} is not reached from here ({reason})")]
        remedy = f"start it, or name another in {STORE}; runs wait in their journals meanwhile"
        return [Finding("MLflow", "missing", f"{shown} gives no answer ({reason}): {remedy}")]
    if not re.fullmatch(r"\d+\.\d+\S*", version):
        about = f"{shown} answers, but not as MLflow ({servers.said(version)}): check {STORE}"
        return [Finding("MLflow", "missing", about)]
    own = metadata.version("mlflow")
    other = "" if version.split(".")[0] == own.split(".")[0] else f"; the client here is {own}"
    return [Finding("MLflow", "there", f"{version} at {shown}{other}")]


def engine(is_needed: bool, images: dict[str, str]) -> list[Finding]:
    """The container engine, and whether it has the images, of the code of this checkout."""
    lacks = "missing" if is_needed else "not there"
    try:
        client = connect()
        about, version = client.info(), client.version()["Version"]
    except InputError as silent:
        return [Finding("container engine", lacks, str(silent))]
    except SILENT as error:
        return [Finding("container engine", lacks, f"does not work: {servers.said(error)}")]
    runtimes = [name for name in ("nvidia", "ascend") if name in about.get("Runtimes", {})]
    cards = f"runtimes for {', '.join(runtimes)}" if runtimes else "no runtime for cards"
    rows = [Finding("container engine", "there", f"{version}, {cards}")]
    for component, image in images.items():
        rows.append(_image(client, component, image, lacks))
    return rows


def _image(client: docker.DockerClient, component: str, image: str, lacks: str) -> Finding:
    try:
        labels = client.images.get(image).labels or {}
    except ImageNotFound:
        return Finding(f"image {component}", lacks, f"{image}: `make images` builds it")
    except SILENT as error:
        return Finding(f"image {component}", "not seen", f"{image}: {servers.said(error)}")
    own, held = code_version(CODE[component]), labels.get(CODE_LABEL)
    if held and held != own:
        about = f"{image} holds code {held}, here is {own}: `make images` builds it again"
        return Finding(f"image {component}", lacks, about)
    return Finding(f"image {component}", "there", image)
