"""The pipeline on one page, and its commands: `python pipeline.py {compile,submit,nightly}
--help`."""

import contextlib
import difflib
import fcntl
import inspect
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import tyro
import yaml
from kfp import Client, compiler, dsl, local
from kfp_server_api import ApiException
from urllib3.exceptions import HTTPError

from components.benchmark.component import benchmark
from components.benchmark.config import BenchmarkConfig
from components.cluster.component import cluster
from components.cluster.config import ClusterConfig
from components.export.component import export
from components.export.config import ExportConfig
from components.prepare.component import prepare
from components.prepare.config import PrepareConfig
from components.train.component import train
from components.train.config import TrainConfig
from shared import tracking
from shared.command import StepConfig
from shared.errors import InputError

ROOT = Path(__file__).resolve().parent
RECIPES = ROOT / "shared" / "pipeline"
CONFIGS: dict[str, type[StepConfig]] = {
    "prepare": PrepareConfig,
    "train_global": TrainConfig,
    "cluster": ClusterConfig,
    "train_local": TrainConfig,
    "export": ExportConfig,
    "benchmark": BenchmarkConfig,
}
TASKS = {"train": "train_global", "train-2": "train_local"}  # kfp's names of the two train tasks
BUSY, TIMED_OUT = 75, 124  # exit codes: EX_TEMPFAIL, and that of timeout(1)


# The graph. A recipe decides its shape: with or without `cluster` and `train_local`.


def build(recipe: str, parameters: dict[str, dict[str, Any]]) -> Callable:
    """The KFP pipeline of a recipe; its parameters are `raw_data` and one dictionary per step,
    checked by the step."""

    def step(component, **inputs):
        return component(**inputs).set_caching_options(
            False
        )  # the cache does not see changed code or raw data

    def graph(raw_data, *configs):
        config = dict(zip(parameters, configs, strict=True))
        dataset = step(prepare, raw_data=raw_data, config=config["prepare"]).outputs["dataset"]
        model = step(train, dataset=dataset, config=config["train_global"]).outputs["model"]
        features = {}
        if "cluster" in config:
            clustered = step(cluster, dataset=dataset, model=model, config=config["cluster"])
            features = {"clusters": clustered.outputs["clusters"]}
        if "train_local" in config:
            second = step(
                train, dataset=dataset, init_from=model, config=config["train_local"], **features
            )
            model = second.outputs["model"]
        exported = step(
            export, dataset=dataset, model=model, config=config["export"], **features
        ).outputs["exported"]
        folders = dict(exported=exported, dataset=dataset, model=model, **features)
        measured = step(benchmark, **folders, config=config["benchmark"])
        return measured.outputs["report"]

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    raw_data = inspect.Parameter("raw_data", kind, annotation=str, default="")
    steps = [
        inspect.Parameter(step, kind, annotation=dict, default=values)
        for step, values in parameters.items()
    ]
    graph.__signature__ = inspect.Signature([raw_data, *steps], return_annotation=dsl.Artifact)
    description = f"Paired images to a deployed, measured model: recipe {recipe}."
    return dsl.pipeline(name=recipe.replace("_", "-"), description=description)(graph)


# Recipes.


def read_recipe(name: str, overrides: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The complete config of every step of a recipe: defaults, then the recipe, then
    STEP.FIELD=VALUE overrides."""
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name not in known:
        raise InputError(f"--recipe {name!r} is unknown: choose one of {', '.join(known)}.")
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    for override in overrides:
        target, equals, value = override.partition("=")
        step, _, field = target.partition(".")
        if not equals or not field:
            raise InputError(
                f"--set {override!r} is not STEP.FIELD=VALUE: write for example "
                "train_global.epochs=2."
            )
        if step not in recipe or field not in CONFIGS[step].model_fields:
            options = [f"{part}.{key}" for part in recipe for key in CONFIGS[part].model_fields]
            close = difflib.get_close_matches(target, options, n=1) or [f"{next(iter(recipe))}.…"]
            raise InputError(
                f"--set {target} is unknown in recipe {name}: did you mean {close[0]}?"
            )
        try:
            recipe[step][field] = yaml.safe_load(value)
        except yaml.YAMLError:
            recipe[step][field] = value
    checked = {}
    for step, values in recipe.items():
        try:
            checked[step] = CONFIGS[step].check(values).model_dump(mode="json")
        except InputError as refusal:
            raise InputError(f"recipe {name}, step {step}: {refusal}") from None
    return checked


# Commands.

app = tyro.extras.SubcommandApp()
RawData = Annotated[str | None, tyro.conf.arg(metavar="PATH")]
Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="STEP.FIELD=VALUE ...")]


@app.command(name="compile")
def compile_(
    recipe: str = "demo", output: Path = Path("pipeline.yaml"), overrides: Overrides = ()
) -> int:
    """Write the KFP v2 pipeline of a recipe as YAML; the same recipe gives the same bytes.

    Args:
        recipe: Name of a file in shared/pipeline.
        output: File to write.
        overrides: Numbers of the recipe to change, for example train_global.epochs=2.
    """
    if output.suffix != ".yaml":
        raise InputError(
            f"--output {output} does not end in .yaml: name the file for example pipeline.yaml."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(recipe, read_recipe(recipe, overrides)), str(output))
    # kfp's summary in comments lists dictionaries in an order that changes from process to process.
    body = [line for line in output.read_text().splitlines() if not line.startswith("#")]
    output.write_text(
        "\n".join([f"# Recipe {recipe}, by `python pipeline.py compile`.", *body, ""])
    )
    print(f"wrote {output}")
    return 0


@app.command
def submit(
    recipe: str = "demo",
    raw_data: RawData = None,
    overrides: Overrides = (),
    host: str = "",
    runs: Path = Path("runs"),
    tags: Annotated[tuple[str, ...], tyro.conf.arg(name="tag", metavar="KEY=VALUE ...")] = (),
) -> int:
    """Run a pipeline: on the KFP server at --host, else right here.

    Args:
        recipe: Name of a file in shared/pipeline.
        raw_data: Folder, archive or URL of paired images; without it the demo scenes are generated.
        overrides: Numbers of the recipe to change, for example train_global.epochs=2.
        host: URL of a Kubeflow Pipelines API server.
        runs: Folder of the runs and of the MLflow store.
        tags: Tags of the MLflow run.
    """
    parameters = read_recipe(recipe, overrides)
    if not all("=" in tag for tag in tags):
        raise InputError(
            f"--tag {' '.join(tags)!r} is not KEY=VALUE: write for example team=vision."
        )
    named_tags = dict(tag.split("=", 1) for tag in tags)
    warnings.filterwarnings("ignore", module="kfp")
    if host:
        return submit_to_server(host, recipe, raw_data, parameters)
    if raw_data is not None and "://" not in raw_data:
        if not Path(raw_data).exists():
            raise InputError(
                f"--raw-data {raw_data} does not exist: give a folder, archive or URL of paired "
                "images."
            )
        raw_data = str(Path(raw_data).resolve())
    for step in set(parameters) & {"train_global", "train_local"}:
        TrainConfig.check(parameters[step]).check_vgg_weights()
    runs = runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    print(f"No --host given: recipe {recipe} runs here, on the embedded engine.")
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, stop_with_steps)
    if raw_data is None:
        raw_data = str(runs / "demo_scenes")
        subprocess.run(
            [sys.executable, "-m", "components.prepare.demo.scenes", "--out", raw_data],
            cwd=ROOT,
            check=True,
        )
    return run_here(recipe, raw_data, parameters, runs, named_tags)


@app.command
def nightly(
    recipe: str = "demo",
    raw_data: RawData = None,
    overrides: Overrides = (),
    timeout_min: float = 0,
    runs: Path = Path("runs"),
) -> int:
    """Run a pipeline once, for cron or a systemd timer, and compare its benchmark with the night
    before.

    Exit codes: 0 done, 1 failed, 2 refused, 75 the previous run is still active, 124 timed out, 143
    stopped.

    Args:
        recipe: Name of a file in shared/pipeline.
        raw_data: Folder, archive or URL of paired images; without it the demo scenes are generated.
        overrides: Numbers of the recipe to change, for example train_global.epochs=2.
        timeout_min: Minutes after which the run is stopped; 0 = never.
        runs: Folder of the runs, of the MLflow store and of the lock.
    """
    read_recipe(recipe, overrides)
    runs.mkdir(parents=True, exist_ok=True)
    lock = open(runs / "nightly.lock", "a")  # noqa: SIM115 (held until the process ends)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(
            f"nightly: another run holds {runs / 'nightly.lock'}; nothing was started",
            file=sys.stderr,
        )
        return BUSY
    command = [sys.executable, ROOT / "pipeline.py", "submit", "--recipe", recipe, "--runs", runs]
    command += ["--tag", "nightly=true"]
    command += ["--raw-data", raw_data] if raw_data else []
    command += ["--set", *overrides] if overrides else []
    code = run_in_own_group(command, timeout_min * 60 or None)
    if code == TIMED_OUT:
        print(f"nightly: stopped after --timeout-min {timeout_min:g}", file=sys.stderr)
    if code == 0:
        print(compare_nights(tracking.latest_figures(recipe, {"nightly": "true"}, runs, count=2)))
    return code


# The embedded engine.


def run_here(recipe: str, raw_data: str, parameters: dict, runs: Path, tags: dict[str, str]) -> int:
    """Run the graph with kfp.local, one process per step, as children of one MLflow run."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(runs))
    name = f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    flat = {
        f"{step}.{field}": value
        for step, fields in parameters.items()
        for field, value in fields.items()
    }
    start = time.perf_counter()
    with (
        open(runs / f"{name}.log", "w") as log,
        tracking.pipeline_run(recipe, name, flat, tags, runs),
    ):
        console = Console(sys.stdout, log)
        try:
            with contextlib.redirect_stdout(console):
                finished = build(recipe, parameters)(raw_data=raw_data)
        except RuntimeError:
            if not console.step:
                raise
            print(
                f"\nstep {console.step} failed: {console.last_line}\nfull log: {log.name}",
                file=sys.stderr,
            )
            sys.exit(2 if re.match(r"\w+ refused: ", console.last_line) else 1)
    report = Path(finished.outputs["Output"].path)
    print(
        f"\n{recipe} done in {time.perf_counter() - start:.0f} "
        f"s\n\n{(report / 'table.txt').read_text()}"
    )
    print(
        f"report:    {report / 'report.html'}\nlog:       {log.name}\nMLflow UI: "
        f"{tracking.ui_command()}"
    )
    return 0


class Console:
    """Shows what the steps print; kfp's own lines go to the log file only."""

    KFP_LINE = re.compile(
        r"\d\d:\d\d:\d\d\.\d+ - \w+ - (?:Executing task '(?P<task>.+)'|(?P<logs>Streamed logs)|.*)"
    )

    def __init__(self, screen, log):
        self.screen, self.log = screen, log
        self.step = self.last_line = self.pending = ""
        self.in_step = self.in_json = False

    def write(self, text: str) -> int:
        self.log.write(text)
        *lines, self.pending = (self.pending + text).split("\n")
        for line in lines:
            self.show(re.sub(r"\x1b\[\d+m", "", line))
        return len(text)

    def show(self, line: str) -> None:
        if found := self.KFP_LINE.match(line):
            self.in_step = bool(found["logs"])
            if task := found["task"]:
                self.step = TASKS.get(task, task)
                self.say(f"\n[{self.step}]")
            return
        line = line.removeprefix("    ")
        if "Got executor_input:" in line:
            self.in_json = True
        if (
            self.in_step
            and line.strip()
            and not self.in_json
            and not line.startswith("[KFP Executor")
        ):
            self.last_line = line
            self.say(line)
        if line == "}":
            self.in_json = False

    def say(self, line: str) -> None:
        self.screen.write(line + "\n")  # print itself is replaced by kfp while a step runs
        self.screen.flush()

    def flush(self) -> None:
        self.log.flush()
        self.screen.flush()


def stop_with_steps(signum: int, _frame) -> None:
    """kfp would leave the running step alive. A second signal must not keep the MLflow run from
    being closed."""
    signal.signal(signum, signal.SIG_IGN)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.terminate()
    sys.exit(128 + signum)


# The KFP server.


def submit_to_server(host: str, recipe: str, raw_data: str | None, parameters: dict) -> int:
    if raw_data is None:
        raise InputError(
            "--host needs --raw-data: a path or URL that the pods of the cluster can read."
        )
    arguments = {"raw_data": raw_data, **parameters}
    try:
        run = Client(host=host).create_run_from_pipeline_func(
            build(recipe, parameters),
            arguments=arguments,
            experiment_name=recipe,
            enable_caching=False,
        )
    except (ApiException, HTTPError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"--host {host} does not answer as a KFP API server ({reason}): check the URL."
        ) from None
    print(f"submitted {run.run_id} to {host}")
    return 0


# The night.


def run_in_own_group(command: list, timeout_seconds: float | None) -> int:
    """Run a command; when we are stopped or the time is over, every process below it goes too."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True)

    def stop_group() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            os.killpg(process.pid, signal.SIGKILL)

    def stopped(signum: int, _frame) -> None:
        stop_group()
        os._exit(128 + signum)

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stopped)
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        stop_group()
        return TIMED_OUT


def compare_nights(nights: list[tuple[str, dict[str, float]]]) -> str:
    """Table of the headline figures of the newest run beside those of the one before."""
    if not nights:
        return "MLflow shows no finished nightly run to compare."
    (name, tonight), *before = nights
    previous_name, previous = before[0] if before else ("none", {})
    width = max(map(len, tonight), default=10)
    lines = [
        f"{'':{width}}  {'tonight':>12}  {'before':>12}  change",
        f"tonight: {name}, before: {previous_name}",
    ]
    for figure, value in sorted(tonight.items()):
        old = previous.get(figure)
        change = "" if not old else f"{value / old - 1:+.1%}"
        lines.append(
            f"{figure:{width}}  {value:12.5g}  {'-' if old is None else f'{old:12.5g}':>12}  "
            f"{change}"
        )
    return "\n".join([lines[1], "", lines[0], *lines[2:]])


def join_repeated(arguments: list[str], flag: str) -> list[str]:
    """`--set a --set b` -> `--set a b`: tyro would keep the last one only."""
    rest, values, taking = [], [], False
    for argument in arguments:
        taking = argument == flag or (taking and not argument.startswith("--"))
        if argument != flag:
            (values if taking else rest).append(argument)
    return rest + [flag, *values] if values else arguments


if __name__ == "__main__":
    try:
        sys.exit(
            app.cli(
                prog="python pipeline.py",
                args=join_repeated(join_repeated(sys.argv[1:], "--set"), "--tag"),
            )
        )
    except InputError as refusal:
        print(f"pipeline.py refused: {refusal}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
