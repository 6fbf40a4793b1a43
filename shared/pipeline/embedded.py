"""The embedded engine: the graph on this machine, by kfp.local, one process per step."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import psutil
from kfp import local
from kfp.dsl.graph_component import GraphComponent

from shared import tracking
from shared.errors import InputError
from shared.pipeline.graph import step_of
from shared.pipeline.recipes import Recipe

ROOT = Path(__file__).resolve().parents[2]


def run_name(recipe: str) -> str:
    """Name of a new run: of its log, and of its run in MLflow."""
    return f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"


def find_raw_data(raw_data: str) -> str:
    """The absolute path of raw data on this machine; a URL as it is. Raises InputError for a path
    that is not there."""
    if "://" in raw_data:
        return raw_data
    if not Path(raw_data).exists():
        raise InputError(
            f"--raw-data {raw_data} does not exist: give a folder, archive or URL of paired images."
        )
    return str(Path(raw_data).resolve())


def run_here(
    recipe: str,
    graph: GraphComponent,
    raw_data: str | None,
    config: Recipe,
    runs: Path,
    tags: dict[str, str],
) -> None:
    """Run a built graph; its steps become children of one MLflow run.

    Args:
        recipe: Name of the experiment in MLflow.
        raw_data: Absolute path or URL of paired images; None: demo scenes, which are drawn.
        config: Config of every step, for MLflow; the graph holds the same numbers.
        runs: Folder that takes the steps' folders and the log; made where it is not there.
        tags: Tags of the MLflow run.

    Raises SystemExit with 2 where a step refused, else 1 where it failed.
    """
    # From here on a signal stops the running step too.
    print(f"No --host given: recipe {recipe} runs here, on the embedded engine.")
    _stop_steps_with_us()
    runs = runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    if raw_data is None:
        raw_data = str(runs / "demo_scenes")
        draw = [sys.executable, "-m", "components.prepare", "demo", "--out", raw_data]
        subprocess.run(draw, cwd=ROOT, check=True)

    # The steps find our packages wherever they are started.
    path = [str(ROOT), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(runs))

    # The run: steps on the screen, everything in the log, figures in MLflow.
    start = time.perf_counter()
    name = run_name(recipe)
    numbers = {f"{step}.{field}": config[step][field] for step in config for field in config[step]}
    in_mlflow = tracking.pipeline_run(recipe, name, numbers, tags, runs)
    with open(runs / f"{name}.log", "w") as log, in_mlflow:
        console = Console(sys.stdout, log)
        try:
            with contextlib.redirect_stdout(console):
                finished = graph(raw_data=raw_data)
        except RuntimeError:
            if not console.step:
                raise
            failure = f"step {console.step} failed: {console.last_line}"
            print(f"\n{failure}\nfull log: {log.name}", file=sys.stderr)
            # An exception, so that the MLflow run is closed as failed.
            sys.exit(2 if re.match(r"\w+ refused: ", console.last_line) else 1)

    # Where everything is.
    seconds = time.perf_counter() - start
    report = Path(finished.outputs["Output"].path)
    print(f"\n{recipe} done in {seconds:.0f} s\n\n{(report / 'table.txt').read_text()}")
    print(f"report:    {report / 'report.html'}")
    print(f"log:       {log.name}")
    print(f"MLflow UI: {tracking.ui_command()}")


class Console:
    """A stdout that shows what the steps print; kfp's own lines go to the log file only.

    kfp.local offers no hook for this: it logs through the root logger and prints the steps' lines
    indented by four blanks.
    """

    KFP_LINE = re.compile(
        r"\d\d:\d\d:\d\d\.\d+ - \w+ - (?:Executing task '(?P<task>.+)'|(?P<logs>Streamed logs)|.*)"
    )
    COLOUR = re.compile(r"\x1b\[\d+m")

    def __init__(self, screen: TextIO, log: TextIO):
        self.screen, self.log = screen, log
        self.step = ""  # that runs, or ran last
        self.last_line = ""  # that a step printed: the reason where it failed
        self.pending = ""  # text without its end of line yet
        self.in_step = self.in_json = False

    def write(self, text: str) -> int:
        self.log.write(text)
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            self.show(self.COLOUR.sub("", line))
        return len(text)

    def show(self, line: str) -> None:
        """Show a line if a step has printed it; keep which step runs."""
        # A line of kfp, perhaps the first of a step.
        if found := self.KFP_LINE.match(line):
            self.in_step = bool(found["logs"])
            if found["task"]:
                self.step = step_of(found["task"])
                self.say(f"\n[{self.step}]")
            return

        # A line of the process that kfp runs a step in, which first prints its input as JSON.
        line = line.removeprefix("    ")
        self.in_json |= "Got executor_input:" in line
        by_kfp = self.in_json or line.startswith("[KFP Executor")
        if self.in_step and line.strip() and not by_kfp:
            self.last_line = line
            self.say(line)
        self.in_json &= line != "}"

    def say(self, line: str) -> None:
        self.screen.write(line + "\n")  # print itself is replaced by kfp while a step runs
        self.screen.flush()

    def flush(self) -> None:
        self.log.flush()
        self.screen.flush()


def _stop_steps_with_us() -> None:
    """Make SIGTERM and SIGHUP stop the running step too, which kfp would leave alive."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _stop)


def _stop(signum: int, _frame) -> None:
    # A second signal must not keep the MLflow run from being closed.
    signal.signal(signum, signal.SIG_IGN)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    sys.exit(128 + signum)
