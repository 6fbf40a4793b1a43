"""Is the file the same function as the PyTorch model?"""

from collections.abc import Iterator
from pathlib import Path

import torch

from components.export.config import ExportConfig
from shared.contracts.exported import Graph, OmFile, Parity
from shared.deployed.om_runner import OmRunner
from shared.deployed.parity import describe, largest_difference, measure_parity, passes
from shared.deployed.runners import Feeds, OnnxRunner, Runner, TorchRunner
from shared.deployed.synthesiser import Synthesiser
from shared.device import pick
from shared.errors import InputError


def onnx_runners(file: Path, precision: str) -> Iterator[Runner]:
    yield OnnxRunner(file, precision)
    if torch.cuda.is_available() and (gpu := OnnxRunner(file, precision, "cuda")).device == "cuda":
        yield gpu


def om_runners(exported: Path, om: list[OmFile], graph: Graph) -> Iterator[Runner]:
    for file in om:
        try:
            runner = OmRunner(
                exported / file.file, graph, file.batch_sizes[0], precision=file.precision
            )
        except InputError as missing:  # atc needs no NPU
            print(f"export: the compiled files were not compared with PyTorch: {missing}")
            return
        yield runner
        runner.close()


def prove(
    runners: Iterator[Runner], synthesiser: Synthesiser, samples: list[Feeds], config: ExportConfig
) -> list[Parity]:
    """What the runtimes of a file differ by from PyTorch. Raises RuntimeError where it is too
    much."""
    reference, found = TorchRunner(synthesiser, pick("cpu", "fp32")), []
    for runner in runners:
        limit = largest_difference(config.limit(runner.precision), config.output)
        parity = measure_parity(runner, reference, samples, limit)
        if not passes(parity, config.output):
            raise RuntimeError(
                f"the file differs from the PyTorch model and was not kept: {describe(parity)}."
            )
        print(f"export: equal to PyTorch: {describe(parity)}", flush=True)
        found.append(parity)
    return found
