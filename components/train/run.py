"""Train one stage of pix2pixHD on a prepared data set. The same command again continues, or says that it is done."""

import shutil
from pathlib import Path

from components.train.config import TrainConfig
from components.train.data import EpochLoader, PairDataset, collate, read_features
from components.train.loop import Networks, Trainer, train
from shared import tracking
from shared.checkpoint import load_vgg, load_what_fits, save_weights, weights_path
from shared.contracts import Architecture, ClusterTable, DatasetManifest, ModelCard, parse_size
from shared.device import pick, seed_everything
from shared.errors import InputError
from shared.networks import build_discriminator, build_encoder, build_generator, init_weights

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
    # What is asked for, checked before any work.
    runtime = pick(config.device, config.precision)
    manifest = DatasetManifest.read(dataset)
    height, width = parse_size(config.size) if config.size else (manifest.height, manifest.width)
    architecture = architecture_for(config, manifest, clusters)
    parent = ModelCard.read(init_from) if init_from else None
    check(architecture, config, manifest, (height, width), parent, clusters)
    features = read_features(clusters, manifest) if clusters else None
    print(f"train {config.stage}: {len(manifest.train)} pairs at {height}x{width}, {runtime.describe()}", flush=True)
    tracking.log_dataset(dataset, manifest.digest, "training")

    # Networks: fresh, then the weights of the previous stage, then the state of an interrupted run.
    networks = build(architecture, config, init_from, clusters)
    trainer = Trainer(networks, architecture, config, runtime)
    state, metrics = model / "state" / "training.pt", {}
    if state.is_file():
        metrics = trainer.load(state)
        print(f"continues after epoch {trainer.epoch} of {config.total_epochs}", flush=True)

    # Train; every save leaves a complete model folder.
    pairs = PairDataset(dataset, manifest, (height, width), config.flip, config.seed, features)
    loader = EpochLoader(pairs, config.batch_size, config.workers, runtime.pins_memory)
    unflipped = PairDataset(dataset, manifest, (height, width), False, config.seed, features)
    samples = collate([unflipped[i] for i in range(min(SAMPLE_PAIRS, len(unflipped)))])

    def save(metrics: dict[str, float]) -> None:
        trainer.save(state, metrics)
        if clusters and init_from and weights_path(init_from, "E").is_file():
            shutil.copyfile(weights_path(init_from, "E"), weights_path(model, "E"))
        ModelCard(
            architecture=architecture,
            height=height,
            width=width,
            epoch=trainer.epoch,
            images_seen=trainer.images_seen,
            dataset_digest=manifest.digest,
            parent_digest=parent.digest if parent else "",
            digest=save_weights(model, networks.trained()),
            config=config.model_dump(),
            metrics=metrics,
        ).write(model)

    if trainer.epoch >= config.total_epochs:
        print(f"already trained for {trainer.epoch} epochs: raise --epochs to train on", flush=True)
        save(metrics)
        return metrics
    metrics = train(trainer, loader, samples, model, save)

    # What the run leaves in MLflow.
    metrics["peak_memory_mb"] = runtime.peak_memory_mb()
    tracking.log_figures({name: metrics[name] for name in ("mean_images_per_second", "peak_memory_mb")})
    for name in networks.trained():
        tracking.log_files(weights_path(model, name), "checkpoints")
    tracking.log_files(model / ModelCard.FILE, "checkpoints")
    return metrics


def architecture_for(config: TrainConfig, manifest: DatasetManifest, clusters: Path | None) -> Architecture:
    """The networks that fit this data set."""
    feat_num = ClusterTable.read(clusters).feat_num if clusters else config.feat_num if config.instance_features else 0
    return Architecture.model_validate(
        config.model_dump(include=set(Architecture.model_fields))
        | {
            "netG": config.stage,
            "num_labels": manifest.num_labels,
            "use_instances": config.use_instances and manifest.has_instances,
            "feat_num": feat_num,
        }
    )


def check(
    architecture: Architecture,
    config: TrainConfig,
    manifest: DatasetManifest,
    size: tuple[int, int],
    parent: ModelCard | None,
    clusters: Path | None,
) -> None:
    """Refuse what cannot be trained."""
    stride = architecture.stride
    for side, pixels in zip(("height", "width"), size, strict=True):
        if pixels % stride:
            raise InputError(f"--size: {side} {pixels} is not a multiple of {stride}, the stride of these networks.")
    if architecture.feat_num and not manifest.has_instances:
        raise InputError(
            "--instance-features needs instance maps, but the data set has none: prepare it with --use-instances."
        )
    if config.stage == "local" and parent is None:
        raise InputError("--stage local starts from a global model: give its folder with --init-from.")
    if clusters and (parent is None or ClusterTable.read(clusters).model_digest != parent.digest):
        raise InputError(f"--clusters {clusters} was not made from --init-from: run the cluster step on that model.")
    config.check_vgg_weights()


def build(architecture: Architecture, config: TrainConfig, init_from: Path | None, clusters: Path | None) -> Networks:
    """Networks with fresh weights from the seed, overlaid with those of `init_from`."""
    seed_everything(config.seed)
    G = build_generator(architecture).apply(init_weights)
    D = build_discriminator(architecture).apply(init_weights)
    learns_features = architecture.feat_num and clusters is None
    E = build_encoder(architecture).apply(init_weights) if learns_features else None
    vgg = load_vgg(Path(config.vgg_weights)) if config.lambda_vgg else None
    if init_from:
        for name, network in {"G": G, "D": D, "E": E}.items():
            if network is not None and weights_path(init_from, name).is_file():
                report = load_what_fits(network, weights_path(init_from, name))
                print("from the previous stage:", report, flush=True)
                if name == "G" and config.stage == "local" and any(key.startswith("model.") for key in report.new):
                    raise InputError(
                        f"--init-from {init_from}: its generator does not fit ({min(report.new)} differs): stage local "
                        "needs half the --ngf of its global model, and the same labels, features, blocks and stride."
                    )
    return Networks(G, D, E, vgg)
