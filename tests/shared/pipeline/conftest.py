"""Raw data, and a whole run of it, which several files look at."""

import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.prepare.demo.scenes import generate
from tests.calling import SMALL, call
from tests.fake_kfp import FakeKfp


@contextlib.contextmanager
def made_once(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder of that name, which all processes of xdist have in common, one at a time."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with open(folder.with_name(f"{name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Six training pairs and two of test."""
    with made_once(tmp_path_factory, "raw") as folder:
        if not (folder / "scenes").exists():
            generate(folder / "scenes", train=6, test=2, height=64, width=128, seed=0)
    return folder / "scenes"


@pytest.fixture
def kfp_server():
    """A new KFP API server, at `kfp_server.host`."""
    server = FakeKfp()
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole_night(tmp_path_factory, scenes) -> tuple[Path, subprocess.CompletedProcess]:
    """The working directory of a night of a small demo recipe, to be looked at or copied, and how
    it went. Its path has blanks and a quote."""
    recipe = ("--recipe", "demo", "--raw-data", scenes, "--set", *SMALL)
    with made_once(tmp_path_factory, "it's a night") as folder:
        said = folder / "said.json"
        if not said.exists():
            night = call("nightly", *recipe, "--timeout-min", 60, cwd=folder)
            said.write_text(json.dumps(vars(night)))
    return folder, subprocess.CompletedProcess(**json.loads(said.read_text()))
