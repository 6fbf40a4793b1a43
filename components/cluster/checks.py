"""What cannot be clustered, refused before any work."""

from pathlib import Path

from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.checkpoint import read_model


def read_inputs(dataset: Path, model: Path) -> tuple[DatasetManifest, ModelCard]:
    """The data set, and the model with instance features that it fits."""
    manifest = DatasetManifest.read(dataset)
    card = read_model(model, num_labels=manifest.num_labels, use_instances=manifest.has_instances)
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
    return manifest, card


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
    """Tables of one source must not lie beside features of another."""
    if clusters.exists() and (not clusters.is_dir() or any(clusters.iterdir())):
        raise InputError(f"--clusters {clusters} is not empty: give a new folder.")
