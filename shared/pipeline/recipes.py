"""Recipes: the numbers of a whole pipeline, each a YAML file in this folder."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shared.command import StepConfig
from shared.errors import InputError

RECIPES = Path(__file__).parent

Recipe = dict[str, dict[str, Any]]  # the config of every step, in the order of the graph


def read_recipe(
    name: str, configs: Mapping[str, type[StepConfig]], overrides: tuple[str, ...] = ()
) -> Recipe:
    """The complete, checked config of every step of a recipe.

    Args:
        configs: What each step's numbers are checked against; its defaults lie under the recipe.
        overrides: STEP.FIELD=VALUE, which lie over the recipe.

    Raises InputError, which names the step and its flag.
    """
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if name not in known:
        raise InputError(f"--recipe {name!r} is unknown: choose one of {', '.join(known)}.")
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())

    # In MLflow's registry its models have its name.
    if "benchmark" in recipe:
        recipe["benchmark"].setdefault("registered_model", name)

    # Overrides.
    for override in overrides:
        step, field, value = _parse(override)
        if step in recipe and (new := configs[step].RENAMED.get(field)):
            raise InputError(f"--set {step}.{field} has a new name: write {step}.{new}.")
        if step not in recipe or field not in configs[step].model_fields:
            options = [f"{part}.{key}" for part in recipe for key in configs[part].model_fields]
            target = f"{step}.{field}"
            close = difflib.get_close_matches(target, options, n=1) or [f"{next(iter(recipe))}.…"]
            raise InputError(
                f"--set {target} is unknown in recipe {name}: did you mean {close[0]}?"
            )
        recipe[step][field] = value

    # Defaults and checks.
    checked = {}
    for step, values in recipe.items():
        try:
            checked[step] = configs[step].check(values).model_dump(mode="json")
        except InputError as refusal:
            raise InputError(f"recipe {name}, step {step}: {refusal}") from None
    return checked


def _parse(override: str) -> tuple[str, str, Any]:
    """(step, field, value) of STEP.FIELD=VALUE; a value that is no YAML is a text."""
    target, equals, text = override.partition("=")
    step, _, field = target.partition(".")
    if not equals or not field:
        raise InputError(
            f"--set {override!r} is not STEP.FIELD=VALUE: write for example train_global.epochs=2."
        )
    try:
        return step, field, yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # the latter of 2024-13-45, which looks like a date
        return step, field, text
