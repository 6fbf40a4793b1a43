"""benchmark -> people: speed, parity, quality."""

from typing import ClassVar, Literal

from shared.contracts.exported import Parity
from shared.contracts.folder import Folder, Record


class SpeedRow(Record):
    """One runtime at one batch size. What is within each clock is said by the name, and in the
    report's method."""

    runtime: str
    device: str
    precision: str
    batch_size: int
    problem: str = ""  # why there are no figures, such as "out of memory"; figures are then None
    device_images_per_second: float | None = None  # maps and pictures stay on the device: no copies
    images_per_second: float | None = (
        None  # integer maps in host memory -> picture in host memory: copies count
    )
    end_to_end_images_per_second: float | None = None  # map files -> PNG files
    latency_ms_p50: float | None = None  # of a call from host memory to host memory
    latency_ms_p90: float | None = None
    latency_ms_p99: float | None = None
    peak_memory_mb: float | None = None
    speedup: float | None = (
        None  # images_per_second against PyTorch, eager, fp32 at this batch size
    )


class Quality(Record):
    """Means over pairs that have a photo; None where there is none, or the measuring network was
    not given."""

    pairs: int
    psnr_db: float | None = None
    ssim: float | None = None
    l1: float | None = None  # of pictures in [0, 1]
    lpips: float | None = None
    fid: float | None = None
    kid: float | None = None
    miou: float | None = (
        None  # of the labels that a segmentation network finds in the synthesised pictures
    )
    pixel_accuracy: float | None = None
    caveats: list[str] = []  # such as that FID of few pictures is biased


class LabelStyles(Record):
    """What the cluster centres of one label are worth."""

    label: int
    centres: int
    instances: int
    fallback: bool
    explained: float | None  # see LabelClusters
    # mean |difference| in [0, 255] between pictures of two centres, on the label
    picture_difference: float | None


class BenchmarkReport(Folder):
    """Speed, parity and quality of one exported model, and how they were measured."""

    FILE: ClassVar[str] = "benchmark.json"
    FLAG: ClassVar[str] = "--report"
    MADE_BY: ClassVar[str] = "benchmark"

    format: Literal[2] = 2

    speed: list[SpeedRow]
    parity: list[Parity]  # of the runtimes that were measured
    quality: Quality
    train_quality: Quality  # on the training pairs shown in the report
    styles: list[LabelStyles] = []  # of a model with instance features
    height: int
    width: int
    model_digest: str
    dataset_digest: str
    environment: dict[str, str]
    method: str

    def headline(self) -> dict[str, float]:
        """The figures a person compares night by night."""
        figures = {
            f"fps/{row.runtime}_{row.precision}/batch_{row.batch_size}": row.images_per_second
            for row in self.speed
            if row.images_per_second is not None
        }
        figures |= {
            f"parity/{p.runtime}_{p.precision}/max_abs_error": p.max_abs_error for p in self.parity
        }
        for split, quality in (("test", self.quality), ("train", self.train_quality)):
            measured = quality.model_dump(exclude={"pairs", "caveats"}, exclude_none=True)
            figures |= {f"{split}/{name}": value for name, value in measured.items()}
        for name in ("explained", "picture_difference"):
            known = [value for style in self.styles if (value := getattr(style, name)) is not None]
            figures |= {f"styles/{name}": sum(known) / len(known)} if known else {}
        return figures
