"""Which runtimes are measured, and whether they compute the same."""

from pathlib import Path
from typing import get_args

from torch import nn

from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.workload import Workload
from shared.contracts.exported import ExportCard, Parity
from shared.deployed.form import Form
from shared.deployed.painter import ExportedFile, RuntimeName, open_runner
from shared.deployed.parity import describe, largest_difference, measure_parity, prove_equal
from shared.deployed.runners import Runner
from shared.device import pick
from shared.device_names import PARITY_LIMITS
from shared.errors import InputError

TORCH = ("torch", "torch-compile")  # run the generator itself; the other runtimes open files
SAMPLES = 2  # on which runtimes are compared
OTHER_KERNELS = 1e-3  # a GPU's sums have another order than the CPU's, on which a file was proven


def torch_runners(form: Form, generator: nn.Module, config: BenchmarkConfig) -> list[Runner]:
    """Eager and compiled PyTorch, in each of the precisions that differ here."""
    precisions = {pick(config.device, wanted).precision: None for wanted in config.precisions}
    return [
        open_runner(form, runtime, generator, config.device, precision)
        for precision in precisions
        for runtime in TORCH
        if runtime in config.runtimes
    ]


def file_runners(
    form: Form, exported: Path, export: ExportCard, device: str, runtimes: tuple[str, ...]
) -> list[Runner]:
    """The exported files in those of the runtimes, as --runtimes names them, that open files.

    On `device` where they can; without those that are not here, of which a line says why."""
    asked = {"om" if name == "ais_bench" else name for name in runtimes}
    if not export.om:
        asked.discard("om")

    runners = []
    for runtime in get_args(RuntimeName):
        if runtime in TORCH or runtime not in asked:
            continue
        try:
            file = ExportedFile.of(exported, export, runtime)
            runners.append(open_runner(form, runtime, file, device))
        except InputError as missing:
            if runtime != "om":  # which is there, but the file is broken
                raise
            print(f"benchmark: the compiled files are not measured: {missing}", flush=True)
    return runners


def parities(
    of_torch: list[Runner],
    of_files: list[Runner],
    generator: nn.Module,
    export: ExportCard,
    workload: Workload,
) -> list[Parity]:
    """How every runtime differs from eager PyTorch in fp32. Raises WorkFailed where an exported
    file is another function.

    Random pictures cannot be compared: for a file with dropout it is what the export measured
    without."""
    if export.dropout:
        return export.parity

    device = of_torch[0].device if of_torch else "cpu"
    reference = open_runner(workload.form, "torch", generator, device, "fp32")
    samples = workload.named(SAMPLES)
    found = []
    for runner in [*of_torch, *of_files]:
        # How far from the reference it may be; atc has other names of precisions.
        limit = PARITY_LIMITS.get(runner.precision, PARITY_LIMITS["fp16"])
        limit = largest_difference(limit, export.graph.output)
        if runner.name == "onnxruntime":
            limit = max(export.parity[0].limit, 0 if runner.device == "cpu" else OTHER_KERNELS)

        # How far it is.
        compared = runner, reference, samples, limit
        if runner in of_files:
            parity = prove_equal("benchmark", *compared, export.graph.output)
        else:
            parity = measure_parity(*compared)
        print(f"benchmark: against PyTorch: {describe(parity)}", flush=True)
        found.append(parity)
    return found
