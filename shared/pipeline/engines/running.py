"""A run on this machine: the graph by kfp.local, wherever its steps are started."""

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kfp.dsl.graph_component import GraphComponent

from shared import tracking
from shared.contracts.dataset import DatasetManifest
from shared.contracts.measured import BenchmarkReport
from shared.errors import GOES_ON, nearby
from shared.pipeline.description import head_lines, result_lines, tags_of
from shared.pipeline.engines.containers import Containers
from shared.pipeline.engines.embedded import Embedded
from shared.pipeline.engines.steps import Engine, StepFailed
from shared.pipeline.processes import run_step
from shared.pipeline.processes.locks import hold
from shared.pipeline.reuse import Reuse
from shared.pipeline.runs import LOCK, Run, RunRecord, continue_command
from shared.secrets import carried, without_secrets
from shared.terminal.screen import Log, Screen
from shared.terminal.stopping import Stopped, keeps

ROOT = Path(__file__).resolve().parents[3]


def find_raw_data(raw_data: str | None, runs: Path) -> str:
    """The absolute path of raw data on this machine, where the preflight has found them; a URL as
    it is; None: demo scenes, which are drawn where they are not there yet."""
    if raw_data is None:
        scenes = runs.resolve() / "demo_scenes"
        draw = [sys.executable, "-m", "components.prepare", "demo", "--out", str(scenes)]
        screen = Screen(sys.stdout, io.StringIO())
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        if code := run_step(draw, environment, screen.show, terminal=screen.for_step()):
            sys.exit(code)
        return str(scenes)
    if "://" in raw_data:
        return raw_data
    return str(Path(raw_data).absolute())


def run_here(run: Run, graph: GraphComponent, raw_data: str, reuse: Reuse) -> None:
    """Run a built graph in the folder of a run; its steps become children of one MLflow run.

    What the run has finished before is kept, what it was in goes on, and what an earlier run has
    made of the same is taken over.

    Args:
        raw_data: Absolute path or URL of paired images.
        reuse: Of which steps an earlier run's output is taken over: all, that of prepare, or none.

    Raises InputError where another process works on this run, SystemExit with 2 where a step
    refused, else 1 where it failed.
    """
    # What is said when a signal comes, here and by the steps.
    os.environ[GOES_ON] = command = continue_command(run)
    keeps(f"what is done is kept in {nearby(run.folder)}", f"go on with: {command}")
    with hold(run.folder / LOCK), Log(run.log) as log:
        # Nobody else works on it; who did until now may have got further.
        said = run.record.model_dump(include={"images", "needs"}) | {"engine": run.record.engine}
        run.record = record = RunRecord.read(run.folder).model_copy(update=said)
        screen = Screen(sys.stdout, log)
        for line in head_lines(run):
            screen.say(line)

        # The steps find our packages wherever they are started.
        path = [str(ROOT), os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))

        # The run: steps on the screen, everything in the log, figures in MLflow.
        start = time.perf_counter()
        place = Containers(record.engine) if record.engine.engine == "docker" else Embedded()
        engine = Engine(run, screen, reuse, place)
        runs, numbers = run.folder.parent, _numbers(run)
        raw_data = carried(raw_data) if "://" in raw_data else raw_data
        parent = (record.recipe, run.name, numbers, record.tags, runs)
        with tracking.pipeline_run(*parent, of_steps=isinstance(place, Embedded)):
            run.note(state="running", reason="", ended="")
            with _closing(run):
                with (
                    place.made_ready(run, screen),
                    contextlib.redirect_stdout(log),
                    engine.in_charge(),
                ):
                    try:
                        graph(raw_data=raw_data)
                    except RuntimeError:
                        if not engine.failure:
                            raise
                if engine.failure:
                    # An exception, so that the MLflow run is closed as failed.
                    raise engine.failure

        # The result, and where everything is.
        screen.say(f"\n{run.name} done in {time.perf_counter() - start:.0f} s\n")
        for line in result_lines(run, screen.columns):
            screen.say(line)


def print_result(run: Run) -> None:
    """Show the result of a finished run again."""
    screen = Screen(sys.stdout, io.StringIO())
    for line in result_lines(run, screen.columns):
        screen.say(line)


def _numbers(run: Run) -> dict[str, Any]:
    """The config of all steps, by STEP.FIELD."""
    config = run.record.config
    return {f"{step}.{field}": config[step][field] for step in config for field in config[step]}


@contextlib.contextmanager
def _closing(run: Run) -> Iterator[None]:
    """Note in run.json and in MLflow how the block ended; say how the run is continued where it did
    not."""
    again = f"continue with: {continue_command(run)}"
    try:
        yield
    except StepFailed as failure:
        reason = f"step {failure.step} failed: {failure.reason}"
        _end(run, "failed", reason)
        print(f"\n{reason}\nfull log: {run.log}\n{again}", file=sys.stderr)
        raise
    except Stopped as stop:
        _end(run, "stopped", f"stopped by {signal.Signals(stop.code - 128).name}")
        raise
    except OSError as error:  # such as a full disk, which may keep the reason from being noted
        print(f"\nrun {run.name} failed: {error}\n{again}", file=sys.stderr)
        with contextlib.suppress(OSError):
            _end(run, "failed", str(error))
        sys.exit(1)
    except BaseException as error:
        _end(run, "failed", f"{type(error).__name__}: {error}")
        raise
    _end(run, "finished")


def _end(run: Run, state: str, reason: str = "") -> None:
    """Note how a run ended, here and on its page in MLflow."""
    report = None
    if run.record.steps["benchmark"].is_done:
        report = BenchmarkReport.read(run.report)
        run.note(verdict=report.verdict.outcome if report.verdict else "")
        if run.record.steps["benchmark"].state == "reused":  # else the step has done it
            tracking.log_figures(report.headline())
            tracking.log_files(run.report / BenchmarkReport.PAGE)
    if run.record.steps["prepare"].is_done:
        dataset = run.folder / "prepare" / "dataset"
        manifest = DatasetManifest.read(dataset)
        tracking.log_dataset(manifest.name, dataset, manifest.digest, "training")
    run.end(state, without_secrets(reason))
    tracking.set_tags(tags_of(run, report))
    if state != "stopped" and (links := tracking.links()):  # a signal leaves no time to ask
        run.note(mlflow=links.run)
