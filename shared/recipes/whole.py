"""A recipe as a whole: which of its numbers are parameters of the pipeline, and which must fit
together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.contracts.model import LATEST
from shared.errors import InputError

Steps = Mapping[str, Mapping[str, Any]]  # numbers by step and field


@dataclass(frozen=True)
class Common:
    """A number that is a parameter of the pipeline by itself."""

    name: str
    steps: tuple[str, ...]
    field: str
    kind: type
    text: str

    def reach(self, recipe: Steps) -> list[str]:
        """The steps whose number it is: the first, and those that have the same in the recipe.
        None where the recipe leaves it open, or has no such step."""
        number = recipe.get(self.steps[0], {}).get(self.field, "")
        same = [step for step in self.steps if recipe.get(step, {}).get(self.field) == number]
        return same if number != "" else []


GLOBAL, LOCAL = ("train_global",), ("train_local",)
WITH_DEVICE = ("train_global", "cluster", "train_local", "benchmark")
COMMON = (
    Common("size", ("prepare",), "size", str, "Size of the prepared pictures, HEIGHTxWIDTH."),
    Common("train_size", GLOBAL, "size", str, "Size that train_global trains at, HEIGHTxWIDTH."),
    Common("epochs", GLOBAL, "epochs", int, "Epochs of train_global at the first learning rate."),
    Common("epochs_decay", GLOBAL, "epochs_decay", int, "Epochs of train_global as it falls to 0."),
    Common("epochs_local", LOCAL, "epochs", int, "Epochs of train_local at the first rate."),
    Common("epochs_decay_local", LOCAL, "epochs_decay", int, "Epochs of train_local as it falls."),
    Common("batch_size", GLOBAL, "batch_size", int, "Pictures in a step of train_global."),
    Common("batch_size_local", LOCAL, "batch_size", int, "Pictures in a step of train_local."),
    Common("device", WITH_DEVICE, "device", str, "Device of all steps: auto, npu, cuda or cpu."),
)


def refuse_other_weights(recipe: Steps) -> None:
    """Raises InputError where steps that read one model name different weights of it."""
    weights = {step: values["weights"] for step, values in recipe.items() if "weights" in values}
    if "train_local" in recipe and (of_features := weights.pop("cluster", LATEST)) != LATEST:
        raise InputError(
            f"cluster.weights {of_features}: train_local starts from the latest weights of "
            "train_global, and takes features of these: leave it out."
        )
    named = [name for name in weights.values() if name != LATEST]
    if len(set(weights.values())) > 1:
        said = ", ".join(f"{step}.weights {name}" for step, name in weights.items())
        remedy = " ".join(f"{step}.weights={named[0]}" for step in weights)
        raise InputError(f"{said}: these steps read one model: say --set {remedy}.")
