"""What cannot be measured, refused before any work."""

from pathlib import Path

from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.model import ModelCard
from shared.errors import InputError


def check_same_model(
    exported: Path,
    export: ExportCard,
    dataset: Path,
    manifest: DatasetManifest,
    model: Path,
    card: ModelCard,
) -> None:
    """Raises InputError for an export of another model, for one that lost its files, and for a data
    set that the model cannot read."""
    if export.model_digest != card.digest:
        raise InputError(
            f"--exported {exported} was made from model {export.model_digest} but --model {model} "
            f"is {card.digest}: give the model it was exported from, or export again."
        )
    for file in (export.file, *(om.file for om in export.om)):
        if not (exported / file).is_file():
            raise InputError(
                f"--exported {exported} has no {file}: export again with `python -m "
                "components.export`."
            )
    card.architecture.refuse_other_data(dataset, manifest)


def check_champion(folder: str) -> None:
    """Raises InputError for a --champion that is no folder of an export."""
    if folder and not (Path(folder) / ExportCard.FILE).is_file():
        raise InputError(
            f"--champion {folder} holds no {ExportCard.FILE}: give the folder that `python -m "
            "components.export` wrote, or leave it out."
        )
