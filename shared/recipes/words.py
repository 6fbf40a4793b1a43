"""A step's refusals speak of flags; in a pipeline they are said in the words of a recipe and of
--set."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from shared.contracts.dataset import DatasetManifest
from shared.contracts.model import ModelCard
from shared.flags import as_flag

# What a step calls the folders that a recipe has no flags for.
FOLDERS = {
    "--dataset": "the data set",
    "--model": "the model",
    "--init-from": "the model",
    "--clusters": "the styles",
    "--exported": "the exported file",
}
FLAG = re.compile(r"--[A-Za-z][\w-]*")
WORD = re.compile(r"[ =]('[^']*'|\"[^\"]*\"|\S*[^\s,:;.()])")  # without what ends a sentence
ENGLISH = re.compile(r"[a-z]+(-[a-z]+)?")  # no value of a field of texts, unless it has it now
CLAUSE = re.compile(r"[,:;]| but ")
LONGEST_CLAUSE = 300  # letters in which a step is looked for: a value may have 100,000s
# Before a flag that a person is to give; the first three are no more needed before --set.
ADVICE = re.compile(r"\b(say|set|use|with|give|add|write) $")


@dataclass(frozen=True)
class Owner:
    """The field of a recipe that a flag stands for."""

    step: str
    field: str
    kind: Any  # its type
    value: Any = None  # that it has now, None = not known
    negated: bool = False  # --no-flip

    @property
    def target(self) -> str:
        return f"{self.step}.{self.field}"


Owners = dict[str, dict[str, Owner]]  # by step, in the order of the graph, and flag


def owners_of(configs: Mapping[str, BaseModel | type[BaseModel]]) -> Owners:
    """The fields of steps, each given by its config or the class of it."""
    owners: Owners = {}
    for step, config in configs.items():
        of_step = owners.setdefault(step, {})
        fields = (config if isinstance(config, type) else type(config)).model_fields
        for name, field in fields.items():
            value = None if isinstance(config, type) else getattr(config, name)
            _add(of_step, Owner(step, name, field.annotation, value))
    return owners


def owners_of_folders(folders: Iterable[Path]) -> Owners:
    """The fields of the steps that wrote these folders, by what their cards say: a step's image has
    no config of another step."""
    owners: Owners = {}
    for file in (DatasetManifest.FILE, ModelCard.FILE):
        for folder in folders:
            try:
                config = dict(from_json((folder / file).read_bytes())["config"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            step = "prepare"
            if file == ModelCard.FILE:
                step = "train_local" if config.get("netG") == "local" else "train_global"
            for name, value in config.items():
                _add(owners.setdefault(step, {}), Owner(step, name, type(value), value))
    return owners


def _add(of_step: dict[str, Owner], owner: Owner) -> None:
    of_step[as_flag(owner.field)] = owner
    if owner.kind is bool:
        negated = Owner(owner.step, owner.field, bool, owner.value, negated=True)
        of_step[as_flag(f"no_{owner.field}")] = negated


def in_words_of_recipe(sentence: str, owners: Owners, step: str) -> str:
    """A step's sentence with the flags of a recipe: `--device cpu` -> `--set
    train_global.device=cpu`, and `--ngf` alone -> `train_global.ngf`. Commands in backticks stay.

    Args:
        owners: Of the step and of those before it.
        step: Whose sentence it is: its flags, unless the sentence names another step before them,
            or they are of the nearest before it.
    """
    parts = re.split(r"(`[^`]*`)", sentence)
    parts[::2] = [_translated(part, owners, step) for part in parts[::2]]
    return re.sub(r"\b(?:say|set|use) --set ", "--set ", "".join(parts))


def _translated(text: str, owners: Owners, step: str) -> str:
    done, rest = "", text
    while match := FLAG.search(rest):
        before, flag, rest = rest[: match.start()], match[0], rest[match.end() :]
        done += before
        owner = _owner(flag, done, owners, step)
        if owner is None:
            done += FOLDERS.get(flag, flag)
            continue
        value, rest = _value(owner, rest)
        if owner.kind is bool and (owner.negated or ADVICE.search(done)):
            value = "false" if owner.negated else "true"
        done += owner.target if value is None else f"--set {owner.target}={value}"
    return done + rest


def _owner(flag: str, before: str, owners: Owners, step: str) -> Owner | None:
    """Whose flag it is."""
    clause = CLAUSE.split(before[-LONGEST_CLAUSE:])[-1]
    nearest = [step, *(one for one in reversed(owners) if one != step)]
    named = [one for one in nearest if re.search(rf"\b{one.partition('_')[0]}", clause)]
    return next((owners[one][flag] for one in named + nearest if flag in owners[one]), None)


def _value(owner: Owner, rest: str) -> tuple[str | None, str]:
    """The value that stands behind a flag, None where there is none, and what comes after it."""
    if owner.kind is bool:
        return None, rest
    if isinstance(owner.value, str) and re.match(rf"[ =]{re.escape(owner.value)}(?!\w)", rest):
        if owner.value:
            return shlex.quote(owner.value), rest[1 + len(owner.value) :]
    elements = get_args(owner.kind)[:1] if get_origin(owner.kind) in (tuple, list) else ()
    words = []
    while match := WORD.match(rest):
        is_value = match[0].startswith("=")
        if not is_value and not _fits(match[1], owner, elements[0] if elements else owner.kind):
            break
        words.append(match[1])
        rest = rest[match.end() :]
        if not elements:
            break
    return (",".join(words) if words else None), rest


def _fits(word: str, owner: Owner, kind: Any) -> bool:
    """Whether the word behind a flag is a value of its type, and not the next of the sentence."""
    if kind is str:
        return not ENGLISH.fullmatch(word) or word == owner.value
    if get_origin(kind) is Literal and word in map(str, get_args(kind)):  # also of numbers
        return True
    try:
        TypeAdapter(kind).validate_python(word.strip("'\""))
    except ValidationError:
        return word.strip("'\"") == str(owner.value) or word[0] in "'\""
    return True
