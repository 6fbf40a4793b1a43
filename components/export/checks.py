"""What cannot be exported, refused before any work."""

from pathlib import Path

from torch import nn

from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.checkpoint import load_generator


def read_inputs(
    model: Path, dataset: Path | None, size: tuple[int, int] | None, dropout: bool
) -> tuple[ModelCard, nn.Module]:
    """The model, with what its weight file does not tell taken from the options and the data set.

    size: (height, width) of --size. dropout: of --dropout; refused where the model has none."""
    num_labels = DatasetManifest.read(dataset).num_labels if dataset else None
    card, generator = load_generator(model, size, num_labels=num_labels, unet_dropout=dropout)
    if dropout and not any(isinstance(module, nn.Dropout) for module in generator.modules()):
        raise InputError(f"--dropout was given but --model {model} has no dropout: leave it out.")
    return card, generator


def read_clusters(clusters: Path | None, model: Path, card: ModelCard) -> ClusterTable | None:
    """The styles of a model with instance features, which must be given; None for one without."""
    if clusters is not None:
        return ClusterTable.read_for(clusters, model, card)
    if feat_num := card.architecture.feat_num:
        raise InputError(
            f"--model {model} takes {feat_num} instance features but --clusters was not given: "
            f"give the folder that `python -m components.cluster` wrote."
        )
    return None
