"""The sizes of networks that begin as another model ended: its own, unless they were said."""

from pathlib import Path
from typing import Any

from components.train.config import TrainConfig
from components.train.networks.build import architecture_for
from components.train.networks.start import earlier_training, read_start
from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import UNETS, Architecture, ModelCard
from shared.networks.chosen import weights_path

OF_G = ("netG", "norm", "use_instances", "feature_regions", "ngf", "n_downsample_global")
OF_G += ("n_blocks_global", "n_local_enhancers", "n_blocks_local", "output_nc")
# Of a local enhancer's global network.
SHARED_BY_STAGES = ("norm", "use_instances", "feature_regions")
SHARED_BY_STAGES += ("n_downsample_global", "n_blocks_global", "output_nc")


def with_sizes_of_start(
    config: TrainConfig,
    dataset: Path,
    init_from: Path | None,
    model: Path,
    stopped: Architecture | None,
) -> TrainConfig:
    """The config with the sizes of the model that it starts from or goes on with, where nobody said
    them; these are printed.

    Args:
        init_from: The previous stage, or a model of this one.
        stopped: Networks of the training that goes on in `model`, None = it begins: what it once
            started from may be gone, or hold another model now.

    Raises InputError where there is no such model.
    """
    if config.OF_MODEL <= config.model_fields_set:
        return config
    if stopped:
        return with_sizes_of_stopped(config, stopped, model)
    if not config.start_from and init_from is None:
        return config
    architecture = architecture_for(config, True, DatasetManifest.read(dataset), None)
    if not config.start_from:
        return sized(config, read_start(init_from, architecture), init_from)
    with earlier_training(config) as folder:
        return sized(config, read_start(folder, architecture, "--start-from"), folder)


def with_sizes_of_stopped(
    config: TrainConfig, stopped: Architecture, model: Path | None = None
) -> TrainConfig:
    """The config with the sizes of the networks of a training that goes on, where nobody said them.

    model: Its folder, for a line with those that are other than the config's own; None: no line."""
    values = stopped.model_dump(exclude={"feat_num"}) | _features(stopped.feat_num)
    other = {name: one for name, one in values.items() if getattr(config, name, one) != one}
    return _updated(config, other, f"the training in {model}" if model else "")


def sized(config: TrainConfig, start: ModelCard, folder: Path | None = None) -> TrainConfig:
    """The config with the sizes of a model, where nobody said them.

    folder: of its files, which tell whether there are D and E; None: they are not there yet."""
    a = start.architecture
    if config.netG == "local" and a.netG != "local":
        values = {name: getattr(a, name) for name in SHARED_BY_STAGES} | _features(a.feat_num)
        values["ngf"] = a.ngf // 2**config.n_local_enhancers
        return _updated(config, values, "the global model")

    # Of the same stage.
    values = {name: getattr(a, name) for name in OF_G} | _features(a.feat_num)
    if folder is None:
        return _updated(config, values, "the model before")
    if a.netG not in UNETS or (folder / ModelCard.FILE).is_file():  # else it leaves no trace
        values["dropout"] = a.dropout
    if weights_path(folder, "D").is_file() and a.netD == config.netD:
        values |= {name: getattr(a, name) for name in ("ndf", "n_layers_D", "num_D")}
    if weights_path(folder, "E").is_file():
        values |= {name: getattr(a, name) for name in ("nef", "n_downsample_E")}
    return _updated(config, values, config.start_from or str(folder))


def _features(feat_num: int) -> dict[str, Any]:
    return {"instance_features": True, "feat_num": feat_num} if feat_num else {}


def _updated(config: TrainConfig, values: dict[str, Any], place: str) -> TrainConfig:
    """The config with these values, of which it takes those that it has a field for and that nobody
    said. place: what they are the sizes of, for a line; "" = none."""
    fields = type(config).model_fields.keys() - config.model_fields_set
    new = {name: value for name, value in values.items() if name in fields}
    if new and place:
        listed = ", ".join(f"{name} {value}" for name, value in new.items())
        print(f"sizes of {place}: {listed}", flush=True)
    return config.check(config.model_dump() | new)
