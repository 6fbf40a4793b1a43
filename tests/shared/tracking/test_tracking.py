"""The tree of MLflow runs, and that tracking never stops a step."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.calling import environment as clean_environment
from tests.places import ROOT

STEP = """
import numpy as np
from pathlib import Path
from shared import tracking
with tracking.step_run("train_global", {"epochs": 2}):
    for i in range(5):
        tracking.log_metrics({"loss/G_GAN": 1.0 / (i + 1), "odd": float("nan")}, step=i * 10)
    tracking.log_picture("samples", np.zeros((3, 4, 8), np.uint8), step=40)
    tracking.log_dataset("street", Path("."), "abc123", "training")
    tracking.log_headline({"fps": 7.5})
    tracking.log_files(Path(__file__), "checkpoints")
    %s
print("the step is done")
"""

PARENT = """
import subprocess, sys
from pathlib import Path
from shared import tracking
with tracking.pipeline_run("demo", sys.argv[1], {"a.b": 1}, {"nightly": "true"}, Path("runs")):
    if code := subprocess.run([sys.executable, "step.py"]).returncode:
        sys.exit(code)
"""


def run(folder: Path, script: str, *arguments, **environment) -> subprocess.CompletedProcess:
    variables = clean_environment() | {"PYTHONPATH": str(ROOT)} | environment
    options = dict(cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
    return subprocess.run([sys.executable, script, *arguments], **options)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One pipeline run with a step that succeeds, and one whose step fails."""
    folder = tmp_path_factory.mktemp("tracking")
    (folder / "parent.py").write_text(PARENT)
    (folder / "runs").mkdir()
    (folder / "step.py").write_text(STEP % "")
    good = run(folder, "parent.py", "demo-1")
    (folder / "step.py").write_text(STEP % "raise ValueError('boom')")
    bad = run(folder, "parent.py", "demo-2")
    return folder, good, bad


def test_step_is_a_child_of_the_pipeline_run(store):
    folder, good, bad = store
    assert good.returncode == 0 and "the step is done" in good.stdout, good.stderr
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    assert [(r.info.run_name, r.info.status) for r in runs] == [
        ("demo-1", "FINISHED"),
        ("train_global", "FINISHED"),
        ("demo-2", "FAILED"),
        ("train_global", "FAILED"),
    ]
    parent, child = runs[:2]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["step"] == "train_global"
    assert parent.data.tags["nightly"] == "true" and parent.data.params == {"a.b": "1"}
    assert child.data.params == {"epochs": "2"} and child.data.tags["dataset.digest"] == "abc123"
    assert parent.data.metrics == {"fps": 7.5} and child.data.metrics["fps"] == 7.5
    curve = client.get_metric_history(child.info.run_id, "loss/G_GAN")
    assert [(m.step, m.value) for m in curve] == [
        (i * 10, pytest.approx(1 / (i + 1))) for i in range(5)
    ]
    assert math.isnan(child.data.metrics["odd"])
    artifacts = {item.path for item in client.list_artifacts(child.info.run_id)}
    assert artifacts >= {"checkpoints", "images"}
    assert bad.returncode == 1 and "boom" in bad.stderr


def test_two_pipelines_may_create_the_store_at_once(tmp_path):
    (tmp_path / "step.py").write_text("")
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "runs").mkdir()
    with ThreadPoolExecutor() as pool:
        results = list(
            pool.map(lambda name: run(tmp_path, "parent.py", name), ("demo-1", "demo-2"))
        )
    assert [result.stderr for result in results if "warning: MLflow" in result.stderr] == []
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == [
        "FINISHED"
    ] * 2


def test_a_lost_server_costs_warnings_not_the_step(tmp_path):
    (tmp_path / "step.py").write_text(STEP % "")
    nowhere = dict(MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    result = run(tmp_path, "step.py", **nowhere)
    assert result.returncode == 0 and "the step is done" in result.stdout
    first, second = result.stderr.splitlines()
    assert first.startswith("warning: MLflow: it does not take everything (API request to http:")
    assert second.startswith("warning: MLflow: 14 entries of train_global wait in ")


def test_a_lost_server_does_not_stop_the_pipeline_either(tmp_path):
    (tmp_path / "step.py").write_text("print('the step is done')")
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "runs").mkdir()
    nowhere = dict(MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    result = run(tmp_path, "parent.py", "demo-1", **nowhere)
    assert result.returncode == 0 and "the step is done" in result.stdout
    assert "it has not taken 4 entries of demo-1 (" in result.stderr


def test_without_a_server_nothing_is_logged_and_mlflow_is_not_loaded(tmp_path):
    (tmp_path / "step.py").write_text(STEP % "import sys; assert 'mlflow' not in sys.modules")
    result = run(tmp_path, "step.py")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["step.py"]
