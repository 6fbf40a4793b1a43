"""Is the file the same function as the PyTorch model?"""

import numpy as np
import onnxruntime
import torch

from shared.contracts import Parity
from shared.networks import Synthesiser


def measure_parity(onnx_file: bytes, synthesiser: Synthesiser, maps: dict[str, np.ndarray], limit: float) -> Parity:
    """ONNX Runtime against PyTorch, both fp32 on the CPU, sample by sample; differences of pictures in [-1, 1]."""
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    samples = len(next(iter(maps.values())))
    largest, means = [], []
    for i in range(samples):
        sample = {name: array[i : i + 1] for name, array in maps.items()}
        with torch.inference_mode():
            wanted = synthesiser(*map(torch.from_numpy, sample.values())).numpy()
        error = np.abs(session.run(None, sample)[0] - wanted)  # (1, 3, H, W)
        largest.append(error.max())
        means.append(error.mean())
    return Parity(
        samples=samples, max_abs_error=float(np.max(largest)), mean_abs_error=float(np.mean(means)), limit=limit
    )
