"""Which runtimes are measured, and whether they compute the same."""

import copy
from pathlib import Path
from typing import get_args

from torch import nn

from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.workload import Workload
from shared.contracts.exported import ExportCard, Parity
from shared.deployed.form import Form
from shared.deployed.openvino_runner import has_bf16
from shared.deployed.painter import ExportedFile, RuntimeName, open_runner
from shared.deployed.parity import describe, largest_difference, measure_parity, prove_equal
from shared.deployed.runners import Runner
from shared.device import Runtime
from shared.device_names import parity_limit
from shared.errors import InputError

TORCH = ("torch", "torch-compile")  # run the generator itself; the other runtimes open files
LARGEST_DIFFERENCE = 2.0  # of two pictures in [-1, 1]
SAMPLES = 2  # on which runtimes are compared


def torch_runners(
    form: Form, generator: nn.Module, runtimes: list[Runtime], config: BenchmarkConfig
) -> list[Runner]:
    """Eager and compiled PyTorch in each of the precisions."""
    return [
        open_runner(form, name, generator, runtime.name, runtime.precision)
        for runtime in runtimes
        for name in TORCH
        if name in config.runtimes
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
            precisions = ["auto"]
            if runtime == "openvino":
                precisions += ["bf16"] * has_bf16()
            runners += [open_runner(form, runtime, file, device, one) for one in precisions]
            if export.int8 and export.int8.file and runtime != "om":
                twin = ExportedFile.in_int8(exported, export)
                runners.append(open_runner(form, runtime, twin, "cpu"))
        except InputError as missing:
            if runtime != "om":  # which is there, but the file is broken
                raise
            print(f"benchmark: the compiled files are not measured: {missing}", flush=True)
    return runners


def reference_runner(form: Form, generator: nn.Module, device: str) -> Runner:
    """PyTorch as a file was proven against: on the CPU, in fp32.

    device: where `generator`, which runners move, will compute."""
    own = generator if device == "cpu" else copy.deepcopy(generator)
    return open_runner(form, "torch", own, "cpu", "fp32")


def parities(
    of_torch: list[Runner],
    of_files: list[Runner],
    reference: Runner,
    export: ExportCard,
    workload: Workload,
) -> list[Parity]:
    """How every runtime differs from `reference`. Raises WorkFailed where an exported file is
    another function.

    Random pictures cannot be compared: for a file with dropout it is what the export measured
    without."""
    if export.dropout:
        return export.parity

    allowed = {(each.runtime, each.device): each.limit for each in export.parity}
    samples = workload.named(SAMPLES)
    found = []
    for runner in [*of_torch, *of_files]:
        # How far from the reference it may be: a file what its export allowed, on a device on which
        # it was not proven perhaps more.
        limit = parity_limit(runner.precision, runner.device)
        limit = largest_difference(limit, export.graph.output)
        if runner in of_files:
            limit = max(limit, allowed.get((runner.name, "cpu"), 0))
            limit = allowed.get((runner.name, runner.device), limit)

        # How far it is. Of an int8 file the export judged the PSNR; on a CPU without VNNI it may
        # have less, which the gate refuses.
        compared = runner, reference, samples, limit
        if runner.precision == "int8":
            parity = measure_parity(runner, reference, samples, LARGEST_DIFFERENCE)
            parity = parity.model_copy(update={"least_psnr_db": export.int8.least_psnr_db})
        elif runner in of_files:
            parity = prove_equal("benchmark", *compared, export.graph.output)
        else:
            parity = measure_parity(*compared)
        print(f"benchmark: against PyTorch: {describe(parity)}", flush=True)
        found.append(parity)
    return found
