"""The KFP face of the prepare step."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

IMAGE = "pix2pixhd-prepare:cpu"  # of this machine, unless --images names another


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    raw_data: str,
    dataset: Output[Dataset],
    metrics: Output[Metrics],
    config: dict,
    given: dict,
    workspace: str,
    code_version: str,
    files_version: str,
):
    """Make a checked data set of raw images; config and given have PrepareConfig's fields."""
    from components.prepare.config import PrepareConfig
    from components.prepare.run import run
    from shared.command import execute

    places = dict(raw_data=raw_data, dataset=dataset.path)
    how = dict(given=given, workspace=workspace)
    figures = execute(run, PrepareConfig, config, code_version, **how, **places)
    for name, value in figures.items():
        metrics.log_metric(name, value)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def fingerprint(
    raw_data: str,
    config: dict,
    workspace: str,
    prepare: dict,
    train_global: dict,
    cluster: dict,
    train_local: dict,
    export: dict,
    benchmark: dict,
) -> NamedTuple(
    "Versions",
    [("prepare", str), ("train_global", str), ("cluster", str),
     ("train_local", str), ("export", str), ("benchmark", str)],
):  # fmt: skip
    """Digest, per step, of the files that it reads from outside: raw data, and what its options
    name, which are the recipe's (`config`, by step) and what is given over them."""
    given = {**locals()}
    del given["raw_data"], given["config"], given["workspace"]
    configs = {step: config.get(step, {}) | given[step] for step in given}

    from components.prepare.fingerprint import fingerprint as look
    from shared.command import refusals

    with refusals("fingerprint"):
        return tuple(look(raw_data, configs, workspace).values())
