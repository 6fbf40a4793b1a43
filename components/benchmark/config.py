"""Options of the benchmark step."""

from typing import Annotated, ClassVar

from pydantic import Field

from shared.device_names import DeviceName, PrecisionName
from shared.step import StepConfig


class BenchmarkConfig(StepConfig):
    STEP: ClassVar[str] = "benchmark"

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 4, 8), min_length=1)
    """Pictures per call; every one of them is measured."""
    rounds: int = Field(10, ge=1)
    """Timed calls per runtime and batch size; the runtimes take turns."""
    warmup: int = Field(2, ge=0)
    """Calls before the timed ones, which do not count."""
    max_pictures: int = Field(4, ge=0)
    """Training pairs, and as many test pairs, shown in the report."""
    device: DeviceName = "auto"
    """Where PyTorch runs. ONNX Runtime follows it to a GPU if its CUDA provider is installed, else it takes the CPU."""
    precision: PrecisionName = "auto"
    """Arithmetic of PyTorch; the exported file has its own."""
