"""Paths of any letters: of the checkout, of the runs, of temporary files."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy

from shared import tracking
from shared.tracking import store
from tests.calling import SMALL, environment
from tests.places import ROOT

ODD = "a b'c$dé"  # and no %: see `check_store` in shared/pipeline/preflight.py


@pytest.mark.parametrize("name", ["plain", ODD, "100% of it", "50%20x", "who?", "a#b", "a;b&c=d"])
def test_the_store_lies_in_the_folder_of_the_runs_whatever_its_name(name, tmp_path):
    uri = tracking.store_uri(tmp_path / name)
    file = tmp_path / name / "mlflow.db"
    assert store.database(uri) == file
    assert sqlalchemy.make_url(uri).database == str(file), "as MLflow reads it"


def test_the_command_that_shows_the_runs_is_one_for_a_shell(tmp_path):
    words = shlex.split(store.ui_command(tracking.store_uri(tmp_path / ODD)))
    assert words == ["python", "pipeline.py", "ui", "--runs", str(tmp_path / ODD)]


def test_make_starts_no_script_of_pip():
    """pip writes the interpreter's path into those: not every path can stand there."""
    makefile = (ROOT / "Makefile").read_text()
    used = {
        line.split("$(BIN)/")[1].split()[0] for line in makefile.splitlines() if "\t$(BIN)/" in line
    }
    assert used == {"python"}


@pytest.mark.slow
def test_the_pipeline_runs_in_a_checkout_of_any_path_through_a_link_from_elsewhere(tmp_path):
    """Without a HOME, with blanks in the path of temporary files, into runs with a percent sign."""
    checkout = tmp_path / ODD
    shutil.copytree(ROOT / "components", checkout / "components")
    shutil.copytree(ROOT / "shared", checkout / "shared")
    shutil.copy(ROOT / "pipeline.py", checkout)
    (checkout / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "link").symlink_to(checkout)
    elsewhere, temporary = tmp_path / "elsewhere", tmp_path / "tmp dir"
    elsewhere.mkdir(), temporary.mkdir()
    settings = environment() | {"TMPDIR": str(temporary)}
    settings.pop("HOME", None)
    link = tmp_path / "link"
    command = [link / ".venv" / "bin" / "python", link / "pipeline.py", "submit"]
    command += ["--runs", "100% ru'ns", "--set", *SMALL, "prepare.max_images=4"]
    options = dict(cwd=elsewhere, env=settings, capture_output=True, text=True)
    done = subprocess.run(list(map(os.fspath, command)), **options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(elsewhere.glob("100% ru'ns/demo-*/benchmark/report/report.html"))
    assert (elsewhere / "100% ru'ns" / "mlflow.db").is_file()
    assert {path.name for path in elsewhere.iterdir()} == {"100% ru'ns"}
    left = {path.name for path in temporary.iterdir()}
    assert not list(checkout.glob("runs*"))
    assert all(name.startswith("torchinductor_") for name in left), left  # torch's own cache
