"""How our graph is put to KFP: tasks that have the names of their steps, and YAML that repeats."""

import dataclasses
import tempfile
from pathlib import Path

from kfp import compiler, dsl
from kfp.components import PythonComponent
from kfp.dsl.graph_component import GraphComponent

from shared.code_version import code_version
from shared.files.owned import unwritable
from shared.files.writing import write_atomically


def task(step: str, component: PythonComponent, **inputs) -> dsl.PipelineTask:
    """A task that runs `component` as the step `step`; to be called inside a pipeline function.

    KFP names a task, its folder and its node after the component's function, and numbers those of
    one name: `train`, `train-2`. So every task gets a component of its own name. Kubernetes knows
    no underscore: the task of `train_global` is `train-global`, and is shown as `train_global`.
    """
    specification = dataclasses.replace(component.component_spec, name=step)
    named = PythonComponent(specification, component.python_func)

    # KFP's cache sees inputs, image and command, but not the code in the image: a version of that
    # is an input. What has none is never taken from the cache.
    is_cached = "code_version" in specification.inputs
    if is_cached:
        inputs["code_version"] = code_version(component.component_spec.name)
    return named(**inputs).set_display_name(step).set_caching_options(is_cached)


def step_of(task_name: str) -> str:
    """The step's name in a recipe from KFP's name of its task, the inverse of `task`."""
    return task_name.replace("-", "_")


def images_of(graph: GraphComponent) -> dict[str, str]:
    """Image of every step of a built graph."""
    executors = graph.pipeline_spec.deployment_spec["executors"]
    return {
        step_of(name.removeprefix("exec-")): executor["container"]["image"]
        for name, executor in executors.items()
    }


def write_yaml(graph: GraphComponent, file: Path, title: str) -> None:
    """Write a built graph as KFP v2 YAML, below `title` as a comment; the same bytes every time.

    The file appears whole or not at all. Raises InputError where it cannot be written."""
    with tempfile.TemporaryDirectory() as folder:
        compiler.Compiler().compile(graph, str(compiled := Path(folder) / "pipeline.yaml"))
        lines = compiled.read_text().splitlines()
    # kfp's summary in comments lists dictionaries in an order that changes from process to process.
    text = "\n".join([f"# {title}", *(line for line in lines if not line.startswith("#")), ""])

    try:
        write_atomically(file, text.encode())
    except OSError as error:
        raise unwritable(file, "--output", error) from None
