"""Train pix2pixHD (one stage) or pix2pix on a prepared data set. The same command again continues, or says so."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from components.train.augment import Augmentation
from components.train.config import SMALLEST_SIDE, TrainConfig
from components.train.data import EpochLoader, PairDataset, collate, read_features
from components.train.distributed import World, broadcast_weights, gathered, joined, launch, must_launch
from components.train.finite import apex_amp
from components.train.loop import Networks, Trainer, train
from components.train.performance import checkpoint_activations, compile_networks, performance_run, publish
from components.train.validation import describe_validation, final_table, save_best, validate
from shared import tracking
from shared.checkpoint import load_vgg, load_what_fits, read_model, save_weights, weights_path
from shared.contracts import (
    Architecture,
    ClusterTable,
    DatasetManifest,
    ModelCard,
    Write,
    parse_size,
    written_together,
)
from shared.device import Runtime, pick, seed_everything
from shared.errors import InputError
from shared.frames import record_bytes
from shared.networks import build_discriminator, build_encoder, build_generator, initialise
from shared.samples import PairReader

SAMPLE_PAIRS = 4


def run(
    dataset: Path, model: Path, init_from: Path | None = None, clusters: Path | None = None, *, config: TrainConfig
) -> dict[str, float]:
    """Train a generator, discriminator and, where asked for, an encoder; write them to the model folder.

    Args:
        dataset: Folder of the prepare step.
        model: Folder to write, and to continue.
        init_from: Model to start from; stage local needs one.
        clusters: Folder of the cluster step on that model; its features then take the encoder's place.
    """
    if must_launch(config.devices):
        return launch(config.devices, run_as_rank, tracking.run_id(), dataset, model, init_from, clusters, config)
    if config.amp_backend == "apex":
        apex_amp()
    runtime = pick(config.device, "fp32" if config.amp_backend == "apex" else config.precision)  # apex casts by itself
    world = World.from_environment()
    if config.pool_size and world.size > 1:
        raise InputError(f"--pool-size {config.pool_size} works on one device only: leave it out.")
    with joined(world, runtime.name):
        return train_model(dataset, model, init_from, clusters, config, runtime, world)


def run_as_rank(
    run_id: str | None, dataset: Path, model: Path, init_from: Path | None, clusters: Path | None, config: TrainConfig
) -> dict[str, float]:
    """`run` in a process that it started; the main one goes on with the MLflow run, the others log nothing."""
    with tracking.continued(run_id if World.from_environment().is_main else None):
        return run(dataset, model, init_from, clusters, config=config)


def train_model(
    dataset: Path,
    model: Path,
    init_from: Path | None,
    clusters: Path | None,
    config: TrainConfig,
    runtime: Runtime,
    world: World,
) -> dict[str, float]:
    """The story, in each process; files are written by the main one."""
    # What is asked for, checked before any work.
    manifest = DatasetManifest.read(dataset)
    size = parse_size(config.size) if config.size else None
    architecture = architecture_for(config, manifest, clusters)
    parent = read_parent(init_from, architecture) if init_from else None
    check(architecture, config, manifest, parent, clusters)
    features = read_features(clusters, manifest) if clusters else None
    augment = Augmentation(parse_size(config.crop) if config.crop else None, config.flip, config.seed)
    refuse_unequal_batches(config, manifest, augment)
    reader = PairReader(dataset, manifest, "train", use_cache=config.cache != "off")
    pairs = PairDataset(reader, size, augment, features, config.feature_regions)
    height, width = size or manifest.common_size()  # of the model: what it is deployed for
    print(f"train {config.netG}: {len(pairs)} pairs at {height}x{width}, {runtime.describe()}", flush=True)
    tracking.log_dataset(dataset, manifest.digest, "training")

    # Networks: fresh, then the weights of the previous stage, then the state of an interrupted run.
    networks = build(architecture, config, init_from, clusters)
    trainer = Trainer(networks, architecture, config, runtime, world)
    state, metrics = model / "state" / "training.pt", {}
    if state.is_file():
        metrics = trainer.load(state)
        print(f"continues after epoch {trainer.epoch} of {config.total_epochs}", flush=True)
    if len(set(gathered((trainer.epoch, trainer.batches), world))) > 1:
        raise InputError(f"--model {model} is not the same folder for all processes: put it on a disk that they share.")
    broadcast_weights(networks.trained().values(), world)

    for network in (networks.G, networks.E):
        if network is not None and config.activation_checkpointing:
            checkpoint_activations(network)
    if config.compile:
        compile_networks(networks, runtime)

    # Train; every save leaves a complete model folder.
    hold_frames(pairs, config, runtime, (height, width))
    loader = EpochLoader(pairs, config.batch_size, config.workers, runtime.pins_memory, world)
    if config.performance_run:
        return publish(performance_run(trainer, loader, config.performance_run))
    unchanged = Augmentation(None, flip=False, seed=config.seed)
    whole = PairDataset(reader, (height, width), unchanged, features, config.feature_regions)
    samples = collate([whole[i] for i in range(min(SAMPLE_PAIRS, len(whole)))])

    held_out = PairReader(dataset, manifest, "test", use_cache=config.cache != "off")
    if config.validate_every_epochs:
        print(describe_validation(trainer, held_out, config.validate_pairs), flush=True)

    def save_state(metrics: dict[str, float]) -> None:
        with stopped_by_full_disk(model), written_together() as write:
            trainer.save(state, metrics, write)

    def save(metrics: dict[str, float]) -> None:
        with stopped_by_full_disk(model), written_together() as write:
            if world.is_main:
                write_model(metrics, write)
                if trainer.best.epoch == trainer.epoch:
                    save_best(model, trainer.published(), write)
            trainer.save(state, metrics, write)  # last: a kill in between costs the epoch, but nothing that is needed
        if world.is_main:
            keep_copies(model, trainer.epoch, config.keep_checkpoints)

    def write_model(metrics: dict[str, float], write: Write) -> None:
        if clusters and init_from and weights_path(init_from, "E").is_file():
            write(weights_path(model, "E"), weights_path(init_from, "E").read_bytes())
        ModelCard(
            architecture=architecture,
            height=height,
            width=width,
            epoch=trainer.epoch,
            images_seen=trainer.images_seen,
            dataset_digest=manifest.digest,
            parent_digest=parent.digest if parent else "",
            digest=save_weights(model, trainer.published(), write),
            config=config.model_dump(),
            metrics=metrics,
        ).write(model, write)

    if trainer.epoch >= config.total_epochs:
        print(f"already trained for {trainer.epoch} epochs: raise --epochs to train on", flush=True)
        save(metrics)
        return metrics
    measure = partial(validate, trainer, held_out, (height, width), config.validate_pairs)
    metrics = train(trainer, loader, samples, model, save, save_state, measure)
    print(final_table(metrics, trainer.epoch, trainer.best), flush=True)

    # What the run leaves in MLflow.
    metrics["peak_memory_mb"] = runtime.peak_memory_mb()
    tracking.log_figures({name: metrics[name] for name in ("mean_images_per_second", "peak_memory_mb")})
    for name in networks.trained() if world.is_main else ():
        tracking.log_files(weights_path(model, name), "checkpoints")
    tracking.log_files(model / ModelCard.FILE, "checkpoints")
    return metrics


@contextlib.contextmanager
def stopped_by_full_disk(model: Path) -> Iterator[None]:
    """Raises InputError for a checkpoint that does not fit; the one before stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"--model {model} has no room for a checkpoint ({error.strerror}): the one before is whole, "
            "make room and say the same command again."
        ) from None


def keep_copies(model: Path, epoch: int, count: int) -> None:
    """Keep this checkpoint's weights under its epoch too, and of earlier ones the latest, `count` in all."""
    if count == 0:
        return
    for path in model.glob("latest_net_*.pth"):
        copy = path.with_name(path.name.replace("latest", str(epoch)))
        copy.unlink(missing_ok=True)
        os.link(path, copy)  # no bytes of its own until the next checkpoint replaces `latest`
    numbers = sorted({int(path.name.partition("_")[0]) for path in model.glob("[0-9]*_net_*.pth")})
    for old in numbers[:-count]:
        for path in model.glob(f"{old}_net_*.pth"):
            path.unlink()


def architecture_for(config: TrainConfig, manifest: DatasetManifest, clusters: Path | None) -> Architecture:
    """The networks that fit this data set."""
    feat_num = ClusterTable.read(clusters).feat_num if clusters else config.feat_num if config.instance_features else 0
    return Architecture.model_validate(
        config.model_dump(include=set(Architecture.model_fields))
        | {
            "netG": config.netG,
            "num_labels": manifest.num_labels,
            "input_nc": manifest.input_nc,
            "use_instances": config.use_instances and manifest.has_instances,
            "feat_num": feat_num,
            "D_features": config.lambda_feature_matching > 0,
        }
    )


def check(
    architecture: Architecture,
    config: TrainConfig,
    manifest: DatasetManifest,
    parent: ModelCard | None,
    clusters: Path | None,
) -> None:
    """Refuse what cannot be trained."""
    sizes = {(pair.height, pair.width): f"--dataset holds {pair.name}, which" for pair in manifest.train}
    if config.size:
        sizes = {parse_size(config.size): "--size"}
    if config.crop:
        sizes = {tuple(map(min, size, parse_size(config.crop))): "--crop" for size in sizes}
    smallest = min(sizes, key=min)
    least = max(SMALLEST_SIDE, 3 * 2**config.n_layers_D if config.netD == "n_layers" else 0)
    if min(smallest) < least:
        raise InputError(
            f"{sizes[smallest]} is {smallest[0]}x{smallest[1]} but these networks need {least} pixels a side: "
            "prepare larger images, or give another --size or --crop."
        )
    by_labels = config.feature_regions == "labels"
    if architecture.feat_num and not (manifest.num_labels if by_labels else manifest.has_instances):
        wanted, remedy = ("label maps", "--num-labels") if by_labels else ("instance maps", "--instances files")
        raise InputError(
            f"--feature-regions {config.feature_regions} needs {wanted}, but the data set has none: "
            f"prepare it with {remedy}, or leave out --instance-features."
        )
    if config.netG == "local" and parent is None:
        raise InputError("--netG local starts from a global model: give its folder with --init-from.")
    if clusters and (parent is None or ClusterTable.read(clusters).model_digest != parent.digest):
        raise InputError(f"--clusters {clusters} was not made from --init-from: run the cluster step on that model.")
    config.check_vgg_weights()


def read_parent(init_from: Path, architecture: Architecture) -> ModelCard:
    """Also of NVIDIA's or junyanz's files alone, whose input channels are taken to be those of this architecture."""
    hints = architecture.model_dump(include={"num_labels", "use_instances", "feat_num"})
    return read_model(init_from, **hints)


def refuse_unequal_batches(config: TrainConfig, manifest: DatasetManifest, augment: Augmentation) -> None:
    """A batch is one tensor: its images need one size, by --size or by --crop."""
    if config.batch_size == 1 or config.size:
        return
    parts = {}  # (height, width) of what is trained on -> an image of it
    for index, pair in enumerate(manifest.train):
        window = augment.window(1, index, pair.height, pair.width)
        parts.setdefault((window.height, window.width), pair.name)
    if len(parts) > 1:
        (one, name), (other, other_name) = list(parts.items())[:2]
        raise InputError(
            f"--batch-size {config.batch_size}: {name} gives {one[0]}x{one[1]} but {other_name} {other[0]}x{other[1]}: "
            f"say --batch-size 1, or --crop or --size with a size for all."
        )


def hold_frames(pairs: PairDataset, config: TrainConfig, runtime: Runtime, size: tuple[int, int]) -> None:
    """Read all frames into memory or onto the device where --cache says so; refuses what does not fit."""
    if config.cache not in ("memory", "device"):
        return
    keeper = runtime if config.cache == "device" else pick("cpu", "fp32")
    manifest = pairs.reader.manifest
    frames = [replace(pair, height=size[0], width=size[1]) if config.size else pair for pair in manifest.train]
    needed_gb, free_gb = sum(record_bytes(manifest, frame) for frame in frames) / 1e9, keeper.free_memory_bytes() / 1e9
    if needed_gb > 0.8 * free_gb:
        raise InputError(
            f"--cache {config.cache}: the frames take {needed_gb:.1f} GB but {free_gb:.1f} GB are free, of which the "
            "networks need a part: say --cache auto."
        )
    pairs.keep(keeper.torch_device)
    print(f"all frames are held in {config.cache}: {needed_gb:.2f} GB", flush=True)


def build(architecture: Architecture, config: TrainConfig, init_from: Path | None, clusters: Path | None) -> Networks:
    """Networks with fresh weights from the seed, overlaid with those of `init_from`."""
    seed_everything(config.seed)
    fresh = partial(initialise, init_type=config.init_type, gain=config.init_gain, zero_bias=architecture.is_pix2pix)
    G, D = fresh(build_generator(architecture)), fresh(build_discriminator(architecture))
    learns_features = architecture.feat_num and clusters is None
    E = fresh(build_encoder(architecture)) if learns_features else None
    vgg = load_vgg(Path(config.vgg_weights)) if config.lambda_vgg else None
    if init_from:
        for name, network in {"G": G, "D": D, "E": E}.items():
            if network is not None and weights_path(init_from, name).is_file():
                report = load_what_fits(network, weights_path(init_from, name))
                print("from the previous stage:", report, flush=True)
                if name == "G" and config.netG == "local" and any(key.startswith("model.") for key in report.new):
                    raise InputError(
                        f"--init-from {init_from}: its generator does not fit ({min(report.new)} differs): stage local "
                        "needs half the --ngf of its global model, and the same labels, features, blocks and stride."
                    )
    return Networks(G, D, E, vgg)
