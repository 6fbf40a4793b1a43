"""The commands of pipeline.py, run as a user runs them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient

import pipeline
from components.prepare.demo.scenes import generate
from pipeline import CONFIGS
from shared.contracts.clusters import ClusterTable
from shared.contracts.exported import ExportCard
from shared.contracts.measured import BenchmarkReport
from shared.data.images import read_ids, write_ids
from shared.errors import InputError
from shared.flags import read_flags
from shared.pipeline.nights import compare_nights
from shared.pipeline.recipes import read_recipe
from tests.places import ROOT

SMALL = [
    "prepare.size=64x128",
    *(
        "train_global.size=32x64",
        "train_global.epochs=2",
        "train_global.epochs_decay=1",
        "train_global.ngf=8",
    ),
    *(
        "train_local.epochs=1",
        "train_local.epochs_decay=0",
        "train_local.epochs_fix_global=0",
        "train_local.ngf=4",
    ),
    *("benchmark.batch_sizes=[1,2]", "benchmark.rounds=3"),
]


def environment() -> dict[str, str]:
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MLFLOW", "PIPELINE"))
    }


def command(*arguments) -> list[str]:
    return [sys.executable, str(ROOT / "pipeline.py"), *map(str, arguments)]


def call(*arguments, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=400
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "scenes"
    generate(folder, train=6, test=2, height=64, width=128, seed=0)
    return folder


@pytest.fixture(scope="module")
def nights(tmp_path_factory, scenes):
    """Two nights of a small demo recipe."""
    folder = tmp_path_factory.mktemp("nights")
    arguments = (
        "nightly",
        "--recipe",
        "demo",
        "--raw-data",
        scenes,
        "--timeout-min",
        6,
        "--set",
        *SMALL,
    )
    return folder, [call(*arguments, cwd=folder) for _ in range(2)]


def test_compile_is_deterministic_and_is_a_kfp_pipeline(tmp_path):
    files = []
    for seed in ("1", "2"):
        file = tmp_path / f"{seed}.yaml"
        subprocess.run(
            command("compile", "--output", file),
            env=environment() | {"PYTHONHASHSEED": seed},
            check=True,
            cwd=tmp_path,
        )
        files.append(file.read_bytes())
    assert files[0] == files[1]
    spec = next(yaml.safe_load_all(files[0]))
    tasks = spec["root"]["dag"]["tasks"]
    assert set(tasks) == {step.replace("_", "-") for step in CONFIGS}, "as Kubernetes allows"
    assert {task["taskInfo"]["name"] for task in tasks.values()} == set(CONFIGS)
    assert all(not task.get("cachingOptions", {}).get("enableCache") for task in tasks.values())


@pytest.mark.parametrize(
    "recipe, tasks",
    [
        ("label2city_512p", {"prepare", "train-global", "export", "benchmark"}),
        ("label2city_512p_feat", {"prepare", "train-global", "cluster", "export", "benchmark"}),
        ("label2city_1024p", {"prepare", "train-global", "train-local", "export", "benchmark"}),
        (
            "label2city_1024p_feat",
            {"prepare", "train-global", "cluster", "train-local", "export", "benchmark"},
        ),
    ],
)
def test_a_recipe_decides_the_shape_of_the_graph(recipe, tasks, tmp_path):
    pipeline.compile_(recipe, tmp_path / "p.yaml", ("prepare.max_images=7",))
    root = yaml.safe_load((tmp_path / "p.yaml").read_text())["root"]
    assert set(root["dag"]["tasks"]) == tasks
    parameters = root["inputDefinitions"]["parameters"]
    assert parameters["prepare"]["defaultValue"]["max_images"] == 7
    for step, config in CONFIGS.items():
        fields = set(config.model_fields) if step.replace("_", "-") in tasks else set()
        assert set(parameters[step]["defaultValue"]) == fields
    uses_features = "clusters" in root["dag"]["tasks"]["export"]["inputs"]["artifacts"]
    assert uses_features == ("cluster" in tasks)


def test_the_whole_pipeline_runs(nights):
    folder, (first, _) = nights
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    out = first.stdout
    for step in CONFIGS:
        assert f"\n[{step}]\n" in out
    assert "embedded engine" in out and "epoch 3/3" in out and "Got executor_input" not in out
    assert "onnxruntime" in out and "mlflow ui --backend-store-uri sqlite:///" in out
    report = Path(next(line for line in out.splitlines() if line.startswith("report:")).split()[1])
    assert report.is_file() and report.name == "report.html"

    written = BenchmarkReport.read(report.parent)
    run = report.parents[2]
    exported = ExportCard.read(run / "export" / "exported")
    assert (
        written.model_digest == exported.model_digest and exported.parity[0].max_abs_error <= 1e-4
    )
    assert {(row.runtime, row.batch_size) for row in written.speed} >= {
        ("torch", 1),
        ("torch", 2),
        ("onnxruntime", 2),
    }
    assert written.styles and "styles-" in report.read_text(), (
        "the styles of the clusters can be tried"
    )
    assert (run / "train-global" / "model").is_dir() and (run / "train-local" / "model").is_dir()
    table = ClusterTable.read(run / "cluster" / "clusters")
    assert {7, 11, 23} <= set(table.labels)  # road, building, sky


def test_runs_form_one_tree_with_headlines_on_the_parent(nights):
    folder, _ = nights
    client = MlflowClient(f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 2 and all(run.info.status == "FINISHED" for run in runs)
    children = [
        run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id
    ]
    assert [run.info.run_name for run in children] == list(CONFIGS)
    assert {"fps/torch_fp32/batch_1", "fps/onnxruntime_fp32/batch_2", "test/psnr_db"} <= parents[
        0
    ].data.metrics.keys()
    stage = children[1]
    assert {
        "epoch_loss/G_GAN",
        "epoch_loss/D_real",
        "learning_rate",
        "images_per_second",
    } <= stage.data.metrics.keys()
    assert [m.step for m in client.get_metric_history(stage.info.run_id, "learning_rate")] == [
        6,
        12,
        18,
    ]
    paths = {item.path for item in client.list_artifacts(stage.info.run_id)}
    assert {"checkpoints", "images"} <= paths and stage.data.tags["dataset.digest"]


def test_the_second_night_is_compared_with_the_first(nights):
    _, (first, second) = nights
    assert second.returncode == 0, second.stderr[-2000:]
    assert "before: none" in first.stdout
    assert "before: demo-" in second.stdout
    row = next(
        line
        for line in second.stdout.splitlines()
        if line.startswith("fps/onnxruntime_fp32/batch_1")
    )
    _, tonight, before, change = row.split()
    assert float(tonight) / float(before) - 1 == pytest.approx(
        float(change.rstrip("%")) / 100, abs=2e-3
    )


def test_compare_nights_shows_old_new_and_change():
    table = compare_nights([("b", {"fps": 12.0, "new": 1.0}), ("a", {"fps": 10.0})])
    assert "tonight: b, before: a" in table
    assert [line.split() for line in table.splitlines()[-2:]] == [
        ["fps", "12", "10", "+20.0%"],
        ["new", "1", "-"],
    ]


def test_a_failing_step_is_named_with_its_error(scenes, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(scenes, raw)
    label = next(raw.glob("gtFine/train/*/*_labelIds.png"))
    ids = read_ids(label).copy()
    ids[0, 0] = 255
    write_ids(label, ids)
    result = call("submit", "--raw-data", raw, cwd=tmp_path)
    assert result.returncode == 2
    assert "step prepare failed: prepare refused: " in result.stderr and "255" in result.stderr
    assert "[train_global]" not in result.stdout


def test_a_crashing_step_is_named_with_its_error(scenes, tmp_path):
    blown_up = ["train_global.learning_rate=1e30", "train_global.epochs=3"]
    result = call("submit", "--raw-data", scenes, "--set", *SMALL, *blown_up, cwd=tmp_path)
    assert result.returncode == 1
    assert (
        "step train_global failed: FloatingPointError: losses are no longer finite" in result.stderr
    )
    assert "[cluster]" not in result.stdout


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["submit", "--recipe", "nope"],
            "--recipe 'nope' is unknown: choose one of demo, facades, facades_resnet9",
        ),
        (
            ["submit", "--set", "train_global.epoch=2"],
            "--set train_global.epoch is unknown in recipe demo: did you mean train_global.epochs?",
        ),
        (["submit", "--set", "epochs=2"], "--set 'epochs=2' is not STEP.FIELD=VALUE"),
        (["submit", "--set", "train_global.epochs=many"], "step train_global: --epochs 'many'"),
        (["submit", "--raw-data", "nowhere"], "--raw-data nowhere does not exist"),
        (
            ["submit", "--recipe", "label2city_512p"],
            "--lambda-vgg is 10 but --vgg-weights '' is no file",
        ),
        (["submit", "--host", "http://127.0.0.1:9"], "--host needs --raw-data"),
        (["nightly", "--recipe", "nope"], "--recipe 'nope' is unknown"),
        (["compile", "--output", "graph.json"], "--output graph.json does not end in .yaml"),
        (["submit", "--tag", "nightly"], "--tag 'nightly' is not KEY=VALUE"),
        ([], "pipeline.py refused: no command was given: choose one of compile, submit, nightly."),
        (["submitt"], "pipeline.py refused: 'submitt' is no command: did you mean submit?"),
        (["submit", "--recipes", "demo"], "--recipes is unknown: did you mean --recipe?"),
    ],
)
def test_bad_input_is_refused_in_one_sentence_before_work_starts(arguments, sentence, tmp_path):
    result = call(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_set_may_be_repeated_or_take_several():
    both = [
        "--set",
        "a.b=1",
        "--runs",
        "x",
        "--set",
        "c.d=2",
        "e.f=-3",
        "--tag",
        "k=v",
        "--tag=l=w",
    ]
    values = read_flags(pipeline.submit, "pipeline.py submit", both)
    assert values["overrides"] == ("a.b=1", "c.d=2", "e.f=-3")
    assert (values["tags"], values["runs"]) == (("k=v", "l=w"), Path("x"))
    assert read_flags(pipeline.submit, "pipeline.py submit", [])["overrides"] == ()


def test_all_repeated_overrides_are_used(tmp_path):
    arguments = (
        "--set",
        "prepare.max_images=7",
        "--set",
        "train_global.ngf=4",
        "train_global.seed=5",
    )
    assert call("compile", *arguments, "--output", "p.yaml", cwd=tmp_path).returncode == 0
    defaults = yaml.safe_load((tmp_path / "p.yaml").read_text())["root"]["inputDefinitions"][
        "parameters"
    ]
    assert defaults["prepare"]["defaultValue"]["max_images"] == 7
    assert (
        defaults["train_global"]["defaultValue"]["ngf"],
        defaults["train_global"]["defaultValue"]["seed"],
    ) == (4, 5)


def test_an_override_may_be_any_text():
    overrides = ("train_global.vgg_weights=%h/vgg: 19.pth", "train_global.learning_rate=1e-3")
    values = read_recipe("demo", CONFIGS, overrides)["train_global"]
    assert (values["vgg_weights"], values["learning_rate"]) == ("%h/vgg: 19.pth", 1e-3)


def test_overrides_reach_the_step_and_are_checked():
    parameters = read_recipe(
        "demo", CONFIGS, ("benchmark.batch_sizes=[2]", "train_global.flip=false")
    )
    assert (
        parameters["benchmark"]["batch_sizes"] == [2]
        and parameters["train_global"]["flip"] is False
    )
    with pytest.raises(InputError, match="--ngf 0: should be greater than or equal to 1"):
        read_recipe("demo", CONFIGS, ("train_global.ngf=0",))


@pytest.fixture
def start_nightly(scenes, tmp_path):
    """Starts an endless training as a nightly run; whatever is left of it at the end is killed."""
    started = []

    def start(*arguments) -> subprocess.Popen:
        endless = ["train_global.epochs=100000", *SMALL[:2]]
        options = ("nightly", "--raw-data", scenes, *arguments, "--set", *endless)
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process = subprocess.Popen(
            command(*options), cwd=tmp_path, env=environment(), text=True, **pipes
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(40)


def wait_for_training(process: subprocess.Popen) -> list[psutil.Process]:
    """All processes of a nightly run, once its train step is at work."""
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            return [
                psutil.Process(process.pid),
                *psutil.Process(process.pid).children(recursive=True),
            ]
    raise AssertionError(process.stderr.read())


def test_stopping_a_night_leaves_no_process_and_a_second_start_touches_nothing(
    start_nightly, scenes, tmp_path
):
    process = start_nightly()
    family = wait_for_training(process)
    assert len(family) >= 3

    before = sorted(path.name for path in (tmp_path / "runs").glob("demo-*"))
    second = call("nightly", "--raw-data", scenes, cwd=tmp_path)
    assert second.returncode == 75 and "another run holds" in second.stderr
    assert sorted(path.name for path in (tmp_path / "runs").glob("demo-*")) == before

    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 143
    deadline = time.monotonic() + 10
    while any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family):
        assert time.monotonic() < deadline, "a process was left"
        time.sleep(0.1)

    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'demo'")
    statuses = {
        run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])
    }
    assert (
        statuses.pop("prepare") == "FINISHED"
        and set(statuses.values()) == {"FAILED"}
        and len(statuses) == 2
    )


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

def run(config):
    print("running", flush=True)
    time.sleep(60)

tracking.step_run = slow_to_end
step.execute(run, ExportConfig, {})
"""
    with subprocess.Popen(
        [sys.executable, "-c", step], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in ("running", "ending"):
            assert process.stdout.readline().strip() == line
            process.send_signal(signal.SIGTERM)
        assert process.stdout.read().strip() == "closed"
    assert process.returncode == 143


def test_a_night_that_takes_too_long_is_stopped(start_nightly):
    process = start_nightly("--timeout-min", 0.5)
    family = wait_for_training(process)
    assert process.wait(90) == 124
    assert "stopped after --timeout-min 0.5" in process.stderr.read()
    assert not any(
        member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family[1:]
    )


HELP = """
import contextlib, runpy, sys
sys.argv = ["pipeline.py", *{words}, "--help"]
with contextlib.suppress(SystemExit):
    runpy.run_path("pipeline.py", run_name="__main__")
"""


@pytest.mark.parametrize(
    "code, shown",
    [
        ("import pipeline; pipeline.read_recipe('demo', pipeline.CONFIGS)", ""),
        (HELP.format(words=[]), "nightly  Run a pipeline once"),
        (HELP.format(words=["compile"]), "--output PATH"),
        (HELP.format(words=["submit"]), "--host STR"),
        (HELP.format(words=["nightly"]), "--timeout-min FLOAT"),
    ],
    ids=["import", "help", "compile", "submit", "nightly"],
)
def test_neither_the_import_nor_any_help_loads_torch(code, shown):
    heavy = "import sys; print('loaded', *{'torch', 'onnxruntime', 'mlflow'} & set(sys.modules))"
    command = [sys.executable, "-c", f"{code}\n{heavy}"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown in out and out.splitlines()[-1] == "loaded"
