"""Train pix2pixHD (one stage) or pix2pix on a prepared data set. The same command again continues,
or says so."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import torch

from components.train.checks import check, check_runtime, check_shared_memory
from components.train.config import TrainConfig
from components.train.continuing import (
    NO_CLUSTERS,
    Changes,
    Facts,
    began_at,
    compare,
    facts_of,
)
from components.train.data.batches import Augmentation, EpochLoader, PairDataset, collate
from components.train.data.held import digest_features, features_by_image, hold_frames
from components.train.data.sizes import (
    deployed_size,
    describe_sizes,
    padding_remark,
    trained_sizes,
)
from components.train.devices.alike import check_alike, check_one_folder
from components.train.devices.exchange import broadcast_weights, gathered
from components.train.devices.joined import joined
from components.train.devices.launch import launch
from components.train.devices.meeting import meeting
from components.train.devices.profiling import Profiler
from components.train.devices.world import World
from components.train.figures import final_table
from components.train.loop import train
from components.train.networks.build import architecture_for, build
from components.train.networks.memory import checkpoint_activations, compiles
from components.train.networks.sizes import with_sizes_of_start
from components.train.networks.start import earlier_training, kept_encoder, read_start
from components.train.networks.vgg import find_vgg
from components.train.performance import performance_run, publish
from components.train.saved.folder import ModelFolder
from components.train.saved.room import check_room
from components.train.saved.state import Stopped, is_model, read_stopped
from components.train.step import Trainer
from components.train.validation import Validation
from shared import tracking
from shared.code_version import code_version
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import Architecture, ModelCard
from shared.data.checking import check_dataset
from shared.data.reader import PairReader
from shared.data.written import NotAsPrepared
from shared.device import Runtime
from shared.errors import InputError, WorkFailed
from shared.flags import as_flag
from shared.machine import threads
from shared.networks.weight_file import is_not_as_saved
from shared.registry.trained import log_model
from shared.scorers.networks import MeasuringNetworks

SAMPLE_PAIRS = 4


def run(
    dataset: Path,
    model: Path,
    init_from: Path | None = None,
    clusters: Path | None = None,
    *,
    config: TrainConfig,
) -> dict[str, float]:
    """Train a generator, discriminator and, where asked for, an encoder; write them to the model
    folder."""
    asked = (config.devices, config.nodes)
    world = World.from_environment(*asked, seen=lambda: check_runtime(config).count)
    with meeting(world) as place:
        stopped = None if config.performance_run else read_stopped(model, tensors=False)
        if stopped and init_from and not clusters and not is_model(init_from):
            print(f"--init-from {init_from} is no model any more: it goes on from its own weights")
            init_from = None
        architecture = stopped.architecture if stopped else None
        config = with_sizes_of_start(config, dataset, init_from, model, architecture)
        if not world.is_rank:
            folders = (dataset, model, init_from, clusters)
            return launch(place, run_as_rank, tracking.handle(), config, *folders)
        runtime = check_runtime(config)
        if config.pool_size and world.size > 1:
            raise InputError(
                f"--pool-size {config.pool_size} works on one device only: leave it out."
            )
        with joined(place, runtime):
            return train_model(dataset, model, init_from, clusters, stopped, config, runtime, world)


def run_as_rank(
    handle: tracking.RunHandle | None, config: TrainConfig, *folders: Path | None
) -> dict[str, float]:
    """Call `run` with its folders in a process that it started; the main one goes on with the
    MLflow run, the others log nothing."""
    with tracking.continued(handle if World.from_environment().is_main else None):
        return run(*folders, config=config)


def train_model(
    dataset: Path,
    model: Path,
    init_from: Path | None,
    clusters: Path | None,
    stopped: Stopped | None,
    config: TrainConfig,
    runtime: Runtime,
    world: World,
) -> dict[str, float]:
    """The story, in each process; files are written by the main one.

    stopped: the training that goes on in `model`, None = it begins."""
    # What is asked for, checked before any work.
    check_one_folder(model, world)
    manifest = DatasetManifest.read(dataset)
    table = ClusterTable.read(clusters) if clusters else None
    architecture = architecture_for(config, config.lambda_feature_matching > 0, manifest, table)
    parent = read_start(init_from, architecture) if init_from else None
    check(architecture, config, manifest, parent, table, goes_on=stopped is not None)
    if config.check_dataset and world.is_main:
        check_dataset(dataset, manifest)
    features = features_by_image(clusters, manifest) if clusters else None
    size, one_size = deployed_size(config, architecture, manifest)

    # What is remembered of it, and how one goes on that was stopped.
    found = dict(dataset=manifest.digest, deployed="x".join(map(str, size)))
    found |= dict(init_from=parent.digest if parent else "")
    found |= dict(clusters=digest_features(features) if features else NO_CLUSTERS)
    found |= dict(devices=world.size, device=runtime.name, precision=runtime.precision)
    left = config.total_epochs - (stopped.place.epoch - 1 if stopped else 0)
    images = max(left, 0) * len(manifest.train)
    is_compiled = compiles(config, runtime, trained_sizes(config, manifest), images)
    found |= dict(compile="on" if is_compiled else "off")
    found |= dict(torch=str(torch.__version__), code=code_version("train"))
    facts, changes = facts_of(config, architecture, **found), Changes()
    if stopped:
        changes = changes_of(stopped, facts)
        facts |= began_at(stopped.facts)
        pool = ThreadPoolExecutor(1, "checksums")  # beside what follows, which takes longer
        is_damaged = pool.submit(is_not_as_saved, stopped.file)
        pool.shutdown(wait=False)
    inputs = {as_flag(name): facts[name] for name in ("dataset", "init_from", "clusters")}
    # Each node may have its own cards.
    options = {as_flag(name): value for name, value in config if name != "cards"}
    check_alike(inputs | options, world)

    # What it measures with, and learns from.
    vgg_file = find_vgg(config)
    measuring = None
    if world.is_main:  # it alone validates
        measuring = MeasuringNetworks.load(size, runtime.name, config)
    photos = ", photos as grey" if config.output_nc == 1 else ""
    print(
        f"train {config.netG}: {len(manifest.train)} pairs at "
        f"{describe_sizes(config, manifest, size)}{photos}, {runtime.describe()}",
        flush=True,
    )
    remarks = [padding_remark(config, architecture, manifest, size)]
    if runtime.name == "cpu":
        remarks.append(threads.busy_remark())
    for remark in filter(None, remarks):
        print(remark, flush=True)
    tracking.log_dataset(manifest.name, dataset, manifest.digest, "training")

    # Networks: fresh, then the weights of the previous stage, then those of an earlier training,
    # which the other ranks get from the main one.
    begins = config.start_from and world.is_main and not stopped
    with earlier_training(config) if begins else nullcontext() as earlier:
        files = (vgg_file, None if stopped else init_from, clusters, earlier)
        networks = build(architecture, config, config.seed, *files)
    if world.is_main and not config.performance_run:
        check_room(model, networks.trained().values(), config)
    trainer = Trainer(networks, architecture, config, runtime, world)

    # Their folder, and the state of an interrupted run in it, the same for all ranks.
    card = new_card(config, architecture, manifest, size, one_size, facts["init_from"])
    # What made the features of `clusters`.
    encoder = kept_encoder(init_from, parent) if clusters else None
    kept = (config.best_by, config.keep_checkpoints, encoder)
    folder = ModelFolder(model, trainer, card, *kept, facts)
    if stopped:
        if is_damaged.result():
            stopped = read_stopped(model)  # the one before, or its refusal
            changes = changes_of(stopped, facts)
        if stopped.spoiled:
            print(stopped.spoiled, flush=True)
        folder.load(stopped.file, changes.anew, stopped.place.reduction)
        print(f"continues after {trainer.place(len(manifest.train))}", flush=True)
        tracking.continue_curves()
    if len(set(gathered((trainer.epoch, trainer.pairs), world))) > 1:
        raise InputError(
            f"--model {model} is not the same folder for all processes: put it on a disk that "
            "they share."
        )
    broadcast_weights(networks.trained().values(), world)

    if stopped and folder.is_trained(config.total_epochs):
        print(f"already trained for {trainer.epoch} epochs: raise --epochs to train on", flush=True)
        return folder.metrics
    for line in changes.lines:
        print(line, flush=True)
    if changes.lines:  # MLflow keeps the first value of each parameter
        tracking.set_tags({"continued": "; ".join(changes.lines)})

    # What changes their memory and speed, but no value.
    for network in (networks.G, networks.E):
        if network is not None and config.activation_checkpointing:
            checkpoint_activations(network)
    if is_compiled:
        trainer.compile()

    # Pairs: cropped and flipped to learn from, whole for sample pictures, held out for validation.
    how = dict(use_cache=config.cache != "off", photo_channels=config.output_nc)
    reader = PairReader(dataset, manifest, "train", **how)
    augment = Augmentation(config.crop_size, config.flip, config.seed)
    pairs = PairDataset(reader, config.frame_size, augment, features, config.feature_regions)
    hold_frames(pairs, config.cache, runtime)
    check_shared_memory(config, manifest, has_cache=reader.cache is not None)
    loader = EpochLoader(pairs, config.batch_size, config.workers, runtime.pins_memory, world)
    profiler = Profiler(config.profile if world.is_main else 0, runtime, model)
    trainer.after_step = profiler.step
    if config.performance_run:
        with profiler:
            report = performance_run(trainer, loader, config.performance_run)
        profiler.tell()
        return publish(report)
    unchanged = Augmentation(crop=None, flip=False, seed=config.seed)
    whole = PairDataset(reader, size, unchanged, features, config.feature_regions)
    samples = collate([whole[i] for i in range(min(SAMPLE_PAIRS, len(whole)))])
    held_out = PairReader(dataset, manifest, "test", **how)
    validation = Validation(trainer, held_out, size, config, measuring)
    if config.validate_every_epochs:
        print(validation.describe(), flush=True)

    # Train; every save leaves a complete model folder.
    try:
        with profiler, folder.finished():
            arguments = (trainer, loader, samples, validation, folder, config)
            figures, images_per_second = train(*arguments)
    except NotAsPrepared as refusal:
        raise WorkFailed(f"{str(refusal).removesuffix('.')}; {folder.kept()}.") from None
    print(final_table(figures, trainer.epoch, folder.best), flush=True)
    profiler.tell()

    # What the run leaves in MLflow.
    speed = {
        "mean_images_per_second": images_per_second,
        "peak_memory_mb": runtime.peak_memory_mb(),
    }
    tracking.log_figures(speed)
    if world.is_main:
        log_model(model)
    return figures.metrics() | speed


def changes_of(stopped: Stopped, facts: Facts) -> Changes:
    """What is different for a training that goes on. Raises InputError where it cannot."""
    changes = compare(stopped.facts, facts, stopped.place)
    if changes.refusals:
        raise InputError(changes.refusals[0])
    return changes


def new_card(
    config: TrainConfig,
    architecture: Architecture,
    manifest: DatasetManifest,
    size: tuple[int, int],
    one_size: bool,
    parent_digest: str,
) -> ModelCard:
    """What a card says before the first epoch; size, one_size: see `deployed_size`."""
    return ModelCard(
        architecture=architecture,
        height=size[0],
        width=size[1],
        one_size=one_size,
        epoch=0,
        images_seen=0,
        # What it was trained on.
        dataset_digest=manifest.digest,
        test_digest=manifest.test_digest,
        labels=manifest.labels,
        raw=manifest.raw,
        parent_digest=parent_digest,
        digest="",
        config=config.model_dump(),
        metrics={},
    )
