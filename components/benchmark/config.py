"""Options of the benchmark step."""

from typing import ClassVar, Literal

from pydantic import Field

from shared.bounds import MANY, BatchSizes
from shared.command import CardOptions, CheckOptions, Options, StepConfig
from shared.contracts.measured import BenchmarkReport
from shared.device_names import DeviceName, PrecisionName
from shared.networks.chosen import WeightsOptions
from shared.scorers.options import MeasuringOptions


class SpeedOptions(Options):
    """What is timed, and how often."""

    batch_sizes: BatchSizes = (1, 4, 8)
    """Pictures per call; every one of them is measured."""
    runtimes: tuple[
        Literal["torch", "torch-compile", "onnxruntime", "openvino", "ais_bench"], ...
    ] = Field(("torch", "onnxruntime", "ais_bench"), min_length=1)
    """What is measured. torch-compile takes a minute to compile for each batch size and, on a CPU,
    a C++ compiler; openvino runs the ONNX file on a CPU, in fp32 and where the CPU has it in bf16,
    and is to be installed; ais_bench runs the compiled files for NPUs where there are such and an
    NPU is here."""
    precisions: tuple[PrecisionName, ...] = Field(("fp32", "auto"), min_length=1)
    """Arithmetic of PyTorch, each is measured; the exported files have their own."""
    rounds: int = Field(10, ge=1, le=MANY)
    """Timed calls per runtime and batch size; the runtimes take turns."""
    warmup: int = Field(2, ge=1, le=MANY)
    """Calls before the timed ones, which do not count."""


class PageOptions(Options):
    """What the report shows."""

    max_pictures: int = Field(4, ge=0, le=MANY)
    """Training pairs, and as many test pairs, shown in the report."""
    gallery: bool = False
    """All test pairs as a page of pictures, gallery/index.html beside the report."""
    max_styled_maps: int = Field(2, ge=0, le=MANY)
    """Maps on which the report lets a reader try the styles of --clusters."""
    max_styled_labels: int = Field(8, ge=0, le=256)
    """Labels of each such map, the largest, whose styles are painted: a picture per style."""


class GateOptions(Options):
    """With what a new model is compared, and what it may lose against it. A figure of quality that
    was not measured is not compared."""

    champion: str = ""
    """Folder of the export step to compare with; empty: the champion of --registered-model."""
    registered_model: str = ""
    """Model in MLflow's registry: its champion is compared with, and what was measured becomes a
    version of it; empty: neither. Needs MLFLOW_TRACKING_URI."""
    min_fps_ratio: float = Field(0.9, gt=0, le=1)
    """Least speed, as a share of the champion's."""
    max_loss_psnr_db: float = Field(0.3, ge=0)
    """Largest loss of PSNR in dB."""
    max_loss_ssim: float = Field(0.01, ge=0)
    """Largest loss of SSIM."""
    max_loss_l1: float = Field(0.005, ge=0)
    """Largest rise of L1."""
    max_loss_lpips: float = Field(0.01, ge=0)
    """Largest rise of LPIPS."""
    max_loss_fid: float = Field(2.0, ge=0)
    """Largest rise of FID."""
    max_loss_kid: float = Field(0.002, ge=0)
    """Largest rise of KID."""
    max_loss_miou: float = Field(0.02, ge=0)
    """Largest loss of mIoU."""
    max_loss_pixel_accuracy: float = Field(0.01, ge=0)
    """Largest loss of pixel accuracy."""
    max_parity_error: float = Field(0, ge=0, le=2)
    """Largest difference of the exported file from PyTorch in fp32, of pictures in [-1, 1]; 0: what
    the export allowed."""
    gate_confidence: float = Field(0.95, ge=0.5, le=0.999)
    """Confidence with which none of the figures is called better or worse by chance."""
    gate_seconds: float = Field(15.0, ge=0, le=86400)
    """Seconds after which the speeds have been compared long enough, also on a busy machine; 18
    calls of each file are timed in any case."""

    @property
    def is_asked(self) -> bool:
        """Whether there is to be a verdict."""
        return bool(self.champion or self.registered_model)

    def max_loss(self, metric: str) -> float:
        """The largest loss of a figure of quality, by the name that `shared/quality.py` gives
        it."""
        return getattr(self, f"max_loss_{metric}")


# pydantic puts the fields of the last base first, and so does --help.
class BenchmarkConfig(
    MeasuringOptions,
    GateOptions,
    PageOptions,
    SpeedOptions,
    CardOptions,
    CheckOptions,
    WeightsOptions,
    StepConfig,
):
    """All options of the benchmark step."""

    STEP: ClassVar[str] = "benchmark"
    OUTPUT: ClassVar[str] = "report"
    ASKS_MLFLOW: ClassVar[bool] = True  # for the curves of the trainings, and the registry
    MADE: ClassVar[tuple[str, ...]] = (
        *(BenchmarkReport.PAGE, BenchmarkReport.TABLE),
        *(BenchmarkReport.PICTURES, BenchmarkReport.GALLERY),
    )
    WRITES: ClassVar[tuple[str, ...]] = (
        *(BenchmarkReport.FILE, BenchmarkReport.PAGE, BenchmarkReport.TABLE),
        f"{BenchmarkReport.PICTURES}/test.png",
    )

    segmentation_network: str = ""
    """ONNX file that finds the labels again: pictures (N, 3, H, W) in [0, 1] to scores (N, classes,
    h, w), or to ids (N, h, w) of the data set; 19 classes of 34 or 35 labels are Cityscapes'
    evaluated ones."""
    device: DeviceName = "auto"
    """Where PyTorch runs. ONNX Runtime follows it where its provider for that device is installed,
    else it takes the CPU."""
