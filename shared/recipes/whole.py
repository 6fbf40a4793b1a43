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


def refuse_other_stages(recipe: Steps) -> None:
    """Raises InputError where the networks of stage two cannot hold those of stage one, or where
    features have no encoder, or no styles. What a model before decides, the recipe leaves open."""
    one, two = recipe.get("train_global", {}), recipe.get("train_local", {})
    _refuse_features(recipe, one, two)
    if not two:
        return

    # Stage two's generator has stage one's inside, at half the width for each enhancer around it.
    if (netG := two.get("netG", "local")) != "local":
        raise InputError(
            f"train_local.netG {netG} has no place for stage one: say --set train_local.netG=local."
        )
    if (netG := one.get("netG", "global")) != "global":
        raise InputError(
            f"train_global.netG {netG} is no stage one for train_local: say --set "
            "train_global.netG=global, or choose a recipe of one stage."
        )
    if {"ngf", "n_local_enhancers"} <= two.keys() and "ngf" in one:
        width = two["ngf"] * 2 ** two["n_local_enhancers"]
        if width != one["ngf"]:  # a server's numbers are floats
            raise InputError(
                f"train_local.ngf {two['ngf']:g} around {two['n_local_enhancers']:g} enhancers "
                f"needs a train_global.ngf of {width:g}, which is {one['ngf']:g}: say --set "
                f"train_global.ngf={width:g}, or another train_local.ngf."
            )

    # The rest of it is as it was.
    same = ["n_downsample_global", "n_blocks_global", "norm", "output_nc"]
    if recipe.get("prepare", {}).get("instances") != "none":
        same.append("use_instances")
    for field in same:
        if field in one and field in two and one[field] != two[field]:
            value = f"{one[field]}".lower() if isinstance(one[field], bool) else one[field]
            raise InputError(
                f"train_local.{field} {two[field]} but train_global.{field} {one[field]}, whose "
                f"networks stage two takes over: say --set train_local.{field}={value}."
            )


def _refuse_features(recipe: Steps, one: Mapping[str, Any], two: Mapping[str, Any]) -> None:
    """Features come of stage one's encoder; what they are later is said by the cluster step."""
    if "instance_features" not in one:
        return
    has_table = "cluster" in recipe
    if has_table and not one["instance_features"]:
        raise InputError(
            "train_global.instance_features is false, but the recipe clusters features: say --set "
            "train_global.instance_features=true, or choose a recipe without cluster."
        )
    if one["instance_features"] and not has_table:
        raise InputError(
            "train_global.instance_features is true, but the recipe has no cluster step, whose "
            "styles export needs: leave it out, or choose a recipe with cluster."
        )
    if not has_table and two.get("instance_features"):
        raise InputError(
            "train_local.instance_features is true, but train_global has none and the recipe no "
            "cluster step: leave it out, or choose a recipe with cluster."
        )
