"""What cannot be measured, refused before any work."""

from pathlib import Path

from components.benchmark.config import BenchmarkConfig
from components.benchmark.measure.segmentation import SegmentationNetwork
from shared.contracts.dataset import DatasetManifest
from shared.contracts.exported import ExportCard
from shared.contracts.forecast import Forecast, PreparedData
from shared.contracts.model import ModelCard
from shared.deployed.openvino_runner import check_openvino
from shared.device import Runtime, pick
from shared.errors import InputError
from shared.scorers.networks import foresee
from shared.scorers.onnx_file import check_file


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
    name = card.name_of(export.model_digest)
    if export.model_digest != card.digest and name:
        raise InputError(
            f"--exported {exported} was made from the weights {card.called(name)} of --model "
            f"{model}, but {card.called()} is asked for: say --weights {name}, or export again."
        )
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


def runtimes_of_torch(config: BenchmarkConfig) -> tuple[list[Runtime], str]:
    """What PyTorch is measured on and in, without what is the same here; and what is left out, ""
    = nothing.

    fp32, beside which the other rows are read, is left out where a chip has none. Raises
    InputError for what else is not here."""
    found, lacking = {}, None
    for wanted in config.precisions:
        try:
            runtime = pick(config.device, wanted)
        except InputError as refusal:
            if wanted != "fp32":
                raise
            lacking = refusal
        else:
            found.setdefault(runtime.precision, runtime)
    if not found:
        raise lacking
    return list(found.values()), f"not measured: {lacking}" if lacking else ""


def check_runtimes(config: BenchmarkConfig) -> None:
    """Raises InputError for one of --runtimes that is not installed, and that is not left out."""
    if "openvino" in config.runtimes:
        check_openvino()


def check_champion(folder: str) -> None:
    """Raises InputError for a --champion that is no folder of an export."""
    if folder and not (Path(folder) / ExportCard.FILE).is_file():
        raise InputError(
            f"--champion {folder} holds no {ExportCard.FILE}: give the folder that `python -m "
            "components.export` wrote, or leave it out."
        )


# Before the first step of a pipeline.


def preflight(
    dataset: PreparedData | None,
    size: tuple[int, int] | None,
    config: BenchmarkConfig,
    here: bool = True,
) -> Forecast[None]:
    """What the step will refuse.

    Args:
        dataset: As prepare will make it, None = not known.
        size: (height, width) of the exported file, None = not known.
        here: Whether it will run on this machine: else no file and no device is looked for.
    """
    forecast, device = Forecast(), "cpu"
    if not here:
        return forecast
    if found := forecast.refusals.of(runtimes_of_torch, config):
        device, forecast.remarks = found[0][-1].name, [found[1]] * bool(found[1])
    forecast.refusals.of(check_champion, config.champion)
    forecast.refusals.of(check_runtimes, config)
    found = [f"on {device}", *foresee(config, size, device, forecast)]
    if file := config.segmentation_network:
        if size and dataset and dataset.knows_num_labels:
            labels = dataset.manifest.num_labels
            forecast.refusals.of(SegmentationNetwork, file, size, labels, device)
        else:
            forecast.refusals.of(check_file, SegmentationNetwork.FLAG, file)
        found.append(Path(file).name)
    forecast.found = ", ".join(found)
    return forecast
