"""The KFP face of the train step."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

IMAGE = "pix2pixhd-train:cpu"  # of this machine, unless --images names another
LAUNCHER = "pix2pixhd-train-on-nodes:cpu"  # it computes nothing itself


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


@dsl.component(base_image=LAUNCHER, install_kfp_package=False)
def train_on_nodes(
    dataset: Input[Dataset],
    model: Output[Model],
    job: Output[Artifact],
    metrics: Output[Metrics],
    config: dict,
    given: dict,
    code_version: str,
    files_version: str,
    workspace: str,
    template: dict,
    init_from: Optional[Input[Model]] = None,  # noqa: UP045
    clusters: Optional[Input[Artifact]] = None,  # noqa: UP045
):
    """Train one stage on several machines, as a job of the cluster that the template describes;
    config and given have TrainConfig's fields."""
    from functools import partial

    from components.train.config import TrainConfig
    from components.train.nodes.run import run
    from shared.command import execute

    folders = dict(
        dataset=dataset.path,
        init_from=init_from.path if init_from else None,
        clusters=clusters.path if clusters else None,
        model=model.path,
        job=job.path,
    )
    launch = partial(run, workspace=workspace, template=template)
    known = dict(given=given, workspace=workspace, is_tracked=False)
    figures = execute(launch, TrainConfig, config, code_version, **known, **folders)
    for name, value in figures.items():
        metrics.log_metric(name, value)
