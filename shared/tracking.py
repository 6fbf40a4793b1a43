"""The MLflow run of a step, and of a whole pipeline; it never stops a step.

Runs are found by the variables that KFP's own MLflow plugin sets: MLFLOW_RUN_ID (continue that
run), else PIPELINE_PARENT_RUN_ID (a child of it), else a run of its own. Without
MLFLOW_TRACKING_URI nothing is logged.
"""

import contextlib
import fcntl
import functools
import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
PARENT = "PIPELINE_PARENT_RUN_ID"

# Asynchronous metrics sent in batches cost 0.15 ms a call; a lost server is given up after seconds
# instead of minutes.
DEFAULTS = {
    "MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS": "2",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


# How MLflow is called.


@functools.cache
def _mlflow():
    """Load MLflow with our defaults, on first use: it takes seconds."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    import logging

    warnings.filterwarnings("ignore", module="mlflow")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return mlflow


def _forgiving(function):
    """Make a function do nothing outside a run, and its error one warning on stderr."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if _active() is None:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:
            print(f"warning: MLflow: {function.__name__} failed: {error}", file=sys.stderr)

    return wrapper


def _active():
    """The run that is open in this process, or None; does not load MLflow."""
    mlflow = sys.modules.get("mlflow")
    return mlflow.active_run() if mlflow else None


# Runs.


@contextlib.contextmanager
def step_run(step: str, params: dict) -> Iterator[None]:
    """Open an MLflow run around a step: parameters, tags, FAILED when the step raises."""

    def start(mlflow):
        if os.environ.get("MLFLOW_RUN_ID"):
            return mlflow.start_run()
        mlflow.set_experiment(os.environ.get(EXPERIMENT, "default"))
        return mlflow.start_run(run_name=step, parent_run_id=os.environ.get(PARENT))

    # In a distributed training rank 0 speaks for all.
    if os.environ.get("RANK", "0") != "0":
        os.environ.pop("MLFLOW_TRACKING_URI", None)

    if os.environ.get("MLFLOW_TRACKING_URI"):
        with _run(f"step {step}", start, {"step": step}, params):
            yield
    else:
        yield


@contextlib.contextmanager
def pipeline_run(
    experiment: str, name: str, params: dict, tags: dict, runs: Path
) -> Iterator[None]:
    """Open the parent run of a pipeline run; steps started inside become its children, through the
    environment.

    Args:
        experiment: Name of the experiment: the recipe.
        name: Name of the run.
        params: Numbers of all steps, by STEP.FIELD.
        runs: Folder of the store where there is no MLFLOW_TRACKING_URI: of `mlflow.db`, made here,
            by one process at a time, before any step.
    """
    # The store.
    artifacts = None
    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ["MLFLOW_TRACKING_URI"] = store_uri(runs)
        artifacts = (runs.resolve() / "mlartifacts").as_uri()

    # The run, and the way to it for the steps.
    def start(mlflow):
        with open(runs / "mlflow.lock", "a") as lock:
            # Two processes that create one database leave it unusable.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if mlflow.get_experiment_by_name(experiment) is None:
                mlflow.create_experiment(experiment, artifact_location=artifacts)
        mlflow.set_experiment(experiment)
        run = mlflow.start_run(run_name=name)
        os.environ[EXPERIMENT] = experiment
        os.environ[PARENT] = run.info.run_id
        return run

    with _run(f"pipeline {name}", start, tags, params):
        yield


@contextlib.contextmanager
def _run(what: str, start: Callable, tags: dict, params: dict) -> Iterator[None]:
    """Open a run that ends with the status of the block; a server that fails at either end costs
    a warning."""
    with contextlib.ExitStack() as stack:
        try:
            mlflow = _mlflow()
            run = start(mlflow)
            stack.push(functools.partial(_end, what, run))
            mlflow.set_tags({**tags, **code_version()})
            mlflow.log_params(params)
        except Exception as error:
            print(f"warning: MLflow: no run for {what}: {error}", file=sys.stderr)
        yield


def _end(what: str, run, *raised) -> None:
    """Close a run with what the block raised, if anything; a failure is one warning."""
    try:
        run.__exit__(*raised)
    except Exception as error:
        print(f"warning: MLflow: the run of {what} was not closed: {error}", file=sys.stderr)


@contextlib.contextmanager
def continued(run_id: str | None) -> Iterator[None]:
    """Go on with a run that another process has open, and will close after this one."""
    if run_id is None:
        yield
    else:
        with _run("a process of the step", lambda mlflow: mlflow.start_run(run_id=run_id), {}, {}):
            yield


def run_id() -> str | None:
    """The id of the run that is open in this process, or None."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return None
    run = _mlflow().active_run()
    return run.info.run_id if run else None


# What a step logs.


@_forgiving
def log_metrics(metrics: dict[str, float], step: int) -> None:
    """Log a point of every curve at `step`, in images seen; asynchronous, in batches."""
    _mlflow().log_metrics(metrics, step=step, synchronous=False)


@_forgiving
def log_figures(figures: dict[str, float]) -> None:
    """Log the final figures of a step."""
    _mlflow().log_metrics(figures)


@_forgiving
def log_headline(figures: dict[str, float]) -> None:
    """Log figures also on the parent run, where the list of runs shows them."""
    log_figures(figures)
    if parent := os.environ.get(PARENT):
        _mlflow().log_metrics(figures, run_id=parent)


@_forgiving
def log_picture(name: str, picture: np.ndarray, step: int) -> None:
    """Log a picture (3, H, W) uint8; those of one name form a series over `step` in the UI."""
    from shared.data.images import to_hwc  # which needs codecs that a pipeline's machine may lack

    _mlflow().log_image(to_hwc(picture), key=name, step=step)


@_forgiving
def log_files(path: Path, folder: str | None = None) -> None:
    """Log a file, or a folder with all it holds."""
    if path.is_dir():
        _mlflow().log_artifacts(str(path), folder)
    else:
        _mlflow().log_artifact(str(path), folder)


@_forgiving
def log_dataset(folder: Path, digest: str, context: str) -> None:
    """Log which data a run has read; `context` is training or testing."""
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource

    dataset = MetaDataset(LocalArtifactDatasetSource(str(folder)), name=folder.name, digest=digest)
    _mlflow().log_input(dataset, context=context)
    _mlflow().set_tag("dataset.digest", digest)


@functools.cache
def code_version() -> dict[str, str]:
    """The tag of the commit that runs; from CODE_VERSION in images, where there is no git."""
    commit = os.environ.get("CODE_VERSION", "")
    if not commit:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        with contextlib.suppress(OSError):
            commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return {"git.commit": commit} if commit else {}


# What the pipeline reads, and tells people.


def latest_figures(
    experiment: str, tags: dict[str, str], runs: Path, count: int
) -> list[tuple[str, dict[str, float]]]:
    """The newest finished pipeline runs with these tags, newest first: (name, headline figures)."""
    mlflow = _mlflow()
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", store_uri(runs)))
    wanted = "".join(f" and tags.{name} = '{value}'" for name, value in tags.items())
    try:
        found = mlflow.search_runs(
            experiment_names=[experiment],
            filter_string=f"status = 'FINISHED'{wanted}",
            order_by=["start_time DESC"],
            max_results=count,
            output_format="list",
        )
    except Exception as error:
        print(f"warning: MLflow: earlier runs cannot be read: {error}", file=sys.stderr)
        return []
    return [(run.info.run_name, run.data.metrics) for run in found]


def store_uri(runs: Path) -> str:
    """MLflow's store where no MLFLOW_TRACKING_URI is set: one file beside the runs."""
    return f"sqlite:///{runs.resolve() / 'mlflow.db'}"


def ui_command() -> str:
    """The command, or the address, that shows the runs."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith("http"):
        return uri
    mlflow = str(Path(sys.executable).parent / "mlflow")
    return shlex.join([mlflow, "ui", "--backend-store-uri", uri])
