"""Where a step runs on a cluster, and what it has there."""

from kfp import dsl

from shared.pipeline.cluster.config import Cluster


def place(task: dsl.PipelineTask, step: str, component: str, site: Cluster) -> None:
    """Ask for what a step needs on a cluster; to be called inside a pipeline function."""
    if image := site.images.get(component):
        task.set_container_image(image)
