"""From a version of a registered model back to the trainings that it was exported from."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.registry import Version, connected, versions, with_number

MODEL_DIGEST = "model.digest"  # tag of the MLflow run that trained a model
REGISTRY = "models:/"  # begins the name of a version of the registry
CHECKPOINTS = "checkpoints"  # folder of its artifacts


@contextlib.contextmanager
def trained_model(place: str, step: str) -> Iterator[Path]:
    """The folder of a trained model, weights and card, for a while.

    Args:
        place: A folder, or models:/NAME/VERSION: the training that this version was exported from.
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
            run_id = training_run(client, version, step)
            client.download_artifacts(run_id, CHECKPOINTS, folder)
        yield Path(folder) / CHECKPOINTS


def training_run(client, version: Version, step: str) -> str:
    """The id of the MLflow run of `step` that a version comes from. Raises InputError where MLflow
    has none, or not its checkpoints."""
    experiments = [one.experiment_id for one in client.search_experiments()]
    digest = version.tags.get("model_digest", "")

    # From the last stage back.
    while digest:
        found = client.search_runs(experiments, f"tags.`{MODEL_DIGEST}` = '{digest}'")
        found = [run for run in found if client.list_artifacts(run.info.run_id, CHECKPOINTS)]
        if not found:
            break
        run_id = found[0].info.run_id
        if found[0].data.tags.get("step") == step:
            return run_id
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
