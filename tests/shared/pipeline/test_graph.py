"""Names of tasks, where KFP would make them up; parameters that a person may edit."""

import functools
import os
import sys
from pathlib import Path

import pytest
from kfp import dsl, local

from components.prepare.component import fingerprint, prepare
from components.train.component import train
from pipeline import CONFIGS, build
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.pipeline.engines.running import run_here
from shared.pipeline.graph import parameters_of, run_parameters, step_of, task
from shared.pipeline.recipes import read_recipe
from shared.pipeline.runs import begin
from shared.recipes.files import built_in
from tests.calling import SMALL
from tests.places import CHECKED_BY, ROOT

NONE = dict(config={}, given={}, workspace="")


@pytest.mark.parametrize("step", CONFIGS)
def test_a_task_is_called_as_its_step_and_leads_back_to_it(step):
    @dsl.pipeline
    def graph():
        data = dsl.importer(artifact_uri="data", artifact_class=dsl.Dataset)
        task(step, train, dataset=data.output, **NONE, files_version="")

    (name,) = set(graph.pipeline_spec.root.dag.tasks) - {"importer"}
    assert step_of(name) == step
    assert graph.pipeline_spec.root.dag.tasks[name].task_info.name == step


def test_two_tasks_of_one_component_run_its_function():
    @dsl.pipeline
    def graph():
        data = dsl.importer(artifact_uri="data", artifact_class=dsl.Dataset)
        for step in ("train_global", "train_local"):
            task(step, train, dataset=data.output, **NONE, files_version="")

    executors = graph.pipeline_spec.deployment_spec["executors"]
    for name in ("exec-train-global", "exec-train-local"):
        container = executors[name]["container"]
        assert container["args"][-1] == "train" and container["image"].startswith("pix2pixhd-train")
    assert train.component_spec.name == "train", "the face itself keeps its name"


# What a person may edit.

# The common numbers of a recipe whose steps are all there.
NUMBERS = {
    "raw_data": ("STRING", None),
    "size": ("STRING", ("prepare", "size")),
    "train_size": ("STRING", ("train_global", "size")),
    "epochs": ("NUMBER_INTEGER", ("train_global", "epochs")),
    "epochs_decay": ("NUMBER_INTEGER", ("train_global", "epochs_decay")),
    "epochs_local": ("NUMBER_INTEGER", ("train_local", "epochs")),
    "epochs_decay_local": ("NUMBER_INTEGER", ("train_local", "epochs_decay")),
    "batch_size": ("NUMBER_INTEGER", ("train_global", "batch_size")),
    "batch_size_local": ("NUMBER_INTEGER", ("train_local", "batch_size")),
    "device": ("STRING", ("train_global", "device")),
}


@pytest.mark.parametrize("recipe", built_in())
def test_common_numbers_are_parameters_with_the_recipes_as_default(recipe):
    numbers = read_recipe(recipe, CONFIGS)
    graph = build(recipe, numbers)
    parameters = graph.pipeline_spec.root.input_definitions.parameters
    expected = {"raw_data": ""} | {step: {} for step in numbers}
    for name, (_, place) in NUMBERS.items():
        if place and place[0] in numbers and numbers[place[0]][place[1]] != "":
            expected[name] = numbers[place[0]][place[1]]
    assert ("epochs_local" in expected) == ("train_local" in numbers)

    found = {name: python_value(one.default_value) for name, one in parameters.items()}
    assert found == expected
    for name, one in parameters.items():
        kind = one.DESCRIPTOR.fields_by_name["parameter_type"].enum_type
        kind = kind.values_by_number[one.parameter_type].name
        assert kind == (NUMBERS[name][0] if name in NUMBERS else "STRUCT"), name
        assert one.description[-1] == "." and "\n" not in one.description, name

    # A copy of a run shows what its run was given, and nothing else.
    assert run_parameters(graph, "s3://raw") == expected | {"raw_data": "s3://raw"}


def python_value(value):
    kind = value.WhichOneof("kind")
    return dict(value.struct_value) if kind == "struct_value" else getattr(value, kind)


def test_what_is_given_reaches_its_step_and_the_rest_is_the_recipes(tmp_path, scenes, monkeypatch):
    recipe = {"prepare": read_recipe("demo", CONFIGS, ("prepare.seed=7",))["prepare"]}

    @dsl.pipeline(name="small")
    @parameters_of(recipe)
    def graph(raw_data, **parameters) -> dsl.Artifact:
        known = dict(raw_data=raw_data, workspace="")
        asked = dict(config=recipe, checked_by=CHECKED_BY, **parameters)
        found = task("fingerprint", fingerprint, **known, **asked).outputs
        known |= dict(config=recipe["prepare"], given=found["prepare_given"])
        return task("prepare", prepare, files_version="", **known).outputs["dataset"]

    # kfp puts the interpreter's path unquoted into a shell.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", "python3")
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    made = graph(raw_data=str(scenes), size="32x64", prepare={"max_images": 3.0})
    manifest = DatasetManifest.read(Path(made.output.uri))
    assert manifest.common_size() == (32, 64) and len(manifest.train) == 3
    config = recipe["prepare"] | {"size": "32x64", "max_images": 3}
    assert manifest.config.items() <= config.items() and manifest.config["seed"] == 7


@pytest.mark.slow
def test_a_run_of_given_numbers_is_that_of_the_same_in_the_recipe(tmp_path, scenes):
    """Its steps are taken over by a run of the recipe that has them."""
    few = ("prepare.size=64x128", "train_local.epochs=1", "train_local.epochs_decay=0")
    others = tuple(one for one in SMALL if one not in few)
    given = dict(size="64x128", epochs_local=1, train_local={"epochs_decay": 0})

    def run(overrides: tuple[str, ...], **parameters) -> dict[str, str]:
        numbers = read_recipe("demo", CONFIGS, overrides)
        one = begin("demo", numbers, str(scenes), {}, {}, tmp_path)
        graph = functools.partial(build("demo", numbers), **parameters)
        run_here(one, graph, str(scenes), "on")
        card = ModelCard.read(one.folder / "train-local" / "model")
        assert (card.config["epochs"], card.config["epochs_decay"]) == (1, 0)
        return {step: state.state for step, state in one.record.steps.items()}

    assert set(run(others, **given).values()) == {"finished"}
    assert set(run((*others, *few)).values()) == {"reused"}
