"""The two runtimes behind one call: maps in host memory -> (N, 3, H, W) float32 in [-1, 1] in host memory.

Maps are arrays by input name: `labels` (N, H, W) uint8 or `image` (N, C, H, W) uint8, then `instances` (N, H, W)
int32 where the generator uses them.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from shared.contracts import ModelCard
from shared.device import Runtime, pick
from shared.networks import Synthesiser
from shared.samples import Sample


class TorchRunner:
    """Eager PyTorch."""

    name = "torch"

    def __init__(self, synthesiser: Synthesiser, runtime: Runtime):
        self.runtime = runtime
        self.synthesiser = synthesiser.eval().to(runtime.torch_device)
        self.device = runtime.name
        self.precision = runtime.precision

    @torch.inference_mode()
    def __call__(self, maps: dict[str, np.ndarray]) -> np.ndarray:
        tensors = [torch.from_numpy(array).to(self.runtime.torch_device) for array in maps.values()]
        with self.runtime.autocast():
            picture = self.synthesiser(*tensors)
        picture = picture.float().cpu()
        self.runtime.synchronize()  # a clock read after the call is true
        return picture.numpy()

    def peak_memory_mb(self) -> float:
        return self.runtime.peak_memory_mb()


class OnnxRunner:
    """ONNX Runtime on the exported file."""

    name = "onnxruntime"

    def __init__(self, file: Path, precision: str, prefer_cuda: bool):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()  # as many as PyTorch
        # Its threads would go on spinning after a call: PyTorch's next turn took twice as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        cuda = "CUDAExecutionProvider"
        providers = ["CPUExecutionProvider"]
        if prefer_cuda and cuda in onnxruntime.get_available_providers():
            providers.insert(0, (cuda, {"use_tf32": "0"}))  # else an fp32 file is computed in TF32
        self.session = onnxruntime.InferenceSession(file, options, providers=providers)
        self.device = "cuda" if cuda in self.session.get_providers() else "cpu"
        self.precision = precision

    def __call__(self, maps: dict[str, np.ndarray]) -> np.ndarray:
        return self.session.run(None, maps)[0]

    def peak_memory_mb(self) -> float:
        return pick("cpu").peak_memory_mb()  # of the process; its arena on a GPU cannot be asked for


def maps_of(sample: Sample, card: ModelCard) -> dict[str, np.ndarray]:
    """What the generator reads of a sample, a batch of one each, by input name."""
    maps = {card.architecture.input_name: sample.inputs}
    if card.architecture.use_instances:
        maps["instances"] = sample.instances
    return {name: np.stack([array]) for name, array in maps.items()}  # copies: torch warns of a cache's own arrays


def batch_of(samples: list[dict[str, np.ndarray]], start: int, size: int) -> dict[str, np.ndarray]:
    """`size` of the samples, each a batch of one, from number `start` on, cycled."""
    chosen = [samples[(start + i) % len(samples)] for i in range(size)]
    return {name: np.concatenate([sample[name] for sample in chosen]) for name in chosen[0]}
