"""Which runtimes are measured, and whether they compute the same."""

from pathlib import Path

from torch import nn

from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.workload import Workload
from shared.contracts.exported import ExportCard, Parity
from shared.deployed.form import Form
from shared.deployed.painter import ExportedFile, open_runner
from shared.deployed.parity import describe, largest_difference, measure_parity, passes
from shared.deployed.runners import Runner
from shared.device import pick
from shared.device_names import PARITY_LIMITS
from shared.errors import InputError

SAMPLES = 2  # on which runtimes are compared
OTHER_KERNELS = 1e-3  # a GPU's sums have another order than the CPU's, on which a file was proven


def torch_runners(form: Form, generator: nn.Module, config: BenchmarkConfig) -> list[Runner]:
    """Eager and compiled PyTorch, in each of the precisions that differ here."""
    precisions = {pick(config.device, wanted).precision: None for wanted in config.precisions}
    return [
        open_runner(form, runtime, generator, config.device, precision)
        for precision in precisions
        for runtime in ("torch", "torch-compile")
        if runtime in config.runtimes
    ]


def file_runners(
    form: Form, exported: Path, export: ExportCard, device: str, config: BenchmarkConfig
) -> list[Runner]:
    """ONNX Runtime on `device`, and a compiled file where there are some, and an NPU with
    ais_bench."""
    runners = []
    if "onnxruntime" in config.runtimes:
        file = ExportedFile.of(exported, export, "onnxruntime")
        runners.append(open_runner(form, "onnxruntime", file, device))
    if "ais_bench" in config.runtimes and export.om:
        try:
            file = ExportedFile.of(exported, export, "om")
            runners.append(open_runner(form, "om", file))
        except InputError as missing:
            print(f"benchmark: the compiled files are not measured: {missing}", flush=True)
    return runners


def parities(
    of_torch: list[Runner],
    of_files: list[Runner],
    generator: nn.Module,
    export: ExportCard,
    workload: Workload,
) -> list[Parity]:
    """Of every runtime against eager PyTorch in fp32. Raises RuntimeError where an exported file is
    another function.

    Random pictures cannot be compared: for a file with dropout it is what the export measured
    without."""
    if export.dropout:
        return export.parity

    device = of_torch[0].device if of_torch else "cpu"
    reference = open_runner(workload.form, "torch", generator, device, "fp32")
    found = []
    for runner in [*of_torch, *of_files]:
        # How far from the reference it may be; atc has other names of precisions.
        limit = PARITY_LIMITS.get(runner.precision, PARITY_LIMITS["fp16"])
        limit = largest_difference(limit, export.graph.output)
        if runner.name == "onnxruntime":
            limit = max(export.parity[0].limit, 0 if runner.device == "cpu" else OTHER_KERNELS)

        # How far it is.
        parity = measure_parity(runner, reference, workload.samples[:SAMPLES], limit)
        print(f"benchmark: against PyTorch: {describe(parity)}", flush=True)
        if runner in of_files and not passes(parity, export.graph.output):
            raise RuntimeError(
                f"the exported file differs from the PyTorch model here: {describe(parity)}."
            )
        found.append(parity)
    return found
