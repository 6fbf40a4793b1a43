"""export -> benchmark: deployable files and their proof."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from shared.bounds import LONGEST_SIDE, BatchSize, Count, Feature
from shared.contracts.folder import FolderOfFiles, Record
from shared.contracts.labels import Label, RawReading
from shared.contracts.model import Architecture
from shared.files.names import Name


class TensorSpec(Record):
    name: str
    dtype: str
    shape: list[Annotated[int, Field(ge=1, lt=2**31)] | str]  # a string is a dynamic axis
    meaning: str


class Graph(Record):
    """Which function a deployed file is: the form of its inputs and of its output."""

    # called `inputs` in export.json before
    form: Literal["maps", "onehot"] = Field("maps", validation_alias=AliasChoices("form", "inputs"))
    """maps: label ids (or a picture) and instance ids. onehot: the one float32 input of the seed's
    file, which the host makes: one-hot labels (or the picture in [-1, 1]), edges, instance
    features."""
    labels: Literal["uint8", "int32"] = "uint8"  # type of the label ids
    ids: Literal["int32", "int16"] = "int32"  # type of the instance ids
    style: Literal["none", "fixed", "label", "instance", "map"] = "none"
    """Where instance features come from. fixed: from a table in the file, by label. Else from an
    input: `style` (N, num_labels + 1, feat_num) by label; `style` (N, K, feat_num) by instance id,
    which then are 0 .. K - 1; `features` (N, feat_num, H, W)."""
    output: Literal["float", "uint8"] = "float"  # pictures in [-1, 1], or 0 .. 255


class Parity(Record):
    """Exported file against PyTorch in fp32 on real samples; pictures in [-1, 1]."""

    model_config = ConfigDict(allow_inf_nan=True)  # of a broken file, which is never passed on

    runtime: str  # onnxruntime or om
    device: str
    precision: str
    samples: Count
    max_abs_error: float
    mean_abs_error: float
    cosine: float  # of the two pictures as vectors, the lowest
    psnr_db: float  # of the uint8 pictures, the lowest; 100 = identical
    # The largest max_abs_error that passes.
    limit: Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)]
    # The lowest psnr_db that passes: what counts of an int8 file, single pixels may differ.
    least_psnr_db: float = 0


class OmFile(Record):
    """One file compiled by Ascend's ATC."""

    file: Name
    soc_version: str
    precision: str = "fp16"  # atc's --precision_mode_v2
    batch_sizes: list[BatchSize] = Field(min_length=1)  # one, or the gears of a dynamic batch


class Int8Twin(Record):
    """What became of the file's int8 twin: its pictures beside those of the file."""

    file: Name | Literal[""]  # '': they are too far from those, and it was not kept
    calibration_pairs: Count
    test_pairs: Count
    psnr_db: float  # of the uint8 pictures, the lowest
    least_psnr_db: float
    lost: dict[str, float]  # share, by figure of quality against the photos; {} without photos
    max_loss: float  # the largest share that may be lost

    def reasons(self) -> list[str]:
        """Why it is not good enough, as parts of a sentence; none where it is."""
        found = []
        if not self.psnr_db >= self.least_psnr_db:
            found.append(
                f"the lowest PSNR against those of fp32 is {self.psnr_db:.1f} dB where "
                f"{self.least_psnr_db:g} dB are asked for"
            )
        for name, share in self.lost.items():
            if not share <= self.max_loss:
                found.append(
                    f"{name} against the photos loses {share:.1%} where {self.max_loss:.1%} is "
                    "allowed"
                )
        return found

    def describe(self) -> str:
        """What was measured, for people."""
        lost = ", ".join(f"{name} loses {max(share, 0):.2%}" for name, share in self.lost.items())
        of_photos = f"; against the photos {lost}" if lost else ""
        return (
            f"at least {self.psnr_db:.1f} dB PSNR against fp32 on {self.test_pairs} test pairs"
            f"{of_photos}"
        )


class ExportCard(FolderOfFiles):
    """Deployable files and the proof that they equal the PyTorch model."""

    FILE: ClassVar[str] = "export.json"
    FLAG: ClassVar[str] = "--exported"
    ONNX: ClassVar[str] = "generator.onnx"  # these beside it
    INT8: ClassVar[str] = "generator_int8.onnx"
    SCRIPT: ClassVar[str] = "paint.py"
    MADE_BY: ClassVar[str] = "python -m components.export"
    format: Literal[2] = 2

    file: Name  # ONNX
    om: list[OmFile] = []
    int8: Int8Twin | None = None  # None: it was not asked for
    graph: Graph
    opset: Annotated[int, Field(ge=1, le=100)]
    precision: Literal["fp32", "fp16"]
    # Of the maps in pixels; 0: written when files for any size took two strides.
    least_side: Annotated[int, Field(ge=0, le=LONGEST_SIDE)] = 0
    batch_norm: Literal["running", "picture"] = "running"  # whose statistics its BatchNorms use
    dropout: bool = False  # whether its dropout still drops
    inputs: list[TensorSpec] = Field(min_length=1)
    outputs: list[TensorSpec]
    style: list[list[Feature]]  # default features per label, last row for pixels without; [] = none
    parity: list[Parity]  # one per runtime that could be asked
    architecture: Architecture  # of the model: what it takes to feed the file
    labels: list[Label] = []  # of the data set that the model was trained on, as the next
    raw: RawReading = RawReading()
    model_digest: str
    test_digest: str = ""  # of the test pairs beside its training pairs, '' = not known
    versions: dict[str, str]

    @model_validator(mode="after")
    def _fits_its_model(self) -> Self:
        a = self.architecture
        rows = [a.feat_num] * (a.num_labels + 1)
        if self.style and [len(row) for row in self.style] != rows:
            raise ValueError(f"style should be {len(rows)} rows of {a.feat_num} features")
        shape = self.inputs[0].shape
        if len(shape) < 3 or len({isinstance(side, int) for side in shape[-2:]}) > 1:
            raise ValueError(f"the first input has the shape {shape}, of no map")
        return self

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the maps; None = any."""
        height, width = self.inputs[0].shape[-2:]
        return (height, width) if isinstance(height, int) else None

    def parts_of(self, file: str) -> list[str]:
        """A file and, where it has one, that of its weights (`generator.onnx.data`)."""
        return [name for name in self.files if name == file or name.startswith(f"{file}.")]
