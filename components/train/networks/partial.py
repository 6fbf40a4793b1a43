"""Networks that start from the weights of others, as far as these fit."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from shared.networks.checkpoint import state_for


@dataclass(frozen=True)
class LoadReport:
    """Names of the tensors of a partial load."""

    file: str
    taken: set[str]
    new: set[str]  # of the network, not in the file or of another shape
    left: set[str]  # of the file, not wanted
    changes: list[str]  # of the file's names, for people

    def __str__(self) -> str:
        wanted = len(self.taken) + len(self.new)
        parts = [f"{self.file}: {len(self.taken)} of {wanted} tensors taken"]
        for what, keys in (("new", self.new), ("left", self.left)):
            if keys:
                parts.append(f"{what}: {modules(keys)}")
        return "; ".join(parts + self.changes)


def load_what_fits(network: nn.Module, path: Path, but: str | None = None) -> LoadReport:
    """Load the tensors whose name and shape fit; the report says what was taken, what stays new,
    what was left. Tensors whose names begin with `but` stay as they are, and are not reported."""
    (state, changes), wanted = state_for(network, path), network.state_dict()
    if but:
        state, wanted = (
            {key: tensor for key, tensor in tensors.items() if not key.startswith(but)}
            for tensors in (state, wanted)
        )
    fits = {key: state[key] for key in fitting(wanted, state)}
    network.load_state_dict(fits, strict=False)
    new, left = wanted.keys() - fits.keys(), state.keys() - fits.keys()
    return LoadReport(path.name, set(fits), new, left, changes)


def modules(keys: set[str]) -> str:
    """'model1_2.0.conv_block.1.weight' -> 'model1_2.0', each once: short enough to print."""
    return ", ".join(sorted({".".join(key.split(".")[:2]) for key in keys}))


def fitting(wanted: dict[str, Tensor], state: dict[str, Tensor]) -> set[str]:
    """The names that both have with the same shape."""
    common = wanted.keys() & state.keys()
    return {key for key in common if state[key].shape == wanted[key].shape}
