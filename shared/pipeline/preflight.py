"""What a run will need and does not find, said before its first step, of all steps at once."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import disk_usage
from typing import Any

from tabulate import tabulate

from shared.command import StepConfig
from shared.contracts.forecast import Forecast, Refusals
from shared.errors import InputError
from shared.files.owned import refuse_unwritable
from shared.flags import as_flag
from shared.pipeline.images.registry import check_images
from shared.recipes.words import in_words_of_recipe, owners_of
from shared.secrets import carried
from shared.terminal import stopping
from shared.terminal.screen import say

STORE = "MLFLOW_TRACKING_URI"
ROOT = Path(__file__).resolve().parents[2]

Configs = Mapping[str, StepConfig]  # of every step, in the order of the graph
Preflights = Mapping[str, Callable[..., Forecast]]


def run_preflight(meanwhile: Callable[[], object] = lambda: None, **flags: Any) -> None:
    """Run the verb `preflight` with these flags in a process of its own, since it loads torch; one
    with an empty value is left out, `continue_` is --continue.

    meanwhile: Called while that process works, on another core.

    Raises SystemExit with 2 where something is missing, which has been said then."""
    command = [sys.executable, ROOT / "pipeline.py", "preflight"]
    for name, value in flags.items():
        if value:
            words = value if isinstance(value, tuple) else [value]
            command += [as_flag(name.rstrip("_")), *(carried(str(word)) for word in words)]
    environment = os.environ | {stopping.IS_SAID: "1"}
    with subprocess.Popen([str(word) for word in command], env=environment) as process:
        try:
            meanwhile()
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        sys.exit(code)


def look_ahead(
    configs: Configs,
    preflights: Preflights,
    raw_data: str | None,
    runs: Path,
    name: str,
    images: Mapping[str, str] | None = None,
    finished: Iterable[str] = (),
    init_from: str = "",
    containers: Callable[[], tuple[str, list[str]]] | None = None,
) -> None:
    """Print what a run will need; raises SystemExit with 2 where something is not there, each with
    a line that begins with the step.

    Args:
        preflights: Of every step, the function of its `checks.py`.
        raw_data: Path or URL; None: demo scenes.
        name: Of the run, for its folder in `runs`, which is not made.
        images: Of every step, where it runs on a server; None: it runs here.
        finished: Steps that will not run, and need nothing.
        init_from: Of the command line; "" = it was not given.
        containers: What the containers of a run here are, in words, and what they lack.
    """
    # The steps.
    here, runs = images is None, runs.resolve()
    if here and raw_data and "://" not in raw_data:
        raw_data = str(Path(raw_data).absolute())
    forecasts = ask_steps(configs, preflights, raw_data, runs / name, here)
    coming = {step: one for step, one in forecasts.items() if step not in finished}
    owners, order = owners_of(configs), list(configs)
    so_far = {step: {one: owners[one] for one in order[: order.index(step) + 1]} for step in order}
    missing = [
        f"{step}: {in_words_of_recipe(sentence, so_far[step], step)}"
        for step, forecast in coming.items()
        for sentence in dict.fromkeys(forecast.refusals)
    ]
    if init_from:
        given = f"--set train_global.start_from={shlex.quote(init_from)}"
        missing = [sentence.replace(given, f"--init-from {init_from}") for sentence in missing]
    remarks = [
        f"{step}: {in_words_of_recipe(remark, so_far[step], step)}"
        for step, forecast in coming.items()
        for remark in forecast.remarks
    ]
    found = [(step, forecast.found) for step, forecast in coming.items() if forecast.found]
    notes = [f"{step}: {note}" for step, one in coming.items() for note in one.unknown]

    # Where they run.
    if here:
        of_run = Refusals()
        of_run.of(check_store)
        place = of_run.of(check_runs_folder, runs)
        if room := place and of_run.of(check_disk, coming, place):
            found.append(("disk", room))
        if containers:
            words, lacking = containers()
            found += [("containers", words)] if words else []
            missing += [f"containers: {sentence}" for sentence in lacking]
        missing += [f"runs: {sentence}" for sentence in of_run]
    else:
        lacking, unknown = check_images(
            {one: images[one] for step in coming for one in images if one.partition(" ")[0] == step}
        )
        missing, notes = missing + lacking, notes + unknown

    # All at once.
    say(tabulate(found, tablefmt="plain"))
    for remark in remarks:
        say(remark)
    for note in notes:
        say(f"not looked at: {note}")
    if missing:
        sys.stdout.flush()
        print("\n".join(missing), file=sys.stderr)
        sys.exit(2)
    print("preflight: all there", flush=True)


def ask_steps(
    configs: Configs, preflights: Preflights, raw_data: str | None, run: Path, here: bool
) -> dict[str, Forecast]:
    """What every step will need, by what the steps before will make.

    run: folder of the run, which is there when one goes on."""
    forecasts: dict[str, Forecast] = {}

    def ask(step: str, *inputs: Any) -> Any:
        if step not in configs:
            return None
        config = configs[step]
        forecasts[step] = forecast = preflights[step](*inputs, config, here)
        place = output(step, config.OUTPUT)
        if here and place.exists() and not config.APPEARS_WHOLE:  # of a run that goes on
            flag = as_flag(config.OUTPUT)
            forecast.refusals.of(refuse_unwritable, place, flag, config.WRITES)
        return forecast.gives

    def output(step: str, name: str) -> Path:
        return run / step.replace("_", "-") / name

    # As in the graph.
    dataset = ask("prepare", raw_data, output("prepare", "dataset"))
    model = ask("train_global", dataset, None, None, output("train_global", "model"))
    clusters = ask("cluster", dataset, model)
    if "train_local" in configs:
        model = ask("train_local", dataset, model, clusters, output("train_local", "model"))
    size = ask("export", dataset, model, clusters, output("export", "exported"))
    ask("benchmark", dataset, size)
    return forecasts


def check_runs_folder(runs: Path) -> Path:
    """The disk's folder that the runs will stand in: `runs` or what there is of the way to it.
    Raises InputError where nothing can be written."""
    place = next(path for path in (runs, *runs.parents) if path.exists())
    refuse_unwritable(runs, "--runs", ["run"])
    return place


def check_store() -> None:
    """Raises InputError where MLflow can make no database: it reads a % in the path of its own
    files as a placeholder."""
    package = find_spec("mlflow")
    if package and "%" in str(package.origin) and not os.environ.get(STORE, "").startswith("http"):
        raise InputError(
            f"MLflow makes no database from {Path(package.origin).parent}, a path with a %: move "
            f"the checkout with its .venv, or name a server in {STORE}."
        )


def check_disk(forecasts: Mapping[str, Forecast], place: Path) -> str:
    """What the run takes on the disk of `place`, in words. Raises InputError where it has less
    room."""
    needed = sum(forecast.stay_bytes for forecast in forecasts.values())
    needed += max((forecast.passing_bytes for forecast in forecasts.values()), default=0)
    free = disk_usage(place).free
    estimate = f"about {needed / 1e9:.2g} GB by estimate"
    if needed > free:
        shares = ", ".join(
            f"{step} {forecast.stay_bytes / 1e9:.2g}"
            for step, forecast in forecasts.items()
            if forecast.stay_bytes
        )
        raise InputError(
            f"the run takes {estimate} ({shares}) but {place} has {free / 1e9:.2g} GB free: make "
            "room, or name a folder on another disk with --runs."
        )
    return f"{estimate}, {free / 1e9:.2g} GB free in {place}"
