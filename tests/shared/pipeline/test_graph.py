"""The names of tasks, where KFP would make them up."""

import pytest
from kfp import dsl

from components.train.component import train
from pipeline import CONFIGS
from shared.pipeline.graph import step_of, task


@pytest.mark.parametrize("step", CONFIGS)
def test_a_task_is_called_as_its_step_and_leads_back_to_it(step):
    @dsl.pipeline
    def graph():
        data = dsl.importer(artifact_uri="data", artifact_class=dsl.Dataset)
        task(step, train, dataset=data.output, config={}, given={}, files_version="")

    (name,) = set(graph.pipeline_spec.root.dag.tasks) - {"importer"}
    assert step_of(name) == step
    assert graph.pipeline_spec.root.dag.tasks[name].task_info.name == step


def test_two_tasks_of_one_component_run_its_function():
    @dsl.pipeline
    def graph():
        data = dsl.importer(artifact_uri="data", artifact_class=dsl.Dataset)
        for step in ("train_global", "train_local"):
            task(step, train, dataset=data.output, config={}, given={}, files_version="")

    executors = graph.pipeline_spec.deployment_spec["executors"]
    for name in ("exec-train-global", "exec-train-local"):
        container = executors[name]["container"]
        assert container["args"][-1] == "train" and container["image"].startswith("pix2pixhd-train")
    assert train.component_spec.name == "train", "the face itself keeps its name"
