"""The KFP face of the benchmark step."""

from typing import Optional

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output

IMAGE = "pix2pixhd-benchmark:cpu"  # of this machine, unless --images names another


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def benchmark(
    exported: Input[Model],
    dataset: Input[Dataset],
    model: Input[Model],
    report: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
    config: dict,
    given: dict,
    workspace: str,
    code_version: str,
    files_version: str,
    clusters: Optional[Input[Artifact]] = None,  # noqa: UP045 (kfp knows no other spelling)
):
    """Measure an exported generator; config and given have BenchmarkConfig's fields."""
    import shutil

    from components.benchmark.config import BenchmarkConfig
    from components.benchmark.page.report import page_in
    from components.benchmark.run import run
    from shared.command import execute

    folders = dict(
        exported=exported.path,
        dataset=dataset.path,
        model=model.path,
        clusters=clusters.path if clusters else None,
        report=report.path,
    )
    how = dict(given=given, workspace=workspace)
    figures = execute(run, BenchmarkConfig, config, code_version, **how, **folders)
    shutil.copyfile(page_in(report.path), page.path)
    for name, value in figures.items():
        metrics.log_metric(name, value)
