"""A run for the night: never two at once, never longer than allowed, and none begun anew where the
night before got half-way."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from shared.bounds import MANY
from shared.command import StepConfig
from shared.contracts.measured import BenchmarkReport, Verdict
from shared.errors import InputError
from shared.files.owned import Held
from shared.flags import as_words
from shared.pipeline.after_night.notify import notify
from shared.pipeline.after_night.retention import retire_nights
from shared.pipeline.processes import Guarded
from shared.pipeline.processes.locks import hold
from shared.pipeline.processes.reasons import came_from_outside
from shared.pipeline.recipes import Recipe
from shared.pipeline.runs import LOCK as RUN_LOCK
from shared.pipeline.runs import EngineOptions, Run, RunRecord, runs_in
from shared.pipeline.submitting import ImageOptions, RecipeOptions
from shared.recipes.files import is_file, recipe_name
from shared.secrets import carried
from shared.servers import said
from shared.terminal.stopping import is_stopping, keeps

LOCK = "nightly.lock"  # in the folder of the runs
NIGHTLY = {"nightly": "true"}  # tag of the runs of the night
# Exit codes: our own, EX_TEMPFAIL, and that of timeout(1).
REFUSED_BY_VERDICT, BUSY, TIMED_OUT = 3, 75, 124
# From SIGTERM to SIGKILL, for the step's end and then for that of MLflow's runs.
GRACE_SECONDS = 60.0


class NightlyOptions(ImageOptions, EngineOptions, RecipeOptions, StepConfig):
    """What runs in the night; the same flags as of `nightly`. A recipe's file is read anew every
    night."""

    STEP: ClassVar[str] = "nightly"

    timeout_min: float = Field(default=0, ge=0, le=MANY)
    """Minutes after which the run is stopped, for the next night to go on; 0 = never."""
    runs: Path = Path("runs")
    """Folder of the runs, of the MLflow store and of the lock."""
    keep_nights: int = Field(default=0, ge=0, le=MANY)
    """Nights of the recipe that keep their data, models and MLflow artifacts; 0 = all."""
    notify: str = ""
    """Command for the shell: standard input tells it, in JSON, how the night ended."""

    @field_validator("recipe")
    @classmethod
    def _is_found_from_any_folder(cls, recipe: str) -> str:
        return os.path.realpath(recipe) if is_file(recipe) else recipe

    @field_validator("init_from")
    @classmethod
    def _is_found_too(cls, init_from: str) -> str:
        return os.path.realpath(init_from) if init_from else ""

    @property
    def recipe_name(self) -> str:
        """What the night's run, its experiment and its registered model are called after."""
        return recipe_name(self.recipe)


def run_night(config: NightlyOptions, numbers: Recipe) -> int:
    """Run the pipeline once, under the lock of the folder of the runs.

    Args:
        numbers: The complete config of every step.

    Returns an exit code: that of `submit`, or REFUSED_BY_VERDICT, BUSY, TIMED_OUT. Raises
    InputError where the runs' folder cannot be written, SystemExit when a signal stops us.
    """
    try:
        config.runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--runs {config.runs} cannot be made: {error.strerror}; name another folder."
        ) from None
    keeps("what is done is kept", "the next night goes on with it")
    try:
        with hold(config.runs / LOCK):
            return _tonight(config, numbers)
    except Held as held:
        print(f"nightly: {held} Nothing was started.", file=sys.stderr)
        notify(config.notify, config.recipe_name, BUSY, reason=str(held))
        return BUSY


def _tonight(config: NightlyOptions, numbers: Recipe) -> int:
    """Raises Held where a person goes on with last night's run at this moment."""
    # What the night before could not finish, else a new run.
    earlier = nights_in(config.runs)
    unfinished = find_unfinished(earlier, config, numbers)
    if unfinished:
        with hold(unfinished.folder / RUN_LOCK):  # nobody works on it
            pass
        print(f"nightly: goes on with {unfinished.name}: {_how_it_ended(unfinished)}")

    # The run; however it ends, the end of the night follows.
    code: int = 1
    try:
        code = _run(_command(config, unfinished), config.timeout_min)
    except SystemExit as stop:
        code = stop.code
        raise
    finally:
        names = {run.name for run in earlier if run != unfinished}
        tonight = next((run for run in nights_in(config.runs) if run.name not in names), None)
        verdict = verdict_of(tonight) if tonight and code == 0 else None
        if verdict and verdict.refused:
            code = REFUSED_BY_VERDICT
        end_night(config, tonight, verdict, code)
    return code


def _command(config: NightlyOptions, unfinished: Run | None) -> list[str]:
    """What `submit` is told."""
    from shared.pipeline.engines.running import ROOT

    command = [sys.executable, str(ROOT / "pipeline.py"), "submit", "--runs", str(config.runs)]
    command += ["--reuse", "data"]  # training and measuring anew is what a night is for
    command += [f"--engine={config.engine}", *as_words(config, EngineOptions)]
    if config.raw_data and (not unfinished or unfinished.record.has_secrets):
        command += ["--raw-data", config.raw_data]
    if unfinished:
        return [*command, "--continue", unfinished.name]
    command += ["--recipe", config.recipe, *as_words(config, ImageOptions)]
    command += ["--from", config.start] if config.start else []
    command += ["--init-from", config.init_from] if config.init_from else []
    command += ["--tag", *(f"{name}={value}" for name, value in NIGHTLY.items())]
    return [*command, "--set", *config.overrides] if config.overrides else command


def _run(command: list[str], timeout_min: float) -> int:
    """Run a command; when we are stopped or the time is over, every process below it goes too."""
    sys.stdout.flush()
    program, script, *words = command
    command = [program, script, *map(carried, words)]
    with Guarded(command, dict(os.environ), GRACE_SECONDS) as guarded:
        try:
            status = guarded.process.wait(timeout_min * 60 or None)
        except subprocess.TimeoutExpired:
            return TIMED_OUT
    return status if status >= 0 else 128 - status  # as shells count signals


# The nights before.


def nights_in(runs: Path) -> list[Run]:
    """The nights in a folder of runs, the newest first."""
    return [run for run in runs_in(runs) if run.record.tags.items() >= NIGHTLY.items()]


def find_unfinished(nights: list[Run], config: NightlyOptions, numbers: Recipe) -> Run | None:
    """The newest night of the recipe, if it was broken off from outside and is what tonight's would
    be.

    One that failed by itself would fail again. Older ones are left: what they were to do, a later
    night has done.

    Args:
        nights: The newest first.
        numbers: The complete config of every step.
    """
    for night in nights:
        if night.record.recipe == config.recipe_name:
            is_same = night.record.config == numbers and _has_places(night, config)
            return night if is_same and _was_broken_off(night.record) else None
    return None


def _was_broken_off(record: RunRecord) -> bool:
    if record.state == "failed":
        return came_from_outside(record.reason)
    return record.state != "finished"


def _has_places(night: Run, config: NightlyOptions) -> bool:
    """Whether a night's raw data and relative paths are tonight's."""
    if night.record.working_directory != os.getcwd():
        return False
    if config.raw_data is None:
        return night.record.raw_data == str(config.runs.resolve() / "demo_scenes")
    with contextlib.suppress(InputError):
        night.raw_data(config.raw_data)
        return True
    return False


def _how_it_ended(night: Run) -> str:
    record = night.record
    steps = [step for step, state in record.steps.items() if not state.is_done]
    where = f" in {steps[0]}" if steps else ""
    if record.state == "running":
        return f"it was killed{where}, by whatever gave it no time to say so"
    return record.reason if record.state == "failed" else f"it was stopped{where}"


# The end of a night.


def verdict_of(night: Run) -> Verdict | None:
    """What the benchmark says of a night's model; None where it says nothing."""
    try:
        return BenchmarkReport.read(night.report).verdict
    except (InputError, OSError) as error:
        print(f"nightly: warning: no verdict: {said(error)}", file=sys.stderr)
        return None


def end_night(
    config: NightlyOptions, night: Run | None, verdict: Verdict | None, code: int
) -> None:
    """Say how a night ended, to whoever reads its log and to --notify; on success and on failure.
    After a night that came to its end, old ones are removed.

    Args:
        night: Its run; None where it got none.
        verdict: On its model, where it came so far.
        code: The exit code of `nightly`.
    """
    name = night.name if night else "no run"
    goes_on = f"the next night goes on with {name}" if night else "the next night begins anew"
    if verdict:
        how = "refused" if verdict.refused else "done"
        why = " ".join(verdict.reasons)
        print(f"nightly: {name} {how}, verdict: {verdict.outcome}. {why}".rstrip())
    elif code == 0:
        print(f"nightly: {name} done, without a verdict")
    elif code == TIMED_OUT:
        print(
            f"nightly: stopped after --timeout-min {config.timeout_min:g}; {goes_on}",
            file=sys.stderr,
        )
    elif code > 128 and not is_stopping():  # else it is said
        print(f"nightly: stopped; {goes_on}", file=sys.stderr)
    elif code < 128:
        how = f"{name} failed" if night else "ended before a run began,"
        print(f"nightly: {how} with exit code {code}", file=sys.stderr)
    notify(config.notify, config.recipe_name, code, night)
    if code in (0, REFUSED_BY_VERDICT):
        retire_nights(config.runs, config.recipe_name, config.keep_nights)
