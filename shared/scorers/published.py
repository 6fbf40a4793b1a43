"""A network with published weights, run as an ONNX file is: from host memory to host memory."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from shared.device import in_fp32
from shared.errors import InputError
from shared.networks.weight_file import load_state
from shared.published.download import fetch
from shared.published.files import WeightFile


class PublishedNetwork:
    """PyTorch on a GPU, else on the CPU, in fp32 whatever the step computes in."""

    def __init__(self, module: nn.Module, files: Iterable[WeightFile], flag: str, device: str):
        """Load it with the tensors of its files, which are downloaded where they are not here.

        flag: What asks for it, in the words of a command line. Raises InputError where a file
        cannot be had, or is another."""
        state = {}
        for file in files:
            state |= load_state(fetch(file, flag))

        # The classifier behind the features stays out; old files do not count BatchNorm's batches.
        wanted = [key for key in module.state_dict() if not key.endswith(".num_batches_tracked")]
        if lacking := set(wanted) - state.keys():
            raise InputError(f"{flag} needs {min(lacking)}, which none of its files has.")
        module.load_state_dict({key: state[key] for key in wanted}, strict=False)
        self.device = "cuda" if device == "cuda" else "cpu"
        self.module = module.eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def run(self, *pictures: np.ndarray) -> np.ndarray:
        """Run it on pictures (N, 3, H, W) float32."""
        tensors = [torch.from_numpy(each).to(self.device) for each in pictures]
        with in_fp32(self.device):
            return self.module(*tensors).cpu().numpy()
