"""Train pix2pixHD (one stage) or pix2pix on a prepared data set. The same command again continues,
or says so."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.train.checks import (
    check,
    check_runtime,
    check_shared_memory,
    check_world,
)
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
        runtime = check_runtime(config, stopped.facts if stopped else None)
        check_world(config, world)
        with joined(place, runtime):
            return train_model(dataset, model, init_from, clusters, stopped, config, runtime, world)


def run_as_rank(
    handle: tracking.RunHandle | None, config: TrainConfig, *folders: Path | None
) -> dict[str, float]:
    """Call `run` with its folders in a process that it started; the main one goes on with the
    MLflow run, the others log nothing."""
    with tracking.continued(handle if World.from_environment().is_main else None):
        return run(*folders, config=config)


@dataclass(frozen=True)
class Plan:
    """What is to be trained, checked before any work."""

    manifest: DatasetManifest
    architecture: Architecture
    parent: ModelCard | None  # of --init-from
    features: dict[str, tuple[np.ndarray, np.ndarray]] | None  # see `features_by_image`
    size: tuple[int, int]  # see `deployed_size`
    one_size: bool
    is_compiled: bool
    facts: Facts  # what is remembered of it
    changes: Changes  # since what goes on was stopped


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
    # What is asked for; the state is compared beside what follows, which takes longer.
    check_one_folder(model, world)
    plan = make_plan(dataset, init_from, clusters, stopped, config, runtime, world)
    is_damaged = beside(is_not_as_saved, stopped.file) if stopped else None

    # What it measures with, and learns from.
    vgg_file = find_vgg(config)
    measuring = None
    if world.is_main:  # it alone validates
        measuring = MeasuringNetworks.load(plan.size, runtime.name, config)
    tell(plan, config, runtime)
    tracking.log_dataset(plan.manifest.name, dataset, plan.manifest.digest, "training")

    # Networks: fresh, then the weights of the previous stage, then those of an earlier training,
    # which the other ranks get from the main one.
    begins = config.start_from and world.is_main and not stopped
    with earlier_training(config) if begins else nullcontext() as earlier:
        files = (vgg_file, None if stopped else init_from, clusters, earlier)
        networks = build(plan.architecture, config, config.seed, *files)
    if world.is_main and not config.performance_run:
        check_room(model, networks.trained().values(), config)
    trainer = Trainer(networks, plan.architecture, config, runtime, world)

    # Their folder, and the state of an interrupted run in it, the same for all ranks.
    encoder = kept_encoder(init_from, plan.parent) if clusters else None  # that made their features
    kept = (config.best_by, config.keep_checkpoints, encoder)
    folder = ModelFolder(model, trainer, new_card(plan, config), *kept, plan.facts)
    changes = load(folder, stopped, plan, is_damaged) if stopped else plan.changes
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
    if plan.is_compiled:
        trainer.compile()
    if config.cuda_graph:
        trainer.capture()

    # Pairs to learn from, cropped and flipped; those of sample pictures whole, others held out.
    train_pairs, whole, held_out = pairs_of(dataset, plan, config, runtime)
    loader = EpochLoader(train_pairs, config.batch_size, config.workers, runtime.pins_memory, world)
    profiler = Profiler(config.profile if world.is_main else 0, runtime, model)
    trainer.after_step = profiler.step
    if config.performance_run:
        with profiler:
            report = performance_run(trainer, loader, config.performance_run)
        profiler.tell()
        return publish(report)
    samples = collate([whole[i] for i in range(min(SAMPLE_PAIRS, len(whole)))])
    validation = Validation(trainer, held_out, plan.size, config, measuring)
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


# The parts of the story.


def make_plan(
    dataset: Path,
    init_from: Path | None,
    clusters: Path | None,
    stopped: Stopped | None,
    config: TrainConfig,
    runtime: Runtime,
    world: World,
) -> Plan:
    """What is asked for, in which all ranks are alike. Raises InputError for what cannot be
    trained, or go on."""
    # Folders that must belong together.
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
    inputs = {as_flag(name): facts[name] for name in ("dataset", "init_from", "clusters")}
    # Each node may have its own cards.
    options = {as_flag(name): value for name, value in config if name != "cards"}
    resolved = {"--device": runtime.name, "--precision": runtime.precision}  # what auto is there
    check_alike(inputs | options | resolved, world)
    return Plan(
        manifest, architecture, parent, features, size, one_size, is_compiled, facts, changes
    )


def beside(function: Callable[..., Any], *arguments: Any) -> Future:
    """What a function returns, which a thread calls now."""
    pool = ThreadPoolExecutor(1, function.__name__)
    called = pool.submit(function, *arguments)
    pool.shutdown(wait=False)
    return called


def tell(plan: Plan, config: TrainConfig, runtime: Runtime) -> None:
    """Say what is trained at which sizes and on what."""
    photos = ", photos as grey" if config.output_nc == 1 else ""
    sizes = describe_sizes(config, plan.manifest, plan.size)
    print(
        f"train {config.netG}: {len(plan.manifest.train)} pairs at {sizes}{photos}, "
        f"{runtime.describe()}",
        flush=True,
    )
    remarks = [padding_remark(config, plan.architecture, plan.manifest, plan.size)]
    if runtime.name == "cpu":
        remarks.append(threads.busy_remark())
    for remark in filter(None, remarks):
        print(remark, flush=True)


def load(folder: ModelFolder, stopped: Stopped, plan: Plan, is_damaged: Future) -> Changes:
    """Go on from the state in the folder, or where that is damaged from the one before; what is
    different from then. Raises InputError where it cannot."""
    changes = plan.changes
    if is_damaged.result():
        stopped = read_stopped(folder.path)  # the one before, or its refusal
        changes = changes_of(stopped, plan.facts)
    if stopped.spoiled:
        print(stopped.spoiled, flush=True)
    folder.load(stopped.file, changes.anew, stopped.place.reduction)
    print(f"continues after {folder.trainer.place(len(plan.manifest.train))}", flush=True)
    tracking.continue_curves()
    return changes


def pairs_of(
    dataset: Path, plan: Plan, config: TrainConfig, runtime: Runtime
) -> tuple[PairDataset, PairDataset, PairReader]:
    """Pairs to learn from, cropped and flipped; the same whole; those held out. Raises InputError
    where they do not fit into the memory that --cache names."""
    how = dict(use_cache=config.cache != "off", photo_channels=config.output_nc)
    reader = PairReader(dataset, plan.manifest, "train", **how)
    augment = Augmentation(config.crop_size, config.flip, config.seed)
    features = (plan.features, config.feature_regions)
    pairs = PairDataset(reader, config.frame_size, augment, *features)
    hold_frames(pairs, config.cache, runtime)
    check_shared_memory(config, plan.manifest, has_cache=reader.cache is not None)
    unchanged = Augmentation(crop=None, flip=False, seed=config.seed)
    whole = PairDataset(reader, plan.size, unchanged, *features)
    return pairs, whole, PairReader(dataset, plan.manifest, "test", **how)


def changes_of(stopped: Stopped, facts: Facts) -> Changes:
    """What is different for a training that goes on. Raises InputError where it cannot."""
    changes = compare(stopped.facts, facts, stopped.place)
    if changes.refusals:
        raise InputError(changes.refusals[0])
    return changes


def new_card(plan: Plan, config: TrainConfig) -> ModelCard:
    """What a card says before the first epoch."""
    manifest = plan.manifest
    return ModelCard(
        architecture=plan.architecture,
        height=plan.size[0],
        width=plan.size[1],
        one_size=plan.one_size,
        epoch=0,
        images_seen=0,
        # What it was trained on.
        dataset_digest=manifest.digest,
        test_digest=manifest.test_digest,
        labels=manifest.labels,
        raw=manifest.raw,
        parent_digest=plan.facts["init_from"],
        digest="",
        config=config.model_dump(),
        metrics={},
    )
