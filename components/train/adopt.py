"""`python -m components.train.adopt --model DIR`: model.json for weight files of the reference
implementations.

DIR holds `latest_net_G.pth`, perhaps `latest_net_D.pth` and `latest_net_E.pth`. The architecture is
read off their keys and shapes; cluster, export and benchmark then take the folder as if it had been
trained here."""

import argparse
import sys
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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m components.train.adopt",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description=__doc__.partition("\n\n")[2],
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the weight files")
    parser.add_argument(
        "--size", help="HEIGHTxWIDTH that it is deployed for; None: the references' default"
    )
    parser.add_argument(
        "--num-labels",
        type=int,
        help="labels of its input, 0: it is a picture; None: by its channels",
    )
    parser.add_argument(
        "--use-instances",
        action=argparse.BooleanOptionalAction,
        help="edges in its input; None: by its channels",
    )
    parser.add_argument(
        "--feat-num", type=int, help="instance features in its input; None: by D and E"
    )
    try:
        adopt(**vars(parser.parse_args(argv)))
    except InputError as refusal:
        print(f"adopt refused: {refusal}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
