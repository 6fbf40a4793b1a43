"""Runtimes behind one call: a batch as `shared.deployed.form` makes it -> pictures, both in host
memory."""

import copy
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import nn

from shared.deployed.form import Feeds
from shared.deployed.om_runner import one_clause
from shared.deployed.replace_layers import replace_layers
from shared.deployed.synthesiser import Synthesiser
from shared.device import Runtime, pick
from shared.errors import InputError
from shared.files.room import is_of_machine

# Of ONNX Runtime. An NPU runs compiled files: onnxruntime-cann 1.24.4 is built against NumPy 1 and
# takes the place of the onnxruntime that the other steps need.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Runner(Protocol):
    """`upload` then `compute` is the work without copies back; a call is all of it, from host
    memory to host memory."""

    name: str
    device: str
    precision: str
    batch_size: int | None  # of the file; None = any

    def __call__(self, feeds: Feeds) -> np.ndarray:
        """(N, output_nc, H, W) float32 in [-1, 1], or uint8 where the graph says so; N up to
        `batch_size`."""

    def upload(self, feeds: Feeds) -> object:
        """The batch on the device."""

    def compute(self, uploaded: object) -> None:
        """Pictures on the device; returns when they are done."""

    def peak_memory_mb(self) -> float: ...


class TorchRunner:
    """PyTorch, eager or compiled."""

    def __init__(self, synthesiser: Synthesiser, runtime: Runtime, compiled: bool = False):
        """compiled: by torch.compile, a graph for every batch size and size of the maps."""
        # What it says of itself.
        self.name = "torch-compile" if compiled else "torch"
        self.device = runtime.name
        self.precision = runtime.precision
        self.batch_size = None
        self.names = synthesiser.input_names

        # The network where it computes.
        self.runtime = runtime
        self.synthesiser = synthesiser.eval().to(runtime.torch_device)
        # GPUs and NPUs keep layout and autocast as they are: what would help there was not
        # measured.
        if runtime.name == "cpu" and (compiled or runtime.precision == "bf16"):
            # Autocast would cast all weights in every call.
            dtype = torch.bfloat16 if runtime.precision == "bf16" else torch.float32
            # Compiled norms and paddings keep this layout; an eager InstanceNorm goes to the other
            # one and back.
            layout = torch.channels_last if compiled else torch.contiguous_format

            def cast(conv: nn.Module) -> nn.Module:
                return copy.deepcopy(conv).to(dtype=dtype, memory_format=layout)

            convolutions = (nn.Conv2d, nn.ConvTranspose2d)
            self.synthesiser = replace_layers(self.synthesiser, convolutions, cast)
        self.function = compile_per_shape(self.synthesiser) if compiled else self.synthesiser

    def __call__(self, feeds: Feeds) -> np.ndarray:
        picture = self._compute(self.upload(feeds))
        picture = (picture.float() if picture.is_floating_point() else picture).cpu()
        self.runtime.synchronize()  # a clock read after the call is true
        return picture.numpy()

    def upload(self, feeds: Feeds) -> list[torch.Tensor]:
        device = self.runtime.torch_device
        tensors = [torch.from_numpy(feeds[name]).to(device) for name in self.names]
        if self.name == "torch-compile" and self.synthesiser.graph.style == "instance":
            table = tensors[self.names.index("style")]
            # Of another length for every batch: not worth a graph.
            torch._dynamo.maybe_mark_dynamic(table, 1)
        return tensors

    def compute(self, uploaded: list[torch.Tensor]) -> None:
        self._compute(uploaded)
        self.runtime.synchronize()

    @torch.inference_mode()
    def _compute(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        with self.runtime.autocast():
            return self.function(*tensors)

    def peak_memory_mb(self) -> float:
        return self.runtime.peak_memory_mb()


def compile_per_shape(synthesiser: Synthesiser) -> nn.Module:
    """Compiled at the first call with each batch size and size of maps.

    At torch's own limit, 8 graphs of all runners together, it would go on eager in silence;
    fullgraph makes that an error."""
    return torch.compile(synthesiser, dynamic=False, fullgraph=True, recompile_limit=64)


def reason_of(error: Exception) -> str:
    """The first sentence of what ONNX Runtime says."""
    return one_clause(str(error).partition("\n")[0].partition(". ")[0]) or type(error).__name__


def open_session(file: Path | bytes, device: str) -> onnxruntime.InferenceSession:
    """An ONNX file on a GPU where `device` is cuda and ONNX Runtime has it, else on the CPU. Raises
    what ONNX Runtime does for a file that it does not read."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as many as PyTorch
    # Its threads would go on spinning after a call: PyTorch's next turn took twice as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers: list = [PROVIDERS["cpu"]]
    if device == "cuda" and PROVIDERS["cuda"] in onnxruntime.get_available_providers():
        # Without the option an fp32 file is computed in TF32.
        providers.insert(0, (PROVIDERS["cuda"], {"use_tf32": "0"}))
    return onnxruntime.InferenceSession(file, options, providers=providers)


def filled(
    feeds: Feeds, inputs: Collection[str], batch_size: int | None, file: Path
) -> tuple[Feeds, int]:
    """A batch filled up to what a file takes, and of how many it was. Raises InputError for other
    inputs than the file's."""
    if feeds.keys() != set(inputs):
        raise InputError(
            f"{file} takes {', '.join(inputs)} but is given {', '.join(feeds)}: export the model "
            "again."
        )
    count = len(next(iter(feeds.values())))
    fill = max((batch_size or 0) - count, 0)
    if fill:
        feeds = {
            name: np.concatenate([array, np.repeat(array[-1:], fill, 0)])
            for name, array in feeds.items()
        }
    return feeds, count


class OnnxRunner:
    """ONNX Runtime on an exported file."""

    name = "onnxruntime"

    def __init__(self, file: Path, precision: str, device: str = "cpu"):
        """device: cpu, cuda or npu; the CPU is taken for an NPU, and where ONNX Runtime was built
        without CUDA."""
        try:
            self.session = open_session(file, device)
            self.inputs = {each.name: each.shape for each in self.session.get_inputs()}
        except Exception as error:  # ONNX Runtime has a class for every reason
            if is_of_machine(error):
                raise
            raise InputError(
                f"{file} cannot be loaded ({reason_of(error)}): export the model again."
            ) from None
        self.file = file
        on_gpu = PROVIDERS["cuda"] in self.session.get_providers()
        self.device = "cuda" if on_gpu else "cpu"
        self.precision = precision
        batch = next((shape[0] for shape in self.inputs.values() if shape), None)
        self.batch_size = batch if isinstance(batch, int) else None

    def __call__(self, feeds: Feeds) -> np.ndarray:
        feeds, count = filled(feeds, self.inputs, self.batch_size, self.file)
        try:
            return self.session.run(None, feeds)[0][:count]
        except Exception as error:  # as above
            if is_of_machine(error):
                raise
            raise InputError(
                f"{self.file} cannot be run ({reason_of(error)}): export the model again."
            ) from None

    def upload(self, feeds: Feeds) -> onnxruntime.IOBinding:
        binding = self.session.io_binding()
        for name, array in feeds.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array, self.device)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(self.session.get_outputs()[0].name, self.device)
        return binding

    def compute(self, uploaded: onnxruntime.IOBinding) -> None:
        uploaded.synchronize_inputs()
        self.session.run_with_iobinding(uploaded)
        uploaded.synchronize_outputs()

    def peak_memory_mb(self) -> float:
        """Of the process: the arena on a GPU cannot be asked for."""
        return pick("cpu").peak_memory_mb()
