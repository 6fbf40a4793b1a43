"""model.json for weight files of the reference implementations."""

from itertools import product
from pathlib import Path

from components.train.networks.discriminators import build_discriminator
from shared.contracts.dataset import parse_size
from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.networks.build import build_encoder, build_generator
from shared.networks.checkpoint import load_strictly, read_model
from shared.networks.chosen import record_of, weights_in, weights_path


def adopt(
    model: Path,
    size: str | None,
    num_labels: int | None,
    use_instances: bool | None,
    feat_num: int | None,
    weights: str,
) -> ModelCard:
    """Write model.json. Raises InputError where the files do not tell what the options could, where
    one of them does not load into the networks of the card, or a card is there."""
    if (model / ModelCard.FILE).exists():
        raise InputError(f"--model {model} has a {ModelCard.FILE} already: remove it first.")
    height_width = parse_size(size) if size else None
    hints = dict(num_labels=num_labels, use_instances=use_instances, feat_num=feat_num)
    card = read_model(model, height_width, weights=weights, **hints)
    held = {name: record_of(model, name) for name in weights_in(model)}

    # Only what loads gets a card.
    a = card.architecture
    networks = {"G": build_generator(a), "D": build_discriminator(a)}
    if a.feat_num:
        networks["E"] = build_encoder(a)
    for name, network in product(held, networks):
        if (path := weights_path(model, network, name)).is_file():
            load_strictly(networks[network], path)
    card.model_copy(update={"weights": held}).write(model)
    print(f"wrote {model / ModelCard.FILE}")
    return card
