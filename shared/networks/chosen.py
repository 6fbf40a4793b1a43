"""Which weights of a model folder are read, and whether they are those that were written.

It loads no torch, so that `--help` does not."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import AfterValidator

from shared.command import Options
from shared.contracts.model import BEST, LATEST, ModelCard, SavedWeights
from shared.errors import InputError
from shared.files.digests import NotAsWritten, Promise, digest_digests, digests_of

NETWORKS = "GDE"  # in the order of a card's digest


def _as_name(weights: str) -> str:
    if weights in (LATEST, BEST):
        return weights
    if not re.fullmatch("0*[1-9][0-9]{0,8}", weights):
        raise ValueError("should be latest, best, or the number of an epoch")
    return weights.lstrip("0")


Weights = Annotated[str, AfterValidator(_as_name), tyro.conf.arg(metavar="latest|best|EPOCH")]


class WeightsOptions(Options):
    """Which weights of a trained model are read."""

    weights: Weights = LATEST
    """latest; best: of the epoch that validation found the best; an EPOCH whose checkpoint was
    kept: 200 reads 200_net_G.pth, also of pix2pixHD's and pix2pix's own."""


def weights_path(model: Path, network: str, weights: str = LATEST) -> Path:
    """The file of a network: G, D or E."""
    return Path(model) / f"{weights}_net_{network}.pth"


def weights_in(model: Path) -> list[str]:
    """The names of the weights that a folder has a generator's file of, whatever its card says."""
    names = {path.name.partition("_")[0] for path in Path(model).glob("*_net_G.pth")}
    numbers = [name for name in names if re.fullmatch("[1-9][0-9]*", name)]
    return [name for name in (LATEST, BEST) if name in names] + sorted(numbers, key=int)


def record_of(model: Path, weights: str) -> SavedWeights:
    """What a card says of weights, by their files alone."""
    paths = [path for name in NETWORKS if (path := weights_path(model, name, weights)).is_file()]
    files = digests_of(paths)
    epoch = int(weights) if weights.isdecimal() else 0
    return SavedWeights(
        epoch=epoch, images_seen=0, digest=digest_of(files), files=files, metrics={}
    )


def digest_of(files: dict[str, str]) -> str:
    """The digest of weights, by the SHA-256 of each of their files: the same under all their
    names."""
    return digest_digests(
        (f"{LATEST}_{name.partition('_')[2]}", bytes.fromhex(sha)) for name, sha in files.items()
    )


def choose(model: Path, card: ModelCard, weights: str) -> ModelCard:
    """The card of these weights of a model. Raises InputError where it does not hold them."""
    if weights == card.chosen and not card.weights:
        return card
    if not card.weights:  # of an earlier version
        known = {weights: record_of(model, weights)} if weights in weights_in(model) else {}
        card = card.model_copy(update={"weights": known})
    if weights not in card.weights:
        held = ", ".join(map(card.called, card.weights)) or ", ".join(weights_in(model)) or "none"
        by = "--keep-checkpoints"
        if weights == BEST:
            by = "--validate-every-epochs, and without --clusters"
        raise InputError(
            f"--weights {weights}: --model {model} holds {held}: choose among these, or train with "
            f"{by}."
        )
    return card.of(weights)


def promise_of(model: Path, card: ModelCard, given_as: str = "") -> Promise:
    """What a card says of the files of all weights.

    given_as: the model in the caller's words, where it is not --model."""
    known = {name: sha for one in card.weights.values() for name, sha in one.files.items()}
    remedy = (
        "copy the folder again, or go on with its training; if these are the weights you want, "
        f"remove {ModelCard.FILE} and make another with `python -m components.train adopt`."
    )
    return Promise(model, given_as or f"--model {model}", ModelCard.FILE, known, remedy)


@contextlib.contextmanager
def files_as_written(
    model: Path, card: ModelCard, networks: Iterable[str], given_as: str = ""
) -> Iterator[dict[str, Path]]:
    """The files of networks of the chosen weights, by the network, without those that the model has
    not; they are compared with the card beside what the block does. Raises InputError, at its end
    at the latest, where one is not the one that was written with it.

    given_as: see `promise_of`."""
    # Which they are. A card of an earlier version tells less.
    model, saved = Path(model), card.weights.get(card.chosen)
    names = {network: weights_path(model, network, card.chosen) for network in networks}
    promised = saved.files if saved else {}
    paths = {
        network: path for network, path in names.items() if path.name in promised or path.is_file()
    }
    if saved is None and (model / ModelCard.FILE).is_file():
        _check_digest(model, card)

    # Compared.
    try:
        with promise_of(model, card, given_as).kept([path.name for path in paths.values()]):
            yield paths
    except NotAsWritten as refusal:
        from shared.networks.weight_file import load_tensors

        load_tensors(refusal.path)  # of what are no weights at all it says what they are
        raise


def _check_digest(model: Path, card: ModelCard) -> None:
    """Raises InputError where the latest files are not those of a card of an earlier version, which
    has the digest of all of them alone: without D's it cannot be told."""
    files = record_of(model, card.chosen).files
    if weights_path(model, "D").name not in files:
        return
    some = (combinations(files.items(), count) for count in range(1, len(files) + 1))
    if card.digest not in {digest_of(dict(these)) for of_count in some for these in of_count}:
        raise InputError(
            f"--model {model}: {', '.join(files)} are not the files that were written with its "
            f"{ModelCard.FILE}: copy the folder again, or remove {ModelCard.FILE} and make another "
            "with `python -m components.train adopt`."
        )
