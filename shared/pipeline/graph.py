"""How our graph is put to KFP: tasks that have the names of their steps, and YAML that repeats.

kfp is loaded by what makes a graph, since it takes longer than all else of a --help."""

import dataclasses
import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.code_version import code_version
from shared.files.owned import unwritable
from shared.files.writing import write_atomically
from shared.pipeline.cluster.config import Cluster
from shared.pipeline.recipes import Recipe
from shared.recipes.files import SECTIONS
from shared.recipes.whole import COMMON

if TYPE_CHECKING:
    from kfp import dsl
    from kfp.components import PythonComponent
    from kfp.dsl.graph_component import GraphComponent


def parameters_of(recipe: Recipe) -> Callable[[Callable], Callable]:
    """Give a pipeline function the parameters that a person may edit where the graph runs: raw
    data, common numbers with the recipe's as default, and an empty struct for each step.

    The function gets them by name, and an empty value for each that the recipe has no use for. kfp
    reads signature and docstring; UIs show the text of a parameter, and fill in its default."""
    from kfp import dsl

    kinds = {"raw_data": (str, "", "Folder, archive or URL of paired images that pods can read.")}
    for common in COMMON:
        if reach := common.reach(recipe):
            kinds[common.name] = (common.kind, recipe[reach[0]][common.field], common.text)
    for step in recipe:
        text = f"Other options of {step}, by name, which lie over the recipe's."
        kinds[step] = (dict, {}, text)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [
            inspect.Parameter(name, kind, annotation=annotation, default=default)
            for name, (annotation, default, _) in kinds.items()
        ],
        return_annotation=dsl.Artifact,
    )

    # kfp.local takes no input that may be missing: what the recipe has no use for is of no value.
    others = {common.name: common.kind() for common in COMMON} | {step: {} for step in SECTIONS}

    def decorate(function: Callable) -> Callable:
        def graph(*values) -> dsl.Artifact:
            return function(**others | dict(zip(kinds, values, strict=True)))

        graph.__signature__ = signature
        graph.__doc__ = "\n".join(
            ["The graph.", "", "Args:", *(f"    {name}: {kinds[name][2]}" for name in kinds)]
        )
        return graph

    return decorate


def run_parameters(graph: "GraphComponent", raw_data: str) -> dict[str, Any]:
    """All parameters of a run of a built graph: what is edited later in a copy of the run is seen
    there, which shows what was given and no defaults."""
    inputs = graph.component_spec.inputs
    return {name: one.default for name, one in inputs.items()} | {"raw_data": raw_data}


def task(step: str, component: "PythonComponent", **inputs) -> "dsl.PipelineTask":
    """A task that runs `component` as the step `step`; to be called inside a pipeline function.

    KFP names a task, its folder and its node after the component's function, and numbers those of
    one name: `train`, `train-2`. So every task gets a component of its own name. Kubernetes knows
    no underscore: the task of `train_global` is `train-global`, and is shown as `train_global`.
    """
    from kfp.components import PythonComponent

    specification = dataclasses.replace(component.component_spec, name=step)
    named = PythonComponent(specification, component.python_func)

    # KFP's cache sees inputs, image and command, but not the code in the image: a version of that
    # is an input. What has none is never taken from the cache.
    is_cached = "code_version" in specification.inputs
    if is_cached:
        folder = component.python_func.__module__.split(".")[1]  # of components/
        inputs["code_version"] = code_version(folder)
    return named(**inputs).set_display_name(step).set_caching_options(is_cached)


def component_name(component: "PythonComponent") -> str:
    """What a component is called among images: KFP's own name of it has dashes."""
    return component.python_func.__name__


def step_of(task_name: str) -> str:
    """The step's name in a recipe from KFP's name of its task, the inverse of `task`."""
    return task_name.replace("-", "_")


def images_of(graph: "GraphComponent") -> dict[str, str]:
    """Image of every step of a built graph."""
    executors = graph.pipeline_spec.deployment_spec["executors"]
    return {
        step_of(name.removeprefix("exec-")): executor["container"]["image"]
        for name, executor in executors.items()
    }


def images_of_pods(graph: "GraphComponent", recipe: Recipe, site: Cluster) -> dict[str, str]:
    """Image of every step of a built graph, and of the nodes that a step starts."""
    several = [step for step, values in recipe.items() if values.get("nodes", 1) > 1]
    return images_of(graph) | {f"{step} (nodes)": site.images["train"] for step in several}


def write_yaml(graph: "GraphComponent", file: Path, title: str) -> None:
    """Write a built graph as KFP v2 YAML, below `title` as a comment; the same bytes every time.

    The file appears whole or not at all. Raises InputError where it cannot be written."""
    from kfp import compiler

    with tempfile.TemporaryDirectory() as folder:
        compiler.Compiler().compile(graph, str(compiled := Path(folder) / "pipeline.yaml"))
        lines = compiled.read_text().splitlines()
    # kfp's summary in comments lists dictionaries in an order that changes from process to process.
    text = "\n".join([f"# {title}", *(line for line in lines if not line.startswith("#")), ""])

    try:
        write_atomically(file, text.encode())
    except OSError as error:
        raise unwritable(file, "--output", error) from None
