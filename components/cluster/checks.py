"""What cannot be clustered, refused before any work."""

from pathlib import Path

from components.cluster.config import ClusterConfig
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.forecast import Forecast, PreparedData
from shared.contracts.model import ModelCard
from shared.device import pick
from shared.errors import InputError
from shared.networks.checkpoint import read_model
from shared.networks.chosen import choose


def read_inputs(dataset: Path, model: Path, weights: str) -> tuple[DatasetManifest, ModelCard]:
    """The data set, and the model with instance features that it fits."""
    manifest = DatasetManifest.read(dataset)
    hints = dict(num_labels=manifest.num_labels, input_nc=manifest.input_nc)
    card = read_model(model, weights=weights, **hints)
    check_inputs(dataset, manifest, model, card)
    return manifest, card


def check_inputs(dataset: Path, manifest: DatasetManifest, model: Path, card: ModelCard) -> None:
    """Raises InputError for a model without features, and for a data set that has none of them."""
    if card.architecture.feat_num == 0:
        raise InputError(f"--model {model} has no encoder: train it with --instance-features.")
    card.architecture.refuse_other_data(dataset, manifest)
    if not manifest.has_instances and card.architecture.feature_regions == "instances":
        raise InputError(
            f"--dataset {dataset} has no instance maps, over which the model pools its features: "
            "give one with them."
        )
    if not manifest.train:
        raise InputError(
            f"--dataset {dataset} has no training pairs, whose features are clustered: give one "
            "with some."
        )


def refuse_inside(dataset: Path, out: Path, flag: str) -> None:
    """A data set's folder holds what its manifest says and nothing else."""
    if out.resolve().is_relative_to(dataset.resolve()):
        raise InputError(f"{flag} {out} lies inside --dataset {dataset}: give a folder elsewhere.")


def refuse_labelless(manifest: DatasetManifest, flag: str) -> None:
    """Refuse files of the references for a data set without labels."""
    if manifest.num_labels == 0:
        raise InputError(
            f"{flag}: the references' files are by label, but the data set has pictures as input."
        )


def refuse_occupied(clusters: Path) -> None:
    """A finished table is not written over, nor what is somebody else's; what a killed command left
    is."""
    if not clusters.exists():
        return
    # The card comes last.
    left = {ClusterTable.FEATURES} if not (clusters / ClusterTable.FILE).exists() else set()
    if any(path.name not in left and path.name[0] != "." for path in clusters.iterdir()):
        raise InputError(f"--clusters {clusters} is not empty: give a new folder.")


# Before the first step of a pipeline.


def preflight(
    dataset: PreparedData | None, model: ModelCard | None, config: ClusterConfig, here: bool = True
) -> Forecast[ClusterTable]:
    """What the step will refuse, and what it will make.

    Args:
        dataset, model: As the steps before will make them, None = not known.
        here: Whether it will run on this machine: else no device is looked for.
    """
    # What it needs.
    forecast = Forecast()
    if here and (runtime := forecast.refusals.of(pick, config.device, config.precision)):
        forecast.found = f"{runtime.name} in {runtime.precision}"
    if dataset is None or model is None:
        return forecast
    manifest, made = dataset.manifest, (Path("of prepare"), Path("of train_global"))
    model = forecast.refusals.of(choose, made[1], model, config.weights) or model
    forecast.refusals.of(check_inputs, made[0], manifest, made[1], model)
    if config.reference_files:
        forecast.refusals.of(refuse_labelless, manifest, "--reference-files")

    # What it makes.
    forecast.gives = ClusterTable(
        feat_num=model.architecture.feat_num,
        n_clusters=config.n_clusters,
        min_area=config.min_area,
        seed=config.seed,
        labels={},
        overall=[0.0] * model.architecture.feat_num,
        model_digest=model.digest,
        dataset_digest=manifest.digest,
    )
    return forecast
