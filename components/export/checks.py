"""What cannot be exported, refused before any work."""

from pathlib import Path

from torch import nn

from components.export.config import ExportConfig
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.checkpoint import load_generator


def read_inputs(
    model: Path, dataset: Path | None, config: ExportConfig
) -> tuple[ModelCard, nn.Module]:
    """The model, with what its weight file does not tell taken from the options and the data
    set."""
    num_labels = DatasetManifest.read(dataset).num_labels if dataset else None
    card, generator = load_generator(
        model, config.fixed_size, num_labels=num_labels, unet_dropout=config.dropout
    )
    if config.dropout and not any(isinstance(module, nn.Dropout) for module in generator.modules()):
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
