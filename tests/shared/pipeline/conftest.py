"""Raw data, and whole runs of it, which several files look at."""

import pytest

from components.prepare.demo.scenes import generate
from tests.calling import SMALL, call
from tests.fake_kfp import FakeKfp


@pytest.fixture(scope="package")
def scenes(tmp_path_factory):
    """Six training pairs and two of test."""
    folder = tmp_path_factory.mktemp("raw") / "scenes"
    generate(folder, train=6, test=2, height=64, width=128, seed=0)
    return folder


@pytest.fixture
def kfp_server():
    """A new KFP API server, at `kfp_server.host`."""
    server = FakeKfp()
    yield server
    server.close()


@pytest.fixture(scope="package")
def nights(tmp_path_factory, scenes):
    """Two nights of a small demo recipe."""
    folder = tmp_path_factory.mktemp("nights")
    recipe = ("--recipe", "demo", "--raw-data", scenes, "--set", *SMALL)
    return folder, [call("nightly", *recipe, "--timeout-min", 6, cwd=folder) for _ in range(2)]
