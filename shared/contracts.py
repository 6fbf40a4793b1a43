"""What passes between steps: each class describes one folder, writes its JSON file and reads it back.

prepare -> DatasetManifest, train -> ModelCard, cluster -> ClusterTable, export -> ExportCard,
benchmark -> BenchmarkReport
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import InputError

IGNORED = 255  # label id of pixels without a label: no channel of a one-hot map


def parse_size(text: str) -> tuple[int, int]:
    """'128x256' -> (height, width) in pixels. Raises InputError for anything else."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise InputError(f"--size {text!r} is not HEIGHTxWIDTH: write for example 128x256.")
    return int(height), int(width)


def digest_files(paths: list[Path]) -> str:
    """Short SHA-256 over names and contents, in the given order."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.name.encode())
        with open(path, "rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()[:16]


Write = Callable[[Path, bytes], None]


@contextlib.contextmanager
def written_together() -> Iterator[Write]:
    """Files that are written in the block appear at its end, each whole, or none where it fails (a full disk)."""
    places: dict[Path, Path] = {}

    def write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        places[partial] = path
        partial.write_bytes(content)

    try:
        yield write
    except BaseException:
        for partial in places:
            partial.unlink(missing_ok=True)
        raise
    for partial, path in places.items():
        os.replace(partial, path)


def write_atomically(path: Path, content: bytes) -> None:
    """The file appears whole or not at all, also when the process is killed while it writes."""
    with written_together() as write:
        write(path, content)


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Folder(Record):
    """A folder described by one JSON file; `write` is atomic, `read` names what is missing or unknown."""

    FILE: ClassVar[str]
    FLAG: ClassVar[str]
    MADE_BY: ClassVar[str]
    format: Literal[1] = 1

    def write(self, folder: Path, write: Write = write_atomically) -> None:
        write(Path(folder) / self.FILE, (self.model_dump_json(indent=2) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        path = Path(folder) / cls.FILE
        if not path.is_file():
            raise InputError(
                f"{cls.FLAG} {folder} holds no {cls.FILE}: "
                f"give the folder that `python -m components.{cls.MADE_BY}` wrote."
            )
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            raise InputError(
                f"{path} does not fit this version: {field}: {first['msg'].lower()}; "
                f"make it again with `python -m components.{cls.MADE_BY}`."
            ) from None


@dataclass(frozen=True, slots=True)
class Pair:
    """One sample; a plain dataclass, since a data set may have 100,000 of them."""

    name: str
    height: int  # of all its maps, in pixels
    width: int
    has_photo: bool
    num_instances: int  # distinct ids in its instance map, 0 without one


class DatasetManifest(Folder):
    """A checked data set in the seeds' flat layout: {train,test}_{img,label,inst}/<name>.png.

    With pictures as input it is {train,test}_{A,B,inst}, as the references have it for label_nc 0.
    """

    FILE: ClassVar[str] = "manifest.json"
    FLAG: ClassVar[str] = "--dataset"
    MADE_BY: ClassVar[str] = "prepare"
    format: Literal[2] = 2

    num_labels: int  # label ids are 0 .. num_labels - 1, and IGNORED; 0 = the input is a picture
    input_nc: int  # channels of the input picture, 0 = the input is a label map
    has_instances: bool
    instance_suffix: Literal[".png", ".tif"]  # .tif where ids need 32 bits
    train: list[Pair]
    test: list[Pair]
    source: str  # where it was prepared from
    source_digest: str  # of names, sizes and times of the source files
    config: dict  # of the prepare step
    digest: str  # of all image files

    def path(self, folder: Path, split: str, kind: Literal["photo", "input", "instance"], name: str) -> Path:
        """File of one map."""
        match kind:
            case "photo":
                place, suffix = "img" if self.num_labels else "B", ".png"
            case "input":
                place, suffix = "label" if self.num_labels else "A", ".png" if self.input_nc <= 4 else ".npy"
            case "instance":
                place, suffix = "inst", self.instance_suffix
        return Path(folder) / f"{split}_{place}" / f"{name}{suffix}"

    def common_size(self) -> tuple[int, int]:
        """(height, width) that most training pairs have: the size that models are made for."""
        return Counter((pair.height, pair.width) for pair in self.train).most_common(1)[0][0]


class Architecture(Record):
    """Everything needed to build the networks again; names as in pix2pixHD's options."""

    netG: Literal["global", "local", "unet_128", "unet_256", "resnet_6blocks", "resnet_9blocks"]
    norm: Literal["instance", "batch"] = "instance"
    dropout: bool = False  # in the generators of pix2pix
    netD: Literal["multiscale", "n_layers", "pixel"] = "multiscale"
    D_features: bool = True  # key layout of the multi-scale D: its layers are modules of their own
    num_labels: int  # 0 = the input is a picture
    input_nc: int  # channels of the input picture, 0 = the input is a label map
    use_instances: bool  # one edge channel
    feat_num: int  # channels of the features, 0 = none
    feature_regions: Literal["instances", "labels"] = "instances"  # over which they are pooled
    ngf: int
    n_downsample_global: int
    n_blocks_global: int
    n_local_enhancers: int
    n_blocks_local: int
    num_D: int
    ndf: int
    n_layers_D: int
    nef: int
    n_downsample_E: int

    @property
    def is_pix2pix(self) -> bool:
        """Generators of pix2pix (Isola et al. 2017), which are trained by its order of steps."""
        return self.netG.startswith(("unet", "resnet"))

    @property
    def stride(self) -> int:
        """Of the generator: sides of its input are padded to a multiple."""
        match self.netG:
            case "unet_128" | "unet_256":
                return int(self.netG.removeprefix("unet_"))
            case "resnet_6blocks" | "resnet_9blocks":
                return 4
            case "local":
                return 2 ** (self.n_downsample_global + self.n_local_enhancers)
            case "global":
                return 2**self.n_downsample_global

    @property
    def condition_channels(self) -> int:
        """Channels of one-hot labels or input picture, and edge: what D sees beside the photo."""
        return self.num_labels + self.input_nc + int(self.use_instances)

    @property
    def input_name(self) -> Literal["labels", "image"]:
        """Of the exported graph's input: labels (N, H, W) uint8, or an image (N, input_nc, H, W) uint8."""
        return "labels" if self.num_labels else "image"

    def refuse_other_data(self, dataset: Path, manifest: DatasetManifest) -> None:
        """Raises InputError for a data set whose maps this model cannot read."""
        if (found := describe_input(manifest)) != (wanted := describe_input(self)):
            raise InputError(
                f"--dataset {dataset} has {found} as input but the model was trained with {wanted}: "
                "give a data set of the same input."
            )
        if self.use_instances and not manifest.has_instances:
            raise InputError(
                f"--dataset {dataset} has no instance maps, which the model takes as input: give one with them."
            )
        if not manifest.train + manifest.test:
            raise InputError(
                f"--dataset {dataset} holds no pairs: prepare it again with `python -m components.prepare`."
            )


def describe_input(of: DatasetManifest | Architecture) -> str:
    """For people."""
    return f"maps of {of.num_labels} labels" if of.num_labels else f"pictures of {of.input_nc} channels"


class ModelCard(Folder):
    """A trained model: `latest_net_{G,D,E}.pth` in NVIDIA's key layout; `state/` resumes training."""

    FILE: ClassVar[str] = "model.json"
    FLAG: ClassVar[str] = "--model"
    MADE_BY: ClassVar[str] = "train"

    architecture: Architecture
    height: int
    width: int
    epoch: int  # finished epochs
    images_seen: int
    dataset_digest: str
    parent_digest: str  # of the model it was initialised from, '' = from scratch
    digest: str  # of the weight files
    config: dict
    metrics: dict[str, float]  # mean losses of the last epoch


class LabelClusters(Record):
    """Style centres of one label, most frequent first; (k, feat_num) in [-1, 1]."""

    centres: list[list[float]]
    counts: list[int]  # instances per centre
    spread: list[float]  # root mean square distance of the instances to their centre
    explained: float | None  # share of the instances' variance that the centres explain; None = all are equal
    fallback: bool  # no instance was large enough: one centre, the mean of all of them


class ClusterTable(Folder):
    """Instance features of the training set (`features.npz`) and their k-means centres per label."""

    FILE: ClassVar[str] = "clusters.json"
    FLAG: ClassVar[str] = "--clusters"
    MADE_BY: ClassVar[str] = "cluster"
    FEATURES: ClassVar[str] = "features.npz"
    format: Literal[2] = 2

    feat_num: int
    n_clusters: int
    min_area: float  # share of the image above which an instance takes part
    seed: int
    labels: dict[int, LabelClusters]  # {0: ...} where the input is a picture
    overall: list[float]  # mean over all instances: for labels never seen in training
    model_digest: str
    dataset_digest: str

    @classmethod
    def read_for(cls, clusters: Path, model: Path, card: ModelCard) -> Self:
        """Raises InputError for a model that takes no features, or whose encoder did not make these.

        They are clustered after stage one; stage two is trained from that model on the same features.
        """
        feat_num, parent = card.architecture.feat_num, card.parent_digest or "scratch"
        if not feat_num:
            raise InputError(
                f"--clusters {clusters} was given but --model {model} takes no instance features: leave it out."
            )
        table = cls.read(clusters)
        if table.model_digest not in (card.digest, card.parent_digest) or table.feat_num != feat_num:
            raise InputError(
                f"--clusters {clusters} belongs to model {table.model_digest} ({table.feat_num} features), not to "
                f"--model {model}, which is {card.digest} ({feat_num} features) from {parent}: "
                f"cluster the features of this model or of its parent."
            )
        return table

    def default_style(self, num_labels: int) -> np.ndarray:
        """The most frequent centre of every label: (num_labels + 1, feat_num) float32.

        The last row is for pixels without a label: IGNORED ones, or all where the input is a picture.
        """
        style = np.tile(np.asarray(self.overall, np.float32), (num_labels + 1, 1))
        for label, clusters in self.labels.items():
            style[min(label, num_labels)] = clusters.centres[0]
        return style


class TensorSpec(Record):
    name: str
    dtype: str
    shape: list[int | str]  # a string is a dynamic axis
    meaning: str


class Graph(Record):
    """Which function a deployed file is: the form of its inputs and of its output."""

    inputs: Literal["maps", "onehot"] = "maps"
    """maps: label ids (or a picture) and instance ids. onehot: the one float32 input of the seed's file, which the
    host makes: one-hot labels (or the picture in [-1, 1]), edges, instance features."""
    labels: Literal["uint8", "int32"] = "uint8"  # type of the label ids
    ids: Literal["int32", "int16"] = "int32"  # type of the instance ids
    style: Literal["none", "fixed", "label", "instance", "map"] = "none"
    """Where instance features come from. fixed: from a table in the file, by label. Else from an input: `style`
    (N, num_labels + 1, feat_num) by label; `style` (N, K, feat_num) by instance id, which then are 0 .. K - 1;
    `features` (N, feat_num, H, W)."""
    output: Literal["float", "uint8"] = "float"  # pictures in [-1, 1], or 0 .. 255


class Parity(Record):
    """Exported file against PyTorch in fp32 on real samples; pictures in [-1, 1]."""

    runtime: str  # onnxruntime or om
    device: str
    precision: str
    samples: int
    max_abs_error: float
    mean_abs_error: float
    cosine: float  # of the two pictures as vectors, the lowest
    psnr_db: float  # of the uint8 pictures, the lowest; 100 = identical
    limit: float  # largest max_abs_error that passes


class OmFile(Record):
    """One file compiled by Ascend's ATC."""

    file: str
    soc_version: str
    precision: str = "fp16"  # atc's --precision_mode_v2
    batch_sizes: list[int]  # one, or the gears of a dynamic batch


class ExportCard(Folder):
    """Deployable files and the proof that they equal the PyTorch model."""

    FILE: ClassVar[str] = "export.json"
    FLAG: ClassVar[str] = "--exported"
    MADE_BY: ClassVar[str] = "export"
    format: Literal[2] = 2

    file: str  # ONNX
    om: list[OmFile] = []
    graph: Graph
    opset: int
    precision: Literal["fp32", "fp16"]
    batch_norm: Literal["running", "picture"] = "running"  # whose statistics its BatchNorms use
    dropout: bool = False  # whether its dropout still drops
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    style: list[list[float]]  # default features per label, last row for pixels without; [] = none used
    parity: list[Parity]  # one per runtime that could be asked
    architecture: Architecture  # of the model: what it takes to feed the file
    model_digest: str
    versions: dict[str, str]

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the maps; None = any."""
        height, width = self.inputs[0].shape[-2:]
        return (height, width) if isinstance(height, int) else None


class SpeedRow(Record):
    """One runtime at one batch size. What is within each clock is said by the name, and in the report's method."""

    runtime: str
    device: str
    precision: str
    batch_size: int
    problem: str = ""  # why there are no figures, such as "out of memory"; figures are then None
    device_images_per_second: float | None = None  # maps and pictures stay on the device: no copies
    images_per_second: float | None = None  # integer maps in host memory -> picture in host memory: copies count
    end_to_end_images_per_second: float | None = None  # map files -> PNG files
    latency_ms_p50: float | None = None  # of a call from host memory to host memory
    latency_ms_p90: float | None = None
    latency_ms_p99: float | None = None
    peak_memory_mb: float | None = None
    speedup: float | None = None  # images_per_second against PyTorch, eager, fp32 at this batch size


class Quality(Record):
    """Means over pairs that have a photo; None where there is none, or the measuring network was not given."""

    pairs: int
    psnr_db: float | None = None
    ssim: float | None = None
    l1: float | None = None  # of pictures in [0, 1]
    lpips: float | None = None
    fid: float | None = None
    kid: float | None = None
    miou: float | None = None  # of the labels that a segmentation network finds in the synthesised pictures
    pixel_accuracy: float | None = None
    caveats: list[str] = []  # such as that FID of few pictures is biased


class LabelStyles(Record):
    """What the cluster centres of one label are worth."""

    label: int
    centres: int
    instances: int
    fallback: bool
    explained: float | None  # see LabelClusters
    picture_difference: float | None  # mean |difference| in [0, 255] between pictures of two centres, on the label


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
        figures |= {f"parity/{p.runtime}_{p.precision}/max_abs_error": p.max_abs_error for p in self.parity}
        for split, quality in (("test", self.quality), ("train", self.train_quality)):
            measured = quality.model_dump(exclude={"pairs", "caveats"}, exclude_none=True)
            figures |= {f"{split}/{name}": value for name, value in measured.items()}
        for name in ("explained", "picture_difference"):
            known = [value for style in self.styles if (value := getattr(style, name)) is not None]
            figures |= {f"styles/{name}": sum(known) / len(known)} if known else {}
        return figures
