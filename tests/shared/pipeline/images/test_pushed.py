"""An image that is really built and pushed: to a registry on loopback, Debian's docker-registry."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from shared.errors import InputError
from shared.pipeline.engines.daemon import connect
from shared.pipeline.images.registry import MANIFESTS, look_at
from tests.calling import call
from tests.places import ROOT
from tests.shared.pipeline.engines.built import build_flags, skip_where_nothing_can_be_built

pytestmark = [pytest.mark.containers, pytest.mark.slow]

CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/store}}}}
http: {{addr: "{address}"}}
"""
READY_S = 20


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Host and port of a registry, which Docker and Podman speak to without TLS."""
    if not (program := shutil.which("docker-registry")):
        pytest.skip("there is no docker-registry: `apt-get install docker-registry`")
    try:
        with closing(connect()):
            pass
    except InputError as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, address=address))
    with open(folder / "log", "w") as log:
        server = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + READY_S
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/v2/", timeout=1).close()
                break
            except OSError:
                said = (folder / "log").read_text()
                assert server.poll() is None and time.monotonic() < until, said
                time.sleep(0.1)
        insecure = f'[[registry]]\nlocation = "{address}"\ninsecure = true\n'
        (folder / "registries.conf").write_text(insecure)  # Docker knows that of loopback
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONTAINERS_REGISTRIES_CONF", str(folder / "registries.conf"))
            yield address
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def pushed(registry, tmp_path_factory) -> Iterator[Path]:
    """The file that `make images` writes of one image, whose name in the registry goes with it."""
    file = tmp_path_factory.mktemp("images") / "images.cpu.json"
    build = [sys.executable, "-m", "shared.pipeline.images.build", "--out", str(file)]
    build += ["--registry", f"{registry}/team", "--tag", "pushed-cpu", "--only", "prepare"]
    done = subprocess.run([*build, *build_flags()], cwd=ROOT, capture_output=True, text=True)
    skip_where_nothing_can_be_built(done)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    yield file
    with closing(connect()) as client:
        for image in json.loads(file.read_text())["images"].values():
            client.images.remove(image["name"])


def test_what_was_pushed_is_what_the_registry_has_and_a_pipeline_names(pushed, registry, tmp_path):
    (image,) = json.loads(pushed.read_text())["images"].values()
    asked = urllib.request.Request(
        f"http://{registry}/v2/team/pix2pixhd-prepare/manifests/pushed-cpu",
        headers={"Accept": MANIFESTS},
    )
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["Docker-Content-Digest"] == image["digest"]
    name = f"{registry}/team/pix2pixhd-prepare"
    assert image["name"] == f"{name}:pushed-cpu"

    # The compiled pipeline.
    done = call("compile", "--recipe", "demo", "--images", pushed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    executors = spec["deploymentSpec"]["executors"]
    for step in ("prepare", "fingerprint"):
        named = executors[f"exec-{step}"]["container"]["image"]
        assert named == f"{name}@{image['digest']}"

    # What the registry shows of it, by digest and by tag.
    found = look_at({"prepare": f"{name}@{image['digest']}", "train": f"{name}:pushed-cpu"})
    assert [one.state for one in found] == ["there", "other code"]


@pytest.mark.parametrize("by", ["name", "file"])
def test_the_engine_that_built_and_pushed_it_has_it(by, pushed, registry, tmp_path):
    """By the common name of all images, of which one was built, and by the file: Podman knows it
    by no digest of the registry."""
    images = pushed if by == "file" else f"{registry}/team/pix2pixhd:pushed-cpu"
    done = call("doctor", "--engine", "docker", "--images", images, cwd=tmp_path)
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines() if "  " in line}
    assert "Traceback" not in done.stderr and "image prepare" not in done.stderr
    assert " there " in rows["container engine"] and " there " in rows["image prepare"]
    if by == "name":
        assert done.returncode == 2 and "image train" in done.stderr
        assert " missing " in rows["image train"] and "`make images` bui" in rows["image train"]

    done = call("preflight", "--engine", "docker", "--images", images, cwd=tmp_path)
    assert "of prepare" not in done.stderr and "pix2pixhd-prepare" not in done.stderr
