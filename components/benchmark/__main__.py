"""`python -m components.benchmark`: the step, and Ascend's own tool on one compiled file."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field

from components.benchmark.config import BenchmarkConfig
from shared.bounds import MANY, BatchSize
from shared.command import command_line, run_tracked
from shared.files.owned import only_writer


def benchmark(
    exported: Path,
    dataset: Path,
    model: Path,
    report: Path,
    clusters: Path | None = None,
    *,
    config: BenchmarkConfig,
) -> None:
    """Measure an exported generator against PyTorch: speed, parity, quality, pictures.

    Args:
        exported: Folder of the export step.
        dataset: Folder of the prepare step.
        model: Folder of the train step that was exported.
        report: Folder to write.
        clusters: Folder of the cluster step: the report then shows what the styles of a model with
            features are.

    Example:
        python -m components.benchmark --exported runs/exported --dataset runs/dataset \\
            --model runs/model --report runs/report
    """
    from components.benchmark.run import run

    folders = dict(exported=exported, dataset=dataset, model=model, report=report)
    run_tracked(run, config, **folders, clusters=clusters)


def pure(
    om: Path,
    batch_size: BatchSize = 1,
    gears: tyro.conf.FlagCreatePairsOff[bool] = False,
    device: Annotated[int, Field(ge=0, lt=1024)] = 0,
    warmup: Annotated[int, Field(ge=0, le=MANY)] = 1,
    loop: Annotated[int, Field(ge=1, le=MANY)] = 20,
) -> None:
    """Measure the NPU alone with ais_bench: executions of a compiled file on zeros.

    Args:
        om: Compiled file.
        batch_size: Pictures per execution, as many as the file takes.
        gears: The file takes several batch sizes.
        device: Number of the NPU in `npu-smi info`.
        warmup: Executions before those that count.
        loop: Executions.

    Example:
        python -m components.benchmark ais_bench pure --om runs/exported/generator_bs4.om \\
            --batch-size 4
    """
    from components.benchmark.ais_bench import tool

    tool.refuse_exchanged(om)
    with tool.failures_exit():
        tool.print_figures(om, tool.AisBench(om, batch_size, gears, device, warmup).pure(loop))


def inputs(
    om: Path,
    inputs: str,
    out: Path,
    batch_size: BatchSize = 1,
    gears: tyro.conf.FlagCreatePairsOff[bool] = False,
    device: Annotated[int, Field(ge=0, lt=1024)] = 0,
    warmup: Annotated[int, Field(ge=0, le=MANY)] = 1,
    outfmt: Literal["BIN", "NPY"] = "BIN",
) -> None:
    """Run a compiled file over prepared inputs with ais_bench, and keep its result files.

    Args:
        om: Compiled file.
        inputs: Folders with commas between, one per input of the network, as `python -m
            components.export offline inputs` names them.
        out: New folder; result files come into its outputs/.
        batch_size: Pictures per execution, as many as the file takes.
        gears: The file takes several batch sizes.
        device: Number of the NPU in `npu-smi info`.
        warmup: Executions before those that count.
        outfmt: The numbers alone, or with a header.

    Example:
        python -m components.benchmark ais_bench inputs --om runs/exported/generator_bs1.om \\
            --inputs runs/inputs/labels,runs/inputs/instances --out runs/results
    """
    from components.benchmark.ais_bench import tool

    folders = [Path(folder) for folder in inputs.split(",")]
    tool.refuse_exchanged(om)
    with tool.failures_exit(), only_writer(out, "--out"):
        ais_bench = tool.AisBench(om, batch_size, gears, device, warmup)
        tool.print_figures(om, ais_bench.over_inputs(folders, out, outfmt))


def main(argv: list[str] | None = None) -> None:
    ais_bench = {"ais_bench pure": pure, "ais_bench inputs": inputs}
    command_line("python -m components.benchmark", benchmark, ais_bench, argv)


if __name__ == "__main__":
    main()
