"""The KFP face of the export step."""

from typing import Optional

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

IMAGE = "pix2pixhd-export:cpu"  # of this machine, unless --images names another


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export(
    model: Input[Model],
    exported: Output[Model],
    metrics: Output[Metrics],
    config: dict,
    given: dict,
    workspace: str,
    code_version: str,
    files_version: str,
    dataset: Optional[Input[Dataset]] = None,  # noqa: UP045 (kfp knows no other spelling)
    clusters: Optional[Input[Artifact]] = None,  # noqa: UP045
):
    """Export a generator, and prove that the file equals it; config and given have ExportConfig's
    fields."""
    from components.export.config import ExportConfig
    from components.export.run import run
    from shared.command import execute

    folders = dict(
        model=model.path,
        dataset=dataset.path if dataset else None,
        clusters=clusters.path if clusters else None,
        exported=exported.path,
    )
    how = dict(given=given, workspace=workspace)
    figures = execute(run, ExportConfig, config, code_version, **how, **folders)
    for name, value in figures.items():
        metrics.log_metric(name, value)
