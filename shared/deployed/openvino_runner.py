"""An exported ONNX file in OpenVINO, Intel's runtime for CPUs."""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import torch

from shared.deployed.form import Feeds
from shared.deployed.runners import filled, reason_of
from shared.device import pick
from shared.errors import InputError
from shared.files.room import is_of_machine

INSTALL = "`pip install openvino==2026.4.1`"
HINTS = {"fp32": "f32", "bf16": "bf16"}  # its names of arithmetics


def check_openvino() -> None:
    """Raises InputError where OpenVINO is not installed."""
    if importlib.util.find_spec("openvino") is None:
        raise InputError(f"OpenVINO is not installed: {INSTALL}, or leave openvino out.")


@functools.cache
def _core():
    """OpenVINO, opened once and never closed.

    Each one gives the thread a stack for signals, and takes it away again with the one before it:
    of two that end in the order of their making, the thread is left with memory that is gone, and
    the next signal with a handler, such as that of a child's end, kills the process without a
    word (2026.4)."""
    import openvino

    return openvino.Core()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this CPU (AVX512-BF16 or AMX)."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoRunner:
    """OpenVINO on the CPU; see `Runner`."""

    name = "openvino"
    device = "cpu"

    def __init__(self, file: Path, file_precision: str, precision: str = "auto"):
        """file_precision: of the weights in the file. precision: what is computed in, fp32 or bf16,
        of an int8 file what is not int8; auto: fp32, of an int8 file bf16 where the CPU has it,
        which is nearly twice as fast and costs the picture 0.5 dB of 51. Raises InputError where it
        is not here or does not read the file."""
        check_openvino()
        in_int8 = file_precision == "int8"
        if precision == "auto":
            precision = "bf16" if in_int8 and has_bf16() else "fp32"
        if precision not in HINTS or (precision == "bf16" and not has_bf16()):
            here = " and bf16" if has_bf16() else ""
            raise InputError(
                f"--precision {precision}: OpenVINO computes in fp32{here} on this CPU: say one."
            )
        # Of its own accord it takes bf16 where a CPU has it, and all cores.
        options = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
        options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
        try:
            self.model = _core().compile_model(_core().read_model(file), "CPU", options)
        except Exception as error:  # a RuntimeError for every reason
            if is_of_machine(error):
                raise
            raise InputError(
                f"{file} cannot be loaded by OpenVINO ({reason_of(error)}): export the model again."
            ) from None
        self.file, self.request = file, self.model.create_infer_request()
        self.inputs = {
            each.any_name: [
                side.get_length() if side.is_static else None for side in each.partial_shape
            ]
            for each in self.model.inputs
        }
        self.precision = file_precision if in_int8 or precision == "fp32" else precision
        self.batch_size = next((shape[0] for shape in self.inputs.values() if shape), None)

    def __call__(self, feeds: Feeds) -> np.ndarray:
        feeds, count = filled(feeds, self.inputs, self.batch_size, self.file)
        self.compute(self.upload(feeds))
        return self.request.get_output_tensor(0).data[:count].copy()

    def upload(self, feeds: Feeds) -> dict:
        """Tensors over the same memory."""
        import openvino

        return {
            name: openvino.Tensor(np.ascontiguousarray(array), shared_memory=True)
            for name, array in feeds.items()
        }

    def compute(self, uploaded: dict) -> None:
        try:
            self.request.infer(uploaded)
        except Exception as error:  # as above
            if is_of_machine(error):
                raise
            raise InputError(
                f"{self.file} cannot be run by OpenVINO ({reason_of(error)}): export the model "
                "again."
            ) from None

    def peak_memory_mb(self) -> float:
        return pick("cpu").peak_memory_mb()
