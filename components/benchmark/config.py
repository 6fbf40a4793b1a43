"""Options of the benchmark step."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from shared.command import Options, StepConfig
from shared.device_names import DeviceName, PrecisionName
from shared.measuring import MeasuringOptions


class SpeedOptions(Options):
    """What is timed, and how often."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field((1, 4, 8), min_length=1)
    """Pictures per call; every one of them is measured."""
    runtimes: tuple[Literal["torch", "torch-compile", "onnxruntime", "ais_bench"], ...] = Field(
        ("torch", "onnxruntime", "ais_bench"), min_length=1
    )
    """What is measured. torch-compile takes a minute to compile for each batch size and, on a CPU,
    a C++ compiler; ais_bench runs the compiled files for NPUs where there are such and an NPU is
    here."""
    precisions: tuple[PrecisionName, ...] = Field(("fp32", "auto"), min_length=1)
    """Arithmetic of PyTorch, each is measured; the exported files have their own."""
    rounds: int = Field(10, ge=1)
    """Timed calls per runtime and batch size; the runtimes take turns."""
    warmup: int = Field(2, ge=1)
    """Calls before the timed ones, which do not count."""


class PageOptions(Options):
    """What the report shows."""

    max_pictures: int = Field(4, ge=0)
    """Training pairs, and as many test pairs, shown in the report."""
    max_styled_maps: int = Field(2, ge=0)
    """Maps on which the report lets a reader try the styles of --clusters."""
    max_styled_labels: int = Field(8, ge=0)
    """Labels of each such map, the largest, whose styles are painted: a picture per style."""


# pydantic puts the fields of the last base first, and so does --help.
class BenchmarkConfig(MeasuringOptions, PageOptions, SpeedOptions, StepConfig):
    """All options of the benchmark step."""

    STEP: ClassVar[str] = "benchmark"

    segmentation_network: str = ""
    """ONNX file that finds the labels again: pictures (N, 3, H, W) in [0, 1] to scores (N, classes,
    h, w), or to ids (N, h, w) of the data set; 19 classes of 34 or 35 labels are Cityscapes'
    evaluated ones."""
    device: DeviceName = "auto"
    """Where PyTorch runs. ONNX Runtime follows it where its provider for that device is installed,
    else it takes the CPU."""
