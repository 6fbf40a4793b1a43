"""train -> cluster, train, export, benchmark: a trained model."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from shared.bounds import Count, Side
from shared.contracts.dataset import DatasetManifest
from shared.contracts.folder import Folder, Record
from shared.contracts.labels import Label, NumLabels, PictureChannels, RawReading, one_input
from shared.errors import InputError
from shared.files.names import Name

GeneratorName = Literal[
    "global", "local", "unet_128", "unet_256", "resnet_6blocks", "resnet_9blocks"
]
UNETS, RESNETS = ("unet_128", "unet_256"), ("resnet_6blocks", "resnet_9blocks")  # of pix2pix
DiscriminatorName = Literal["multiscale", "n_layers", "pixel"]
NormName = Literal["instance", "batch"]
FeatureRegions = Literal["instances", "labels"]
PhotoChannels = Literal[1, 3]  # grey, or red, green and blue

LATEST, BEST = "latest", "best"  # names of weights

Channels = Annotated[int, Field(ge=1, le=8192)]  # of a network's first layer
MOST_STRIDES = 10
Strides = Annotated[int, Field(ge=0, le=MOST_STRIDES)]  # also of a D's layers, and its scales
Blocks = Annotated[int, Field(ge=0, le=200)]
MOST_FEATURES = 256
MOST_WEIGHTS = 2**31  # of all networks; those of pix2pixHD have 190 million


class GeneratorInput(Record):
    """What a generator reads: all that it takes to feed one, whatever its layers are."""

    num_labels: NumLabels  # 0 = the input is a picture
    input_nc: PictureChannels  # channels of the input picture, 0 = the input is a label map
    use_instances: bool  # one edge channel
    feat_num: Annotated[int, Field(ge=0, le=MOST_FEATURES)]  # channels of the features, 0 = none
    feature_regions: FeatureRegions = "instances"  # over which they are pooled

    @model_validator(mode="after")
    def _reads_one_input(self) -> Self:
        one_input(self.num_labels, self.input_nc)
        return self

    @property
    def condition_channels(self) -> int:
        """Channels of one-hot labels or input picture, and edge: what D sees beside the photo."""
        return self.num_labels + self.input_nc + int(self.use_instances)

    @property
    def input_name(self) -> Literal["labels", "image"]:
        """Of the exported graph's input: labels (N, H, W) uint8, or an image (N, input_nc, H, W)
        uint8."""
        return "labels" if self.num_labels else "image"

    def refuse_other_data(self, dataset: Path, manifest: DatasetManifest) -> None:
        """Raises InputError for a data set whose maps this model cannot read."""
        if (found := describe_input(manifest)) != (wanted := describe_input(self)):
            raise InputError(
                f"--dataset {dataset} has {found} as input but the model was trained with "
                f"{wanted}: give a data set of the same input."
            )
        if self.use_instances and not manifest.has_instances:
            raise InputError(
                f"--dataset {dataset} has no instance maps, which the model takes as input: give "
                "one with them."
            )
        if not manifest.train + manifest.test:
            raise InputError(
                f"--dataset {dataset} holds no pairs: prepare it again with `python -m "
                "components.prepare`."
            )


class Architecture(GeneratorInput):
    """Everything needed to build the networks again; names as in pix2pixHD's options."""

    netG: GeneratorName
    norm: NormName = "instance"
    dropout: bool = False  # in the generators of pix2pix
    netD: DiscriminatorName = "multiscale"
    D_features: bool = True  # key layout of the multi-scale D: its layers are modules of their own
    ngf: Channels
    n_downsample_global: Strides
    n_blocks_global: Blocks
    n_local_enhancers: Annotated[int, Field(ge=0, le=4)]
    n_blocks_local: Blocks
    num_D: Strides
    ndf: Channels
    n_layers_D: Strides
    nef: Channels
    n_downsample_E: Strides
    output_nc: PhotoChannels = 3  # of the photos, which G makes and D and E see

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        refuse_huge(self)
        return self

    @property
    def is_pix2pix(self) -> bool:
        """Generators of pix2pix (Isola et al. 2017), which are trained by its order of steps."""
        return self.netG in UNETS + RESNETS

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

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The size in pixels at which the generator computes frames of height x width: see
        `shared.networks.layers.at_stride`."""
        least = 1 if self.netG in UNETS else 2
        return tuple(self.stride * max(least, -(-side // self.stride)) for side in (height, width))


def refuse_huge(a: "Architecture", called: Callable[[str], str] = str) -> None:
    """Raises ValueError for networks of more weights than any has, before they take memory; biases
    and the first layers do not count.

    a: Or what has its fields that say how deep and wide they are. called: what a field is called in
    the sentence."""

    def hourglass(width: int, n_downsample: int, n_blocks: int) -> int:
        return 6 * width**2 * (4**n_downsample - 1) + 18 * (width * 2**n_downsample) ** 2 * n_blocks

    match a.netG:
        case "global":
            weights = hourglass(a.ngf, a.n_downsample_global, a.n_blocks_global)
        case "local":
            whole = a.n_downsample_global + a.n_local_enhancers
            weights = hourglass(a.ngf, whole, a.n_blocks_global)
            of_enhancer = 18 * (a.ngf * 2**a.n_local_enhancers) ** 2 * a.n_blocks_local
            weights += a.n_local_enhancers * of_enhancer
        case "unet_128" | "unet_256":
            weights = 16 * (8 * a.ngf) ** 2 * 3 * 4
        case "resnet_6blocks" | "resnet_9blocks":
            weights = hourglass(a.ngf, 2, 9)
    widest_D = {"multiscale": 512, "n_layers": 8 * a.ndf, "pixel": a.ndf}[a.netD]
    weights += a.num_D * a.n_layers_D * 16 * widest_D**2 + hourglass(a.nef, a.n_downsample_E, 0)
    if weights > MOST_WEIGHTS:
        names = ("ngf", "n_downsample_global", "n_blocks_global", "ndf", "nef", "n_downsample_E")
        sizes = ", ".join(f"{called(name)} {getattr(a, name)}" for name in names)
        raise ValueError(
            f"networks of {sizes} have {weights:.1e} weights, more than {MOST_WEIGHTS:.1e}: make "
            "them smaller"
        )


def describe_input(of: DatasetManifest | GeneratorInput) -> str:
    """What is read or held as input, in words for people."""
    if of.num_labels:
        return f"maps of {of.num_labels} labels"
    return f"pictures of {of.input_nc} channels"


class SavedWeights(Record):
    """The weights of one epoch, in files of a model's folder."""

    epoch: Count
    images_seen: Count
    digest: str  # as a model card's
    files: dict[Name, str]  # SHA-256 by name
    metrics: dict[str, float]  # mean losses and figures of that epoch

    def under(self, name: str) -> Self:
        """The same weights in files of another name."""
        files = {f"{name}_{file.partition('_')[2]}": sha for file, sha in self.files.items()}
        return self.model_copy(update={"files": files})


class ModelCard(Folder):
    """A trained model: `latest_net_{G,D,E}.pth` in NVIDIA's key layout, `best_net_*` and
    `<epoch>_net_*` as `weights` says; `state/` resumes training."""

    FILE: ClassVar[str] = "model.json"
    FLAG: ClassVar[str] = "--model"
    MADE_BY: ClassVar[str] = "python -m components.train"

    architecture: Architecture
    height: Side
    width: Side
    one_size: bool  # every frame is brought to height x width; else each keeps its own size
    epoch: Count  # finished epochs
    images_seen: Count
    dataset_digest: str
    test_digest: str = ""  # of that data set's test pairs, '' = not known
    labels: list[Label] = []  # of that data set, as the next
    raw: RawReading = RawReading()
    parent_digest: str  # of the model it was initialised from, '' = from scratch
    digest: str  # of the weight files, the same under each of their names
    config: dict
    metrics: dict[str, float]  # mean losses of the last epoch
    # By name: latest, best, or the epoch; {} = not known, as in cards of earlier versions.
    weights: dict[Name, SavedWeights] = {}
    # Which of them epoch, images_seen, digest and metrics are of: in the file the latest.
    chosen: str = Field(LATEST, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, fields: Any) -> Any:
        """Cards were written without `one_size`; it follows from --size of the training."""
        match fields:
            case {"one_size": _}:
                return fields
            case {"config": {"size": size}}:
                return fields | {"one_size": bool(size)}
            case _:  # no card: what is wrong with it is found next
                return fields

    def of(self, name: str) -> Self:
        """The card of other weights, which it knows."""
        saved = self.weights[name].model_dump(exclude={"files"})
        return self.model_copy(update=saved | {"chosen": name})

    def name_of(self, digest: str) -> str:
        """The first name of the weights of this digest; "" where the card knows none."""
        return next((name for name, one in self.weights.items() if one.digest == digest), "")

    def called(self, name: str = "") -> str:
        """Weights in words, such as "best (epoch 40)"; without a name the chosen ones."""
        name = name or self.chosen
        epoch = self.weights[name].epoch if name in self.weights else self.epoch
        return name if name.isdecimal() or not epoch else f"{name} (epoch {epoch})"

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(height, width) that every frame is brought to; None where each keeps its own."""
        return (self.height, self.width) if self.one_size else None
