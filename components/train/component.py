"""The KFP face of the train step."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

IMAGE = "pix2pixhd-train:cpu"  # of this machine, unless --images names another


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    dataset: Input[Dataset],
    model: Output[Model],
    metrics: Output[Metrics],
    config: dict,
    given: dict,
    workspace: str,
    code_version: str,
    files_version: str,
    init_from: Optional[Input[Model]] = None,  # noqa: UP045 (kfp knows no other spelling)
    clusters: Optional[Input[Artifact]] = None,  # noqa: UP045
):
    """Train one stage; config and given have TrainConfig's fields."""
    from components.train.config import TrainConfig
    from components.train.run import run
    from shared.command import execute

    folders = dict(
        dataset=dataset.path,
        init_from=init_from.path if init_from else None,
        clusters=clusters.path if clusters else None,
        model=model.path,
    )
    how = dict(given=given, workspace=workspace)
    figures = execute(run, TrainConfig, config, code_version, **how, **folders)
    for name, value in figures.items():
        metrics.log_metric(name, value)
