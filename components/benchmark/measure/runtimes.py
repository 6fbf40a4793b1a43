"""Which runtimes are measured, and whether they compute the same."""

from pathlib import Path

from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.workload import Workload
from shared.contracts.exported import ExportCard, Parity
from shared.deployed.om_runner import OmRunner
from shared.deployed.parity import describe, largest_difference, measure_parity, passes
from shared.deployed.runners import OnnxRunner, Runner, TorchRunner
from shared.deployed.synthesiser import Synthesiser
from shared.device import pick
from shared.device_names import PARITY_LIMITS
from shared.errors import InputError

SAMPLES = 2  # on which runtimes are compared
OTHER_KERNELS = 1e-3  # a GPU's sums have another order than the CPU's, on which a file was proven


def torch_runners(synthesiser: Synthesiser, config: BenchmarkConfig) -> list[TorchRunner]:
    """Eager and compiled PyTorch, in each of the precisions that differ here."""
    runtimes = {
        runtime.precision: runtime
        for runtime in (pick(config.device, p) for p in config.precisions)
    }
    runners = []
    for runtime in runtimes.values():
        if "torch" in config.runtimes:
            runners.append(TorchRunner(synthesiser, runtime))
        if "torch-compile" in config.runtimes:
            runners.append(TorchRunner(synthesiser, runtime, compiled=True))
    return runners


def exported_runners(
    exported: Path, export: ExportCard, device: str, config: BenchmarkConfig
) -> dict[str, list[Runner]]:
    """`onnxruntime`, and `om` where there are compiled files and an NPU with ais_bench; each with
    one runner."""
    found: dict[str, list[Runner]] = {}
    if "onnxruntime" in config.runtimes:
        found["onnxruntime"] = [OnnxRunner(exported / export.file, export.precision, device)]
    if "ais_bench" in config.runtimes and export.om:
        file = export.om[0]
        try:
            found["om"] = [
                OmRunner(
                    exported / file.file,
                    export.graph,
                    file.batch_sizes[0],
                    precision=file.precision,
                )
            ]
        except InputError as missing:
            print(f"benchmark: the compiled files are not measured: {missing}", flush=True)
    return found


def parities(
    online: list[TorchRunner],
    offline: dict[str, list[Runner]],
    synthesiser: Synthesiser,
    export: ExportCard,
    workload: Workload,
) -> list[Parity]:
    """Of every runtime against eager PyTorch in fp32. Raises RuntimeError where an exported file is
    another function.

    Random pictures cannot be compared: for a file with dropout it is what the export measured
    without."""
    if export.dropout:
        return export.parity
    reference = TorchRunner(synthesiser, pick(online[0].device if online else "cpu", "fp32"))
    found = []
    for runner in [*online, *sum(offline.values(), [])]:
        # atc has other names of precisions
        limit = PARITY_LIMITS.get(runner.precision, PARITY_LIMITS["fp16"])
        limit = largest_difference(limit, export.graph.output)
        if runner.name == "onnxruntime":
            limit = max(export.parity[0].limit, 0 if runner.device == "cpu" else OTHER_KERNELS)
        parity = measure_parity(runner, reference, workload.samples[:SAMPLES], limit)
        print(f"benchmark: against PyTorch: {describe(parity)}", flush=True)
        if runner not in online and not passes(parity, export.graph.output):
            raise RuntimeError(
                f"the exported file differs from the PyTorch model here: {describe(parity)}."
            )
        found.append(parity)
    return found
