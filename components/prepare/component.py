"""The KFP face of the prepare step."""

import os

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

IMAGE = os.environ.get("PIPELINE_IMAGE_PREPARE", "pix2pixhd-prepare:cpu")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    raw_data: str,
    dataset: Output[Dataset],
    metrics: Output[Metrics],
    config: dict,
    code_version: str,
):
    """Make a checked data set of raw images; the config has PrepareConfig's fields."""
    from components.prepare.config import PrepareConfig
    from components.prepare.run import run
    from shared.command import execute

    places = dict(raw_data=raw_data, dataset=dataset.path)
    figures = execute(run, PrepareConfig, config, code_version, **places)
    for name, value in figures.items():
        metrics.log_metric(name, value)
