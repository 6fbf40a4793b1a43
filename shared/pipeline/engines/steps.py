"""The tasks of a run as kfp.local runs them: what is there is taken over, else a step is started,
as a process or in a container."""

import contextlib
import functools
import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kfp import local
from kfp.local import executor_input_utils, subprocess_task_handler
from kfp.local.status import Status
from kfp.local.task_handler_interface import ITaskHandler

from shared import tracking
from shared.files.writing import take_over
from shared.pipeline.graph import step_of
from shared.pipeline.processes import run_step
from shared.pipeline.reuse import Reuse, find_same, listing_of, step_key, verdict_holds
from shared.pipeline.runs import Run, now
from shared.terminal.progress import duration
from shared.terminal.screen import Screen

REFUSED = 2  # exit code of a step that says that its input is wrong
# kfp's executor, without the shell and its temporary folder; logging is set up before it, so that
# it does not report its input. Until a step's modules are loaded, none of which is garbage, nobody
# looks for some: that took a fifth of loading them.
EXECUTOR = (
    "import gc; gc.disable(); import logging; logging.basicConfig(level=logging.WARNING); "
    "from kfp.dsl.executor_main import executor_main; executor_main()"
)


class Place(Protocol):
    """Where the steps of a run are started."""

    def made_ready(self, run: Run, screen: Screen) -> AbstractContextManager[None]:
        """Inside, steps can be started."""

    def code_of(self, component: str, compiled: str) -> str:
        """Version of the code that a step will run; `compiled`: that of the graph."""

    def command(self, task: "StepTask", executor: list[str]) -> tuple[list[str], dict[str, str]]:
        """The process that a step is on this machine, and its environment.

        executor: kfp's, for the step's Python."""

    def explains(self, status: int) -> bool:
        """Whether that process itself says what has ended the step, with this exit status."""


class StepFailed(SystemExit):
    """A step has failed or refused: the exit code of the pipeline, and why."""

    def __init__(self, step: str, reason: str, is_refusal: bool):
        super().__init__(REFUSED if is_refusal else 1)
        self.step, self.reason, self.is_refusal = step, reason, is_refusal


@dataclass
class Engine:
    """Runs the tasks of one graph for kfp.local."""

    run: Run
    screen: Screen
    reuse: Reuse
    place: Place
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

    def __init__(
        self, engine: Engine, image: str, full_command: list[str], env_vars: dict[str, str], **_
    ):
        """full_command: sh -ec SCRIPT SOURCE --executor_input JSON --function_to_execute NAME."""
        self.engine, self.image, self.environment = engine, image, env_vars
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
    def code(self) -> str:
        """Version of the component's code when the graph was made; "" of what is no step."""
        return self.parameters.get("code_version", "")

    @property
    def step(self) -> str:
        return step_of(self.folder.name)

    def run(self) -> Status:
        """Take over what is there, else work; keep run.json true in both cases."""
        # A task that is no step of the recipe: short, and always done anew.
        engine, run = self.engine, self.engine.run
        engine.failure = None  # of an attempt before this one
        if self.step not in run.record.steps:
            return self._ended(self._work())
        number = list(run.record.steps).index(self.step) + 1
        engine.screen.say(f"\nstep {number} of {len(run.record.steps)}: {self.step}")

        # Done already: by this run before it was interrupted, or by an earlier one.
        code = {"code_version": engine.place.code_of(self.component, self.code)}
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
        return self._ended(status)

    def _ended(self, status: Status) -> Status:
        """What kfp.local is told, which starts another attempt of what has failed; one of a step
        that was refused would be refused too. Raises StepFailed for that."""
        failure = self.engine.failure
        if failure and failure.is_refusal:
            raise failure
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
        """Start the component, and show what it says until it has ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        module = self.folder / "component.py"
        module.write_text(self.source)
        executor = ["-c", EXECUTOR, "--component_module_path", str(module)]
        executor += ["--executor_input", self.executor_input]
        executor += ["--function_to_execute", self.component]

        screen, place = self.engine.screen, self.engine.place
        screen.last_line = ""
        if self.component == "benchmark":  # whose page shows the curves of the trainings
            tracking.flush()
        command, environment = place.command(self, executor)
        code = run_step(
            command, environment, screen.show, terminal=screen.for_step(), explained=place.explains
        )
        if code == 0:
            return Status.SUCCESS
        reason = screen.last_line or f"exit code {code}"
        self.engine.failure = StepFailed(self.step, reason, is_refusal=code == REFUSED)
        return Status.FAILURE
