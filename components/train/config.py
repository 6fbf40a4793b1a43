"""Config of the train step in groups of options; the names are pix2pixHD's where it has the option.

A group is what a function takes that needs more than a few of its values."""

from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from components.train.schedule import ScheduleOptions
from shared.bounds import MANY, BatchSize, Seed
from shared.command import CardOptions, CheckOptions, Options, StepConfig
from shared.contracts.dataset import parse_size
from shared.contracts.model import (
    MOST_FEATURES,
    MOST_STRIDES,
    UNETS,
    Blocks,
    Channels,
    DiscriminatorName,
    FeatureRegions,
    GeneratorName,
    ModelCard,
    NormName,
    PhotoChannels,
    refuse_huge,
)
from shared.device_names import DeviceName, MemoryFormatName, PrecisionName
from shared.errors import InputError
from shared.flags import as_flag
from shared.published.files import AUTO
from shared.scorers.options import MeasuringOptions
from shared.workspace.outputs import Stays

SMALLEST_SIDE = 16  # pixels; below, VGG19 and the coarsest scale of D have nothing left to look at

InitType = Literal["normal", "xavier", "kaiming", "orthogonal"]
GanMode = Literal["lsgan", "vanilla"]
CacheName = Literal["auto", "off", "memory", "device"]
AdamName = Literal["auto", "fused", "foreach", "npu-fused"]
CompileName = Literal["auto", "off", "on"]
BestBy = Literal["psnr_db", "ssim", "L1", "lpips", "fid"]  # figures of `shared/quality.py`


class NetworkOptions(Options):
    """What the networks are made of."""

    netG: GeneratorName = "global"
    """global: pix2pixHD's coarse generator. local: enhancer around it, from --init-from. The
    others: pix2pix's."""
    ngf: Channels = 64
    """Channels of G's first layer; stage local needs half of its global network's."""
    n_downsample_global: int = Field(4, ge=1, le=MOST_STRIDES)
    """Down-samplings of the global generator."""
    n_blocks_global: Blocks = 9
    """Residual blocks of the global generator."""
    n_local_enhancers: int = Field(1, ge=1, le=2)
    """Enhancers of stage local; each doubles the size."""
    n_blocks_local: Blocks = 3
    """Residual blocks of each enhancer."""
    netD: DiscriminatorName = "multiscale"
    """multiscale: pix2pixHD's. n_layers: pix2pix's PatchGAN (with 3 layers its `basic`). pixel: its
    PixelGAN."""
    ndf: Channels = 64
    """Channels of D's first layer."""
    n_layers_D: int = Field(3, ge=1, le=MOST_STRIDES)
    """Strided layers of each discriminator."""
    num_D: int = Field(2, ge=1, le=MOST_STRIDES)
    """Scales of the discriminator."""
    norm: NormName = "instance"
    """Normalisation in all networks."""
    dropout: bool = False
    """Dropout in pix2pix's generators (no_dropout)."""
    use_instances: bool = True
    """Give the networks the edges between instances, where the data set has instance maps
    (no_instance)."""
    instance_features: bool = False
    """Train the encoder E and give its instance-wise features to G (instance_feat)."""
    feat_num: int = Field(3, ge=1, le=MOST_FEATURES)
    """Channels of the features."""
    feature_regions: FeatureRegions = "instances"
    """What features are averaged over: each instance (instance_feat), or all pixels of a label
    (label_feat)."""
    nef: Channels = 16
    """Channels of E's first layer."""
    n_downsample_E: int = Field(4, ge=1, le=MOST_STRIDES)
    """Down-samplings of the encoder."""
    output_nc: PhotoChannels = 3
    """Channels of the photos. 3: colour. 1: grey, and colours become grey (ITU-R 601-2)."""
    init_type: InitType = "normal"
    """Fresh weights of convolutions; biases are 0 in pix2pix's networks, and as PyTorch makes them
    in pix2pixHD's."""
    init_gain: float = Field(0.02, gt=0, le=100)
    """Scale of the fresh weights; kaiming has none."""
    start_from: str = ""
    """Weights to start from instead of fresh ones: a model folder, also of pix2pixHD's or pix2pix's
    own code, or models:/NAME/VERSION of MLflow's registry. Sizes that are not given are its own.
    Stage local takes all but its global network, which is that of --init-from."""

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        refuse_huge(self, called=as_flag)
        return self


class LossOptions(Options):
    """What G and D learn from."""

    gan_mode: GanMode = "lsgan"
    """lsgan: squared distance of D's scores. vanilla: their cross-entropy (no_lsgan)."""
    lambda_L1: float = Field(0.0, ge=0, le=MANY)
    """Weight of the distance of the pixels themselves (pix2pix: 100); 0 switches it off."""
    lambda_feature_matching: float = Field(10.0, ge=0, le=MANY)
    """Weight of the feature matching loss; 0 switches it off (lambda_feat, no_ganFeat_loss)."""
    lambda_vgg: float = Field(0.0, ge=0, le=MANY)
    """Weight of the VGG loss (the reference: 10); 0 switches it off (lambda_feat, no_vgg_loss)."""
    vgg_weights: str = AUTO
    """File of torchvision's vgg19 weights. auto: vgg19-dcbb9e9d.pth of torch.hub's folder, which is
    downloaded where it is not there."""
    pool_size: int = Field(0, ge=0, le=MANY)
    """Earlier fakes that D may be shown in place of the present ones; 0: none. Checkpoints hold
    them too."""


class DataOptions(Options):
    """How pairs become batches."""

    size: str = ""
    """HEIGHTxWIDTH in pixels to resize the frames to (loadSize); empty: the sizes of the data
    set."""
    crop: str = ""
    """HEIGHTxWIDTH in pixels of the random part that is trained on (fineSize, crop_size), and of
    whole frames when pix2pix is tested; empty: whole frames."""
    flip: bool = True
    """Mirror half of the training pairs (no_flip)."""
    batch_size: BatchSize = 1
    """Images per step (batchSize)."""
    seed: Seed = 0
    """Seed of the weights, the order of the pairs and the flips."""
    workers: int = Field(2, ge=0, le=1024)
    """Processes that read image files (nThreads); 0: the training process does, as always where
    frames are cached."""
    cache: CacheName = "auto"
    """auto: the data set's cache where it has one; off: image files; memory, device: all frames are
    held there."""

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(height, width) that frames are resized to, None = their own."""
        return parse_size(self.size) if self.size else None

    @property
    def crop_size(self) -> tuple[int, int] | None:
        """(height, width) of the part that is trained on, None = whole frames."""
        return parse_size(self.crop) if self.crop else None

    @field_validator("size", "crop")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        try:
            sides = parse_size(size) if size else ()
        except InputError:
            raise ValueError("should be HEIGHTxWIDTH, for example 128x256, or empty") from None
        if any(side < SMALLEST_SIDE for side in sides):
            raise ValueError(f"both sides should be {SMALLEST_SIDE} pixels or more")
        return "x".join(map(str, sides))


class PrecisionOptions(Options):
    """Where and in which arithmetic it computes."""

    devices: int = Field(1, ge=1, le=1024)
    """Processes on this machine, one to a device; batch_size is that of each. torchrun's
    environment is honoured."""
    nodes: int = Field(1, ge=1, le=1024)
    """Machines, each with as many devices; more than one are started on a Kubernetes cluster, by
    the launcher of its file (--cluster), or by torchrun."""
    compress_gradients: bool = False
    """Exchange gradients between devices as bf16: half the bytes."""
    device: DeviceName = "auto"
    """auto takes an NPU, else a GPU, else the CPU."""
    precision: PrecisionName = "auto"
    """auto: bf16 on a CPU with AVX512-BF16 or AMX, else fp32, and a training goes on in what it
    has; bf16 on GPU, fp16 with loss scaling on NPU. tf32 of a GPU, hf32 of an NPU: fp32 whose
    factors are rounded where it multiplies."""
    memory_format: MemoryFormatName = "auto"
    """Memory format of feature maps. auto: nhwc on a GPU in tf32, bf16 or fp16, and on a CPU for
    ResNets with BatchNorm; else nchw, on a CPU with single layers in the form that is fastest."""
    loss_scale: Literal["dynamic", "static"] = "dynamic"
    """fp16: dynamic grows and backs off; static stays at --loss-scale-initial."""
    loss_scale_initial: float = Field(65536.0, gt=0, le=2.0**64)
    """fp16: first, or static, factor of the losses."""
    loss_scale_growth_factor: float = Field(2.0, gt=1, le=2.0**16)
    """fp16: what a dynamic scale grows by."""
    loss_scale_growth_interval: int = Field(2000, ge=1, le=2**31 - 1)
    """fp16: updates without overflow before it grows."""
    loss_scale_backoff_factor: float = Field(0.5, gt=0, lt=1)
    """fp16: what it is multiplied by after overflow."""
    loss_scale_hysteresis: int = Field(1, ge=1, le=MANY)
    """fp16: overflows before it backs off."""
    max_skipped_updates: int = Field(100, ge=1, le=MANY)
    """Updates in a row that may be skipped because gradients are not finite; then training
    stops."""
    amp_backend: Literal["torch", "apex"] = "torch"
    """apex: its amp does the mixed precision, where it is installed."""
    opt_level: Literal["O1", "O2"] = "O1"
    """apex: O1 casts the inputs of functions, O2 the weights."""
    combine_grad: bool = False
    """Ascend's apex: gradients lie in one buffer, which is unscaled at once."""
    adam: AdamName = "auto"
    """fused: one kernel an update, on a CPU and a GPU. foreach: one for each of its operations.
    npu-fused: torch_npu's, over one buffer. auto: fused, on an NPU foreach."""
    compile: CompileName = "auto"
    """torch.compile a step: its first ones take minutes, and need a C++ compiler. auto: on a GPU
    where the training is long enough to gain them."""
    cuda_graph: bool = False
    """A GPU launches all kernels of a step by itself, once three of a form were trained (CUDA
    graphs): for small networks, whose steps wait for the host. No GPU has tried it yet."""
    activation_checkpointing: bool = False
    """Compute activations of G and E again in the backward pass instead of keeping them: less
    memory, slower steps."""

    @field_validator("compile", mode="before")
    @classmethod
    def _was_a_switch(cls, value: object) -> object:
        return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class ValidationOptions(MeasuringOptions):
    """What is measured on test pairs, and which epoch is the best."""

    validate_every_epochs: int = Field(10, ge=0, le=MANY)
    """Epochs between two validations on test pairs, and after the last one; 0: none."""
    validate_pairs: int = Field(50, ge=1, le=10**9)
    """Most test pairs of a validation."""
    best_by: BestBy = "psnr_db"
    """Metric of the validation whose best epoch is kept as best_net_G.pth."""

    @model_validator(mode="after")
    def _measures_what_the_best_is_chosen_by(self) -> Self:
        for name, network in (("lpips", self.lpips_network), ("fid", self.fid_network)):
            if self.best_by == name and not network:
                usual = {"lpips": "alex", "fid": "inception"}[name]
                raise ValueError(
                    f"--best-by {name} needs a network: say --{name}-network={usual}, or choose "
                    "another metric"
                )
        return self


class SavingOptions(Options):
    """What is written when."""

    performance_run: int = Field(0, ge=0, le=MANY)
    """Steps to time instead of training, with and without data loading; the model folder stays as
    it is. 0: train."""
    profile: int = Field(0, ge=0, le=1000)
    """Steps, after a warm-up of three, whose operators are recorded: a trace beside the model
    folder and in MLflow, a table of the most expensive ones. 0: none."""
    log_every_steps: int = Field(10, ge=1, le=10**9)
    """Steps between two points of the loss curves; losses are fetched from the device only then.
    MLflow gets the first 256 and the last, of the others as many as a screen shows."""
    sample_every_epochs: int = Field(1, ge=1, le=MANY)
    """Epochs between two sample pictures, once --sample-every-minutes are over."""
    sample_every_minutes: float = Field(0.5, ge=0, le=MANY)
    """Least minutes between two sample pictures; the last epoch always has one. 0: by epochs
    alone."""
    save_every_epochs: int = Field(1, ge=1, le=MANY)
    """Epochs between two checkpoints (save_epoch_freq), once --save-every-minutes are over; the
    last epoch and the best are always saved, and with --keep-checkpoints each of these."""
    save_every_minutes: float = Field(2.0, ge=0, le=MANY)
    """Minutes after which the state that resuming needs is saved, within an epoch too: what a kill
    costs. 0: by epochs and steps alone."""
    save_every_steps: int = Field(0, ge=0, le=10**9)
    """Steps within an epoch between two saves of that state; 0: by minutes alone."""
    keep_checkpoints: int = Field(0, ge=0, le=MANY)
    """Number of latest checkpoints whose weights are kept as EPOCH_net_G.pth as well."""


# pydantic puts the fields of the last base first, and so does --help.
class TrainConfig(
    SavingOptions,
    ValidationOptions,
    PrecisionOptions,
    DataOptions,
    CardOptions,
    CheckOptions,
    ScheduleOptions,
    LossOptions,
    NetworkOptions,
    StepConfig,
):
    """All options of the train step."""

    STEP: ClassVar[str] = "train"
    OUTPUT: ClassVar[str] = "model"
    STAYS: ClassVar[Stays | None] = Stays(names=("state",), grows=("*.journal/*",))
    WRITES: ClassVar[tuple[str, ...]] = (
        ModelCard.FILE,
        *(f"latest_net_{name}.pth" for name in "GDE"),
        "state/training.pt",
    )
    RENAMED: ClassVar[dict[str, str]] = {"layout": "memory_format"}
    OF_MODEL: ClassVar[set[str]] = {
        *("netG", "norm", "dropout", "use_instances", "instance_features", "feat_num"),
        *("feature_regions", "ngf", "n_downsample_global", "n_blocks_global"),
        *("n_local_enhancers", "n_blocks_local", "ndf", "n_layers_D", "num_D"),
        *("nef", "n_downsample_E", "output_nc"),
    }

    @property
    def step_name(self) -> str:
        """The stage: networks of pix2pix, which have one, are trained as `train_global` too."""
        return "train_local" if self.netG == "local" else "train_global"

    @model_validator(mode="after")
    def _has_a_card_for_each_device(self) -> Self:
        if self.cards and len(self.cards) < self.devices:
            raise ValueError(
                f"--devices is {self.devices} but --cards names {len(self.cards)}: name as many"
            )
        return self

    @model_validator(mode="after")
    def _averages_what_apex_trains(self) -> Self:
        if self.amp_backend == "apex" and self.opt_level == "O2" and self.ema_decay:
            raise ValueError("--ema-decay cannot follow the weights of --opt-level O2: use O1")
        return self

    @model_validator(mode="after")
    def _learns_all_that_is_combined(self) -> Self:
        if self.adam == "npu-fused" and self.amp_backend == "apex":
            raise ValueError("--adam npu-fused does not go with --amp-backend apex: leave one out")
        if self.combine_grad and self.amp_backend != "apex":
            raise ValueError(
                "--combine-grad is an option of apex: say --amp-backend apex, or leave it out"
            )
        flag = "--adam npu-fused" if self.adam == "npu-fused" else "--combine-grad"
        is_combined = self.adam == "npu-fused" or self.combine_grad
        if is_combined and self.netG == "local" and self.epochs_fix_global:
            raise ValueError(
                f"{flag} never learns what was fixed in its first step: say --epochs-fix-global 0, "
                "or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _captures_what_the_device_decides(self) -> Self:
        # On the host: draws of a pool, states of generators, apex's scales, numbers of steps; what
        # is sent between devices, and a trace of single kernels.
        others = {
            f"--pool-size {self.pool_size}": self.pool_size > 0,
            "--activation-checkpointing": self.activation_checkpointing,
            "--amp-backend apex": self.amp_backend == "apex",
            f"--adam {self.adam}": self.adam not in ("auto", "fused"),
            f"--devices {self.devices}": self.devices > 1,
            f"--nodes {self.nodes}": self.nodes > 1,
            f"--profile {self.profile}": self.profile > 0,
        }
        for flag, is_given in others.items():
            if self.cuda_graph and is_given:
                raise ValueError(f"--cuda-graph does not go with {flag}: leave one out")
        return self

    @model_validator(mode="after")
    def _recomputes_stages(self) -> Self:
        if self.activation_checkpointing and self.netG in UNETS:
            raise ValueError(
                "--activation-checkpointing is for generators of stages, not for a U-Net: leave "
                "it out"
            )
        return self

    @model_validator(mode="after")
    def _matches_features_of_a_multiscale_D(self) -> Self:
        if self.lambda_feature_matching and self.netD != "multiscale":
            raise ValueError(
                "--lambda-feature-matching matches layers of --netD multiscale: set it to 0 for "
                "other D"
            )
        return self

    @model_validator(mode="after")
    def _keeps_a_pool_for_one_device(self) -> Self:
        for flag, count in (("--devices", self.devices), ("--nodes", self.nodes)):
            if self.pool_size and count > 1:
                raise ValueError(
                    f"--pool-size works on one device only: leave it out, or say {flag} 1"
                )
        return self
