"""A whole graph whose data stay on a workspace."""

import subprocess
import sys
from pathlib import Path

import pytest

from shared.pipeline.runs import runs_in
from shared.workspace.place import RUN_ID
from tests.calling import SMALL, environment
from tests.places import ROOT
from tests.shared.pipeline.killing import written_by_steps

# `submit` leaves the workspace out, which this machine has not.
PROGRAM = """
import sys
from pathlib import Path
from pipeline import CONFIGS, build
from shared import tracking
from shared.pipeline.cluster.config import ANY, Workspace
from shared.pipeline.engines.running import run_here
from shared.pipeline.recipes import read_recipe
from shared.pipeline.runs import begin

volume, raw_data, *overrides = sys.argv[1:]
numbers = read_recipe("demo", CONFIGS, tuple(overrides))
run = begin("demo", numbers, raw_data, {}, tracking.code_version(), Path("runs"))
site = ANY.model_copy(update={"workspace": Workspace.model_construct(claim="work", path=volume)})
run_here(run, build("demo", numbers, site), raw_data, "off")
"""


@pytest.mark.slow
def test_a_whole_graph_makes_the_same_on_a_workspace(whole_night, scenes, tmp_path):
    """kfp.local hands on what KFP's pods would upload."""
    (volume := tmp_path / "volume").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, volume, scenes, *SMALL],
        cwd=tmp_path,
        env=environment() | {RUN_ID: "run-1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (run,) = runs_in(tmp_path / "runs")
    assert {state.state for state in run.record.steps.values()} == {"finished"}
    (other,) = runs_in(whole_night[0] / "runs")

    # Every file of every step; what later steps read on the workspace is handed on by name.
    here, elsewhere = written_by_steps(run.folder), written_by_steps(other.folder)
    both = here.keys() & elsewhere.keys()
    assert {name for name in both if here[name] != elsewhere[name]} == set()
    assert here.keys() - both == {"prepare/dataset/location.json"}
    stays = {Path(name) for name in elsewhere.keys() - both}
    assert {(*name.parts[:2], "state" in name.parts) for name in stays} == {
        ("prepare", "dataset", False),
        ("train-global", "model", True),
        ("train-local", "model", True),
    }
    on_volume = volume / "run-1"
    for name in stays:
        step, *place = name.parts
        assert (on_volume / step.replace("-", "_") / "1" / Path(*place)).is_file(), name
