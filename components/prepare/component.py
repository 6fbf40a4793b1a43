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
    checked_by: dict,
    size: str,
    train_size: str,
    epochs: int,
    epochs_decay: int,
    epochs_local: int,
    epochs_decay_local: int,
    batch_size: int,
    batch_size_local: int,
    device: str,
    prepare: dict,
    train_global: dict,
    cluster: dict,
    train_local: dict,
    export: dict,
    benchmark: dict,
) -> NamedTuple(
    "Found",
    [("prepare", str), ("train_global", str), ("cluster", str),
     ("train_local", str), ("export", str), ("benchmark", str),
     ("prepare_given", dict), ("train_global_given", dict), ("cluster_given", dict),
     ("train_local_given", dict), ("export_given", dict), ("benchmark_given", dict)],
):  # fmt: skip
    """Check what is given over the recipe's numbers, before any work; say what that is for every
    step, and digest the files that it reads from outside: raw data, and what its options name.

    The recipe's numbers are in `config`, by step; `checked_by` names the class of each step's
    config. The rest are the pipeline's parameters: common ones, and a struct of fields per step;
    those that its recipe has no use for are not looked at."""
    parameters = {**locals()}
    steps = ("prepare", "train_global", "cluster", "train_local", "export", "benchmark")

    from components.prepare.fingerprint import fingerprint as look
    from components.prepare.given import lay_over
    from shared.command import refusals

    with refusals("fingerprint", workspace, "fingerprint"):
        given = lay_over(config, parameters, checked_by)
        configs = {step: config[step] | given[step] for step in given}
        versions = look(raw_data, configs, workspace)
    return (
        *(versions.get(step, "") for step in steps),
        *(given.get(step, {}) for step in steps),
    )
