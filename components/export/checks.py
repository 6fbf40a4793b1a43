"""What cannot be exported, refused before any work."""

from pathlib import Path

import torch
from torch import nn

from components.export.config import ExportConfig, Int8Options, OmOptions
from components.export.om.atc import check_aipp, check_atc, check_gears, check_place
from components.export.om.chip import soc_version
from shared.command import CheckOptions
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.forecast import Forecast, PreparedData
from shared.contracts.labels import RawReading
from shared.contracts.model import ModelCard
from shared.data.checking import check_dataset
from shared.errors import InputError
from shared.networks.build import build_generator
from shared.networks.checkpoint import load_generator
from shared.networks.chosen import choose
from shared.networks.foreign import UnknownChannels


def read_inputs(
    model: Path,
    dataset: Path | None,
    weights: str,
    size: tuple[int, int] | None = None,
    dropout: bool = False,
) -> tuple[ModelCard, nn.Module]:
    """The model, with what its weight file does not tell taken from the options and the data set.

    size: (height, width) of --size. Raises InputError for --dropout where the model has none."""
    manifest = DatasetManifest.read(dataset) if dataset else None
    known = manifest.model_dump(include={"num_labels", "input_nc"}) if manifest else {}
    options = dict(weights=weights, unet_dropout=dropout)
    try:
        card, generator = load_generator(model, size, **known, **options)
    except UnknownChannels as error:
        if manifest:
            raise
        remedy = "or give the --dataset that it was trained on."
        raise InputError(f"{str(error).removesuffix('.')}, {remedy}") from None
    if manifest and not card.labels and card.raw == RawReading():  # nothing is known of them
        card = card.model_copy(update={"labels": manifest.labels, "raw": manifest.raw})
    if dropout:
        check_has_dropout(generator, model)
    return card, generator


def check_files(dataset: Path | None, options: CheckOptions) -> None:
    """Compare the data set with what prepare wrote, where that is asked for. Raises InputError."""
    if not options.check_dataset:
        return
    if dataset is None:
        raise InputError("--check-dataset was given without --dataset: give that too.")
    check_dataset(dataset, DatasetManifest.read(dataset))


def check_has_dropout(generator: nn.Module, model: Path) -> None:
    """Raises InputError for --dropout of a model that has none."""
    if not any(isinstance(module, nn.Dropout) for module in generator.modules()):
        raise InputError(f"--dropout was given but --model {model} has no dropout: leave it out.")


def read_clusters(clusters: Path | None, model: Path, card: ModelCard) -> ClusterTable | None:
    """The styles of a model with instance features, which must be given; None for one without."""
    if clusters is not None:
        return ClusterTable.read_for(clusters, model, card)
    check_needs_no_clusters(model, card)
    return None


def check_needs_no_clusters(model: Path, card: ModelCard) -> None:
    """Raises InputError for a model with instance features, whose styles were not given."""
    if feat_num := card.architecture.feat_num:
        raise InputError(
            f"--model {model} takes {feat_num} instance features but --clusters was not given: "
            f"give the folder that `python -m components.cluster` wrote."
        )


def check_style(style: str, has_instances: bool, dataset: Path | None) -> None:
    """Raises InputError for styles by instance without instance maps."""
    if style == "instance" and not has_instances:
        raise InputError(
            f"--style instance needs instance maps but --dataset {dataset} has none: give label "
            "or map."
        )


def check_int8(
    options: Int8Options, dataset: Path | None, manifest: DatasetManifest | None
) -> None:
    """Raises InputError for --int8 without pairs to calibrate on and to judge by.

    manifest: of `dataset`; None: not known."""
    if not options.wants_int8:
        return
    asked = f"--int8 {options.int8}"
    if dataset is None:
        raise InputError(
            f"{asked} needs --dataset, to calibrate on its training pairs and to judge by its test "
            "pairs: give it, or leave --int8 out."
        )
    for split in ("train", "test"):
        if manifest and not getattr(manifest, split):
            raise InputError(
                f"{asked} needs training and test pairs but --dataset {dataset} has no {split} "
                "pairs: prepare it with some, or leave --int8 out."
            )


def check_om(options: OmOptions, exported: Path) -> None:
    """Raises InputError where atc cannot compile what is asked for into `exported`."""
    check_atc()
    check_gears(options.om_batch_sizes, options.om_gears)
    check_aipp(aipp_of(options))
    check_place("--exported", exported)


def aipp_of(options: OmOptions) -> Path | None:
    """The file of --om-aipp."""
    return Path(options.om_aipp) if options.om_aipp else None


# Before the first step of a pipeline.


def preflight(
    dataset: PreparedData | None,
    model: ModelCard | None,
    clusters: ClusterTable | None,
    exported: Path,
    config: ExportConfig,
    here: bool = True,
) -> Forecast[tuple[int, int]]:
    """What the step will refuse; it gives the (height, width) of the file.

    Args:
        dataset, model, clusters: As the steps before will make them, None = not known, or no such
            step.
        exported: Folder that it will write.
        here: Whether it will run on this machine: else neither files nor atc are looked for.
    """
    # What it needs of this machine.
    forecast = Forecast(found=config.format)
    ask = forecast.refusals.of
    if here and config.format == "om":
        ask(check_om, config, exported)
        ask(soc_version, config.soc_version)

    # What it needs of the steps before.
    forecast.gives = config.fixed_size
    if model is None or dataset is None:
        return forecast
    place = Path(f"of {'train_local' if model.architecture.netG == 'local' else 'train_global'}")
    ask(choose, place, model, config.weights)
    with torch.device("meta"):
        generator = build_generator(model.architecture)
    if config.dropout:
        ask(check_has_dropout, generator, place)
    if clusters is None:
        ask(check_needs_no_clusters, place, model)
    ask(model.architecture.refuse_other_data, Path("of prepare"), dataset.manifest)
    style = config.graph(model.architecture.feat_num).style
    ask(check_style, style, dataset.manifest.has_instances, Path("of prepare"))
    ask(check_int8, config, Path("of prepare"), dataset.manifest)

    # What it takes, in the run and in MLflow, and makes.
    weights = 4 * sum(weight.numel() for weight in generator.parameters())
    files = 1 + len(config.om_batch_sizes) * (config.format == "om") + config.wants_int8
    forecast.stay_bytes = 2 * files * weights
    forecast.gives = config.fixed_size or (model.height, model.width)
    return forecast
