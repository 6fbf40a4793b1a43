"""Texts to values, by one rule: the type of the field decides what a text means."""

import re
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from shared.bounds import reason_of
from shared.recipes.document import Entry

NOTHING = ("", "~", "null", "Null", "NULL")  # what YAML takes for no value, where it is not quoted


def is_list(field: FieldInfo) -> bool:
    """Whether a field takes several values."""
    return get_origin(field.annotation) in (tuple, list)


def value_of(text: str | list[str], field: FieldInfo) -> Any:
    """The value that a text gives a field: a field of texts keeps it as it is, also `no`, 007 or
    null; a list may be written 1,4 or 1 4 or [1, 4].

    Raises ValueError with the reason why it is none.
    """
    if is_list(field):
        text = split(text) if isinstance(text, str) else text
    elif isinstance(text, list):
        raise ValueError("should be one value, and no list")
    elif get_origin(field.annotation) is Literal:  # of numbers too, which pydantic takes as such
        text = {str(one): one for one in get_args(field.annotation)}.get(text, text)
    try:
        return TypeAdapter(Annotated[field.annotation, field]).validate_python(text)
    except ValidationError as error:
        raise ValueError(reason_of(error)) from None


def value_of_entry(entry: Entry, field: FieldInfo) -> Any:
    """The value that a recipe's file gives a field. Raises ValueError."""
    if entry.text in NOTHING and not entry.is_quoted and not is_list(field):
        is_text = str in (field.annotation, *get_args(field.annotation))
        if not is_text or entry.text:
            remedy = "or quote the word" if is_text else "or leave the field out"
            raise ValueError(f"is no value: give one, {remedy}")
    return value_of(entry.text, field)


def split(text: str) -> list[str]:
    """The elements of a list as people write it: between commas, blanks or both, in brackets or
    not, each quoted or not. Raises ValueError for a bracket without its other."""
    text = text.strip()
    opened, closed = text.startswith(("[", "(")), text.endswith(("]", ")"))
    if opened != closed:
        raise ValueError("should be a list such as 1,4: a bracket has no other")
    words = re.split(r"[,\s]+", text[1:-1] if opened else text)
    return [re.sub(r"""^(['"])(.*)\1$""", r"\2", word) for word in words if word]
