"""What `submit` and `schedule` start after the preflight: a run here or on a server, or nights; and
what the preflight looks at of it."""

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared import tracking
from shared.command import StepConfig
from shared.errors import InputError
from shared.pipeline.after_night.notify import notify
from shared.pipeline.cluster.cards import cards_of
from shared.pipeline.cluster.config import ANY, Cluster
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.engines.checks import check_containers, images_here, start_again
from shared.pipeline.images.named import refuse_wrong, with_images
from shared.pipeline.nights import NightlyOptions, run_night
from shared.pipeline.preflight import run_preflight
from shared.pipeline.promotion import find_model, start_from, tags_of_start
from shared.pipeline.recipes import Recipe, read_recipe
from shared.pipeline.runs import LATEST, EngineOptions, begin, find, refuse_changes, tags_by_name
from shared.pipeline.schedules import manage, recurring
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.server import submitting as server
from shared.pipeline.server.credentials import access_of
from shared.pipeline.submitting import RecipeOptions, SubmitOptions
from shared.recipes.files import recipe_name
from shared.tracking import store

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

Configs = Mapping[str, type[StepConfig]]
Build = Callable[[str, Recipe, Cluster], "GraphComponent"]


def go_on(config: SubmitOptions, build: Build) -> None:
    """Go on with a run of this machine that was interrupted. Raises InputError for what would
    change it, and where there is none."""
    from shared.pipeline.engines import running

    if config.host:
        raise InputError("--continue goes on with a run of this machine: leave out --host.")
    changes = {"--recipe": config.recipe != "demo", "--set": config.overrides}
    changes |= {"--tag": config.tags, "--from": config.start, "--init-from": config.init_from}
    refuse_changes(changes | {"--cluster": config.cluster, "--images": config.images})
    run = find(config.runs, *config.continue_ or (LATEST,), flag="--continue")
    if run.record.state == "finished":
        print(f"run {run.name} is finished already")
        return running.print_result(run)
    os.chdir(run.record.working_directory)
    site, here = start_again(run, config), run.record.engine.for_preflight()
    asked = dict(continue_=run.name, raw_data=config.raw_data, runs=run.folder.parent)
    run_preflight(meanwhile=load_engine, **asked, **here)
    graph = build(run.record.recipe, run.record.config, site)
    running.run_here(run, graph, run.raw_data(config.raw_data), config.reuse)


def start_here(
    config: SubmitOptions, build: Build, name: str, recipe: Recipe, init_from: str
) -> None:
    """Begin a run on this machine. Raises InputError."""
    site, tags = with_images(read_cluster(config.cluster), config.images), _tags(config, init_from)
    images = images_here(config, site, config.images)
    here = config.for_preflight() | dict(images=config.images, cluster=config.cluster)
    asked = _asked(config, init_from) | dict(runs=config.runs)
    run_preflight(meanwhile=load_engine, **asked, **here)
    from shared.pipeline.engines import running

    raw_data = running.find_raw_data(config.raw_data, config.runs)
    run = begin(name, recipe, raw_data, tags, tracking.code_version(), config.runs)
    run.start_by(config, images, site.needs_here())
    site = site.here().model_copy(update={"images": images})
    running.run_here(run, build(name, recipe, site), raw_data, config.reuse)


def load_engine() -> None:
    """Load what runs a graph here: kfp and MLflow, which take seconds."""
    import shared.pipeline.engines.running  # noqa: F401

    with contextlib.suppress(Exception):  # who opens MLflow says what it lacks
        store.load_mlflow()


def start_on_server(
    config: SubmitOptions, build: Build, name: str, recipe: Recipe, init_from: str
) -> None:
    """Begin a run on the server at --host. Raises InputError."""
    tags = _tags(config, "")
    # Without the address, which may hold a password.
    server.check_raw_data(config.raw_data)
    access_of(config)  # a token that is not there is said before the preflight
    graph = _looked_at(config, build, name, recipe, init_from)
    server.submit(config, name, graph, tags)


def schedule_here(config: ScheduleOptions, init_from: str) -> None:
    """Let nights begin on this machine. Raises InputError."""
    images_here(config, ANY, config.images)
    here = config.for_preflight() | dict(images=config.images)
    run_preflight(**_asked(config, init_from), runs=config.runs, **here)
    manage.create(config)


def schedule_on_server(
    config: ScheduleOptions, build: Build, recipe: Recipe, init_from: str
) -> None:
    """Let nights begin on the server at --host. Raises InputError."""
    graph = _looked_at(config, build, config.recipe_name, recipe, init_from)
    recurring.create(config, graph)


def start_night(config: NightlyOptions, configs: Configs) -> int:
    """The exit code of a night, which starts or goes on with last night's; a refusal is told to
    whom --notify names. Raises InputError."""
    try:
        init_from = find_model(config.init_from)
        numbers = read_recipe(config.recipe, configs, config.overrides, init_from)
        numbers = start_from(config.start, config.recipe_name, numbers, config.runs)
        return run_night(config, numbers)
    except InputError as refusal:
        notify(config.notify, Path(config.recipe).stem, code=2, reason=str(refusal))
        raise


class Coming(NamedTuple):
    """A run that will start, or go on."""

    name: str  # of its recipe, or its own where it goes on
    recipe: Recipe
    raw_data: str | None
    runs: Path
    engine: EngineOptions
    finished: list[str]  # steps that will not run
    images: dict[str, str]  # of every component, kept of the begin


def new_run(
    configs: Configs, recipe: str, overrides: tuple[str, ...], init_from: str, **about: Any
) -> Coming:
    """Raises InputError."""
    numbers = read_recipe(recipe, configs, overrides, init_from)
    return Coming(recipe_name(recipe), numbers, finished=[], images={}, **about)


def run_to_go_on(
    wanted: tuple[str, ...], raw_data: str | None, runs: Path, given: EngineOptions | None
) -> Coming:
    """A run by its name, () = the newest; this process is then where it works.

    given: Other options of the engine than at its begin. Raises InputError where it is not there.
    """
    run, runs = find(runs, *wanted or (LATEST,), flag="--continue"), runs.resolve()
    record = run.record
    os.chdir(record.working_directory)
    finished = [step for step, state in record.steps.items() if state.is_done]
    engine = record.engine.model_copy(update=given.for_preflight() if given else {})
    images = record.images if engine == record.engine else {}
    return Coming(run.name, record.config, run.raw_data(raw_data), runs, engine, finished, images)


def containers_of(
    coming: Coming, steps: Mapping[str, StepConfig], site: Cluster, given: str
) -> Callable[[], tuple[str, list[str]]]:
    """What looks at the containers of these steps; given: the value of --images."""
    images = coming.images or images_here(coming.engine, site, given)
    return partial(check_containers, coming.engine, images, steps, coming.raw_data)


def _looked_at(
    config: SubmitOptions | ScheduleOptions,
    build: Build,
    name: str,
    recipe: Recipe,
    init_from: str,
) -> "GraphComponent":
    """The graph for a server's cluster, which has what it needs as far as that is seen from here.
    Raises InputError, and SystemExit with 2 where something is missing."""
    from shared.pipeline.cluster.place import refuse_unseen

    site = with_images(read_cluster(config.cluster), config.images)
    refuse_unseen(config.raw_data, site)
    graph = build(name, recipe, site)
    refuse_wrong(graph, recipe, site, config.images, "--host")
    of_server = dict(host="server", images=config.images, cluster=config.cluster)
    run_preflight(**_asked(config, init_from), **of_server)
    print(cards_of(site))
    return graph


def _asked(config: RecipeOptions, init_from: str) -> dict:
    """The flags of `preflight` that say what runs."""
    asked = dict(recipe=config.recipe, raw_data=config.raw_data, set=config.overrides)
    return asked | {"init_from": init_from}


def _tags(config: SubmitOptions, init_from: str) -> dict[str, str]:
    return tags_by_name(config.tags) | tags_of_start(init_from)
