"""What a person gives a pipeline on a server, laid over the recipe's numbers, before any work."""

import difflib
import pydoc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.command import StepConfig
from shared.errors import InputError
from shared.recipes.values import value_of
from shared.recipes.whole import COMMON, Steps, refuse_other_stages, refuse_other_weights
from shared.recipes.words import in_words_of_recipe, owners_of


def lay_over(
    recipe: Steps, parameters: Mapping[str, Any], checked_by: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What is given, by step: fields whose value is another than the recipe's.

    A step's own struct lies over a common parameter of several steps, and this over the recipe. A
    common parameter of one step and its struct may not say two things.

    Args:
        recipe: The numbers of every step.
        parameters: Of the pipeline: common ones by name, and by step a struct of its fields.
        checked_by: The class of every step's config, by its dotted name.

    Raises InputError, which names the parameter, for what is no value of a field, and for what does
    not fit together.
    """
    given: dict[str, dict[str, Any]] = {step: {} for step in recipe}
    for step, numbers in recipe.items():
        # Every value by its field's type.
        said: dict[str, Said] = {}
        for field, one in _said(step, recipe, parameters, checked_by[step]):
            if field == "device" and one.value == "auto" and numbers["device"] in ("cuda", "npu"):
                continue  # it means the card that the pod asks for, never the CPU
            earlier = said.get(field)
            if earlier and earlier.is_of_step_alone and earlier.value != one.value:
                raise InputError(
                    f"{earlier.place} is {earlier.value!r}, and {one.place} is {one.value!r}: give "
                    "one of them."
                )
            said[field] = one
        if not said:
            continue

        # All of them together; as JSON has them, and without those that are the recipe's.
        config = _config(checked_by[step])
        values = {field: one.value for field, one in said.items()}
        checked = _checked(step, config, {**numbers, **values}, said)
        as_recipe = _checked(step, config, dict(numbers), {})
        given[step] = {
            field: checked[field]
            for field in said
            if field not in numbers or checked[field] != as_recipe[field]
        }

    # The steps together; photos have in stage two the channels that they have in stage one.
    if "output_nc" in given.get("train_global", {}) and "train_local" in recipe:
        given["train_local"].setdefault("output_nc", given["train_global"]["output_nc"])
    if any(given.values()):
        together = {step: {**recipe[step], **given[step]} for step in recipe}
        refuse_other_weights(together)
        refuse_other_stages(together)
    return given


@dataclass(frozen=True)
class Said:
    """What a parameter says of a field."""

    place: str  # the parameter, in words
    value: Any
    is_of_step_alone: bool  # no other step has it too


def _said(
    step: str, recipe: Steps, parameters: Mapping[str, Any], checked_by: str
) -> Iterator[tuple[str, Said]]:
    """What parameters say of a step's fields, and the recipe does not; those of its struct last.
    Raises InputError."""
    numbers = recipe[step]
    for common in COMMON:
        value, reach, field = parameters.get(common.name), common.reach(recipe), common.field
        if step in reach and value not in (None, numbers[field]):
            place = f"parameter {common.name}"
            known = _value(place, value, field, _config(checked_by))
            yield field, Said(place, known, is_of_step_alone=len(reach) == 1)
    for field, value in (parameters.get(step) or {}).items():
        place = f"parameter {step}: {field}"
        known = _value(place, value, field, _config(checked_by))
        yield field, Said(place, known, is_of_step_alone=True)


def _config(name: str) -> type[StepConfig]:
    """A step's config by its dotted name. Raises InputError where this image lacks it."""
    if config := pydoc.locate(name):
        return config
    raise InputError(f"this image has no {name}: build the image again.")


def _value(place: str, value: Any, field: str, config: type[StepConfig]) -> Any:
    """A parameter's value by the type of its field. Raises InputError."""
    if new := config.RENAMED.get(field):
        raise InputError(f"{place} has a new name: write {new}.")
    if field not in config.model_fields:
        close = difflib.get_close_matches(field, config.model_fields, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"{config.STEP} has no such option."
        raise InputError(f"{place} is unknown: {remedy}")
    try:
        return value_of(_text(value), config.model_fields[field])
    except ValueError as error:
        raise InputError(f"{place} {_shown(value)}: {error}.") from None


def _text(value: Any) -> str | list[str]:
    """A JSON value as people write it in a recipe: KFP's numbers are floats, also whole ones.
    Raises ValueError for what is no value."""
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case int() | float():
            return str(int(value)) if value == value // 1 else repr(value)
        case list() if all(isinstance(one, str | int | float) for one in value):
            return [str(_text(one)) for one in value]
        case None:
            raise ValueError("is no value: give one, or leave the field out")
    raise ValueError("should be one value or a list of values")


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _checked(
    step: str, config: type[StepConfig], values: dict[str, Any], said: Mapping[str, Said]
) -> dict[str, Any]:
    """The whole config of a step. Raises InputError in the words of its parameters."""

    def say(field: str, value: Any) -> str:
        return f"{said[field].place} {value!r}" if field in said else f"{step}.{field} {value!r}"

    try:
        return config.check(values, say).model_dump(mode="json")
    except InputError as refusal:
        sentence = in_words_of_recipe(str(refusal), owners_of({step: config}), step)
        places = sorted({one.place for one in said.values()})
        named = "" if any(place in sentence for place in places) else f"{', '.join(places)}: "
        raise InputError(f"{named}{sentence}") from None
