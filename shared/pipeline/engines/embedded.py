"""The embedded engine: the graph on this machine, by kfp.local, one process per step."""

import contextlib
import functools
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import local
from kfp.dsl.graph_component import GraphComponent
from kfp.local import executor_input_utils, subprocess_task_handler
from kfp.local.status import Status
from kfp.local.task_handler_interface import ITaskHandler

from shared import tracking
from shared.code_version import code_version
from shared.contracts.dataset import DatasetManifest
from shared.contracts.measured import BenchmarkReport
from shared.errors import GOES_ON, nearby
from shared.pipeline.description import head_lines, result_lines, tags_of
from shared.pipeline.graph import step_of
from shared.pipeline.processes import run_step
from shared.pipeline.processes.locks import hold
from shared.pipeline.reuse import Reuse, find_same, listing_of, step_key, take_over, verdict_holds
from shared.pipeline.runs import Run, RunRecord, continue_command, now
from shared.secrets import carried, without_secrets
from shared.terminal.progress import duration
from shared.terminal.screen import Log, Screen
from shared.terminal.stopping import Stopped, keeps

ROOT = Path(__file__).resolve().parents[3]
LOCK = "run.lock"  # in the folder of a run: held while it is worked on
REFUSAL = re.compile(r"\w+ refused: ")  # how the last line of a step begins that refused


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
    os.environ[GOES_ON] = again = continue_command(run)
    keeps(f"what is done is kept in {nearby(run.folder)}", f"go on with: {again}")
    with hold(run.folder / LOCK), Log(run.log) as log:
        # Nobody else works on it; who did until now may have got further.
        run.record = record = RunRecord.read(run.folder)
        screen = Screen(sys.stdout, log)
        for line in head_lines(run):
            screen.say(line)

        # The steps find our packages wherever they are started.
        path = [str(ROOT), os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))

        # The run: steps on the screen, everything in the log, figures in MLflow.
        start = time.perf_counter()
        engine = Engine(run, screen, reuse)
        runs, numbers = run.folder.parent, _numbers(run)
        raw_data = carried(raw_data) if "://" in raw_data else raw_data
        with tracking.pipeline_run(record.recipe, run.name, numbers, record.tags, runs):
            run.note(state="running", reason="", ended="")
            with _closing(run):
                with contextlib.redirect_stdout(log), engine.in_charge():
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


class StepFailed(SystemExit):
    """A step has failed or refused: the exit code of the pipeline, and why."""

    def __init__(self, step: str, reason: str):
        super().__init__(2 if REFUSAL.match(reason) else 1)
        self.step, self.reason = step, reason


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


@dataclass
class Engine:
    """Runs the tasks of one graph for kfp.local."""

    run: Run
    screen: Screen
    reuse: Reuse
    failure: StepFailed | None = None
    begun: float = field(default_factory=time.monotonic)

    def times(self, start: float) -> str:
        """How long a step took that began at `start`, and the run so far."""
        step, run = time.monotonic() - start, time.monotonic() - self.begun
        return f"{duration(step)}, {duration(run)} since the start"

    @contextlib.contextmanager
    def in_charge(self) -> Iterator[None]:
        """Make kfp.local run tasks through this engine, in the folder of its run.

        kfp.local 2.17 names that folder by its own clock, puts the interpreter's path unquoted into
        a shell, and leaves a step alive when it dies; it offers no option for any of them. For what
        it calls a workspace, which no step of ours uses, it would make a temporary folder that
        kill -9 leaves behind."""
        runs, workspace = str(self.run.folder.parent), str(self.run.folder / "workspace")
        runner = local.SubprocessRunner(use_venv=False)
        local.init(runner, pipeline_root=runs, workspace_root=workspace)
        with (
            _replaced(
                executor_input_utils, "get_local_pipeline_resource_name", lambda _: self.run.name
            ),
            _replaced(
                subprocess_task_handler,
                "SubprocessTaskHandler",
                functools.partial(StepTask, self),
            ),
        ):
            yield


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


class StepTask(ITaskHandler):
    """One task of the graph, as kfp.local makes and runs it."""

    def __init__(self, engine: Engine, full_command: list[str], env_vars: dict[str, str], **_):
        """full_command: sh -ec SCRIPT SOURCE --executor_input JSON --function_to_execute NAME."""
        self.engine, self.environment = engine, env_vars
        self.source, *arguments = full_command[3:]
        options = dict(zip(arguments[::2], arguments[1::2], strict=True))
        self.component = options["--function_to_execute"]
        self.executor_input = options["--executor_input"]
        said = json.loads(self.executor_input)
        self.folder = Path(said["outputs"]["outputFile"]).parent  # of the task, in the run's
        self.parameters = said["inputs"].get("parameterValues", {})
        self.inputs = {
            name: Path(artifact["artifacts"][0]["uri"])
            for name, artifact in said["inputs"].get("artifacts", {}).items()
        }

    @property
    def step(self) -> str:
        return step_of(self.folder.name)

    def run(self) -> Status:
        """Take over what is there, else work; keep run.json true in both cases."""
        # A task that is no step of the recipe: short, and always done anew.
        engine, run = self.engine, self.engine.run
        if self.step not in run.record.steps:
            return self._work()
        number = list(run.record.steps).index(self.step) + 1
        engine.screen.say(f"\nstep {number} of {len(run.record.steps)}: {self.step}")

        # Done already: by this run before it was interrupted, or by an earlier one. The code is as
        # it is now: it may have been edited since the run began.
        code = {"code_version": code_version(self.component)}
        key = step_key(self.component, self.parameters | code, self.inputs)
        state = run.record.steps[self.step]
        if state.is_done and listing_of(self.folder) == state.files:
            engine.screen.say(f"{self.step}: finished before, kept")
            if state.key != key:
                engine.screen.say(f"{self.step}: note: its code, config or data changed since")
            return Status.SUCCESS
        may_reuse = engine.reuse == "on" or (engine.reuse == "data" and self.step == "prepare")
        same = find_same(run.folder.parent, key, self.step) if may_reuse else None
        if same and (self.component != "benchmark" or verdict_holds(same)):
            return self._take_over(key, same)

        # To be done, or to be gone on with: steps find in their folder how far they were.
        start = time.monotonic()
        run.note_step(self.step, state="running", key=key, started=now(), reason="")
        status = self._work()
        seconds = state.seconds + round(time.monotonic() - start, 1)
        if status == Status.SUCCESS:
            files = listing_of(self.folder)
            run.note_step(self.step, state="finished", files=files, seconds=seconds)
            engine.screen.say(f"{self.step}: done in {engine.times(start)}")
        else:
            reason = engine.failure.reason
            run.note_step(self.step, state="failed", reason=reason, seconds=seconds)
        return status

    def _take_over(self, key: str, source: Run) -> Status:
        """Make the output of an earlier run's step that of this one."""
        state = source.record.steps[self.step]
        take_over(source.folder / self.folder.name, self.folder)
        self.engine.screen.say(
            f"{self.step}: taken over from {source.name} (same config, inputs and code); "
            "--reuse off works anew"
        )
        self.engine.run.note_step(
            self.step,
            state="reused",
            key=key,
            files=state.files,
            reused_from=state.reused_from or source.name,
            started=now(),
        )
        return Status.SUCCESS

    def _work(self) -> Status:
        """Run the component in a process of its own."""
        # kfp's executor, without the shell and its temporary folder; logging is set up before it,
        # so that it does not report its input.
        self.folder.mkdir(parents=True, exist_ok=True)
        module = self.folder / "component.py"
        module.write_text(self.source)
        quietly = (
            "import logging; logging.basicConfig(level=logging.WARNING); "
            "from kfp.dsl.executor_main import executor_main; executor_main()"
        )
        command = [sys.executable, "-c", quietly, "--component_module_path", str(module)]
        command += ["--executor_input", self.executor_input]
        command += ["--function_to_execute", self.component]
        environment = {**os.environ, **self.environment, "_KFP_RUNTIME": "true"}

        screen = self.engine.screen
        screen.last_line = ""
        code = run_step(command, environment, screen.show, terminal=screen.for_step())
        if code == 0:
            return Status.SUCCESS
        self.engine.failure = StepFailed(self.step, screen.last_line or f"exit code {code}")
        return Status.FAILURE
