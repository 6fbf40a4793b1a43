"""Options of `python -m components.export synthesise`, and which go together."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import tyro
from pydantic import Field, field_validator, model_validator

from shared.command import CardOptions, CheckOptions, Options, StepConfig
from shared.contracts.dataset import parse_size
from shared.contracts.model import LATEST
from shared.device_names import DeviceName, PrecisionName
from shared.errors import InputError
from shared.networks.chosen import WeightsOptions

MapsName = Literal["auto", "raw", "prepared"]
KEEP = "keep"  # --size: every map as it is
COMPONENTS = Path("components")  # --instances of this name: regions of the labels, no folder
Assignments = Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID=STYLE ...")]


class PainterOptions(WeightsOptions):
    """What paints: a trained model in PyTorch, or an exported file in the runtime of its kind."""

    model: Path | None = None
    """Folder of the train step, or one with latest_net_G.pth of NVIDIA's pix2pixHD or of junyanz'
    pix2pix."""
    exported: Path | None = None
    """Folder of the export step, in place of --model."""
    runtime: Literal["onnx", "openvino", "om"] = "onnx"
    """Of --exported: ONNX Runtime, OpenVINO on a CPU, or the compiled file on an NPU."""
    int8: bool = False
    """Of --exported, its int8 file, which export --int8 writes; on the CPU."""
    device: DeviceName = "auto"
    """auto takes an NPU, else a GPU, else the CPU."""
    precision: PrecisionName = "auto"
    """Arithmetic of --model, and of OpenVINO; auto: fp32 on CPU, bf16 on GPU, fp16 on NPU."""
    batch_norm: Literal["running", "picture"] = "running"
    """Statistics of the BatchNorms of --model. running: those of the training. picture: of each
    picture itself, as pix2pix tests by default."""

    size: str = ""
    """HEIGHTxWIDTH in pixels that maps are brought to, and pictures back; keep: none is. Empty: for
    pix2pix the size of the model, as it tests; else keep. A file for one size has its own."""

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        try:
            sides = () if size in ("", KEEP) else parse_size(size)
        except InputError:
            raise ValueError("should be HEIGHTxWIDTH, for example 128x256, or keep") from None
        if sides and min(sides) < 2:
            raise ValueError("both sides should be 2 pixels or more")
        return size

    @model_validator(mode="after")
    def _paints_in_one_way(self) -> Self:
        if self.model is None and self.exported is None:
            raise ValueError(
                "--model or --exported is needed: give the folder of a trained or of an exported "
                "model"
            )
        if self.model and self.exported:
            raise ValueError(
                "--model and --exported were both given: give the one that is to paint"
            )
        if self.model and self.runtime != "onnx":
            raise ValueError(
                f"--runtime {self.runtime} runs exported files: give --exported in place of --model"
            )
        if self.exported and self.weights != LATEST:
            raise ValueError(
                f"--weights {self.weights} is for --model but --exported was made from some: leave "
                "it out"
            )
        if self.exported and self.precision != "auto" and self.runtime != "openvino":
            raise ValueError(
                f"--precision {self.precision} is for --model but --exported keeps its own: leave "
                "it out"
            )
        if self.exported and self.batch_norm != "running":
            raise ValueError(
                f"--batch-norm {self.batch_norm} is for --model but --exported keeps its own: "
                "leave it out"
            )
        return self

    @model_validator(mode="after")
    def _takes_int8_of_a_file(self) -> Self:
        if not self.int8:
            return self
        if self.model:
            raise ValueError(
                "--int8 takes a file of --exported: give that in place of --model, or leave --int8 "
                "out"
            )
        if self.runtime == "om":
            raise ValueError("--int8 with --runtime om: compiled files have no twin, leave it out")
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"--int8 with --device {self.device}: it is for CPUs, leave it out")
        return self

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """(height, width) that were asked for."""
        return None if self.size in ("", KEEP) else parse_size(self.size)

    @property
    def named(self) -> str:
        """Flag and folder of what paints, for what is said to people."""
        return f"--model {self.model}" if self.model else f"--exported {self.exported}"


class SceneOptions(Options):
    """From what: files or folders, or a prepared data set."""

    labels: Path | None = None
    """Label map, or folder with label maps at any depth."""
    image: Path | None = None
    """Picture, or folder of them, for a model whose input is a picture."""
    instances: Path | None = None
    """Instance map, or folder of them with the names of the label maps; components: each connected
    region of one label is one. Without it as in training, where that took components."""
    maps: MapsName = "auto"
    """Label maps are raw, read as those that the model's data set was prepared from (remap,
    colours); or prepared, ids as in the data set. auto: by where they lie and what is in them."""
    dataset: Path | None = None
    """Folder of the prepare step, in place of --labels, --image and --instances."""
    split: Literal["train", "test"] = "test"
    """Which pairs of --dataset."""

    @property
    def instance_place(self) -> Path | None:
        """Where instance maps lie; None where there are none, or the labels make them."""
        return None if self.instances == COMPONENTS else self.instances

    @model_validator(mode="after")
    def _reads_one_source(self) -> Self:
        if sum(place is not None for place in (self.labels, self.image, self.dataset)) != 1:
            raise ValueError(
                "--labels, --image or --dataset is needed, and one alone: give what is to be read"
            )
        if self.dataset and self.instances:
            raise ValueError(
                f"--instances {self.instances} was given but --dataset has its own: leave it out"
            )
        if self.maps != "auto" and not self.labels:
            raise ValueError(
                f"--maps {self.maps} is for --labels, which was not given: leave it out"
            )
        return self


class StyleOptions(Options):
    """In which styles a model with instance features paints; without any choice every label has its
    commonest one."""

    clusters: Path | None = None
    """Folder of the cluster step; the styles of a label are numbered from 0, the commonest."""
    style_seed: int | None = Field(None, ge=0, lt=2**32)
    """A random style for every label; the same seed gives the same pictures."""
    per_instance: tyro.conf.FlagCreatePairsOff[bool] = False
    """A random style for every instance, not for every label."""
    label_style: Assignments = ()
    """Style of one label, by its id or name, such as 26=3 or car=3."""
    instance_style: Assignments = ()
    """Style of one instance, such as 26001=3."""
    photo: Path | None = None
    """Photograph of the scene, or folder of them by name: the styles that the encoder of --model
    finds in it."""
    variants: int = Field(1, ge=1, le=1000)
    """Pictures of each input, in random styles, and a grid of them."""

    def given(self) -> list[str]:
        """The flags that were given."""
        values = {
            "--style-seed": self.style_seed is not None,
            "--per-instance": self.per_instance,
            "--label-style": self.label_style,
            "--instance-style": self.instance_style,
            "--variants": self.variants != 1,
            "--clusters": self.clusters,
            "--photo": self.photo,
        }
        return [flag for flag, is_given in values.items() if is_given]

    @model_validator(mode="after")
    def _chooses_styles_in_one_way(self) -> Self:
        if self.photo and self.given() != ["--photo"]:
            raise ValueError(
                f"--photo gives every style but {self.given()[0]} was given, too: leave one of "
                "them out"
            )
        return self

    def refuse(self, reason: str) -> None:
        """Raises InputError where any was given."""
        if given := self.given():
            raise InputError(f"{given[0]} was given but {reason}.")


class SynthesiseConfig(
    StyleOptions, SceneOptions, CardOptions, CheckOptions, PainterOptions, StepConfig
):
    STEP: ClassVar[str] = "synthesise"

    out: Path
    """Folder to write <name>.png to; of several variants <name>_0.png, <name>_1.png, ... and
    <name>_grid.png."""
    suffix: Literal["png", "jpg"] = "png"
    """jpg is written with quality 95."""
