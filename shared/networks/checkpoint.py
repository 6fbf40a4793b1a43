"""Model folder <-> networks. Weight files have NVIDIA's names and keys and hold CPU tensors;
loading runs no code.

Files of NVIDIA's pix2pixHD and of junyanz' pix2pix load as they are, and theirs load ours.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import nn

from shared.contracts.model import LATEST, Architecture, ModelCard
from shared.errors import InputError
from shared.files.writing import Write, write_atomically
from shared.networks.build import build_encoder, build_generator
from shared.networks.chosen import (
    NETWORKS,
    choose,
    files_as_written,
    record_of,
    weights_in,
    weights_path,
)
from shared.networks.foreign import (
    card_of,
    in_layout_of,
    normalise,
    refuse_old_encoder,
    taken_for,
    without_wrappers,
)
from shared.networks.pix2pixhd import Encoder
from shared.networks.weight_file import check_values, load_state, load_tensors, state_in

OF_WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx", ".h5", ".index", ".npz")


class TensorFile:
    """What torch.save writes of tensors, streamed; its SHA-256 is known once it is written."""

    def __init__(self, content: object, is_hashed: bool = True):
        """content: dicts and lists of tensors, numbers and texts; files hold tensors of the CPU.
        is_hashed: Whether somebody asks for the SHA-256, seconds of a large file."""
        self.is_hashed = is_hashed
        self.content = _to_cpu(content)
        self.nbytes = _nbytes(self.content)
        self.sha256 = ""

    def write_to(self, file: BinaryIO) -> None:
        """Raises OSError where the disk does not take it."""
        sink = _Sink(file, self.is_hashed)
        torch.save(self.content, sink)
        if sink.failure:
            raise sink.failure
        self.sha256 = sink.digest.hexdigest() if self.is_hashed else ""


class _Sink:
    """A file for torch.save. What the disk refuses is told at the end: an exception within leaves
    torch's writer half open, and its own words for it name no disk."""

    def __init__(self, file: BinaryIO, is_hashed: bool):
        self.file, self.digest, self.is_hashed = file, hashlib.sha256(), is_hashed
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        if not self.failure:
            try:
                self.file.write(data)
            except OSError as error:
                self.failure = error
        if self.is_hashed:
            self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass


def _nbytes(content: object) -> int:
    match content:
        case torch.Tensor():
            return content.nbytes
        case dict():
            return sum(map(_nbytes, content.values()))
        case list():
            return sum(map(_nbytes, content))
    return 0


def save_tensors(path: Path, content: object, write: Write = write_atomically) -> None:
    """torch.save of CPU copies through a temporary file: a kill leaves the old file whole."""
    write(path, TensorFile(content, is_hashed=False))


def _to_cpu(content: object) -> object:
    match content:
        case torch.Tensor():
            # Whatever the memory format on the device.
            return content.detach().cpu().contiguous()
        case dict():
            return {key: _to_cpu(value) for key, value in content.items()}
        case list():
            return [_to_cpu(value) for value in content]
    return content


def save_weights(
    model: Path,
    networks: Mapping[str, nn.Module | Mapping[str, torch.Tensor] | bytes],
    write: Write = write_atomically,
    names: tuple[str, ...] = (LATEST,),
) -> dict[str, str]:
    """Write <name>_net_<G|D|E>.pth under each of the names, a network, its state dict or what a
    file of one held; returns the SHA-256 of each file of the first name."""
    files = {}
    for network, weights in networks.items():
        first, *others = [weights_path(model, network, name) for name in names]
        if isinstance(weights, bytes):
            write(first, weights)
            files[first.name] = hashlib.sha256(weights).hexdigest()
        else:
            state = weights.state_dict() if isinstance(weights, nn.Module) else weights
            content = TensorFile(without_wrappers(state))
            write(first, content)
            files[first.name] = content.sha256
        for other in others:
            write(other, first)
    return files


def state_for(network: nn.Module, path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors of a weight file under the names that this network has for them, and what was
    changed for that."""
    wanted, changes = network.state_dict(), []
    saved, place = state_in(load_tensors(path), path)
    if place:
        changes.append(f"its tensors stand under {place}")
    state = normalise(saved)
    if dropped := len(saved) - len(state):
        changes.append(f"{dropped} statistics of InstanceNorm dropped, which it no longer keeps")
    if isinstance(network, Encoder):
        refuse_old_encoder(state, path)
    renamed = in_layout_of(wanted, state)
    if renamed is not state:
        changes.append(f"{min(state)} and all others renamed, such as {min(renamed)}")
    check_values(renamed, wanted, path)
    return renamed, changes


def load_strictly(network: nn.Module, path: Path) -> None:
    """All keys and shapes must fit; otherwise one sentence names the first that does not."""
    (state, changes), wanted = state_for(network, path), network.state_dict()
    for change in changes:
        print(f"{path.name}: {change}", flush=True)
    # Files from before PyTorch 0.4.1 do not count BatchNorm's batches; load_state_dict then begins
    # at 0.
    lacking = {
        key for key in wanted.keys() - state.keys() if not key.endswith(".num_batches_tracked")
    }
    for problem, keys in (("lacks", lacking), ("has an unknown", state.keys() - wanted.keys())):
        if keys:
            raise InputError(
                f"{path} {problem} tensor {min(keys)} ({len(keys)} in all): it belongs to another "
                "architecture."
            )
    for key, value in state.items():
        if value.shape != wanted[key].shape:
            raise InputError(
                f"{path}: {key} is {tuple(value.shape)} but {tuple(wanted[key].shape)} is wanted: "
                "it belongs to another architecture."
            )
    network.load_state_dict(state)


def read_model(
    model: Path,
    size: tuple[int, int] | None = None,
    *,
    weights: str = LATEST,
    num_labels: int | None = None,
    input_nc: int | None = None,
    use_instances: bool | None = None,
    feat_num: int | None = None,
    unet_dropout: bool = False,
    announce: bool = True,
) -> ModelCard:
    """The card of the chosen weights of a model folder; where it has none, but NVIDIA's or junyanz'
    weight files, one made from those.

    Args:
        model: Folder with model.json or <weights>_net_G.pth, and <weights>_net_{D,E}.pth where
            there are such.
        size: (height, width) in pixels that the model is for; None = as its authors train it. Not
            used with a card.
        weights: See `WeightsOptions`.
        num_labels, input_nc, use_instances, feat_num, unet_dropout: See `infer_architecture`. Not
            used with a card.
        announce: Whether to print what weight files alone are taken for, as it may be wrong.
    """
    model = Path(model)
    held, has_card = weights_in(model), os.path.lexists(model / ModelCard.FILE)
    if not has_card and not held:
        raise _without_weights(model)
    if has_card:
        return choose(model, ModelCard.read(model), weights)

    # Weight files alone.
    if weights not in held:
        raise InputError(
            f"--model {model} has no {weights_path(model, 'G', weights).name}, but "
            f"{', '.join(weights_path(model, 'G', name).name for name in held)}: say --weights "
            f"{held[-1]}."
        )
    files = {
        name: path for name in NETWORKS if (path := weights_path(model, name, weights)).is_file()
    }
    states = {name: normalise(load_state(path)) for name, path in files.items()}
    hints = dict(num_labels=num_labels, input_nc=input_nc, use_instances=use_instances)
    hints |= dict(feat_num=feat_num, unet_dropout=unet_dropout, weights=weights)
    found = record_of(model, weights)
    card = card_of(model, states, found.digest, size, **hints)
    card = card.model_copy(update={"chosen": weights, "epoch": found.epoch})
    if announce:
        print(taken_for(f"--model {model}", card), flush=True)
    return card


def _without_weights(model: Path) -> InputError:
    """The sentence for a place that holds no model, or raises that of weights of another kind."""
    wanted = weights_path(model, "G").name
    for path in [model] if model.is_file() else sorted(model.glob("*")):
        if path.suffix in OF_WEIGHTS:
            load_tensors(path)  # says of another kind what it is
            return InputError(
                f"--model {model} should be a folder with {wanted}, but {path.name} was found: put "
                "it there under that name, if it is a generator's."
            )
    return InputError(
        f"--model {model} holds no {ModelCard.FILE} and no {wanted}: give the folder of a trained "
        "model."
    )


def load_generator(
    model: Path,
    size: tuple[int, int] | None = None,
    *,
    weights: str = LATEST,
    num_labels: int | None = None,
    input_nc: int | None = None,
    unet_dropout: bool = False,
) -> tuple[ModelCard, nn.Module]:
    """The card and the generator of the chosen weights, ready for inference; see `read_model`."""
    hints = dict(num_labels=num_labels, input_nc=input_nc, unet_dropout=unet_dropout)
    card = read_model(model, size, weights=weights, **hints)
    return card, _loaded(build_generator, model, card, "G")


def load_encoder(model: Path, card: ModelCard) -> nn.Module:
    """The encoder of the weights that a card is of, ready for inference."""
    return _loaded(build_encoder, model, card, "E")


def _loaded(
    build: Callable[[Architecture], nn.Module], model: Path, card: ModelCard, name: str
) -> nn.Module:
    with files_as_written(model, card, name) as files:
        network = build(card.architecture)
        # Of a file that is not there `load_strictly` says so.
        load_strictly(network, files.get(name) or weights_path(model, name, card.chosen))
    return network.eval().requires_grad_(False)
