"""Is the file the same function as the PyTorch model?"""

from collections.abc import Iterator
from pathlib import Path

from components.export.config import ProofOptions
from shared.contracts.exported import OmFile, Parity
from shared.deployed.form import Feeds, Form
from shared.deployed.painter import ExportedFile, open_runner
from shared.deployed.parity import describe, largest_difference, prove_equal
from shared.deployed.runners import Runner, TorchRunner
from shared.device import has_gpu
from shared.errors import InputError


def onnx_runners(form: Form, file: ExportedFile) -> Iterator[Runner]:
    """ONNX Runtime on the CPU, and on a GPU where there is one."""
    yield open_runner(form, "onnxruntime", file, "cpu")
    if has_gpu():
        runner = open_runner(form, "onnxruntime", file, "cuda")
        if runner.device == "cuda":  # else it was built without
            yield runner


def om_runners(form: Form, exported: Path, om: list[OmFile]) -> Iterator[Runner]:
    """Each compiled file on an NPU; none, and a line that says why, where no NPU is."""
    for file in om:
        try:
            runner = open_runner(form, "om", ExportedFile.compiled(exported, file))
        except InputError as missing:  # atc needs no NPU
            print(f"export: the compiled files were not compared with PyTorch: {missing}")
            return
        yield runner
        runner.close()


def prove(
    runners: Iterator[Runner],
    reference: TorchRunner,
    samples: dict[str, Feeds],
    output: str,
    options: ProofOptions,
) -> list[Parity]:
    """What the runtimes of a file differ by from `reference`, PyTorch in fp32. Raises WorkFailed
    where it is too much.

    Args:
        samples: Batches of one, by the name of their map.
        output: Type of the file's pictures, see `Graph.output`.
    """
    found = []
    for runner in runners:
        limit = largest_difference(options.limit(runner.precision, runner.device), output)
        parity = prove_equal("export", runner, reference, samples, limit, output)
        print(f"export: equal to PyTorch: {describe(parity)}", flush=True)
        found.append(parity)
    return found
