"""Model folder <-> networks. Weight files have NVIDIA's names and keys and hold CPU tensors; loading runs no code."""

import io
from pathlib import Path

import torch
from torch import nn

from shared.contracts import Architecture, ModelCard, digest_files, write_atomically
from shared.errors import InputError
from shared.networks import build_encoder, build_generator


def weights_path(model: Path, network: str) -> Path:
    return Path(model) / f"latest_net_{network}.pth"


def save_tensors(path: Path, content: object) -> None:
    """torch.save through a temporary file: a kill leaves the old file whole."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


def load_tensors(path: Path) -> dict:
    """The CPU tensors of a .pth file. Raises InputError when it is missing or not one."""
    if not path.is_file():
        raise InputError(
            f"--model {path.parent} has no {path.name}: give a folder that `python -m components.train` wrote."
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling errors come in many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} is not a file of tensors ({reason}): save it again with torch.save(network.state_dict(), path)."
        ) from None


def save_weights(model: Path, networks: dict[str, nn.Module]) -> str:
    """Write latest_net_<G|D|E>.pth and return their digest."""
    for name, network in networks.items():
        save_tensors(
            weights_path(model, name), {key: value.detach().cpu() for key, value in network.state_dict().items()}
        )
    return digest_files([weights_path(model, name) for name in networks])


def load_strictly(network: nn.Module, path: Path) -> None:
    """All keys and shapes must fit; otherwise one sentence names the first that does not."""
    state = load_tensors(path)
    wanted = network.state_dict()
    for problem, keys in (("lacks", wanted.keys() - state.keys()), ("has an unknown", state.keys() - wanted.keys())):
        if keys:
            raise InputError(
                f"{path} {problem} tensor {min(keys)} ({len(keys)} in all): it belongs to another architecture."
            )
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            raise InputError(
                f"{path}: {key} is {tuple(state[key].shape)} but {tuple(value.shape)} is wanted: "
                "it belongs to another architecture."
            )
    network.load_state_dict(state)


def load_what_fits(network: nn.Module, path: Path) -> str:
    """Load the tensors whose name and shape fit; say what was taken, what stays new and what was left in the file."""
    state, wanted = load_tensors(path), network.state_dict()
    fits = {key: value for key, value in state.items() if key in wanted and wanted[key].shape == value.shape}
    network.load_state_dict(fits, strict=False)
    new = sorted(_modules(wanted.keys() - fits.keys()))
    left = sorted(_modules(state.keys() - fits.keys()))
    return (
        f"{path.name}: {len(fits)} of {len(wanted)} tensors taken"
        + (f"; new: {', '.join(new)}" if new else "")
        + (f"; left in the file: {', '.join(left)}" if left else "")
    )


def load_generator(model: Path) -> tuple[ModelCard, nn.Module]:
    """The card and the generator of a model folder, ready for inference."""
    card = ModelCard.read(model)
    return card, _load(build_generator(card.architecture), model, "G")


def load_encoder(model: Path, architecture: Architecture) -> nn.Module:
    """The encoder of a model folder, ready for inference."""
    return _load(build_encoder(architecture), model, "E")


def _load(network: nn.Module, model: Path, name: str) -> nn.Module:
    load_strictly(network, weights_path(model, name))
    return network.eval().requires_grad_(False)


def _modules(keys: set[str]) -> set[str]:
    """'model1_2.0.conv_block.1.weight' -> 'model1_2.0': short enough to print."""
    return {".".join(key.split(".")[:2]) for key in keys}
