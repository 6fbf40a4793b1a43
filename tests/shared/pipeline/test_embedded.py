"""The embedded engine: a whole run, and a step that ends early."""

import re
import signal
import subprocess
import sys
from shlex import quote

from mlflow.tracking import MlflowClient

from pipeline import CONFIGS
from shared.contracts.clusters import ClusterTable
from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport
from tests.places import ROOT


def test_the_whole_pipeline_runs(whole_night):
    folder, night = whole_night
    assert night.returncode == 0, night.stdout[-3000:] + night.stderr[-3000:]
    out = night.stdout
    lines = out.splitlines()
    for number, step in enumerate(CONFIGS, start=1):
        assert f"step {number} of 6: {step}" in lines
        assert any(line.startswith(f"{step}: done in ") for line in lines)
    assert "epoch 3/3" in out and "Got executor_input" not in out
    assert sum(line.startswith("runtime ") for line in lines) == 1, "the table comes once"
    report = folder / fact(out, "report")
    assert report.is_file() and report.name == "report.html"
    assert f"<title>{report.parents[2].name}, " in report.read_text()

    written = BenchmarkReport.read(report.parent)
    run = report.parents[2]
    assert run.parent == folder / "runs" and (run / "log.txt").is_file()
    exported = ExportCard.read(run / "export" / "exported")
    assert written.model_digest == exported.model_digest
    assert exported.parity[0].max_abs_error <= 1e-4
    measured = {(row.runtime, row.batch_size) for row in written.speed}
    assert measured >= {("torch", 1), ("torch", 2), ("onnxruntime", 2)}
    assert written.styles and "styles-" in report.read_text(), "styles of clusters can be tried"
    assert (run / "train-global" / "model").is_dir() and (run / "train-local" / "model").is_dir()
    table = ClusterTable.read(run / "cluster" / "clusters")
    assert {7, 11, 23} <= set(table.labels)  # road, building, sky


def fact(out: str, name: str) -> str:
    """What a run says of itself in a line of its beginning or end."""
    return next(line for line in out.splitlines() if line.startswith(f"{name}  "))[10:]


def test_a_run_says_at_its_begin_what_it_is_and_its_log_is_plain_text(whole_night):
    folder, night = whole_night
    (run,) = {line for line in night.stdout.splitlines() if line.startswith("run demo-")}
    assert fact(night.stdout, "folder") == f"runs/{run.removeprefix('run ')}"
    assert fact(night.stdout, "recipe") == "demo" and "scenes" in fact(night.stdout, "raw data")
    assert fact(night.stdout, "steps") == ", ".join(CONFIGS)
    assert fact(night.stdout, "MLflow").endswith(f"{quote(str(ROOT / 'pipeline.py'))} ui")
    log = (folder / "runs" / run.removeprefix("run ") / "log.txt").read_text()
    for text in (log, night.stdout, night.stderr):
        assert not re.search(r"[^\n\t -~\x80-\uffff]", text), "a terminal's own characters"
    assert "step 2 of 6: train_global\n" in log and "runtime " in log


def test_runs_form_one_tree_with_headlines_on_the_parent(whole_night):
    folder, _ = whole_night
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert all(run.info.status == "FINISHED" for run in runs)
    parent_of = {run.info.run_id: run.data.tags.get("mlflow.parentRunId") for run in runs}
    children = [run for run in runs if parent_of[run.info.run_id] == parent.info.run_id]
    assert [run.info.run_name for run in children] == list(CONFIGS)
    headlines = {"fps/torch_fp32/batch_1", "fps/onnxruntime_fp32/batch_2", "test/psnr_db"}
    assert headlines <= parent.data.metrics.keys()
    tags = parent.data.tags
    assert tags["verdict"] == "first" and tags["raw_data"].endswith("scenes") and tags["host"]
    assert "**first**" in tags["mlflow.note.content"] and tags["device"]
    assert parent.data.params["train_global.ngf"] == "8"
    stage = children[1]
    assert not stage.data.params, "they would hide its pictures"
    curves = {"epoch_loss/G_GAN", "epoch_loss/D_real", "learning_rate", "images_per_second"}
    assert curves <= stage.data.metrics.keys()
    learning_rates = client.get_metric_history(stage.info.run_id, "learning_rate")
    assert [point.step for point in learning_rates] == [6, 12, 18]
    paths = {item.path for item in client.list_artifacts(stage.info.run_id)}
    on_parent = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert {"report.html", "exported"} <= on_parent, "what people look for first"
    pictures = {item.path for item in client.list_artifacts(stage.info.run_id, "images")}
    assert any("+step+0+" in name for name in pictures), pictures
    assert {"checkpoints", "images"} <= paths and stage.data.tags["dataset.digest"]


def test_a_second_signal_does_not_break_off_the_end_of_a_step():
    """A stopped pipeline signals its whole process group, and then each step once more."""
    step = """
import contextlib, sys, time
from components.export.config import ExportConfig
from shared import command as step, tracking

@contextlib.contextmanager
def slow_to_end(*_):
    try:
        yield
    finally:
        print("ending", flush=True)
        time.sleep(1)
        print("closed", flush=True)

def run(exported, config):
    print("running", flush=True)
    time.sleep(60)

tracking.step_run = slow_to_end
step.execute(run, ExportConfig, {}, exported="exported")
"""
    command = [sys.executable, "-c", step]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in ("running", "ending"):
            assert process.stdout.readline().strip() == line
            process.send_signal(signal.SIGTERM)
        assert process.stdout.read().strip() == "closed"
    assert process.returncode == 143
