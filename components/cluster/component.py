"""The KFP face of the cluster step."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

IMAGE = "pix2pixhd-cluster:cpu"  # of this machine, unless --images names another


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def cluster(
    dataset: Input[Dataset],
    model: Input[Model],
    clusters: Output[Artifact],
    metrics: Output[Metrics],
    config: dict,
    given: dict,
    workspace: str,
    code_version: str,
    files_version: str,
):
    """Encode and cluster instance features; config and given have ClusterConfig's fields."""
    from components.cluster.config import ClusterConfig
    from components.cluster.run import run
    from shared.command import execute

    folders = dict(dataset=dataset.path, model=model.path, clusters=clusters.path)
    how = dict(given=given, workspace=workspace)
    figures = execute(run, ClusterConfig, config, code_version, **how, **folders)
    for name, value in figures.items():
        metrics.log_metric(name, value)
