"""From a version of a registered model back to the trainings that it was exported from."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shared.contracts.model import ModelCard
from shared.errors import InputError
from shared.registry import Version, asking, find_version

MODEL_DIGEST = "model.digest"  # tag of the MLflow run that trained a model
REGISTRY = "models:/"  # begins the name of a version of the registry
CHECKPOINTS = "checkpoints"  # folder of its artifacts


@contextlib.contextmanager
def trained_model(place: str, step: str) -> Iterator[Path]:
    """The folder of a trained model: weights and card.

    Args:
        place: A folder, or models:/NAME/VERSION: the training that this version was exported from.
        step: train_global or train_local; for a version of two stages, which of them.

    Raises InputError where there is no such version or training, RegistryError where MLflow does
    not answer.
    """
    if not place.startswith(REGISTRY):
        yield Path(place)
        return
    run_id = training_run(place, step)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        with asking() as mlflow:
            mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=CHECKPOINTS, dst_path=folder
            )
        yield Path(folder) / CHECKPOINTS


def trained_card(place: str, step: str) -> ModelCard:
    """The card of such a model, without its weights; raises as `trained_model`."""
    return _card_of_run(training_run(place, step))


def training_run(place: str, step: str) -> str:
    """The id of the MLflow run of `step` that a version models:/NAME/VERSION comes from; raises as
    `trained_model`."""
    version = _parse(place)
    digest = version.tags.get("model_digest", "")

    # From the last stage back.
    while digest:
        with asking() as mlflow:
            client = mlflow.MlflowClient()
            experiments = [one.experiment_id for one in client.search_experiments()]
            runs = client.search_runs(
                experiments, f"tags.`{MODEL_DIGEST}` = '{digest}'", max_results=100
            )
            runs = [run for run in runs if client.list_artifacts(run.info.run_id, CHECKPOINTS)]
        if not runs:
            break
        if runs[0].data.tags.get("step") == step:
            return runs[0].info.run_id
        digest = _card_of_run(runs[0].info.run_id).parent_digest
    raise InputError(
        f"{version} has no training of {step} whose checkpoints MLflow still holds: start from "
        "another version, or from a folder."
    )


def _card_of_run(run_id: str) -> ModelCard:
    with asking() as mlflow, tempfile.TemporaryDirectory(prefix="model-") as folder:
        mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=f"{CHECKPOINTS}/{ModelCard.FILE}", dst_path=folder
        )
        return ModelCard.read(next(Path(folder).rglob(ModelCard.FILE)).parent)


def _parse(place: str) -> Version:
    """The version of models:/NAME/VERSION."""
    name, _, number = place.removeprefix(REGISTRY).rpartition("/")
    if not name or not number.isdigit():
        raise InputError(f"{place} is not models:/NAME/VERSION: write for example models:/demo/3.")
    return find_version(name, int(number))
