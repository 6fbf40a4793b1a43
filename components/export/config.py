"""Options of the export step."""

from typing import ClassVar, Literal

from pydantic import Field

from shared.step import StepConfig


class ExportConfig(StepConfig):
    STEP: ClassVar[str] = "export"

    opset: int = Field(17, ge=11, le=18)
    """ONNX operator set of the file, 11 to 18: those that Ascend's ATC reads."""
    instance_norm: Literal["precise", "native"] = "precise"
    """precise: InstanceNorm written out, exact in ONNX Runtime at every size. native: the operator of that name, for
    which NPUs and GPUs have fast kernels; ONNX Runtime's on a CPU is off by 1e-3 at 256x512: raise --parity-limit."""
    batch_norm: Literal["running", "picture"] = "running"
    """Statistics of BatchNorm. running: those of the training. picture: of each picture itself, as pix2pix tests by
    default; dropout is never exported."""
    parity_samples: int = Field(4, ge=1)
    """Label maps on which the file is compared with PyTorch."""
    parity_limit: float = Field(1e-4, ge=0)
    """Largest absolute difference of pictures in [-1, 1] that passes; above it the step fails and leaves no file."""
