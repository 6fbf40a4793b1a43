"""Where a recipe is, what it is called, and what it gives a step."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared.errors import InputError
from shared.recipes.document import Section, read_document
from shared.recipes.values import value_of_entry

BUILT_IN = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
SECTIONS = ("prepare", "train_global", "cluster", "train_local", "export", "benchmark")
# What MLflow, KFP and Kubernetes all take as a name.
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,58}[A-Za-z0-9])?")


@dataclass
class Numbers:
    """What a recipe gives one step."""

    section: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)  # of each value, for what is said of it


def is_file(recipe: str) -> bool:
    """Whether --recipe names a file, and not a recipe that is built in."""
    return recipe.endswith(SUFFIXES) or "/" in recipe


def recipe_name(recipe: str) -> str:
    """What a recipe's runs, its experiment, its registered model and its KFP pipeline are called:
    the stem of its file. Raises InputError for a file whose stem cannot be a name, or is that of
    another recipe."""
    if not is_file(recipe):
        return recipe
    file = Path(recipe)
    if not NAME.fullmatch(file.stem):
        raise InputError(
            f"--recipe {recipe}: runs, models and the pipeline are called {file.stem!r} after it, "
            "which should be at most 60 letters, digits, _ and -: rename the file."
        )
    if Path(os.path.realpath(file)).parent != BUILT_IN and _alike(file.stem) in map(
        _alike, built_in()
    ):
        raise InputError(
            f"--recipe {recipe} is called as a built-in recipe, with whose runs and models its own "
            "would be mixed: rename the file."
        )
    return file.stem


def _alike(name: str) -> str:
    """The same for names that KFP takes for one."""
    return name.replace("_", "-").casefold()


def built_in() -> list[str]:
    """The names of our own recipes."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def recipe_file(recipe: str) -> Path:
    """The file of a recipe. Raises InputError where there is none."""
    if not is_file(recipe):
        if recipe in built_in():
            return BUILT_IN / f"{recipe}.yaml"
        there = [name for suffix in SUFFIXES if Path(name := recipe + suffix).is_file()]
        close = there or difflib.get_close_matches(recipe, built_in(), n=1)
        choice = f"choose one of {', '.join(built_in())}, or name a YAML file."
        raise InputError(
            f"--recipe {recipe!r} is unknown: {f'did you mean {close[0]}?' if close else choice}"
        )
    file = Path(recipe)
    if file.is_dir():
        raise InputError(f"--recipe {recipe} is a folder: name a YAML file in it.")
    if not file.is_file():
        beside = [str(path) for suffix in SUFFIXES for path in file.parent.glob(f"*{suffix}")]
        close = difflib.get_close_matches(recipe, beside, n=1)
        remedy = f"did you mean {close[0]}?" if close else "name a YAML file that is there."
        raise InputError(f"--recipe {recipe} is no file: {remedy}")
    if file.suffix not in SUFFIXES:
        raise InputError(f"--recipe {recipe} does not end in .yaml: rename the file.")
    return file


def read_sections(recipe: str) -> dict[str, Section]:
    """The sections of a recipe. Raises InputError, with file and line, for what is no recipe, or
    has a section of another name."""
    file = recipe_file(recipe)
    sections = read_document(file)
    for name, section in sections.items():
        if name not in SECTIONS:
            raise InputError(
                f"--recipe {file}, line {section.line}: there is no section {name}: "
                + _mean(name, SECTIONS)
            )
    return sections


def read_section(recipe: str, step: str, wanted: str, config: type[BaseModel]) -> Numbers:
    """What a recipe gives a step that runs alone.

    Args:
        step: Name of the step.
        wanted: Of its sections, where it has two; "" = the first that is there.
        config: What its fields are checked against.

    Raises InputError where the recipe has no such section, or anything in it is not right.
    """
    sections = read_sections(recipe)
    own = [name for name in SECTIONS if name.partition("_")[0] == step]
    if wanted and wanted not in own:
        raise InputError(
            f"--recipe-section {wanted} is not of this step: say {' or '.join(own)}, or leave it "
            "out."
        )
    there = [name for name in own if name in sections]
    name = wanted or next(iter(there), own[0])
    if name not in sections:
        has = ", ".join(there or sections)
        raise InputError(f"--recipe {recipe} has no section {name}, but {has}: choose another.")
    return numbers_of(recipe, name, sections[name], config)


def numbers_of(recipe: str, step: str, section: Section, config: type[BaseModel]) -> Numbers:
    """What a section gives a step, by the types of its fields. Raises InputError, with file and
    line, for fields that are unknown, renamed or of another type."""
    file, numbers = recipe_file(recipe), Numbers(step)
    renamed: Mapping[str, str] = getattr(config, "RENAMED", {})
    for name, entry in section.entries.items():
        place = f"--recipe {file}, line {entry.line}: {step}.{name}"
        if new := renamed.get(name):
            raise InputError(f"{place} has a new name: write {new}.")
        if name not in config.model_fields:
            raise InputError(f"{place} is unknown: {_mean(name, config.model_fields)}")
        try:
            numbers.values[name] = value_of_entry(entry, config.model_fields[name])
        except ValueError as error:
            raise InputError(f"{place} {entry.text!r}: {error}.") from None
        numbers.places[name] = place
    return numbers


def _mean(name: str, known: Iterable[str]) -> str:
    """What the writer of a name may have meant."""
    known = list(known)
    if close := [one for one in known if one.startswith(f"{name}_")]:
        return f"did you mean {close[0]}?"
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
        return f"did you mean {close[0]}?"
    return f"choose one of {', '.join(known[:8])}{' ...' * (len(known) > 8)}."
