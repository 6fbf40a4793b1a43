"""What cannot be trained, refused before any work."""

from pathlib import Path

from components.train.config import SMALLEST_SIDE, DataOptions, TrainConfig
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture, ModelCard
from shared.errors import InputError


def check(
    architecture: Architecture,
    config: TrainConfig,
    manifest: DatasetManifest,
    parent: ModelCard | None,
    clusters: Path | None,
) -> None:
    """Raises InputError, in one sentence, for what cannot be trained."""
    # Sizes: large enough for the networks, and one for all that stand in a batch.
    sizes = trained_sizes(config, manifest)
    smallest = min(sizes, key=min)
    least = max(SMALLEST_SIDE, 3 * 2**config.n_layers_D if config.netD == "n_layers" else 0)
    if min(smallest) < least:
        flag = f"--dataset holds {sizes[smallest]}, which"
        if config.crop or config.size:
            flag = "--crop" if config.crop else "--size"
        raise InputError(
            f"{flag} is {smallest[0]}x{smallest[1]} but these networks need {least} pixels a side: "
            "prepare larger images, or give another --size or --crop."
        )
    if len(sizes) > 1 and config.batch_size > 1:  # a batch is one tensor
        (one, name), (other, other_name) = list(sizes.items())[:2]
        raise InputError(
            f"--batch-size {config.batch_size}: {name} gives {one[0]}x{one[1]} but {other_name} "
            f"{other[0]}x{other[1]}: say --batch-size 1, or --crop or --size with a size for all."
        )

    # Features: the maps that they are averaged over.
    by_labels = config.feature_regions == "labels"
    if architecture.feat_num and not (manifest.num_labels if by_labels else manifest.has_instances):
        wanted, remedy = ("instance maps", "--instances files")
        if by_labels:
            wanted, remedy = ("label maps", "--num-labels")
        raise InputError(
            f"--feature-regions {config.feature_regions} needs {wanted}, but the data set has "
            f"none: prepare it with {remedy}, or leave out --instance-features."
        )

    # What else it starts from.
    if config.netG == "local" and parent is None:
        raise InputError(
            "--netG local starts from a global model: give its folder with --init-from."
        )
    if clusters and (parent is None or ClusterTable.read(clusters).model_digest != parent.digest):
        raise InputError(
            f"--clusters {clusters} was not made from --init-from: run the cluster step on that "
            "model."
        )
    config.check_vgg_weights()


def check_start(start_from: str, found: Architecture, wanted: Architecture) -> None:
    """Raises InputError where the generator of the model to start from is not built as the one that
    is to be trained."""
    names = ["netG", "norm", "num_labels", "input_nc", "use_instances", "feat_num", "ngf"]
    if not wanted.is_pix2pix:
        names += ["n_downsample_global", "n_blocks_global"]
    if wanted.netG == "local":
        names += ["n_local_enhancers", "n_blocks_local"]
    for name in names:
        here, there = getattr(wanted, name), getattr(found, name)
        if here != there:
            raise InputError(
                f"--start-from {start_from} has networks with {name} {there}, but {here} is asked "
                "for: give the same options and data, or start without it."
            )


def trained_sizes(options: DataOptions, manifest: DatasetManifest) -> dict[tuple[int, int], str]:
    """The (height, width) of what is trained on, and the name of an image for each."""
    size, crop = options.frame_size, options.crop_size
    sizes: dict[tuple[int, int], str] = {}
    for pair in manifest.train:
        frame = size or (pair.height, pair.width)
        sizes.setdefault(tuple(map(min, frame, crop)) if crop else frame, pair.name)
    return sizes
