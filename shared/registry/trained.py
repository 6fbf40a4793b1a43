"""From a version of a registered model back to the trainings that it was exported from."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared import tracking
from shared.contracts.model import BEST, LATEST, ModelCard
from shared.errors import InputError
from shared.files.writing import link_or_copy
from shared.registry import Version, connected, versions, with_number

# Tags of the MLflow run that trained a model: the digest of its latest weights, and those of all.
MODEL_DIGEST, DIGESTS = "model.digest", "model.digests"
REGISTRY = "models:/"  # begins the name of a version of the registry
CHECKPOINTS = "checkpoints"  # folder of its artifacts


def log_model(model: Path) -> None:
    """Give the MLflow run the card of the model that it trained, with the latest weights and the
    best: each file once, where the best are the latest."""
    card, sent = ModelCard.read(model), set()
    for name in (LATEST, BEST):
        for file, sha in card.weights[name].files.items() if name in card.weights else ():
            if sha not in sent:
                tracking.log_files(model / file, CHECKPOINTS)
            sent.add(sha)
    tracking.log_files(model / ModelCard.FILE, CHECKPOINTS)
    digests = " ".join(sorted({saved.digest for saved in card.weights.values()}))
    tracking.set_tags({MODEL_DIGEST: card.digest, DIGESTS: digests})


@contextlib.contextmanager
def trained_model(place: str, step: str) -> Iterator[Path]:
    """The folder of a trained model, weights and card, for a while.

    Args:
        place: A folder, or models:/NAME/VERSION: the training that this version was exported from,
            whose latest weights are then those that were exported.
        step: train_global or train_local; for a version of two stages, which of them.

    Raises InputError where there is no such version or training, RegistryError where MLflow does
    not answer.
    """
    if not place.startswith(REGISTRY):
        yield Path(place)
        return
    name, number = _parse(place)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        with connected() as client:
            version = with_number(versions(client, name), number)
            if version is None:
                raise InputError(f"--start-from {place}: {name} has no such version in MLflow.")
            run_id, digest = training_run(client, version, step)
            _download(client, run_id, digest, Path(folder), version)
        yield Path(folder) / CHECKPOINTS


def _download(client, run_id: str, digest: str, folder: Path, version: Version) -> None:
    """Fetch the weights of a digest, as the latest, and their card. Raises InputError for an epoch
    that MLflow was not given."""
    card, model = trained_card(client, run_id), folder / CHECKPOINTS
    if not card.weights:  # of an earlier version: its latest are all there are
        client.download_artifacts(run_id, CHECKPOINTS, str(folder))
        return
    name = card.name_of(digest)
    chosen = card.of(name).model_copy(update={"chosen": LATEST})
    saved = card.weights[name].under(LATEST)
    there = {Path(artifact.path).name for artifact in client.list_artifacts(run_id, CHECKPOINTS)}
    held = {
        sha: file
        for one in card.weights.values()
        for file, sha in one.files.items()
        if file in there
    }
    if not set(saved.files.values()) <= held.keys():
        raise InputError(
            f"{version} was exported from epoch {card.weights[name].epoch}, of which MLflow holds "
            "no weights, as of the latest and the best: give the folder of its training instead."
        )
    model.mkdir()
    for file, sha in saved.files.items():
        place = client.download_artifacts(run_id, f"{CHECKPOINTS}/{held[sha]}", str(folder))
        link_or_copy(Path(place), model / file)
    chosen.model_copy(update={"weights": {LATEST: saved}}).write(model)


def training_run(client, version: Version, step: str) -> tuple[str, str]:
    """The id of the MLflow run of `step` that a version comes from, and the digest of the weights
    of that step. Raises InputError where MLflow has none, or not its checkpoints."""
    experiments = [one.experiment_id for one in client.search_experiments()]
    digest = version.tags.get("model_digest", "")

    # From the last stage back.
    while digest:
        found = client.search_runs(experiments, f"tags.`{MODEL_DIGEST}` = '{digest}'")
        found = found or client.search_runs(experiments, f"tags.`{DIGESTS}` LIKE '%{digest}%'")
        found = [run for run in found if client.list_artifacts(run.info.run_id, CHECKPOINTS)]
        if not found:
            break
        run_id = found[0].info.run_id
        if found[0].data.tags.get("step") == step:
            return run_id, digest
        digest = trained_card(client, run_id).parent_digest
    raise InputError(
        f"{version} has no training of {step} whose checkpoints MLflow still holds: start from "
        "another version, or from scratch."
    )


def trained_card(client, run_id: str) -> ModelCard:
    """The card of the model that an MLflow run trained."""
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        file = client.download_artifacts(run_id, f"{CHECKPOINTS}/{ModelCard.FILE}", folder)
        return ModelCard.read(Path(file).parent)


def _parse(place: str) -> tuple[str, int]:
    """Name and number of models:/NAME/VERSION."""
    name, _, number = place.removeprefix(REGISTRY).rpartition("/")
    if not name or not number.isdigit():
        raise InputError(
            f"--start-from {place} is not models:/NAME/VERSION: write for example models:/demo/3."
        )
    return name, int(number)
