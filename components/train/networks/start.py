"""What a training begins at: the model of the stage before, or an earlier one of its own stage."""

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tabulate import tabulate
from torch import nn

from components.train.config import TrainConfig
from components.train.networks.partial import load_what_fits, modules
from shared.contracts.model import LATEST, RESNETS, Architecture, ModelCard
from shared.errors import InputError
from shared.networks.checkpoint import read_model, state_for
from shared.networks.chosen import files_as_written, weights_in, weights_path
from shared.networks.foreign import taken_for
from shared.registry import RegistryError
from shared.registry.trained import REGISTRY, trained_model

GLOBAL_PART = "model."  # what the tensors of the global network inside a local enhancer begin with
# Of which data G is, by the layer that this decides.
DATA = {"first": ("num_labels", "input_nc", "use_instances"), "last": ("output_nc",)}


def read_start(
    folder: Path, architecture: Architecture, flag: str = "--init-from", announce: bool = False
) -> ModelCard:
    """The card of the model to start from, which the flag names; also of NVIDIA's or junyanz's
    files alone, whose input channels are taken to be those of this architecture where that may be,
    else those that the references have.

    announce: whether to print what files alone are taken for."""
    has_card, held = (folder / ModelCard.FILE).is_file(), weights_in(folder)
    if held and LATEST not in held:
        raise InputError(
            f"{flag} {folder} holds {weights_path(folder, 'G', held[-1]).name} but no "
            f"{weights_path(folder, 'G').name}, from which a training starts: copy its files under "
            "this name to a folder of their own."
        )

    # What its channels may be, the likeliest first.
    data = architecture.model_dump(include={"num_labels", "input_nc"})
    known = architecture.model_dump(include={"num_labels", "use_instances", "feat_num"})
    card = None
    for hints in (data, known):
        with contextlib.suppress(InputError):
            card = card or read_model(folder, announce=False, **hints)
    try:
        card = card or read_model(folder, announce=False)
    except InputError as error:
        raise InputError(str(error).replace(f"--model {folder}", f"{flag} {folder}")) from None
    if announce and not has_card:
        print(taken_for(f"{flag} {folder}", card), flush=True)
    return card


# The previous stage, or a model of this one: whatever fits is taken.


def begin_at_parent(
    init_from: Path, networks: Mapping[str, nn.Module], architecture: Architecture
) -> None:
    """Load what fits of a model, and say what that is. Raises InputError where the global part of
    stage local does not fit, or of the generator nothing does."""
    card = read_start(init_from, architecture, announce=True)
    has_parent = architecture.netG == "local" and card.architecture.netG != "local"
    reports = {}
    with files_as_written(init_from, card, networks, f"--init-from {init_from}") as files:
        for name, path in files.items():
            reports[name] = report = load_what_fits(networks[name], path)
            if name == "G" and not report.taken and not has_parent:
                raise InputError(
                    f"--init-from {init_from}: none of the {len(report.new)} tensors of the "
                    f"generator fits ({differences(card.architecture, architecture)}): give a "
                    "model of the same networks, or leave it out."
                )
    for name, report in reports.items():
        print("from the previous stage:" if has_parent else "from --init-from:", report, flush=True)
        if name == "G" and has_parent:
            check_global_part(report.new, init_from)


def kept_encoder(init_from: Path, card: ModelCard) -> bytes | None:
    """What the file of the encoder holds whose features a training takes, of the model that they
    were made from; None where that has none."""
    with files_as_written(init_from, card, "E", f"--init-from {init_from}") as files:
        return files["E"].read_bytes() if files else None


def check_global_part(new: set[str], init_from: Path) -> None:
    """Raises InputError where the enhancer's global part is not that of the model it starts from.

    new: names of the tensors that did not come from there."""
    if differing := [key for key in new if key.startswith(GLOBAL_PART)]:
        raise InputError(
            f"--init-from {init_from}: its generator does not fit ({min(differing)} differs): "
            "stage local needs half the --ngf of its global model, and the same labels, features, "
            "blocks and stride."
        )


# An earlier training of this stage: the same generator, but for what the data decide.


@contextmanager
def earlier_training(config: TrainConfig) -> Iterator[Path]:
    """The folder of the model that --start-from names, for a while. Raises InputError where there
    is none."""
    place = config.start_from
    if not place.startswith(REGISTRY) and not Path(place).is_dir():
        raise InputError(
            f"--start-from {place} is no folder: give that of a trained model, or "
            "models:/NAME/VERSION."
        )
    try:
        with trained_model(place, config.step_name) as folder:
            yield folder
    except RegistryError as error:
        raise InputError(f"--start-from {place}: {error}") from None


def check_start(start_from: str, found: Architecture, wanted: Architecture) -> None:
    """Raises InputError where the generator of the model to start from is not built as the one that
    is to be trained; what it reads and makes may be another thing."""
    names = ["netG", "norm", "feat_num", "ngf"]
    if wanted.netG in RESNETS:
        names.append("dropout")
    if not wanted.is_pix2pix:
        names += ["n_downsample_global", "n_blocks_global"]
    if wanted.netG == "local":
        names += ["n_local_enhancers", "n_blocks_local"]
    for name in names:
        here, there = getattr(wanted, name), getattr(found, name)
        if here != there:
            raise InputError(
                f"--start-from {start_from} has networks with {name} {there}, but {here} is asked "
                "for: give the same options, or start without it."
            )


def other_data(found: Architecture, wanted: Architecture) -> dict[str, str]:
    """Which layers of a generator of other data begin anew, "first" or "last", and how these data
    are different."""
    found = {layer: differences(found, wanted, names) for layer, names in DATA.items()}
    return {layer: how for layer, how in found.items() if how}


def differences(found: Architecture, wanted: Architecture, names: tuple[str, ...] = ()) -> str:
    """How two generators are different, in words: those of the names, else all that build one."""
    a, b = found.model_dump(), wanted.model_dump()
    of_D_and_E = {"netD", "D_features", "num_D", "ndf", "n_layers_D", "nef", "n_downsample_E"}
    names = names or tuple(name for name in a if name not in of_D_and_E)
    return ", ".join(f"{name} {a[name]} against {b[name]}" for name in names if a[name] != b[name])


def begin_at_earlier(
    folder: Path,
    networks: Mapping[str, nn.Module],
    architecture: Architecture,
    start_from: str,
    has_parent: bool,
) -> None:
    """Load the networks of an earlier training of this stage, of D and E what fits, and print what
    was taken. Where G reads or makes other things, its first or last convolution begins anew.

    has_parent: whether the global network inside a local enhancer is that of a previous stage, and
    stays so. Raises InputError where the generator does not fit.
    """
    card = read_start(folder, architecture, "--start-from", announce=True)
    found = card.architecture
    check_start(start_from, found, architecture)
    other = other_data(found, architecture)
    for layer, how in other.items():
        does = "reads other input" if layer == "first" else "makes other pictures"
        print(f"--start-from {start_from} {does}: {how}; G's {layer} layer is new")
    rows = []
    with files_as_written(folder, card, networks, f"--start-from {start_from}") as files:
        for name, network in networks.items():
            path = files.get(name)
            if path is None:
                rows.append((name, "no file, stays as it is", "", ""))
                continue
            is_inner = name == "G" and architecture.netG == "local" and has_parent
            report = load_what_fits(network, path, GLOBAL_PART if is_inner else None)
            unfit = report.new
            if "first" in other:
                unfit = unfit - _stems(network, path)
            if "last" in other:
                unfit = unfit - {*list(network.state_dict())[-2:]}  # weight and bias
            if name == "G" and (unfit or not report.taken):
                raise InputError(
                    f"--start-from {start_from}: its generator does not fit ({min(report.new)} "
                    "differs): give the same options, or start without it."
                )
            taken = f"{len(report.taken)} of {len(report.taken) + len(report.new)}"
            rows.append((name, taken, modules(report.new), modules(report.left)))
    headers = ("from --start-from", "tensors taken", "new", "left")
    print(tabulate(rows, headers, tablefmt="plain", disable_numparse=True), flush=True)


def _stems(network: nn.Module, path: Path) -> set[str]:
    """The weights of convolutions that differ from those of a file by what they read alone."""
    state, _ = state_for(network, path)
    shapes = {
        key: (one.shape, state[key].shape)
        for key, one in network.state_dict().items()
        if key in state and one.ndim == state[key].ndim == 4
    }
    return {key for key, (a, b) in shapes.items() if (a[0], *a[2:]) == (b[0], *b[2:])}
