"""The generator as an ONNX file, in every provider that ONNX Runtime has here: first against
PyTorch, then by the clock."""

import statistics
from time import perf_counter

import numpy as np
import onnxruntime

from components.export.config import OnnxOptions
from components.export.onnx_graph.file import to_onnx
from components.export.onnx_graph.norm import with_graph_norm
from components.export.proof_maps import generated_maps
from shared.contracts.exported import Graph
from shared.deployed.form import Form
from shared.deployed.runners import TorchRunner
from shared.device import pick
from tests.benchmarks.card_check.work import Case

CASE = Case("generator, 1024p", 1024, 2048, ngf=32, netG="local")
PROVIDERS = ("CUDA", "Tensorrt", "CPU")  # TensorRT compiles for minutes
CALLS, SECONDS = 30, 3.0  # of one way to compute it, at most
MOST_APART = {"fp32": 1e-3, "fp16": 0.05}  # of pictures in [-1, 1]; TensorRT may use TF32


def run(given) -> None:
    # The network, its maps, and what PyTorch makes of them.
    case = CASE.small() if given.tiny else CASE
    form = Form(case.architecture(), Graph(), size=(case.height, case.width))
    synthesiser = form.synthesiser(case.trainer(pick("cpu", "fp32")).networks.G.eval())
    (street,) = generated_maps(form.reads, 1, form.size)
    feed = form.feed(street)
    torch_runner = TorchRunner(synthesiser, pick(given.device, "fp32"))
    of_torch = np.asarray(torch_runner(feed), np.float32)
    time_calls(given, f"{case.title}, torch fp32", lambda: torch_runner(feed))

    # The files, in every provider.
    given.work.mkdir(parents=True, exist_ok=True)
    for precision, limit in MOST_APART.items():
        options = OnnxOptions(precision=precision)
        file = given.work / f"{precision}.onnx"
        to_onnx(with_graph_norm(synthesiser, options), feed, file, options, {})
        for name in PROVIDERS:
            provider = f"{name}ExecutionProvider"
            is_spare = name == "CPU" and given.device != "cpu"
            if is_spare or provider not in onnxruntime.get_available_providers():
                continue
            what = f"{case.title}, ONNX Runtime {name} {precision}"
            with given.attempt(what):
                session = onnxruntime.InferenceSession(str(file), providers=[provider])
                apart = float(np.abs(session.run(None, feed)[0] - of_torch).max())
                given.say(f"{what}: largest error", apart, "", f"at most {limit:g}", apart <= limit)
                time_calls(given, what, lambda session=session: session.run(None, feed))


def time_calls(given, what: str, call) -> None:
    """From maps in host memory to a picture in host memory."""
    call()
    seconds: list[float] = []
    while len(seconds) < (3 if given.tiny else CALLS) and sum(seconds) < SECONDS:
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    given.say(what, 1 / statistics.median(seconds), "img/s")
