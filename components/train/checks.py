"""What cannot be trained, refused before any work."""

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from components.train.config import SMALLEST_SIDE, TrainConfig
from components.train.continuing import Facts
from components.train.data.held import check_frames_fit
from components.train.data.sizes import deployed_size, padding_remark, trained_sizes
from components.train.devices.adam import check_adam
from components.train.devices.loss_scale import check_apex
from components.train.devices.world import World
from components.train.networks.build import architecture_for, build_empty
from components.train.networks.memory import check_compiles
from components.train.networks.partial import fitting
from components.train.networks.sizes import sized, with_sizes_of_stopped
from components.train.networks.start import (
    check_global_part,
    check_start,
    earlier_training,
    other_data,
    read_start,
)
from components.train.networks.vgg import look_for_vgg, vgg_of_pods
from components.train.saved.folder import weights_to_come
from components.train.saved.room import checkpoint_bytes, count_parameters
from components.train.saved.state import read_stopped
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest, Pair
from shared.contracts.forecast import Forecast, PreparedData
from shared.contracts.model import LATEST, Architecture, ModelCard
from shared.data.frames import record_bytes
from shared.device import Runtime, pick
from shared.errors import InputError
from shared.networks.build import build_generator
from shared.networks.chosen import NETWORKS, files_as_written
from shared.registry.trained import REGISTRY
from shared.scorers.networks import foresee

SHARED_MEMORY = Path("/dev/shm")  # through which worker processes hand over batches
USUAL_INSTANCES = 1000  # of an image, at most


def check(
    architecture: Architecture,
    config: TrainConfig,
    manifest: DatasetManifest,
    parent: ModelCard | None,
    clusters: ClusterTable | None,
    goes_on: bool,
) -> None:
    """Raises InputError, in one sentence, for what cannot be trained.

    goes_on: whether it was stopped and has weights of its own."""
    check_sizes(config, manifest)
    check_features(architecture, manifest)
    check_inputs(config, parent, clusters, goes_on)


def check_sizes(config: TrainConfig, manifest: DatasetManifest) -> None:
    """Sizes must be large enough for the networks, and one for all that stand in a batch."""
    if not manifest.train:
        raise InputError(
            "--dataset has no training pairs, as prepare --test-only makes it: give one with some."
        )
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


def check_features(architecture: Architecture, manifest: DatasetManifest) -> None:
    """Features need the maps that they are averaged over."""
    by_labels = architecture.feature_regions == "labels"
    if architecture.feat_num and not (manifest.num_labels if by_labels else manifest.has_instances):
        wanted, remedy = ("instance maps", "--instances files")
        if by_labels:
            wanted, remedy = ("label maps", "--num-labels")
        raise InputError(
            f"--feature-regions {architecture.feature_regions} needs {wanted}, but the data set "
            f"has none: prepare it with {remedy}, or leave out --instance-features."
        )


def check_inputs(
    config: TrainConfig,
    parent: ModelCard | None,
    clusters: ClusterTable | None,
    goes_on: bool,
) -> None:
    """What else a training starts from must be there, and belong together."""
    if config.netG == "local" and not (parent or config.start_from or goes_on):
        raise InputError(
            "--netG local starts from a global model: give its folder with --init-from."
        )
    if clusters and parent and (name := parent.name_of(clusters.model_digest)) not in ("", LATEST):
        raise InputError(
            f"--clusters was made from the weights {parent.called(name)} of --init-from, of which "
            "stage local takes the latest: cluster again with --weights latest."
        )
    if clusters and (parent is None or clusters.model_digest != parent.digest):
        raise InputError(
            "--clusters was not made from --init-from: run the cluster step on that model."
        )
    if parent is None or goes_on:
        return
    # Its encoder or its networks go on.
    is_used = clusters or config.netG == "local"
    if is_used and (found := parent.architecture.output_nc) != config.output_nc:
        raise InputError(
            f"--output-nc {config.output_nc} but --init-from was trained on photos of {found} "
            f"channels: say --output-nc {found}."
        )


def check_runtime(config: TrainConfig, before: Facts | None = None) -> Runtime:
    """The device with its arithmetic. Raises InputError where this machine has not what is asked
    for.

    before: what a training that goes on remembers; on a CPU auto is the precision that it has."""
    if config.amp_backend == "apex":
        runtime = replace(pick(config.device), precision="fp32")  # apex casts by itself
        check_apex(config, runtime.name)
    else:
        runtime = pick(config.device, config.precision, trains=True)
        was_here = before is not None and before.get("device", "cpu") == runtime.name == "cpu"
        if config.precision == "auto" and was_here:
            runtime = replace(runtime, precision=before.get("precision", "fp32"))
    if config.compress_gradients and not runtime.has_bf16:
        raise InputError(
            f"--compress-gradients sends bf16, which {runtime.hardware} has not: leave it out."
        )
    check_adam(config, runtime)
    if config.cuda_graph and not runtime.captures_steps:
        raise InputError(
            f"--cuda-graph is for NVIDIA GPUs, but the device is {runtime.name}: leave it out."
        )
    return runtime


def check_world(config: TrainConfig, world: World) -> None:
    """Raises InputError for what works on one device, where torchrun has started several."""
    of_one = {
        f"--pool-size {config.pool_size}": config.pool_size > 0,
        "--cuda-graph": config.cuda_graph,
    }
    for flag, is_given in of_one.items():
        if is_given and world.size > 1:
            raise InputError(f"{flag} works on one device only: leave it out.")


def check_shared_memory(config: TrainConfig, manifest: DatasetManifest, has_cache: bool) -> None:
    """Worker processes hand over batches through shared memory, of which containers have little:
    there a worker dies with a bus error."""
    if config.workers == 0 or has_cache or config.cache in ("memory", "device"):
        return
    height, width = max(trained_sizes(config, manifest))
    pair = Pair("", height, width, has_photo=True, num_instances=USUAL_INSTANCES)
    batches = config.devices * (2 * config.workers + 1)  # each prefetches two, and one is used
    needed = batches * config.batch_size * record_bytes(manifest, pair, config.output_nc)
    if SHARED_MEMORY.is_dir() and needed > (free := shutil.disk_usage(SHARED_MEMORY).free):
        raise InputError(
            f"--workers {config.workers} hand over batches through {SHARED_MEMORY}, where "
            f"{free / 1e6:.0f} MB are free but up to {needed / 1e6:.0f} MB are needed: say "
            "--workers 0, or start the container with a larger --shm-size."
        )


# Before the first step of a pipeline.


def preflight(
    dataset: PreparedData | None,
    init_from: ModelCard | None,
    clusters: ClusterTable | None,
    model: Path,
    config: TrainConfig,
    here: bool = True,
) -> Forecast[ModelCard]:
    """What the step will refuse, and the model that it will make.

    Args:
        dataset, init_from, clusters: As the steps before will make them; without a data set nothing
            is known of the others either.
        model: Folder that it will write, or in which it goes on.
        here: Whether it will run on this machine: else no file and no device is looked for.
    """
    # What it needs of this machine.
    forecast, runtime, found = Forecast(), None, []
    ask = forecast.refusals.of
    if here:
        ask(World.from_environment, config.devices, config.nodes)
        runtime = ask(check_runtime, config)
        found = [ask(look_for_vgg, config)]
    else:
        forecast.unknown += ask(vgg_of_pods, config) or []
    if runtime:
        ask(runtime.check_count, config.devices)
        ask(runtime.memory_format, config.memory_format, gains=False)
        if config.compile == "on":
            ask(check_compiles, config, runtime)

    # What it needs of the steps before.
    if dataset is None:
        if here:
            size = None if config.crop else config.frame_size
            found += foresee(config, size, runtime.name if runtime else "cpu", forecast)
        forecast.found = ", ".join(filter(None, found))
        return forecast
    manifest = dataset.manifest
    if stopped := ask(read_stopped, model) if here else None:
        config = with_sizes_of_stopped(config, stopped.architecture)
        forecast.remarks += [stopped.spoiled] * bool(stopped.spoiled)
    else:
        config = ask(_foresee_start, config, dataset, init_from, here, forecast) or config
    architecture = architecture_for(config, config.lambda_feature_matching > 0, manifest, clusters)
    ask(check_sizes, config, manifest)
    ask(check_features, architecture, manifest)
    ask(check_inputs, config, init_from, clusters, stopped is not None)
    networks = build_empty(architecture, with_encoder=clusters is None)

    # What it needs of the model before, and of memory.
    if init_from and init_from.architecture.netG == "local":
        forecast.refusals.append(
            "--init-from is of stage local already, which holds both stages: choose a recipe of "
            "one stage, without train_local."
        )
    elif config.netG == "local" and init_from:
        with torch.device("meta"):
            before = build_generator(init_from.architecture).state_dict()
        wanted = networks["G"].state_dict()
        ask(check_global_part, wanted.keys() - fitting(wanted, before), Path("of train_global"))
    size, one_size = deployed_size(config, architecture, manifest)
    if remark := padding_remark(config, architecture, manifest, size):
        forecast.remarks.append(remark)
    if here:
        found += foresee(config, size, runtime.name if runtime else "cpu", forecast)
        ask(check_shared_memory, config, manifest, dataset.has_cache and config.cache != "off")
        frames = manifest, config.frame_size, config.output_nc
        ask(check_frames_fit, config.cache, *frames, runtime or pick("cpu"))

    # What it takes, with MLflow's copy of the latest weights and the best.
    parameters = count_parameters(networks.values())
    takes = checkpoint_bytes(parameters, config)
    forecast.stay_bytes, forecast.passing_bytes = takes.stay + takes.published, takes.passing
    device = f"{runtime.name} in {runtime.precision}" if runtime else ""
    parts = (f"{parameters / 1e6:.1f} M weights", device, *found, forecast.found)
    forecast.found = ", ".join(filter(None, parts))

    # What it makes.
    tested = min(sum(pair.has_photo for pair in manifest.test), config.validate_pairs)
    if architecture.feat_num and clusters:  # there are features of the training pairs only
        tested = 0
    forecast.gives = ModelCard(
        architecture=architecture,
        height=size[0],
        width=size[1],
        one_size=one_size,
        epoch=config.total_epochs,
        images_seen=0,
        dataset_digest="",
        parent_digest="",
        digest=LATEST,
        config={},
        metrics={},
        weights=weights_to_come(config, tested),
    )
    return forecast


def _foresee_start(
    config: TrainConfig,
    dataset: PreparedData,
    init_from: ModelCard | None,
    here: bool,
    forecast: Forecast,
) -> TrainConfig:
    """The config with the sizes of the model that it will start from, of which the forecast says
    what was seen. Raises InputError where that is none, or of other networks."""
    place, manifest = config.start_from, dataset.manifest
    if not place:
        return sized(config, init_from) if init_from else config
    if not here or place.startswith(REGISTRY):
        where = "whether MLflow has it" if place.startswith(REGISTRY) else "whether it is there"
        forecast.unknown.append(f"{place}: {where}, and of which networks")
        return config

    # The model, whose files alone may tell nothing without the number of labels.
    with earlier_training(config) as folder:
        if not dataset.knows_num_labels:
            forecast.unknown.append(f"{place}: whether it has as many labels as the maps")
            if not (folder / ModelCard.FILE).is_file():
                return config
        architecture = architecture_for(config, True, manifest, None)
        card = read_start(folder, architecture, "--start-from")
        with files_as_written(folder, card, NETWORKS, f"--start-from {place}"):
            config = sized(config, card, folder)

    # How it is different.
    architecture = architecture_for(config, True, manifest, None)
    check_start(place, card.architecture, architecture)
    if not dataset.knows_num_labels:
        return config
    other = other_data(card.architecture, architecture).items()
    layers = " and its ".join(f"{layer} layer ({how})" for layer, how in other)
    new = f", but for its {layers}" if layers else ""
    forecast.found = ", ".join(filter(None, [forecast.found, f"starts from {place}{new}"]))
    return config
