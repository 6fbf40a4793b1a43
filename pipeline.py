"""The pipeline on one page, and its verbs: `python pipeline.py --help`."""

import shared  # noqa: F401 # isort: skip - for it listens to Ctrl-C while the rest is imported
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from components.benchmark.config import BenchmarkConfig
from components.cluster.config import ClusterConfig
from components.export.config import ExportConfig
from components.prepare.config import PrepareConfig
from components.train.config import TrainConfig
from shared.command import StepConfig, command_line
from shared.device_names import DeviceName
from shared.errors import InputError
from shared.files.owned import refuse_unwritable
from shared.pipeline import started
from shared.pipeline.after_night.sync import sync
from shared.pipeline.cluster.cards import cards_of, with_cards
from shared.pipeline.cluster.config import ANY, Cluster
from shared.pipeline.cluster.nodes import refuse_nodes, template_of
from shared.pipeline.cluster.reading import read_cluster
from shared.pipeline.doctor.verb import doctor
from shared.pipeline.engines.checks import on_any_device
from shared.pipeline.graph import component_name, images_of_pods, parameters_of, task, write_yaml
from shared.pipeline.images.named import refuse_other_code, refuse_wrong, with_images
from shared.pipeline.nights import NightlyOptions
from shared.pipeline.preflight import look_ahead
from shared.pipeline.promotion import best, find_model, promote, rollback, start_from
from shared.pipeline.recipes import Recipe, read_recipe
from shared.pipeline.runs import EngineOptions
from shared.pipeline.schedules import manage, recurring
from shared.pipeline.schedules.manage import ScheduleOptions
from shared.pipeline.server.verbs import logs, status, terminate
from shared.pipeline.submitting import RawData, SubmitOptions
from shared.pipeline.ui import ui
from shared.recipes.files import recipe_name
from shared.terminal.stopping import keeps

if TYPE_CHECKING:
    from kfp.components import PythonComponent
    from kfp.dsl.graph_component import GraphComponent

CONFIGS: dict[str, type[StepConfig]] = {
    "prepare": PrepareConfig,
    "train_global": TrainConfig,
    "cluster": ClusterConfig,
    "train_local": TrainConfig,
    "export": ExportConfig,
    "benchmark": BenchmarkConfig,
}


# The graph.


def build(recipe: str, config: Recipe, site: Cluster = ANY) -> "GraphComponent":
    """The KFP pipeline of a recipe, whose steps decide the shape: with or without `cluster` and
    `train_local`. Its numbers are compiled in, and what a person gives lies over them."""
    # Loaded here, since kfp takes longer than the rest of a --help.
    from kfp import dsl

    from components.benchmark.component import benchmark as benchmark_step
    from components.cluster.component import cluster as cluster_step
    from components.export.component import export as export_step
    from components.prepare.component import fingerprint
    from components.prepare.component import prepare as prepare_step
    from components.train.component import train as train_step
    from components.train.component import train_on_nodes
    from shared.pipeline.cluster.place import pipeline_config, place, workspace_of

    config, site = with_cards(config, site)
    refuse_nodes(config, site)
    description = f"Paired images to a deployed, measured model: recipe {recipe}."
    about = dict(description=description, pipeline_config=pipeline_config(site))
    checked_by = {step: f"{CONFIGS[step].__module__}.{CONFIGS[step].__name__}" for step in config}

    @dsl.pipeline(name=recipe.replace("_", "-"), **about)
    @parameters_of(config)
    def graph(raw_data, **parameters) -> dsl.Artifact:
        # What is given, checked; and what the steps will read from outside, as it is now: a change
        # is seen where they are kept.
        asked = dict(raw_data=raw_data, config=config, checked_by=checked_by, **parameters)
        on = dict(workspace=workspace_of(site))
        looked = task("fingerprint", fingerprint, **asked, **on)
        place(looked, "fingerprint", "prepare", site)
        found = looked.outputs

        def step(name: str, component: "PythonComponent", **inputs) -> dsl.PipelineTask:
            known = dict(config=config[name], given=found[f"{name}_given"], **on)
            made = task(name, component, files_version=found[name], **known, **inputs)
            place(made, name, component_name(component), site)
            return made

        def train(name: str, **inputs) -> dsl.PipelineTask:
            if config[name].get("nodes", 1) == 1:
                return step(name, train_step, **inputs)
            return step(name, train_on_nodes, template=template_of(site, name), **inputs)

        # Raw images of any usual layout -> a checked data set.
        dataset = step("prepare", prepare_step, raw_data=raw_data).outputs["dataset"]

        # The coarse generator, or the only one.
        model = train("train_global", dataset=dataset).outputs["model"]

        # Its instance features -> styles of every label.
        styles = {}
        if "cluster" in config:
            clustered = step("cluster", cluster_step, dataset=dataset, model=model)
            styles = {"clusters": clustered.outputs["clusters"]}

        # The enhancer at full size, around the coarse generator.
        if "train_local" in config:
            second = train("train_local", dataset=dataset, init_from=model, **styles)
            model = second.outputs["model"]

        # The deployed file, and the proof that it equals the model.
        inputs = dict(dataset=dataset, model=model, **styles)
        exported = step("export", export_step, **inputs).outputs["exported"]

        # Speed, parity and pictures.
        return step("benchmark", benchmark_step, exported=exported, **inputs).outputs["report"]

    return graph


# The verbs.

Overrides = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="STEP.FIELD=VALUE ...")]
Images = Annotated[str, tyro.conf.arg(metavar="FILE|REGISTRY/PREFIX:TAG")]
InitFrom = Annotated[str, tyro.conf.arg(metavar="MODEL")]
ClusterFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
Continue = Annotated[tuple[str, ...] | None, tyro.conf.arg(name="continue", metavar="[RUN|latest]")]


def compile_(
    recipe: str = "demo",
    output: Path = Path("pipeline.yaml"),
    overrides: Overrides = (),
    init_from: InitFrom = "",
    images: Images = "",
    cluster: ClusterFile = None,
) -> None:
    """Write the KFP v2 pipeline of a recipe as YAML; the same recipe gives the same bytes.

    Args:
        recipe: Name of a built-in recipe, or path of a YAML file.
        output: File to write.
        overrides: Numbers of the recipe to change.
        init_from: Folder of a model to train on from, as the steps will see it.
        images: File of `make images`, or what is common to the names of the images; empty: those
            of this machine, pix2pixhd-STEP:cpu.
        cluster: YAML file of what the cluster has: cards, memory, volumes, secrets.

    Example:
        python pipeline.py compile --recipe label2city_512p --set train_global.vgg_weights=vgg.pth
    """
    if output.suffix != ".yaml":
        raise InputError(
            f"--output {output} does not end in .yaml: name the file for example pipeline.yaml."
        )
    refuse_unwritable(output, "--output")
    name, numbers = recipe_name(recipe), read_recipe(recipe, CONFIGS, overrides, init_from)
    site = with_images(read_cluster(cluster), images)
    graph = build(name, numbers, site)
    refuse_wrong(graph, numbers, site, images, "--cluster" if cluster else "")
    for unknown in refuse_other_code(images):
        print(f"not looked at: {unknown}", file=sys.stderr)
    write_yaml(graph, output, f"Recipe {name}, by `python pipeline.py compile`. {cards_of(site)}")
    print(f"wrote {output}")
    if not site.accelerator:
        print(cards_of(site), file=sys.stderr)


def submit(config: SubmitOptions) -> None:
    """Run a pipeline: on the KFP server at --host, else right here.

    Here, a step whose config, inputs and code equal those of an earlier run takes over its output.

    Example:
        python pipeline.py submit --recipe demo --set train_global.epochs=2 prepare.size=64x128
        python pipeline.py submit --continue latest
    """
    warnings.filterwarnings("ignore", module="kfp")
    if config.continue_ is not None:
        return started.go_on(config, build)
    name, init_from = recipe_name(config.recipe), find_model(config.init_from, config.host)
    numbers = read_recipe(config.recipe, CONFIGS, config.overrides, init_from)
    numbers = start_from(config.start, name, numbers, config.runs, config.host)
    start = started.start_on_server if config.host else started.start_here
    start(config, build, name, numbers, init_from)


def preflight(
    recipe: str = "demo",
    raw_data: RawData = None,
    overrides: Overrides = (),
    host: str = "",
    runs: Path = Path("runs"),
    init_from: InitFrom = "",
    continue_: Continue = None,
    images: Images = "",
    cluster: ClusterFile = None,
    engine: Literal["embedded", "docker"] | None = None,
    container_device: DeviceName = "auto",
) -> None:
    """Say what a run will need and does not find: files, networks, devices, disk, images.

    `submit` does it before the first step. Exit codes: 0 all is there, 2 something is missing.

    Args:
        recipe: Name of a built-in recipe, or path of a YAML file.
        raw_data: Folder, archive or URL of paired images; without it demo scenes are generated.
        overrides: Numbers of the recipe to change.
        host: URL of a Kubeflow Pipelines API server, whose pods have files of their own.
        runs: Folder of the runs.
        init_from: Folder of a model to train on from, ours or pix2pixHD's or pix2pix's own; sizes
            that --set does not say are its own.
        continue_: What an interrupted run will still need, by its name; without one, the newest.
        images: Of steps in containers, here or on a server: file of `make images`, or what their
            names have in common.
        cluster: YAML file of what that server's cluster has.
        engine: How steps will be started here; docker = in containers.
        container_device: Whose images, and which cards containers are given.

    Example:
        python pipeline.py preflight --recipe demo --set benchmark.lpips_network=lpips.onnx
    """
    site = with_images(read_cluster(cluster), images)  # before torch is loaded
    from components.benchmark.checks import preflight as of_benchmark
    from components.cluster.checks import preflight as of_cluster
    from components.export.checks import preflight as of_export
    from components.prepare.checks import preflight as of_prepare
    from components.train.checks import preflight as of_train

    keeps("it writes nothing")

    # What is asked for; of a run what it has still to do.
    engine_ = EngineOptions(engine=engine or "embedded", container_device=container_device)
    if continue_ is None:
        init_from = find_model(init_from, host)
        about = dict(raw_data=raw_data, runs=runs, engine=engine_)
        coming = started.new_run(CONFIGS, recipe, overrides, init_from, **about)
    else:
        coming = started.run_to_go_on(continue_, raw_data, runs, engine_ if engine else None)

    # Every step says what it needs.
    numbers, finished = coming.recipe, coming.finished
    configs = {step: CONFIGS[step].check(numbers[step]) for step in numbers}
    preflights = dict(prepare=of_prepare, train_global=of_train, cluster=of_cluster)
    preflights |= dict(train_local=of_train, export=of_export, benchmark=of_benchmark)
    more = dict(finished=finished, init_from=init_from)
    if host:
        more["images"] = images_of_pods(build(coming.name, numbers, site), numbers, site)
    elif coming.engine.engine == "docker":
        rest = {step: configs[step] for step in configs if step not in finished}
        more["containers"] = started.containers_of(coming, rest, site, images)
        configs = on_any_device(coming.engine, configs)
    look_ahead(configs, preflights, coming.raw_data, coming.runs, coming.name, **more)


def nightly(config: NightlyOptions) -> None:
    """Run a pipeline once, for cron or a timer: last night's where it was broken off, else a new
    one.

    Exit codes: 0 done, 1 failed, 2 refused, 3 done, but the verdict refuses the model, 75 the
    previous run is still active, 124 timed out, 143 stopped.

    Example:
        python pipeline.py nightly --raw-data /data/cityscapes --timeout-min 480
    """
    sys.exit(started.start_night(config, CONFIGS))


def schedule(config: ScheduleOptions) -> None:
    """Let `nightly` start by itself at the times of --cron: by this user's systemd, else crontab;
    with --host as a recurring run of that KFP server. Each schedule has a name.

    Example:
        python pipeline.py schedule --cron "0 2 * * *" --recipe demo --timeout-min 60
    """
    if config.wish != "create":
        return (recurring if config.host else manage).change(config)
    init_from = find_model(config.init_from, config.host)
    numbers = read_recipe(config.recipe, CONFIGS, config.overrides, init_from)
    if config.host:
        started.schedule_on_server(config, build, numbers, init_from)
    else:
        started.schedule_here(config, init_from)


def main(argv: list[str] | None = None) -> None:
    verbs = {"compile": compile_, "preflight": preflight, "submit": submit}
    verbs |= {"nightly": nightly, "promote": promote, "rollback": rollback, "best": best}
    verbs |= {"schedule": schedule, "ui": ui, "sync": sync}
    verbs |= {"status": status, "logs": logs, "terminate": terminate, "doctor": doctor}
    command_line("python pipeline.py", None, verbs, argv)


if __name__ == "__main__":
    main()
