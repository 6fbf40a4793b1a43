"""benchmark -> people, and who acts on its verdict: speed, parity, quality."""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from shared.bounds import BatchSize, Count, Side
from shared.contracts.exported import Parity
from shared.contracts.folder import Folder, Record
from shared.contracts.labels import NumLabels

Positive = Annotated[float, Field(ge=0)]


class SpeedRow(Record):
    """One runtime at one batch size. What is within each clock is said by the name, and in the
    report's method."""

    runtime: str
    device: str
    precision: str
    batch_size: BatchSize
    problem: str = ""  # why there are no figures, such as "out of memory"; figures are then None
    # Maps and pictures stay on the device: no copies.
    device_images_per_second: Positive | None = None
    # Integer maps in host memory -> pictures in host memory: copies count.
    images_per_second: Positive | None = None
    end_to_end_images_per_second: Positive | None = None  # map files -> PNG files
    latency_ms_p50: Positive | None = None  # of a call from host memory to host memory
    latency_ms_p90: Positive | None = None
    latency_ms_p99: Positive | None = None
    peak_memory_mb: Positive | None = None
    # Against PyTorch, eager, in fp32 at this batch size: median of the ratios within a round.
    speedup: Positive | None = None


class Quality(Record):
    """How close pictures are to photos, over the pairs that have one.

    The figures are the rows of METRICS in `shared/quality.py`, which tells how each is written and
    which direction is better. A figure is None where no pair has a photo, or the measuring network
    was not given."""

    model_config = ConfigDict(allow_inf_nan=True)  # a figure that is none loses no report

    pairs: Count
    psnr_db: float | None = None
    ssim: float | None = None
    l1: float | None = None  # of pictures in [0, 1]
    lpips: float | None = None
    fid: float | None = None
    kid: float | None = None
    miou: float | None = None  # of labels that a segmentation network finds in the pictures
    pixel_accuracy: float | None = None
    caveats: list[str] = []  # such as that FID of few pictures is biased


class LabelStyles(Record):
    """What the cluster centres of one label are worth."""

    label: NumLabels
    name: str = ""  # of the label, '' = it has none
    centres: Count
    instances: Count
    fallback: bool
    explained: float | None  # see LabelClusters
    picture_difference: float | None  # mean |difference|, 0 .. 255, of two centres on the label


class Comparison(Record):
    """One figure of tonight's model beside the champion's, both measured in turn on one machine.

    A change is tonight - champion; of a speed it is tonight / champion - 1."""

    model_config = ConfigDict(allow_inf_nan=True)

    name: str  # as in the headline of a report: fps/onnxruntime_fp32/batch_1, test/psnr_db
    better: Literal["higher", "lower"]
    champion: float
    tonight: float
    change: float
    low: float  # confidence interval of the change
    high: float
    noise: float  # changes up to this size are none: measured, or too small to matter
    limit: float  # the worst change that the rules allow
    # equal: none beyond the noise; loss: one for the worse that the rules allow; too busy: of a
    # speed, whose noise is larger than what they allow.
    judgement: Literal["better", "equal", "loss", "worse", "too busy"]


class Verdict(Record):
    """What the gate says of tonight's model.

    first: there is no champion to compare with. better: some figure is, and none is worse. equal:
    within noise and allowance. worse: a rule is broken. not comparable: `reasons` says why."""

    outcome: Literal["first", "better", "equal", "worse", "not comparable"]
    reasons: list[str]  # whole sentences
    figures: list[Comparison] = []
    champion: str = ""  # digest of its model, '' = there is none or it cannot be read
    source: str = ""  # where it is: a folder, or a version in MLflow's registry

    @property
    def refused(self) -> bool:
        """Whether the model must not take the champion's place."""
        return self.outcome in ("worse", "not comparable")

    def tags(self) -> dict[str, str]:
        """What it says, by the names of MLflow's tags."""
        return {"gate": self.outcome, "gate.reasons": " ".join(self.reasons)}

    def headline(self) -> dict[str, float]:
        """Its figures by the names that MLflow has: the ratio of the speeds, the changes of
        quality."""
        found = {}
        for figure in self.figures:
            if figure.name.startswith("fps/"):
                found["gate/fps_ratio"] = 1 + figure.change
            else:
                found[f"gate/{figure.name.removeprefix('test/')}_change"] = figure.change
        return found


class BenchmarkReport(Folder):
    """Speed, parity and quality of one exported model, and how they were measured."""

    FILE: ClassVar[str] = "benchmark.json"
    FLAG: ClassVar[str] = "--report"
    PAGE: ClassVar[str] = "report.html"  # these beside it
    TABLE: ClassVar[str] = "table.txt"
    PICTURES: ClassVar[str] = "pictures"
    GALLERY: ClassVar[str] = "gallery"
    MADE_BY: ClassVar[str] = "python -m components.benchmark"
    format: Literal[2] = 2

    speed: list[SpeedRow]
    parity: list[Parity]  # of the runtimes that were measured
    quality: Quality
    int8_quality: Quality | None = None  # of the test pairs by the int8 file, where there is one
    train_quality: Quality  # on the training pairs shown in the report
    styles: list[LabelStyles] = []  # of a model with instance features
    verdict: Verdict | None = None  # None where nothing was asked of the gate
    height: Side
    width: Side
    model_digest: str
    weights: str = ""  # of the model, such as "best (epoch 40)"; '' = not known
    dataset_digest: str
    environment: dict[str, str]
    method: str

    def headline(self) -> dict[str, float]:
        """The figures that a person compares night by night, by the names that MLflow has."""
        figures = {}

        # Speed and parity.
        for row in self.speed:
            if row.images_per_second is not None:
                name = f"fps/{row.runtime}_{row.precision}/batch_{row.batch_size}"
                figures[name] = row.images_per_second
        for parity in self.parity:
            name = f"parity/{parity.runtime}_{parity.precision}/max_abs_error"
            figures[name] = parity.max_abs_error

        # Quality of the pictures.
        qualities = {"test": self.quality, "train": self.train_quality}
        if self.int8_quality:
            qualities["test_int8"] = self.int8_quality
        for split, quality in qualities.items():
            measured = quality.model_dump(exclude={"pairs", "caveats"}, exclude_none=True)
            figures |= {f"{split}/{name}": value for name, value in measured.items()}

        # Styles, mean over the labels.
        for name in ("explained", "picture_difference"):
            values = [getattr(style, name) for style in self.styles]
            known = [value for value in values if value is not None]
            if known:
                figures[f"styles/{name}"] = sum(known) / len(known)
        return figures | (self.verdict.headline() if self.verdict else {})
