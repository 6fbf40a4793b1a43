"""Options of the prepare step: one field per flag."""

import unicodedata
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from components.prepare.reading.geometry import Resize
from shared.bounds import Seed
from shared.command import StepConfig
from shared.contracts.dataset import SUMS, DatasetManifest
from shared.data.frames import CACHE
from shared.data.raw_maps import parse_ids
from shared.workspace.outputs import Stays

# The demo scenes: numbers of training and test pairs, size in pixels.
DEMO_TRAIN, DEMO_TEST, DEMO_SIZE = 48, 8, "256x512"


class PrepareConfig(StepConfig):
    """What the images become; `checks.py` refuses what does not go together."""

    STEP: ClassVar[str] = "prepare"
    OUTPUT: ClassVar[str] = "dataset"
    WRITES: ClassVar[tuple[str, ...]] = (DatasetManifest.FILE, f"{CACHE}/train.bin")
    STAYS: ClassVar[Stays | None] = Stays(
        names=("train_*", "test_*", CACHE, SUMS),
        described_by=DatasetManifest.FILE,
        grows=("*.journal/*", ".*/*.jsonl", f".*/{CACHE}/*.bin", f".*/{SUMS}"),
    )
    APPEARS_WHOLE: ClassVar[bool] = True

    size: str = "512x1024"
    """Size of the prepared images in pixels: HEIGHTxWIDTH; xWIDTH or HEIGHTx, the other side in
    proportion; keep, as they are; round32, each side rounded to a multiple of 32 (or another
    number); round32max512, before that made smaller to 512 (or another number) at most."""
    num_labels: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """Number of labels, ids 0 .. num_labels - 1; 0: the input is a picture (label_nc). auto: that
    of --labels or --remap, 35 in layout cityscapes and in pix2pixHD's folders, else the highest id
    of all maps plus 1."""
    labels: str = ""
    """Names and colours of the labels: a .yaml or .json file with id, name and colour of each, or
    cityscapes, cityscapes_train_ids, cmp_facades, ade20k, coco_stuff."""
    input_nc: int = Field(3, ge=1, le=256)
    """Channels of the input picture, with --num-labels 0: 1 grey, 3 RGB, 4 RGBA, any number from
    .npy files."""
    instances: Literal["files", "components", "none"] = "files"
    """files: from instance maps; components: each connected region of one label is one; none:
    models get no edges."""
    layout: Literal["auto", "cityscapes", "flat", "folders", "side_by_side"] = "auto"
    """How --raw-data is laid out; auto looks. cityscapes: leftImg8bit, gtFine. flat: train_img,
    train_label, train_inst or train_A, train_B. folders: A and B, or labels and images.
    side_by_side: pictures of A and B (pix2pix)."""
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    """Which of A and B is the input, in layouts that have them."""
    input_folder: str = ""
    """Layout folders: name of the folder with label maps or input pictures; empty: a usual name."""
    photo_folder: str = ""
    """Layout folders: name of the folder with the photos; empty: a usual name."""
    instance_folder: str = ""
    """Layout folders: name of the folder with instance maps; empty: a usual name."""
    input_name: str = ""
    """Layouts flat and folders: how files of label maps or input pictures are named, such as
    {}_mask, where {} is the name of the pair; empty: the name itself."""
    photo_name: str = ""
    """The same of photos, such as img_{}."""
    instance_name: str = ""
    """The same of instance maps."""
    train_splits: str = ""
    """Splits of the source to train on, with commas between; empty: train, or all where there are
    no splits."""
    test_splits: str = ""
    """Splits of the source to test on; empty: val, else test (of Cityscapes val: the labels of its
    test are dummies)."""
    test_fraction: float = Field(0.0, ge=0, lt=1)
    """Share of the training pairs that is cut off for the test, by a hash of seed and name."""
    test_only: bool = False
    """No pair is for training: maps to be painted, which may be without photos, or pairs to be
    measured. Those of --test-splits, else val, else test, else all."""
    seed: Seed = 0
    """Seed of --test-fraction."""
    max_images: int = Field(0, ge=0, le=10**9)
    """Number of pairs taken per split, the first by name; 0 takes all."""
    remap: str = ""
    """New label ids: cityscapes_train_ids (19 labels), or a JSON file such as {"7": 0, "8": 1,
    "others": 255}."""
    ignore_labels: str = ""
    """Label ids of the source, with commas between, that mean no label: they become 255, which has
    no channel."""
    colour_tolerance: int = Field(0, ge=0, le=127)
    """Of label maps that are read by the colours of --labels: grey levels that each channel may be
    off."""
    transparent_label: int = Field(-1, ge=-1, le=255)
    """Of the same maps: label of transparent pixels, 255 for none; -1: they are refused."""
    white_level: Annotated[int, Field(ge=1, le=65535)] | Literal["auto"] = "auto"
    """Value of pictures of over 8 bits that becomes white; 4095 for 12-bit cameras. auto: the
    highest that a file can hold, and pictures that are all dark by that are refused."""
    transparency: Literal["refuse", "white", "black", "drop"] = "refuse"
    """What becomes of pictures that are transparent in places: refuse; white, black: shown on
    that; drop: the colours as they are stored."""
    cache_limit_gb: float = Field(50.0, ge=0, le=10**9)
    """Largest cache of decoded images that is written beside them, in 10^9 bytes; 0: none."""
    copies: str = ""
    """Folder for copies of remote sources and for unpacked archives; empty: pix2pix-pipeline in the
    user's cache."""

    @field_validator("size")
    @classmethod
    def _is_a_size(cls, size: str) -> str:
        return str(Resize.parse(size))  # one spelling of each rule: a run is known by its config

    @field_validator("input_name", "photo_name", "instance_name")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        if pattern and (pattern.count("{}") != 1 or "/" in pattern):
            raise ValueError("should hold {} once for the pair's name, and no /, such as {}_mask")
        return unicodedata.normalize("NFC", pattern)

    @field_validator("ignore_labels")
    @classmethod
    def _are_ids(cls, ids: str) -> str:
        return ",".join(map(str, parse_ids(ids)))

    @model_validator(mode="after")
    def _leaves_a_number_for_ignored(self) -> "PrepareConfig":
        if self.ignore_labels and self.num_labels == 256:
            raise ValueError(
                "--ignore-labels turns ids into 255: --num-labels should be 255 or less"
            )
        return self
