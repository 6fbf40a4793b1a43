"""What is taken from the real wheel where it is there: what needs none of its C++."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType


def take_grad_scaler(amp: ModuleType) -> None:
    """Put torch_npu's own GradScaler in the place of its twin."""
    if folder := os.environ.get("TORCH_NPU_WHEEL"):
        file = Path(folder) / "torch_npu" / "npu" / "amp" / "grad_scaler.py"
        spec = importlib.util.spec_from_file_location("torch_npu.npu.amp.grad_scaler", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        amp.GradScaler = module.GradScaler
