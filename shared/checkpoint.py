"""Model folder <-> networks. Weight files have NVIDIA's names and keys and hold CPU tensors; loading runs no code."""

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shared.contracts import Architecture, ModelCard, digest_files, write_atomically
from shared.errors import InputError
from shared.networks import VGG19Features, build_encoder, build_generator


def weights_path(model: Path, network: str) -> Path:
    return Path(model) / f"latest_net_{network}.pth"


def save_tensors(path: Path, content: object) -> None:
    """torch.save of CPU copies through a temporary file: a kill leaves the old file whole."""
    buffer = io.BytesIO()
    torch.save(_to_cpu(content), buffer)
    write_atomically(path, buffer.getbuffer())


def _to_cpu(content: object) -> object:
    match content:
        case torch.Tensor():
            return content.detach().cpu()
        case dict():
            return {key: _to_cpu(value) for key, value in content.items()}
        case list():
            return [_to_cpu(value) for value in content]
    return content


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
        save_tensors(weights_path(model, name), network.state_dict())
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


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors of a partial load."""

    file: str
    taken: set[str]
    new: set[str]  # of the network, not in the file or of another shape
    left: set[str]  # of the file, not wanted

    def __str__(self) -> str:
        parts = [f"{self.file}: {len(self.taken)} of {len(self.taken) + len(self.new)} tensors taken"]
        parts += [
            f"{what}: {', '.join(_modules(keys))}" for what, keys in (("new", self.new), ("left", self.left)) if keys
        ]
        return "; ".join(parts)


def load_what_fits(network: nn.Module, path: Path) -> LoadReport:
    """Load the tensors whose name and shape fit; the report says what was taken, what stays new, what was left."""
    state, wanted = load_tensors(path), network.state_dict()
    fits = {key: value for key, value in state.items() if key in wanted and wanted[key].shape == value.shape}
    network.load_state_dict(fits, strict=False)
    return LoadReport(path.name, set(fits), wanted.keys() - fits.keys(), state.keys() - fits.keys())


def load_vgg(path: Path) -> VGG19Features:
    """VGG19 features with torchvision's weights; the classifier in the file is left out."""
    vgg, state = VGG19Features(), load_tensors(path)
    lacking = vgg.state_dict().keys() - state.keys()
    if lacking:
        raise InputError(f"--vgg-weights {path} lacks {min(lacking)}: give torchvision's vgg19 state dict.")
    vgg.load_state_dict({key: state[key] for key in vgg.state_dict()})
    return vgg


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


def _modules(keys: set[str]) -> list[str]:
    """'model1_2.0.conv_block.1.weight' -> 'model1_2.0': short enough to print."""
    return sorted({".".join(key.split(".")[:2]) for key in keys})
