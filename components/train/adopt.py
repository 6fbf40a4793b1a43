"""model.json for weight files of the reference implementations."""

from pathlib import Path

from shared.contracts.dataset import parse_size
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.checkpoint import read_model


def adopt(
    model: Path,
    size: str | None,
    num_labels: int | None,
    use_instances: bool | None,
    feat_num: int | None,
) -> ModelCard:
    """Write model.json. Raises InputError where the files do not tell what the options could, or
    one is there."""
    if (model / ModelCard.FILE).exists():
        raise InputError(f"--model {model} has a {ModelCard.FILE} already: remove it first.")
    height_width = parse_size(size) if size else None
    card = read_model(
        model, height_width, num_labels=num_labels, use_instances=use_instances, feat_num=feat_num
    )
    card.write(model)
    print(f"wrote {model / ModelCard.FILE}")
    return card
