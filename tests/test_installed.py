"""The command that `pip install -e .` gives, and the steps from any folder."""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from shlex import quote

import pytest

from shared.errors import SCRIPT, note_call, runnable
from tests.calling import environment
from tests.places import ROOT, STEPS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_script_is_the_main_of_the_pipeline():
    assert PROJECT["project"]["scripts"] == {SCRIPT: "pipeline:main"}
    assert PROJECT["tool"]["setuptools"]["py-modules"] == ["pipeline"]


def test_dependencies_are_the_requirements_without_those_of_the_tests():
    """setuptools reads no -r in a list."""
    lists = PROJECT["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    every = (ROOT / "requirements.txt").read_text().splitlines()
    assert lists == [line.split()[1] for line in every if line.startswith("-r ")]
    assert len(lists) == len(STEPS) + 2  # the launcher's, the pipeline's
    assert not any("-r " in (ROOT / name).read_text() for name in lists)


def test_it_runs_from_a_folder_elsewhere_and_names_itself(tmp_path):
    """As the script does that pip writes, also for an interpreter whose path holds a blank."""
    elsewhere, scripts = tmp_path / "a folder", tmp_path / "bin"
    elsewhere.mkdir(), scripts.mkdir()
    script = scripts / SCRIPT
    begin = f"""#!/bin/sh\n'''exec' "{sys.executable}" "$0" "$@"\n' '''\n"""
    script.write_text(begin + "from pipeline import main\nmain()\n")
    script.chmod(0o755)
    variables = environment() | {"PYTHONPATH": str(ROOT)}
    on_path = variables | {"PATH": f"{scripts}:{os.environ['PATH']}"}
    options = dict(cwd=elsewhere, capture_output=True, text=True)

    done = subprocess.run([SCRIPT, "compile"], env=on_path, **options)
    assert (done.returncode, done.stdout) == (0, "wrote pipeline.yaml\n"), done.stderr
    assert (elsewhere / "pipeline.yaml").is_file()
    done = subprocess.run([SCRIPT, "compile", "--nonsense"], env=on_path, **options)
    assert done.stderr.endswith(f"see `{SCRIPT} compile --help`.\n") and done.returncode == 2
    done = subprocess.run([script, "compile", "--nonsense"], env=variables, **options)
    assert done.stderr.endswith(f"see `{script} compile --help`.\n")


@pytest.mark.parametrize(
    ("python", "script", "pipeline", "step"),
    [
        ("python", "pipeline.py", "python pipeline.py", "python -m components.train"),
        (".venv/bin/python", "../a b/pipeline.py", ".venv/bin/python '../a b/pipeline.py'", None),
        ("py 3", "pipeline.py", "'py 3' pipeline.py", "'py 3' -m components.train"),
        (
            "python3",
            "-m",
            f"python3 {quote(str(ROOT / 'pipeline.py'))}",
            "python3 -m components.train",
        ),
        (
            "/usr/bin/python",
            f"/x/{SCRIPT}",
            f"/x/{SCRIPT}",
            f"{quote(sys.executable)} -m components.train",
        ),
    ],
)
def test_commands_are_said_as_they_were_called(
    python, script, pipeline, step, tmp_path, monkeypatch
):
    for name in [name for name in os.environ if name.startswith("PIPELINE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", [python, script])
    monkeypatch.setattr(sys, "argv", [script])
    note_call()
    once = runnable("see `python pipeline.py ui`; python -m components.train")
    assert once == f"see `{pipeline} ui`; {step or f'{python} -m components.train'}"
    assert runnable(once) == once


@pytest.mark.slow
def test_pip_installs_it(tmp_path):
    """Without a network, into an environment that sees the packages of this one."""
    home, elsewhere = tmp_path / "env", tmp_path / "else where"
    elsewhere.mkdir()
    venv.create(home, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("\n".join(ours))
    python, options = home / "bin" / "python", dict(cwd=elsewhere, env=environment(), check=True)
    install = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    subprocess.run([python, *install], **options)
    subprocess.run([home / "bin" / SCRIPT, "compile", "--recipe", "facades"], **options)
    assert (elsewhere / "pipeline.yaml").is_file()
    scenes, dataset = Path("runs/scenes"), Path("runs/dataset")
    step = [python, "-m", "components.prepare"]
    subprocess.run([*step, "demo", "--out", scenes, "--train", "2", "--test", "1"], **options)
    subprocess.run(
        [*step, "--raw-data", scenes, "--dataset", dataset, "--size", "32x64"], **options
    )
    assert (elsewhere / dataset / "manifest.json").is_file()
