"""A folder for each test, and a pipeline in it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.places import ROOT
from tests.shared.pipeline.processes.family import ENDLESS, PIPELINE, family, is_alive


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def pipeline():
    """A pipeline in the middle of its step; whatever is left of it at the end is killed."""
    command = [sys.executable, "-c", PIPELINE, ENDLESS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "all there\n"
    yield process
    process.kill()
    process.stdout.close()
    for pid in filter(is_alive, family()):
        os.kill(pid, signal.SIGKILL)
