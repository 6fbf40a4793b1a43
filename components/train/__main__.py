"""`python -m components.train`: the step, and model folders out of foreign weight files."""

import os
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field

from components.train.config import TrainConfig
from components.train.devices.world import World
from shared.command import command_line, run_tracked
from shared.contracts.model import LATEST, MOST_FEATURES, ModelCard
from shared.errors import InputError
from shared.files.owned import only_writer
from shared.networks.chosen import Weights


def train(
    dataset: Path,
    model: Path,
    init_from: Path | None = None,
    clusters: Path | None = None,
    *,
    config: TrainConfig,
) -> None:
    """Train a generator, discriminator and, where asked for, an encoder; write them to the model
    folder.

    Args:
        dataset: Folder of the prepare step.
        model: Folder to write, and to continue.
        init_from: Model to start from; stage local needs one.
        clusters: Folder of the cluster step on that model; its features then take the encoder's
            place.

    Example:
        python -m components.train --dataset runs/dataset --model runs/model --epochs 10
    """
    World.from_environment(config.devices, config.nodes)  # refuses what contradicts itself
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what ends all is said by us
    from components.train.run import run

    folders = dict(dataset=dataset, model=model, init_from=init_from, clusters=clusters)
    run_tracked(run, config, **folders)


def adopt(
    model: Path,
    size: str | None = None,
    num_labels: Annotated[int | None, Field(ge=0, le=256)] = None,
    use_instances: tyro.conf.FlagCreatePairsOff[bool] = False,
    no_use_instances: tyro.conf.FlagCreatePairsOff[bool] = False,
    feat_num: Annotated[int | None, Field(ge=0, le=MOST_FEATURES)] = None,
    weights: Weights = LATEST,
) -> None:
    """Write model.json for weight files of pix2pixHD's or pix2pix's own code.

    The folder holds latest_net_G.pth, perhaps latest_net_D.pth and latest_net_E.pth, or 200_net_*
    and such. The architecture is read off their keys and shapes; cluster, export and benchmark
    then take the folder as if it had been trained here.

    Args:
        model: Folder of the weight files.
        size: HEIGHTxWIDTH that it is deployed for; None: the references' default.
        num_labels: Labels of its input, 0: it is a picture; None: by its channels.
        use_instances: There are edges in its input; without this flag and the next: by its
            channels.
        no_use_instances: There are none.
        feat_num: Instance features in its input; None: by D and E.
        weights: Whose tensors tell; the card names all that the folder holds.

    Example:
        python -m components.train adopt --model checkpoints/label2city --size 512x1024
    """
    if use_instances and no_use_instances:
        raise InputError("--use-instances and --no-use-instances were both given: leave one out.")
    edges = use_instances if use_instances or no_use_instances else None

    from components.train.adopt import adopt as write_card

    with only_writer(model, "--model", [ModelCard.FILE]):
        write_card(model, size, num_labels, edges, feat_num, weights)


def main(argv: list[str] | None = None) -> None:
    command_line("python -m components.train", train, {"adopt": adopt}, argv)


if __name__ == "__main__":
    main()
