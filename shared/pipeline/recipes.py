"""The numbers of a whole pipeline: a recipe, and what is given over it."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from shared.command import StepConfig
from shared.errors import InputError
from shared.recipes.files import Numbers, numbers_of, read_sections, recipe_name
from shared.recipes.values import is_list, value_of
from shared.recipes.whole import refuse_other_stages, refuse_other_weights
from shared.recipes.words import in_words_of_recipe, owners_of

Configs = Mapping[str, type[StepConfig]]
Recipe = dict[str, dict[str, Any]]  # the config of every step, in the order of the graph

MAY_LACK = {"cluster", "train_local"}  # sections that decide the shape of the graph
# Sizes that a model to start from does not decide: those of the recipe's shape, and of U-Nets what
# leaves no trace in a file; of stage two what its global network has not.
OF_GRAPH = {"instance_features", "dropout"}
OF_STAGE_TWO = {"netG", "n_local_enhancers", "n_blocks_local", "ndf", "n_layers_D", "num_D"}
OF_STAGE_TWO |= {"nef", "n_downsample_E"}
OVERRIDE = re.compile(r"(?P<step>\w+)\.(?P<field>[\w-]+)=(?P<text>.*)", re.DOTALL)


def read_recipe(
    recipe: str, configs: Configs, overrides: tuple[str, ...] = (), init_from: str = ""
) -> Recipe:
    """The complete, checked config of every step of a recipe.

    Args:
        recipe: Name of one that is built in, or path of a YAML file.
        configs: What each step's numbers are checked against; its defaults lie under the recipe.
        overrides: STEP.FIELD=VALUE, which lie over the recipe; the elements of a list may be words
            of their own.
        init_from: Folder of the model that the first training starts from; sizes of networks that
            no override says are then left out, and the steps take them from there.

    Raises InputError, which names the file with its line, or the flag.
    """
    name, sections = recipe_name(recipe), read_sections(recipe)
    for step in configs.keys() - MAY_LACK - sections.keys():
        raise InputError(
            f"--recipe {recipe} has no section {step}: write `{step}: {{}}` for its defaults."
        )
    numbers = {
        step: numbers_of(recipe, step, sections[step], configs[step])
        for step in configs
        if step in sections
    }

    # In MLflow's registry its models have its name.
    numbers["benchmark"].values.setdefault("registered_model", name)

    # Overrides.
    known = {step: configs[step] for step in numbers}
    for step, field, text in _parsed(overrides, known, name):
        place = f"--set {step}.{field}={text}"
        try:
            numbers[step].values[field] = value_of(text, known[step].model_fields[field])
        except ValueError as error:
            raise InputError(f"{place}: {error}.") from None
        numbers[step].places[field] = place

    # All that is not said is as the configs have it, or as stage one has it for stage two.
    if "train_local" in numbers and "output_nc" in numbers["train_global"].values:
        photos = numbers["train_global"].values["output_nc"]
        numbers["train_local"].values.setdefault("output_nc", photos)
    checked = {step: _checked(step, known, numbers[step]) for step in numbers}
    refuse_other_weights(checked)
    if init_from:
        _start_from(init_from, checked, known, numbers)
    refuse_other_stages(checked)
    return checked


def _start_from(
    init_from: str, recipe: Recipe, configs: Configs, numbers: Mapping[str, Numbers]
) -> None:
    """Make the first training of a recipe start from a model. Raises InputError where it starts
    from another one."""
    if earlier := recipe["train_global"]["start_from"]:
        raise InputError(
            f"--init-from {init_from} and train_global.start_from={earlier} were both given: leave "
            "one out."
        )
    for step, kept in (("train_global", OF_GRAPH), ("train_local", OF_GRAPH | OF_STAGE_TWO)):
        if step in recipe:
            places = numbers[step].places
            said = {name for name in places if places[name].startswith("--set")}
            said |= {"netG"} & places.keys()  # on which D, losses and crops of the recipe depend
            for name in configs[step].OF_MODEL - kept - said:
                del recipe[step][name]
    recipe["train_global"]["start_from"] = init_from


def _checked(step: str, configs: Configs, numbers: Numbers) -> dict[str, Any]:
    """The whole config of a step. Raises InputError in the words of a recipe."""

    def say(field: str, value: Any) -> str:
        place = numbers.places.get(field, f"{step}.{field}")
        return place if place.startswith("--set") else f"{place} {value!r}"

    try:
        return configs[step].check(numbers.values, say).model_dump(mode="json")
    except InputError as refusal:
        sentence = in_words_of_recipe(str(refusal), owners_of({step: configs[step]}), step)
        # Of several fields together: the place of the first.
        first = re.match(rf"(?:--set )?{step}\.(\w+)[= ]", sentence)
        place = numbers.places.get(first[1], "") if first else ""
        if place.startswith("--recipe"):
            sentence = f"{place} {sentence[first.end() :]}"
        raise InputError(sentence) from None


def _parsed(
    overrides: tuple[str, ...], configs: Configs, recipe: str
) -> Iterator[tuple[str, str, str]]:
    """(step, field, text) of each STEP.FIELD=VALUE. Words without = go on with the list before
    them. Raises InputError for what names no field."""
    parts: list[list[str]] = []
    goes_on = False  # the next word may be one more element
    for word in overrides:
        if match := OVERRIDE.fullmatch(word):
            step, field, _ = match.groups()
            _refuse_unknown(step, field, configs, recipe)
            parts.append([*match.groups()])
            goes_on = is_list(configs[step].model_fields[field])
        elif goes_on and "=" not in word:
            parts[-1][2] += f" {word}"
        else:
            example = "write for example train_global.epochs=2"
            quote = ", and quote a value that has blanks" if parts else ""
            raise InputError(f"--set {word!r} is not STEP.FIELD=VALUE: {example}{quote}.")
    yield from map(tuple, parts)


def _refuse_unknown(step: str, field: str, configs: Configs, recipe: str) -> None:
    if step in configs and (new := configs[step].RENAMED.get(field)):
        raise InputError(f"--set {step}.{field} has a new name: write {step}.{new}.")
    if step not in configs or field not in configs[step].model_fields:
        options = [f"{part}.{key}" for part in configs for key in configs[part].model_fields]
        close = difflib.get_close_matches(f"{step}.{field}", options, n=1)
        close = close or [f"{next(iter(configs))}.…"]
        raise InputError(
            f"--set {step}.{field} is unknown in recipe {recipe}: did you mean {close[0]}?"
        )
