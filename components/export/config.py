"""Options of the export step."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from components.export.om.atc import PrecisionMode
from shared.bounds import LARGEST_BATCH, MANY, BatchSizes
from shared.command import CheckOptions, Options, StepConfig
from shared.contracts.dataset import parse_size
from shared.contracts.exported import ExportCard, Graph
from shared.device_names import parity_limit
from shared.errors import InputError
from shared.networks.chosen import WeightsOptions

DYNAMIC = "dynamic"
LEAST_OPSET_INT8 = 13  # of DequantizeLinear with a scale for each channel


class FormOptions(Options):
    """What the file takes and gives."""

    form: Literal["maps", "onehot"] = "maps"
    """maps: label and instance ids; one-hot, edges and styles are made inside the file. onehot: the
    seed's file, input_concat (channels, H, W) float32 -> fake_image, whose channels the host
    makes."""
    style: Literal["fixed", "label", "instance", "map"] = "fixed"
    """Where a model with instance features takes them from. fixed: the commonest style of each
    label, inside the file. Or an input of the file: a table by label, a table by instance, or a
    feature map."""
    labels: Literal["uint8", "int32"] = "uint8"
    """Type of the label ids in the input."""
    ids: Literal["int32", "int16"] = "int32"
    """Type of the instance ids in the input; 16 bits take 6.3 instead of 10.5 MB per 1024x2048
    picture."""
    output: Literal["float", "uint8"] = "float"
    """float: pictures in [-1, 1]. uint8: 0 .. 255, rounded inside the file."""
    size: str = ""
    """HEIGHTxWIDTH of the maps in pixels; empty: the model's; dynamic: any."""
    batch_size: int = Field(0, ge=0, le=LARGEST_BATCH)
    """Pictures per call, fixed in the file; 0: any number."""

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        try:
            sides = () if size in ("", DYNAMIC) else parse_size(size)
        except InputError:
            raise ValueError(
                "should be HEIGHTxWIDTH, for example 128x256, dynamic, or empty"
            ) from None
        if sides and min(sides) < 2:
            raise ValueError("both sides should be 2 pixels or more")
        return size

    @property
    def is_dynamic(self) -> bool:
        """Whether the file takes maps of any size."""
        return self.size == DYNAMIC

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(height, width) that were asked for."""
        return None if self.size in ("", DYNAMIC) else parse_size(self.size)

    def graph(self, feat_num: int) -> Graph:
        """The form of the deployed file, for a model with that many instance features."""
        style = self.style if feat_num and self.form == "maps" else "none"
        return Graph(
            form=self.form, labels=self.labels, ids=self.ids, style=style, output=self.output
        )


class OnnxOptions(Options):
    """How the file computes."""

    precision: Literal["fp32", "fp16"] = "fp32"
    """Arithmetic and weights of the ONNX file; in fp16 norms stay fp32, inputs and outputs keep
    their types."""
    opset: int = Field(17, ge=11, le=18)
    """ONNX operator set of the file, 11 to 18: those that Ascend's ATC reads."""
    instance_norm: Literal["precise", "native"] = "precise"
    """precise: InstanceNorm written out, exact in ONNX Runtime at every size. native: the operator
    of that name, for which NPUs and GPUs have fast kernels; ONNX Runtime's on a CPU is off by 1e-3
    at 256x512: raise --parity-limit."""
    batch_norm: Literal["running", "picture"] = "running"
    """Statistics of BatchNorm. running: those of the training. picture: of each picture itself, as
    pix2pix tests by default."""
    dropout: bool = False
    """Dropout goes on in the file, as pix2pix tests by default: pictures are random; proven without
    it."""
    external_data_above_mb: int = Field(1900, ge=0, le=2047)
    """A file of more than this many 2^20 bytes keeps its weights in a second one, <file>.data: one
    alone ends at 2 GB."""


class ProofOptions(Options):
    """How the file is proven."""

    parity_samples: int = Field(4, ge=1, le=MANY)
    """Label maps on which the file is compared with PyTorch."""
    parity_limit: float = Field(0.0, ge=0, le=2)
    """Largest absolute difference of pictures in [-1, 1] that passes; above it the step fails and
    writes nothing. 0: 1e-4 for fp32 (on a GPU 1e-3), 0.05 for fp16 and NPUs."""

    def limit(self, precision: str, device: str) -> float:
        """The largest difference that a runtime with that arithmetic may have."""
        return self.parity_limit or parity_limit(precision, device)


class Int8Options(Options):
    """Its twin in int8, for CPUs."""

    int8: Literal["off", "auto", "on"] = "off"
    """Beside the file one whose convolutions compute in int8, for ONNX Runtime and OpenVINO on
    CPUs, if its pictures are good enough. auto: else a line says why there is none. on: else the
    step fails and writes nothing."""
    int8_calibration_pairs: int = Field(8, ge=1, le=MANY)
    """Training pairs, from all over the split, on whose maps the ranges of its 8-bit numbers are
    measured."""
    int8_test_pairs: int = Field(8, ge=1, le=MANY)
    """Test pairs, from all over the split, on which its pictures are judged."""
    int8_least_psnr_db: float = Field(35.0, ge=0, le=100)
    """Least PSNR of each of its pictures against that of the fp32 file."""
    int8_max_loss: float = Field(0.01, ge=0, le=1)
    """Largest share of PSNR and SSIM against the photos that it may lose, and by which L1 may
    rise."""

    @property
    def wants_int8(self) -> bool:
        """Whether the twin is to be made."""
        return self.int8 != "off"


class OmOptions(Options):
    """What Ascend's atc compiles from it."""

    format: Literal["onnx", "om"] = "onnx"
    """om: compile the ONNX file for an NPU with Ascend's atc, too."""
    soc_version: str = "auto"
    """Chip that atc compiles for, such as Ascend310P3; auto: the one in this machine."""
    om_batch_sizes: BatchSizes = (1,)
    """Batch sizes of the compiled files, one file each."""
    om_gears: bool = False
    """One compiled file that takes all of --om-batch-sizes."""
    om_precision_mode: PrecisionMode | Literal[""] = ""
    """atc's --precision_mode_v2; empty: its default, fp16."""
    om_fallback: Literal["none", "onehot"] = "none"
    """Where atc refuses the integers of --form maps. none: the step fails, and advises. onehot: the
    model is exported anew in that form, and the card tells so."""
    om_aipp: str = ""
    """atc's --insert_op_conf: file that describes preprocessing on the NPU; empty: none."""


# pydantic puts the fields of the last base first, and so does --help.
class ExportConfig(
    OmOptions,
    Int8Options,
    ProofOptions,
    OnnxOptions,
    FormOptions,
    CheckOptions,
    WeightsOptions,
    StepConfig,
):
    """Options of the export step."""

    STEP: ClassVar[str] = "export"
    OUTPUT: ClassVar[str] = "exported"
    MADE: ClassVar[tuple[str, ...]] = (
        *(f"{ExportCard.ONNX}*", f"{ExportCard.INT8}*", "*.om", ExportCard.SCRIPT),
    )
    WRITES: ClassVar[tuple[str, ...]] = (ExportCard.FILE, ExportCard.ONNX, ExportCard.SCRIPT)
    RENAMED: ClassVar[dict[str, str]] = {"input": "form"}

    @model_validator(mode="after")
    def _has_ids_and_styles_in_maps(self) -> Self:
        if self.form == "onehot" and self.style != "fixed":
            raise ValueError(
                f"--style {self.style} needs --form maps: with onehot the host makes the feature "
                "channels"
            )
        for name, default in (("ids", "int32"), ("labels", "uint8")):
            if self.form == "onehot" and (given := getattr(self, name)) != default:
                raise ValueError(
                    f"--{name} {given} needs --form maps: with onehot there are no ids in the input"
                )
        return self

    @model_validator(mode="after")
    def _can_have_a_twin(self) -> Self:
        if not self.wants_int8:
            return self
        asked = f"--int8 {self.int8}"
        if self.precision != "fp32":
            raise ValueError(
                f"{asked} with --precision {self.precision}: the int8 file is made of an fp32 one, "
                "leave one of them out"
            )
        if self.opset < LEAST_OPSET_INT8:
            raise ValueError(
                f"{asked} with --opset {self.opset}: scales by channel came with "
                f"{LEAST_OPSET_INT8}, give that or more"
            )
        if self.dropout:
            raise ValueError(
                f"{asked} with --dropout: random pictures cannot be judged, leave it out"
            )
        if self.format == "om":
            raise ValueError(
                f"{asked} with --format om: atc does not read it but what AMCT makes of it (see "
                "docs/ascend.md), export to another folder without --format om"
            )
        return self

    def in_channels(self) -> Self:
        """The same with --form onehot."""
        seeds = FormOptions(form="onehot").model_dump(include={"form", "style", "labels", "ids"})
        return self.model_copy(update=seeds)

    def advice_on_ids(self) -> str:
        """What to say where atc refuses the ids that a file takes."""
        seeds = self.in_channels()
        other = {name: getattr(self, name) for name in ("style", "labels", "ids")}
        other = {name: value for name, value in other.items() if value != getattr(seeds, name)}
        flags = " and ".join(f"--{name} {value}" for name, value in other.items())
        without = f" without {flags}" if flags else ""
        itself = "" if "style" in other else ", or --om-fallback onehot, which does that by itself"
        return (
            "Advice: this atc does not take the integers of --form maps; say --form onehot"
            f"{without}{itself}."
        )

    @model_validator(mode="after")
    def _can_be_compiled(self) -> Self:
        if self.format == "onnx":
            return self
        if self.is_dynamic:
            raise ValueError(
                "--format om with --size dynamic: atc needs the size, give HEIGHTxWIDTH"
            )
        if self.style == "instance":
            raise ValueError(
                "--format om with --style instance: atc needs tables of fixed length, give label "
                "or map"
            )
        if self.dropout:
            raise ValueError(
                "--format om with --dropout: random pictures cannot be compared, leave it out"
            )
        if self.om_fallback == "onehot" and self.style != "fixed":
            raise ValueError(
                f"--om-fallback onehot with --style {self.style}: in that form the host makes the "
                "feature channels, leave one of them out"
            )
        if self.batch_size and self.om_batch_sizes != (self.batch_size,):
            raise ValueError(
                f"--om-batch-sizes {' '.join(map(str, self.om_batch_sizes))} do not fit "
                f"--batch-size {self.batch_size}: leave --batch-size out"
            )
        return self
